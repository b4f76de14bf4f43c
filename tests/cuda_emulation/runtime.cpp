// SPDX-License-Identifier: MIT
// The device, its errors, and the calls that ask about it.
#include "emulation.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <set>
#include <unistd.h>

namespace emulation {
namespace {

struct Device {
    cudaError_t failed = cudaSuccess; // stays
    bool lost = false;
    std::set<int> peers; // whose memory it was told to access
};

struct State {
    std::recursive_mutex mutex;
    Device devices[DEVICES_MOST];
};

State &state() {
    static State *s = new State;
    return *s;
}

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current = 0;

} // namespace

std::recursive_mutex &lock() {
    return state().mutex;
}

int current_device() {
    return current;
}

cudaError_t device_error(int device) {
    return state().devices[device].failed;
}

bool device_is_lost(int device) {
    return state().devices[device].lost;
}

void fail_device(int device, cudaError_t error) {
    if (state().devices[device].failed == cudaSuccess) {
        state().devices[device].failed = error;
    }
}

// A driver that does not answer. Others may go on meanwhile, so nothing is locked yet.
static std::recursive_mutex &lock_unless_hung(const char *name) {
    static std::atomic<uint64_t> calls;
    const Settings &s = settings();
    if (s.hang != nullptr && std::strcmp(s.hang, name) == 0 && ++calls == s.hang_at) {
        for (;;) {
            pause();
        }
    }
    return state().mutex;
}

Call::Call(Counts_as counts_as, const char *name) : guard_(lock_unless_hung(name)), error_(cudaSuccess) {
    const Settings &s = settings();
    Device_counts &own = counts_of(current);
    counts().calls += counts_as == Counts_as::Call;
    own.calls += counts_as == Counts_as::Call;
    bool others_lost = false;
    for (const Device &each : state().devices) {
        others_lost = others_lost || each.lost;
    }
    if (!others_lost && triggered(s.lose_device, counts().calls, own.calls, current)) {
        state().devices[current].lost = true;
        fail_device(current, cudaErrorDevicesUnavailable);
    }
    if (s.driver_version < CUDART_VERSION) {
        error_ = cudaErrorInsufficientDriver;
    } else if (s.devices == 0) {
        error_ = cudaErrorNoDevice;
    } else {
        error_ = device_error(current);
    }
}

cudaError_t Call::end(cudaError_t result) {
    cudaError_t error = error_ != cudaSuccess ? error_ : result;
    if (error != cudaSuccess) {
        last_error = error;
    }
    return error;
}

static int attribute_of(enum cudaDeviceAttr attribute, int device) {
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        return BLOCK_THREADS;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        return SHARED_DEFAULT;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        return SHARED_MOST;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        return static_cast<int>(settings().multiprocessor_shared);
    case cudaDevAttrWarpSize:
        return 32;
    case cudaDevAttrClockRate:
        return 1410000; // kHz
    case cudaDevAttrMemoryClockRate:
        return 1215000;
    case cudaDevAttrMultiProcessorCount:
        return 4;
    case cudaDevAttrL2CacheSize:
        return 4 << 20;
    case cudaDevAttrAsyncEngineCount:
        return 2;
    case cudaDevAttrUnifiedAddressing:
        return 1;
    case cudaDevAttrPciBusId:
        return 1 + device;
    case cudaDevAttrComputeCapabilityMajor:
        return 8;
    case cudaDevAttrComputeCapabilityMinor:
        return 6;
    case cudaDevAttrIntegrated:
    case cudaDevAttrComputeMode:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
        return 0;
    }
    return -1;
}

} // namespace emulation

using namespace emulation;

static bool is_index(int device) {
    return device >= 0 && device < settings().devices;
}

extern "C" cudaError_t cudaGetDeviceCount(int *count) {
    Call call;
    *count = call.refused() ? 0 : settings().devices;
    return call.end();
}

// From a device that failed to another that did not: only the new one's errors count.
extern "C" cudaError_t cudaSetDevice(int device) {
    std::lock_guard<std::recursive_mutex> guard(lock());
    current = is_index(device) ? device : current;
    Call call;
    return call.end(settings().devices > 0 && !is_index(device) ? cudaErrorInvalidDevice : cudaSuccess);
}

extern "C" cudaError_t cudaGetDevice(int *device) {
    Call call;
    *device = current;
    return call.end();
}

extern "C" cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
    Call call;
    *can = 0;
    if (call.refused() || !is_index(device) || !is_index(peer)) {
        return call.end(cudaErrorInvalidDevice);
    }
    *can = settings().peers && device != peer;
    return call.end();
}

// Copies go directly from now on, which is no matter here; kernels of this program never take part.
extern "C" cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
    Call call;
    if (call.refused() || !is_index(peer) || peer == current) {
        return call.end(cudaErrorInvalidDevice);
    }
    if (!settings().peers) {
        return call.end(cudaErrorPeerAccessUnsupported);
    }
    bool fresh = state().devices[current].peers.insert(peer).second;
    return call.end(fresh ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled);
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    Call call;
    if (!is_index(device)) {
        return call.end(cudaErrorInvalidDevice);
    }
    *value = attribute_of(attribute, device);
    return call.end(*value < 0 ? cudaErrorInvalidValue : cudaSuccess);
}

extern "C" cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    Call call;
    if (!is_index(device)) {
        return call.end(cudaErrorInvalidDevice);
    }
    std::memset(properties, 0, sizeof *properties);
    std::snprintf(properties->name, sizeof properties->name, "%s", settings().name[device].c_str());
    properties->totalGlobalMem = settings().total_memory[device];
    properties->sharedMemPerBlock = SHARED_DEFAULT;
    properties->sharedMemPerBlockOptin = SHARED_MOST;
    properties->sharedMemPerMultiprocessor = settings().multiprocessor_shared;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = BLOCK_THREADS;
    properties->major = attribute_of(cudaDevAttrComputeCapabilityMajor, device);
    properties->minor = attribute_of(cudaDevAttrComputeCapabilityMinor, device);
    properties->multiProcessorCount = attribute_of(cudaDevAttrMultiProcessorCount, device);
    properties->l2CacheSize = attribute_of(cudaDevAttrL2CacheSize, device);
    properties->asyncEngineCount = 2;
    properties->unifiedAddressing = 1;
    properties->pciBusID = 1 + device;
    return call.end();
}

extern "C" cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device) {
    Call call;
    if (!is_index(device)) {
        return call.end(cudaErrorInvalidDevice);
    }
    std::snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0", 1 + device);
    return call.end();
}

// Versions are told whatever the device does.
extern "C" cudaError_t cudaDriverGetVersion(int *version) {
    *version = settings().driver_version;
    return cudaSuccess;
}

extern "C" cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = device_error(current); // a failed device stays failed
    return error;
}

extern "C" cudaError_t cudaPeekAtLastError(void) {
    return last_error;
}

extern "C" cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    if (!settings().has_kernels) {
        return call.end(cudaErrorNoKernelImageForDevice);
    }
    *attributes = {1024, SHARED_MOST};
    return call.end();
}

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || value > SHARED_MOST) {
            return call.end(cudaErrorInvalidValue);
        }
        set_shared_limit(kernel, static_cast<size_t>(value));
    }
    return call.end();
}

namespace {
struct Message {
    cudaError_t error;
    const char *name;
    const char *text;
};
// Names and texts as the CUDA runtime has them.
#define MESSAGE(code, text)                                                                                  \
    { code, #code, text }
const Message messages[] = {
    MESSAGE(cudaSuccess, "no error"),
    MESSAGE(cudaErrorInvalidValue, "invalid argument"),
    MESSAGE(cudaErrorMemoryAllocation, "out of memory"),
    MESSAGE(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    MESSAGE(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    MESSAGE(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    MESSAGE(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable"),
    MESSAGE(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    MESSAGE(cudaErrorInvalidDevice, "invalid device ordinal"),
    MESSAGE(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    MESSAGE(cudaErrorNotReady, "device not ready"),
    MESSAGE(cudaErrorLaunchFailure, "unspecified launch failure"),
    MESSAGE(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    MESSAGE(cudaErrorPeerAccessUnsupported, "peer access is not supported between these two devices"),
};
const Message &message_of(cudaError_t error) {
    static const Message unknown = {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"};
    for (const Message &message : messages) {
        if (message.error == error) {
            return message;
        }
    }
    return unknown;
}
} // namespace

extern "C" const char *cudaGetErrorName(cudaError_t error) {
    return message_of(error).name;
}

extern "C" const char *cudaGetErrorString(cudaError_t error) {
    return message_of(error).text;
}

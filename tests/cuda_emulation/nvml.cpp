// NVML: what it says comes from the settings, but for memory, which is the emulation's own unless a setting
// says otherwise. While the device is slowed down (SLOW) a setting of the slow time comes first.
#include "emulation.h"

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <unistd.h>

#include "nvml.h"

struct nvmlDevice_st {
    int unused;
};
struct nvmlEventSet_st {
    bool told; // the loss of the device
};

namespace {

using namespace emulation;
using Guard = std::lock_guard<std::recursive_mutex>;

nvmlDevice_st the_device;

bool is_slow() {
    return settings().slow_from != 0 && counts().launches >= settings().slow_from;
}

// Of NVML_NAME, or of NVML_SLOW_NAME in the slow time.
unsigned long long value(const char *name, unsigned long long fallback) {
    const char *text = is_slow() ? setting((std::string("NVML_SLOW_") + name).c_str()) : nullptr;
    if (text == nullptr) {
        text = setting((std::string("NVML_") + name).c_str());
    }
    return text != nullptr ? std::strtoull(text, nullptr, 0) : fallback;
}

nvmlReturn_t answer(unsigned *out, unsigned long long number) {
    Guard guard(lock());
    if (device_is_lost()) {
        return NVML_ERROR_GPU_IS_LOST;
    }
    *out = static_cast<unsigned>(number);
    return NVML_SUCCESS;
}

} // namespace

extern "C" nvmlReturn_t nvmlInit_v2(void) {
    return NVML_SUCCESS;
}

extern "C" nvmlReturn_t nvmlShutdown(void) {
    return NVML_SUCCESS;
}

extern "C" const char *nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
    case NVML_SUCCESS:
        return "The operation was successful";
    case NVML_ERROR_NOT_FOUND:
        return "Object not found";
    case NVML_ERROR_GPU_IS_LOST:
        return "GPU is lost";
    default:
        return "Unknown Error";
    }
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device) {
    char own[32];
    cudaError_t error = cudaDeviceGetPCIBusId(own, sizeof own, 0);
    if (error != cudaSuccess || std::string(own) != bus_id) {
        return NVML_ERROR_NOT_FOUND;
    }
    *device = &the_device;
    return NVML_SUCCESS;
}

extern "C" nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t, nvmlMemory_t *memory) {
    Guard guard(lock());
    const Settings &s = settings();
    memory->total = s.total_memory;
    memory->free = s.free_memory - counts().device_bytes;
    memory->used = memory->total - memory->free;
    return device_is_lost() ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

extern "C" nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t, nvmlUtilization_t *utilization) {
    utilization->memory = 40;
    return answer(&utilization->gpu, value("UTILIZATION", 97));
}

extern "C" nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t, nvmlClockType_t, unsigned int *clock) {
    return answer(clock, value("CLOCK", 1410));
}

extern "C" nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t, nvmlClockType_t, unsigned int *clock) {
    return answer(clock, 1410);
}

extern "C" nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t, nvmlTemperatureSensors_t,
                                                 unsigned int *degrees) {
    return answer(degrees, value("TEMPERATURE", 61));
}

extern "C" nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t, unsigned int *milliwatts) {
    return answer(milliwatts, value("POWER", 250000));
}

extern "C" nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t, unsigned int *milliwatts) {
    return answer(milliwatts, 300000);
}

extern "C" nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t, unsigned long long *reasons) {
    unsigned bits = 0;
    nvmlReturn_t result = answer(&bits, value("REASONS", 0));
    *reasons = bits;
    return result;
}

extern "C" nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t, nvmlPcieUtilCounter_t counter,
                                                    unsigned int *kilobytes) {
    return answer(kilobytes,
                  value(counter == NVML_PCIE_UTIL_RX_BYTES ? "PCIE_RECEIVED" : "PCIE_SENT", 120000));
}

// This process and as many others as the settings say.
extern "C" nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t, unsigned int *count,
                                                                nvmlProcessInfo_t *processes) {
    Guard guard(lock());
    auto needed = static_cast<unsigned>(1 + value("FOREIGN_PROCESSES", 0));
    bool fits = needed <= *count;
    *count = needed;
    for (unsigned i = 0; i < needed && fits; i++) {
        processes[i] = {static_cast<unsigned>(getpid()) + i,
                        i == 0 ? value("PROCESS_MEMORY", counts().device_bytes) : 1 << 20, ~0u, ~0u};
    }
    return device_is_lost() ? NVML_ERROR_GPU_IS_LOST : fits ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

extern "C" nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    *set = new nvmlEventSet_st{false};
    return NVML_SUCCESS;
}

extern "C" nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    delete set;
    return NVML_SUCCESS;
}

extern "C" nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t, unsigned long long, nvmlEventSet_t) {
    return NVML_SUCCESS;
}

// A device that is lost says so once: XID 79, "GPU has fallen off the bus".
extern "C" nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data,
                                            unsigned int milliseconds) {
    {
        Guard guard(lock());
        if (device_is_lost() && !set->told) {
            set->told = true;
            *data = {&the_device, nvmlEventTypeXidCriticalError, 79, ~0u, ~0u};
            return NVML_SUCCESS;
        }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return NVML_ERROR_TIMEOUT;
}

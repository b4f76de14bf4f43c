// SPDX-License-Identifier: MIT
#include "kernels/cuda/cuda_error.h"

#include <stddef.h>

// cudaErrorContained, a hardware fault that the GPU kept to the programs it met; newer than CUDA 12.4's
// headers.
enum { ERROR_CONTAINED = 226 };

// The GPU, its driver or its memory: another machine, or this one after a repair, can run the job.
static bool is_device_fault(cudaError_t result) {
    switch ((int)result) {
    case cudaErrorMemoryAllocation:
    case cudaErrorInitializationError:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorCallRequiresNewerDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDeviceNotLicensed:
    case cudaErrorStartupFailure:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled:
    case cudaErrorSharedObjectInitFailed:
    case cudaErrorOperatingSystem:
    case cudaErrorNotPermitted:
    case cudaErrorMpsConnectionFailed:
    case cudaErrorMpsRpcFailure:
    case cudaErrorMpsServerNotReady:
    case cudaErrorMpsMaxClientsReached:
    case cudaErrorMpsMaxConnectionsReached:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case ERROR_CONTAINED:
    case cudaErrorHardwareStackError:
    case cudaErrorUnknown: // what a GPU that fell off the bus answers
        return true;
    default:
        return false;
    }
}

// The call that returns one of these is seldom the one at fault.
bool cuda_is_late(cudaError_t result) {
    switch ((int)result) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case ERROR_CONTAINED:
    case cudaErrorDevicesUnavailable:
    case cudaErrorUnknown:
        return true;
    default:
        return false;
    }
}

int cuda_check(cudaError_t result, const char *call, const char *queued, struct error *err) {
    if (result == cudaSuccess) {
        return STATUS_OK;
    }
    (void)cudaGetLastError();
    int status = is_device_fault(result) ? STATUS_DEVICE : STATUS_INTERNAL;
    const char *name = cudaGetErrorName(result);
    const char *text = cudaGetErrorString(result);
    if (queued != NULL && cuda_is_late(result)) {
        return error_set(err, status, "%s: %s (%s), noticed after %s was queued", call, name, text, queued);
    }
    return error_set(err, status, "%s: %s (%s)", call, name, text);
}

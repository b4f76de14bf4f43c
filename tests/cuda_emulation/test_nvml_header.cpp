// SPDX-License-Identifier: MIT
// kernels/cuda/nvml.h against a real nvml.h: compiled, never run. What does not agree is an error of the
// compiler's that names it.
#if !__has_include(<nvml.h>)
#pragma message("skipped: no nvml.h (PyPI: nvidia-nvml-dev)")
#else

#include <cstddef>
#include <nvml.h>
#include <type_traits>

extern "C" {
#include "kernels/cuda/nvml.h"
#include "kernels/telemetry.h"
}

// ---- values ----

static_assert(int(NVML_OK) == int(NVML_SUCCESS));
static_assert(int(NVML_BAD_ARGUMENT) == int(NVML_ERROR_INVALID_ARGUMENT));
static_assert(int(NVML_NOT_FOUND) == int(NVML_ERROR_NOT_FOUND));
static_assert(int(NVML_TOO_SMALL) == int(NVML_ERROR_INSUFFICIENT_SIZE));
static_assert(int(NVML_TIMED_OUT) == int(NVML_ERROR_TIMEOUT));
static_assert(int(NVML_DEVICE_LOST) == int(NVML_ERROR_GPU_IS_LOST));
static_assert(int(NVML_SM_CLOCK) == int(NVML_CLOCK_SM));
static_assert(int(NVML_CHIP_SENSOR) == int(NVML_TEMPERATURE_GPU));
static_assert(int(NVML_SENT) == int(NVML_PCIE_UTIL_TX_BYTES));
static_assert(int(NVML_RECEIVED) == int(NVML_PCIE_UTIL_RX_BYTES));
static_assert(NVML_EVENT_XID == nvmlEventTypeXidCriticalError);
static_assert(DEVICE_THROTTLE_POWER == nvmlClocksEventReasonSwPowerCap);
static_assert(DEVICE_THROTTLE_HARDWARE == nvmlClocksThrottleReasonHwSlowdown);
static_assert(DEVICE_THROTTLE_THERMAL == nvmlClocksEventReasonSwThermalSlowdown);
static_assert(DEVICE_THROTTLE_THERMAL_HARDWARE == nvmlClocksThrottleReasonHwThermalSlowdown);
static_assert(DEVICE_THROTTLE_POWER_BRAKE == nvmlClocksThrottleReasonHwPowerBrakeSlowdown);

// ---- types: alike where a caller cannot tell them apart ----

template <class Real, class Ours> struct alike : std::is_same<Real, Ours> {};
template <class Real, class Ours> struct alike<const Real, const Ours> : alike<Real, Ours> {};
template <class Real, class Ours> struct alike<Real *, Ours *> : alike<Real, Ours> {};
template <class Real, class... RealArguments, class Ours, class... OurArguments>
struct alike<Real(RealArguments...), Ours(OurArguments...)>
    : std::bool_constant<alike<Real, Ours>::value && (alike<RealArguments, OurArguments>::value && ...)> {};

template <class Real, class Ours>
constexpr bool alike_enums = std::is_same_v<std::underlying_type_t<Real>, std::underlying_type_t<Ours>> &&
                             sizeof(Real) == sizeof(Ours);
template <>
struct alike<nvmlReturn_t, nvml_result> : std::bool_constant<alike_enums<nvmlReturn_t, nvml_result>> {};
template <>
struct alike<nvmlClockType_t, nvml_clock> : std::bool_constant<alike_enums<nvmlClockType_t, nvml_clock>> {};
template <>
struct alike<nvmlTemperatureSensors_t, nvml_sensor>
    : std::bool_constant<alike_enums<nvmlTemperatureSensors_t, nvml_sensor>> {};
template <>
struct alike<nvmlPcieUtilCounter_t, nvml_traffic>
    : std::bool_constant<alike_enums<nvmlPcieUtilCounter_t, nvml_traffic>> {};

// What a pointer of the library's points to is its own affair.
template <> struct alike<std::remove_pointer_t<nvmlDevice_t>, nvml_device> : std::true_type {};
template <> struct alike<std::remove_pointer_t<nvmlEventSet_t>, nvml_event_set> : std::true_type {};

#define SAME_STRUCT(real, ours)                                                                              \
    static_assert(sizeof(real) == sizeof(ours) && alignof(real) == alignof(ours), #ours);                    \
    template <> struct alike<real, ours> : std::true_type {}
#define SAME_MEMBER(real, real_member, ours, our_member)                                                     \
    static_assert(offsetof(real, real_member) == offsetof(ours, our_member), #ours "." #our_member);         \
    static_assert(alike<decltype(real::real_member), decltype(ours::our_member)>::value,                     \
                  #ours "." #our_member)

SAME_STRUCT(nvmlMemory_t, nvml_memory);
SAME_MEMBER(nvmlMemory_t, total, nvml_memory, total);
SAME_MEMBER(nvmlMemory_t, free, nvml_memory, free);
SAME_MEMBER(nvmlMemory_t, used, nvml_memory, used);

SAME_STRUCT(nvmlUtilization_t, nvml_utilization);
SAME_MEMBER(nvmlUtilization_t, gpu, nvml_utilization, gpu);
SAME_MEMBER(nvmlUtilization_t, memory, nvml_utilization, memory);

SAME_STRUCT(nvmlProcessInfo_t, nvml_process);
SAME_MEMBER(nvmlProcessInfo_t, pid, nvml_process, pid);
SAME_MEMBER(nvmlProcessInfo_t, usedGpuMemory, nvml_process, memory);
SAME_MEMBER(nvmlProcessInfo_t, gpuInstanceId, nvml_process, gpu_instance);
SAME_MEMBER(nvmlProcessInfo_t, computeInstanceId, nvml_process, compute_instance);

SAME_STRUCT(nvmlEventData_t, nvml_event);
SAME_MEMBER(nvmlEventData_t, device, nvml_event, device);
SAME_MEMBER(nvmlEventData_t, eventType, nvml_event, kind);
SAME_MEMBER(nvmlEventData_t, eventData, nvml_event, detail);
SAME_MEMBER(nvmlEventData_t, gpuInstanceId, nvml_event, gpu_instance);
SAME_MEMBER(nvmlEventData_t, computeInstanceId, nvml_event, compute_instance);

// ---- functions ----

#define SAME_FUNCTION(real, member)                                                                          \
    static_assert(alike<decltype(&real), decltype(nvml::member)>::value, #real)

SAME_FUNCTION(nvmlInit_v2, init);
SAME_FUNCTION(nvmlShutdown, shutdown);
SAME_FUNCTION(nvmlErrorString, error_string);
SAME_FUNCTION(nvmlDeviceGetHandleByPciBusId_v2, device_by_pci_bus_id);
SAME_FUNCTION(nvmlDeviceGetMemoryInfo, memory_info);
SAME_FUNCTION(nvmlDeviceGetUtilizationRates, utilization);
SAME_FUNCTION(nvmlDeviceGetClockInfo, clock);
SAME_FUNCTION(nvmlDeviceGetMaxClockInfo, clock_most);
SAME_FUNCTION(nvmlDeviceGetTemperature, temperature);
SAME_FUNCTION(nvmlDeviceGetPowerUsage, power);
SAME_FUNCTION(nvmlDeviceGetEnforcedPowerLimit, power_limit);
SAME_FUNCTION(nvmlDeviceGetCurrentClocksEventReasons, throttle_reasons);
SAME_FUNCTION(nvmlDeviceGetCurrentClocksThrottleReasons, throttle_reasons);
SAME_FUNCTION(nvmlDeviceGetPcieThroughput, pcie_throughput);
SAME_FUNCTION(nvmlDeviceGetComputeRunningProcesses_v3, processes);
SAME_FUNCTION(nvmlEventSetCreate, event_set_create);
SAME_FUNCTION(nvmlEventSetFree, event_set_free);
SAME_FUNCTION(nvmlDeviceRegisterEvents, register_events);
SAME_FUNCTION(nvmlEventSetWait_v2, event_set_wait);

#endif

// SPDX-License-Identifier: MIT
// NVML: what it says comes from the settings, but for memory, which is the emulation's own unless a setting
// says otherwise. While the device is slowed down (SLOW) a setting of the slow time comes first.
#include "emulation.h"

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <unistd.h>

extern "C" {
#include "kernels/cuda/nvml.h"
}

struct nvml_device {
    int index;
};
struct nvml_event_set {
    nvml_device *device; // whose events it waits for
    bool told;           // the loss of the device
};

namespace {

using namespace emulation;
using Guard = std::lock_guard<std::recursive_mutex>;

nvml_device the_devices[DEVICES_MOST];

bool is_slow(const nvml_device *device) {
    return triggered(settings().slow_from, counts().launches, counts_of(device->index).launches,
                     device->index);
}

// Of NVML_NAME, or of NVML_SLOW_NAME in the slow time.
unsigned long long value(const nvml_device *device, const char *name, unsigned long long fallback) {
    Guard guard(lock());
    std::string text =
        is_slow(device) ? setting_of(std::string("NVML_SLOW_") + name, device->index) : std::string();
    if (text.empty()) {
        text = setting_of(std::string("NVML_") + name, device->index);
    }
    return text.empty() ? fallback : std::strtoull(text.c_str(), nullptr, 0);
}

nvml_result answer(const nvml_device *device, unsigned *out, unsigned long long number) {
    Guard guard(lock());
    if (device_is_lost(device->index)) {
        return NVML_DEVICE_LOST;
    }
    *out = static_cast<unsigned>(number);
    return NVML_OK;
}

nvml_result init(void) {
    return NVML_OK;
}

nvml_result shutdown(void) {
    return NVML_OK;
}

const char *error_string(nvml_result result) {
    switch (result) {
    case NVML_OK:
        return "The operation was successful";
    case NVML_NOT_FOUND:
        return "Object not found";
    case NVML_DEVICE_LOST:
        return "GPU is lost";
    default:
        return "Unknown Error";
    }
}

nvml_result get_device_by_pci_bus_id(const char *bus_id, nvml_device **device) {
    for (int index = 0; index < settings().devices; index++) {
        char own[32];
        cudaError_t error = cudaDeviceGetPCIBusId(own, sizeof own, index);
        if (error == cudaSuccess && std::string(own) == bus_id) {
            the_devices[index].index = index;
            *device = &the_devices[index];
            return NVML_OK;
        }
    }
    return NVML_NOT_FOUND;
}

nvml_result get_memory_info(nvml_device *device, nvml_memory *memory) {
    Guard guard(lock());
    const Settings &s = settings();
    memory->total = s.total_memory[device->index];
    memory->free = s.free_memory[device->index] - counts_of(device->index).bytes;
    memory->used = memory->total - memory->free;
    return device_is_lost(device->index) ? NVML_DEVICE_LOST : NVML_OK;
}

nvml_result get_utilization(nvml_device *device, nvml_utilization *utilization) {
    utilization->memory = 40;
    return answer(device, &utilization->gpu, value(device, "UTILIZATION", 97));
}

nvml_result get_clock(nvml_device *device, nvml_clock, unsigned int *clock) {
    return answer(device, clock, value(device, "CLOCK", 1410));
}

nvml_result get_clock_most(nvml_device *device, nvml_clock, unsigned int *clock) {
    return answer(device, clock, 1410);
}

nvml_result get_temperature(nvml_device *device, nvml_sensor, unsigned int *degrees) {
    return answer(device, degrees, value(device, "TEMPERATURE", 61));
}

nvml_result get_power(nvml_device *device, unsigned int *milliwatts) {
    return answer(device, milliwatts, value(device, "POWER", 250000));
}

nvml_result get_power_limit(nvml_device *device, unsigned int *milliwatts) {
    return answer(device, milliwatts, 300000);
}

nvml_result get_throttle_reasons(nvml_device *device, unsigned long long *reasons) {
    unsigned bits = 0;
    nvml_result result = answer(device, &bits, value(device, "REASONS", 0));
    *reasons = bits;
    return result;
}

nvml_result get_pcie_throughput(nvml_device *device, nvml_traffic traffic, unsigned int *kilobytes) {
    return answer(device, kilobytes,
                  value(device, traffic == NVML_RECEIVED ? "PCIE_RECEIVED" : "PCIE_SENT", 120000));
}

// This process and as many others as the settings say.
nvml_result get_processes(nvml_device *device, unsigned int *count, nvml_process *processes) {
    Guard guard(lock());
    auto needed = static_cast<unsigned>(1 + value(device, "FOREIGN_PROCESSES", 0));
    bool fits = needed <= *count;
    *count = needed;
    for (unsigned i = 0; i < needed && fits; i++) {
        processes[i] = {static_cast<unsigned>(getpid()) + i,
                        i == 0 ? value(device, "PROCESS_MEMORY", counts_of(device->index).bytes) : 1 << 20,
                        ~0u, ~0u};
    }
    return device_is_lost(device->index) ? NVML_DEVICE_LOST : fits ? NVML_OK : NVML_TOO_SMALL;
}

nvml_result event_set_create(nvml_event_set **set) {
    *set = new nvml_event_set{nullptr, false};
    return NVML_OK;
}

nvml_result event_set_free(nvml_event_set *set) {
    delete set;
    return NVML_OK;
}

nvml_result register_events(nvml_device *device, unsigned long long, nvml_event_set *set) {
    set->device = device;
    return NVML_OK;
}

// A device that is lost says so once: XID 79, "GPU has fallen off the bus".
nvml_result event_set_wait(nvml_event_set *set, nvml_event *data, unsigned int milliseconds) {
    {
        Guard guard(lock());
        if (set->device != nullptr && device_is_lost(set->device->index) && !set->told) {
            set->told = true;
            *data = {set->device, NVML_EVENT_XID, 79, ~0u, ~0u};
            return NVML_OK;
        }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return NVML_TIMED_OUT;
}

// Refuses a function that has not the signature of the member that it is for.
template <class Pointer> Function function(const char *name, Pointer nvml::*, Pointer address) {
    return {name, reinterpret_cast<void *>(address)};
}

} // namespace

const Function *emulation::nvml_functions() {
    static const Function functions[] = {
        function("nvmlInit_v2", &nvml::init, init),
        function("nvmlShutdown", &nvml::shutdown, shutdown),
        function("nvmlErrorString", &nvml::error_string, error_string),
        function("nvmlDeviceGetHandleByPciBusId_v2", &nvml::device_by_pci_bus_id, get_device_by_pci_bus_id),
        function("nvmlDeviceGetMemoryInfo", &nvml::memory_info, get_memory_info),
        function("nvmlDeviceGetUtilizationRates", &nvml::utilization, get_utilization),
        function("nvmlDeviceGetClockInfo", &nvml::clock, get_clock),
        function("nvmlDeviceGetMaxClockInfo", &nvml::clock_most, get_clock_most),
        function("nvmlDeviceGetTemperature", &nvml::temperature, get_temperature),
        function("nvmlDeviceGetPowerUsage", &nvml::power, get_power),
        function("nvmlDeviceGetEnforcedPowerLimit", &nvml::power_limit, get_power_limit),
        function("nvmlDeviceGetCurrentClocksEventReasons", &nvml::throttle_reasons, get_throttle_reasons),
        function("nvmlDeviceGetPcieThroughput", &nvml::pcie_throughput, get_pcie_throughput),
        function("nvmlDeviceGetComputeRunningProcesses_v3", &nvml::processes, get_processes),
        function("nvmlEventSetCreate", &nvml::event_set_create, event_set_create),
        function("nvmlEventSetFree", &nvml::event_set_free, event_set_free),
        function("nvmlDeviceRegisterEvents", &nvml::register_events, register_events),
        function("nvmlEventSetWait_v2", &nvml::event_set_wait, event_set_wait),
        {nullptr, nullptr}};
    return functions;
}

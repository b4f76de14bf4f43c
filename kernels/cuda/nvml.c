// SPDX-License-Identifier: MIT
#include "kernels/cuda/nvml.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cuda/library.h"

static const char *const library_names[] = {"libnvidia-ml.so.1", NULL};

struct symbol {
    const char *name;
    size_t place; // of the member in struct nvml
    bool needed;
};

// Of several names for one member the first that is there counts: the later ones are what older drivers say,
// and what CUDA 13 calls deprecated.
static const struct symbol symbols[] = {
    {"nvmlInit_v2", offsetof(struct nvml, init), true},
    {"nvmlShutdown", offsetof(struct nvml, shutdown), false},
    {"nvmlErrorString", offsetof(struct nvml, error_string), false},
    {"nvmlDeviceGetHandleByPciBusId_v2", offsetof(struct nvml, device_by_pci_bus_id), true},
    {"nvmlDeviceGetMemoryInfo", offsetof(struct nvml, memory_info), false},
    {"nvmlDeviceGetUtilizationRates", offsetof(struct nvml, utilization), false},
    {"nvmlDeviceGetClockInfo", offsetof(struct nvml, clock), false},
    {"nvmlDeviceGetMaxClockInfo", offsetof(struct nvml, clock_most), false},
    {"nvmlDeviceGetTemperature", offsetof(struct nvml, temperature), false},
    {"nvmlDeviceGetPowerUsage", offsetof(struct nvml, power), false},
    {"nvmlDeviceGetEnforcedPowerLimit", offsetof(struct nvml, power_limit), false},
    {"nvmlDeviceGetCurrentClocksEventReasons", offsetof(struct nvml, throttle_reasons), false},
    {"nvmlDeviceGetCurrentClocksThrottleReasons", offsetof(struct nvml, throttle_reasons), false},
    {"nvmlDeviceGetPcieThroughput", offsetof(struct nvml, pcie_throughput), false},
    {"nvmlDeviceGetComputeRunningProcesses_v3", offsetof(struct nvml, processes), false},
    {"nvmlEventSetCreate", offsetof(struct nvml, event_set_create), false},
    {"nvmlEventSetFree", offsetof(struct nvml, event_set_free), false},
    {"nvmlDeviceRegisterEvents", offsetof(struct nvml, register_events), false},
    {"nvmlEventSetWait_v2", offsetof(struct nvml, event_set_wait), false},
};

// Names the first needed function that the library lacks; NULL when all are there.
static const char *resolve(struct nvml *nvml) {
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        // POSIX gives data and function pointers one size and form; ISO C has no conversion between them.
        char *member = (char *)nvml + symbols[i].place;
        void *found;
        memcpy(&found, member, sizeof found);
        if (found == NULL) {
            found = library_symbol(nvml->library, symbols[i].name);
            memcpy(member, &found, sizeof found);
        }
        if (found == NULL && symbols[i].needed) {
            return symbols[i].name;
        }
    }
    return NULL;
}

bool nvml_open(struct nvml *nvml, char *why, size_t why_size) {
    *nvml = (struct nvml){0};
    nvml->library = library_open(library_names, why, why_size);
    if (nvml->library == NULL) {
        return false;
    }
    const char *lacking = resolve(nvml);
    enum nvml_result result = NVML_OK;
    if (lacking != NULL) {
        snprintf(why, why_size, "%s has no %s", library_names[0], lacking);
    } else if ((result = nvml->init()) != NVML_OK) {
        snprintf(why, why_size, "nvmlInit_v2: %s", nvml_error(nvml, result));
    } else {
        return true;
    }
    library_close(nvml->library);
    *nvml = (struct nvml){0};
    return false;
}

void nvml_close(struct nvml *nvml) {
    if (nvml->library != NULL) {
        if (nvml->shutdown != NULL) {
            nvml->shutdown();
        }
        library_close(nvml->library);
    }
    *nvml = (struct nvml){0};
}

const char *nvml_error(const struct nvml *nvml, enum nvml_result result) {
    const char *text = nvml->error_string != NULL ? nvml->error_string(result) : NULL;
    return text != NULL ? text : "an error that NVML does not name";
}

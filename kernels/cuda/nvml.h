// NVML, the driver's monitoring library, resolved when a GPU is opened: it may be missing, and the older ones
// lack some of its functions.
#ifndef STRATA_KERNELS_CUDA_NVML_H
#define STRATA_KERNELS_CUDA_NVML_H

#include <nvml.h>
#include <stdbool.h>
#include <stddef.h>

// One member a function, of nvml.h's signature; NULL where the library at hand has no such function. `init`
// and `device_by_pci_bus_id` are always there. The versions and names are those of CUDA 12.4, which later
// drivers keep.
struct nvml {
    struct library *library;
    nvmlReturn_t (*init)(void);
    nvmlReturn_t (*shutdown)(void);
    const char *(*error_string)(nvmlReturn_t);
    nvmlReturn_t (*device_by_pci_bus_id)(const char *, nvmlDevice_t *);
    nvmlReturn_t (*memory_info)(nvmlDevice_t, nvmlMemory_t *);
    nvmlReturn_t (*utilization)(nvmlDevice_t, nvmlUtilization_t *);
    nvmlReturn_t (*clock)(nvmlDevice_t, nvmlClockType_t, unsigned int *);      // MHz
    nvmlReturn_t (*clock_most)(nvmlDevice_t, nvmlClockType_t, unsigned int *); // MHz
    nvmlReturn_t (*temperature)(nvmlDevice_t, nvmlTemperatureSensors_t, unsigned int *);
    nvmlReturn_t (*power)(nvmlDevice_t, unsigned int *);       // mW
    nvmlReturn_t (*power_limit)(nvmlDevice_t, unsigned int *); // mW
    nvmlReturn_t (*throttle_reasons)(nvmlDevice_t, unsigned long long *);
    nvmlReturn_t (*pcie_throughput)(nvmlDevice_t, nvmlPcieUtilCounter_t, unsigned int *); // KB/s; takes 20 ms
    nvmlReturn_t (*processes)(nvmlDevice_t, unsigned int *, nvmlProcessInfo_t *);
    nvmlReturn_t (*event_set_create)(nvmlEventSet_t *);
    nvmlReturn_t (*event_set_free)(nvmlEventSet_t);
    nvmlReturn_t (*register_events)(nvmlDevice_t, unsigned long long, nvmlEventSet_t);
    nvmlReturn_t (*event_set_wait)(nvmlEventSet_t, nvmlEventData_t *, unsigned int); // milliseconds
};

// Loads and initialises the library. False, with the reason in `why`, when that fails; nothing stays open
// then.
bool nvml_open(struct nvml *nvml, char *why, size_t why_size);
void nvml_close(struct nvml *nvml); // accepts one that is not open; leaves zeros

// What a failing call returned, in words.
const char *nvml_error(const struct nvml *nvml, nvmlReturn_t result);

#endif

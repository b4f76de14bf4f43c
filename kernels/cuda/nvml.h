// SPDX-License-Identifier: MIT
// NVML, the driver's monitoring library, resolved when a GPU is opened: it may be missing, and the older ones
// lack some of its functions.
//
// NVIDIA's own header is not needed: what telemetry.c calls is declared here, under names of this house, with
// the layouts, values and signatures of the NVML API Reference (docs.nvidia.com/deploy/nvml-api), which are
// the same from CUDA 12.4 on. tests/cuda_emulation/test_nvml_header.cpp compares them with a real nvml.h.
// Enumerations and structures hold what is used, but a structure always has all of its members.
#ifndef STRATA_KERNELS_CUDA_NVML_H
#define STRATA_KERNELS_CUDA_NVML_H

#include <stdbool.h>
#include <stddef.h>

// ---- what crosses into the library ----

enum nvml_result { // others exist: anything but NVML_OK is a failure
    NVML_OK = 0,
    NVML_BAD_ARGUMENT = 2,
    NVML_NOT_FOUND = 6,
    NVML_TOO_SMALL = 7, // an array of the caller's; its count says what is needed
    NVML_TIMED_OUT = 10,
    NVML_DEVICE_LOST = 15,
};

struct nvml_device;    // the library's
struct nvml_event_set; // the library's, from event_set_create to event_set_free

struct nvml_memory { // bytes of the whole device
    unsigned long long total;
    unsigned long long free;
    unsigned long long used;
};

struct nvml_utilization { // percent of the last sampling period
    unsigned int gpu;     // in which a kernel ran
    unsigned int memory;  // in which device memory was read or written
};

struct nvml_process { // one that has a compute context on the device
    unsigned int pid;
    unsigned long long memory; // bytes; all ones: not known
    unsigned int gpu_instance; // of a GPU that is split (MIG); all ones: none
    unsigned int compute_instance;
};

struct nvml_event {
    struct nvml_device *device;
    unsigned long long kind;   // one of the bits registered
    unsigned long long detail; // of NVML_EVENT_XID: the code
    unsigned int gpu_instance;
    unsigned int compute_instance;
};

enum { NVML_EVENT_XID = 8 }; // a critical error
enum nvml_clock { NVML_SM_CLOCK = 1 };
enum nvml_sensor { NVML_CHIP_SENSOR = 0 };
enum nvml_traffic { NVML_SENT = 0, NVML_RECEIVED = 1 }; // from the GPU's point of view

// ---- the library ----

// One member a function; NULL where the library at hand has no such function. `init` and
// `device_by_pci_bus_id` are always there.
struct nvml {
    struct library *library;
    enum nvml_result (*init)(void);
    enum nvml_result (*shutdown)(void);
    const char *(*error_string)(enum nvml_result);
    enum nvml_result (*device_by_pci_bus_id)(const char *, struct nvml_device **);
    enum nvml_result (*memory_info)(struct nvml_device *, struct nvml_memory *);
    enum nvml_result (*utilization)(struct nvml_device *, struct nvml_utilization *);
    enum nvml_result (*clock)(struct nvml_device *, enum nvml_clock, unsigned int *);        // MHz
    enum nvml_result (*clock_most)(struct nvml_device *, enum nvml_clock, unsigned int *);   // MHz
    enum nvml_result (*temperature)(struct nvml_device *, enum nvml_sensor, unsigned int *); // Celsius
    enum nvml_result (*power)(struct nvml_device *, unsigned int *);                         // mW
    enum nvml_result (*power_limit)(struct nvml_device *, unsigned int *);                   // mW
    enum nvml_result (*throttle_reasons)(struct nvml_device *, unsigned long long *); // enum device_throttle
    enum nvml_result (*pcie_throughput)(struct nvml_device *, enum nvml_traffic,
                                        unsigned int *); // KB/s; takes 20 ms
    // The number is the array's room on the way in, what it holds on the way out.
    enum nvml_result (*processes)(struct nvml_device *, unsigned int *, struct nvml_process *);
    enum nvml_result (*event_set_create)(struct nvml_event_set **);
    enum nvml_result (*event_set_free)(struct nvml_event_set *);
    enum nvml_result (*register_events)(struct nvml_device *, unsigned long long, struct nvml_event_set *);
    enum nvml_result (*event_set_wait)(struct nvml_event_set *, struct nvml_event *,
                                       unsigned int); // milliseconds
};

// Loads and initialises the library. False, with the reason in `why`, when that fails; nothing stays open
// then.
bool nvml_open(struct nvml *nvml, char *why, size_t why_size);
void nvml_close(struct nvml *nvml); // accepts one that is not open; leaves zeros

// What a failing call returned, in words.
const char *nvml_error(const struct nvml *nvml, enum nvml_result result);

#endif

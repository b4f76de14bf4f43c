// SPDX-License-Identifier: MIT
// What the GPU's own monitoring says while it computes: memory, utilisation, clocks, power, temperature,
// throttle reasons, PCIe traffic, XID errors. A thread of its own asks NVML about once a second (some calls
// take 20 ms), and for XID errors ten times a second; readers get what it saw last and never wait for the
// driver.
//
// Without NVML everything here still works and knows nothing: the caller is handed a warning to show.
#ifndef STRATA_KERNELS_CUDA_TELEMETRY_H
#define STRATA_KERNELS_CUDA_TELEMETRY_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/telemetry.h"

struct telemetry;

// Watches the GPU of this PCI bus id ("00000000:01:00.0", as cudaDeviceGetPCIBusId writes it). `warning`
// becomes "" or one line saying what will not be known. Fails only for want of memory or threads. The caller
// stops it.
int telemetry_start(struct telemetry **out, const char *pci_bus_id, char *warning, size_t warning_size,
                    struct error *err);

// What was read last; every field DEVICE_UNKNOWN before the first reading.
void telemetry_sample(struct telemetry *telemetry, struct device_sample *out);

// The gravest XID error since the device was last known to work (telemetry_settled), 0 without one.
int64_t telemetry_fresh_xid(struct telemetry *telemetry);
void telemetry_settled(struct telemetry *telemetry); // the device did what it was asked to

// Bytes of the device's memory that the driver counts for this process, asked for now (about a millisecond);
// UINT64_MAX when it does not say, as in a container with process ids of its own.
uint64_t telemetry_process_bytes(struct telemetry *telemetry);

// Ends the thread, within 50 ms as a rule. A thread that hangs inside the driver (a lost GPU) is left behind
// after two seconds, with its memory. Accepts NULL.
void telemetry_stop(struct telemetry *telemetry);

#endif

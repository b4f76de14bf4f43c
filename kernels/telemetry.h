// SPDX-License-Identifier: MIT
// What a device's own monitoring says: memory, clocks, temperature, power, errors.
#ifndef STRATA_KERNELS_TELEMETRY_H
#define STRATA_KERNELS_TELEMETRY_H

#include "kernels/device.h"

enum { DEVICE_UNKNOWN = -1 };

// What the device's own monitoring said last (a GPU: NVML, read by a thread of its own about once a second).
// A field that is not known is DEVICE_UNKNOWN; on the CPU all are.
struct device_sample {
    double age_seconds;        // since it was read
    int64_t memory_used;       // bytes in use on the device, everybody's
    int64_t process_memory;    // bytes of this process
    int32_t utilization;       // percent of the last interval with a kernel running
    int32_t sm_clock;          // MHz
    int32_t sm_clock_most;     // MHz
    int32_t temperature;       // degrees Celsius
    int32_t foreign_processes; // computing on the device beside this one
    int64_t throttle_reasons;  // bits of NVML's clocks event reasons, enum device_throttle among them
    double power;              // W
    double power_limit;        // W
    double pcie_received;      // bytes a second, host -> device
    double pcie_sent;          // bytes a second, device -> host
    int64_t xid; // code of the last critical error event, those of the device before programs'; 0: none
};

// The throttle reasons that slow a clock; being idle and settings of the user do not count.
enum device_throttle {
    DEVICE_THROTTLE_POWER = 0x04,    // the power limit
    DEVICE_THROTTLE_HARDWARE = 0x08, // the hardware slows itself: heat, power brake
    DEVICE_THROTTLE_THERMAL = 0x20,  // the driver keeps it from getting too hot
    DEVICE_THROTTLE_THERMAL_HARDWARE = 0x40,
    DEVICE_THROTTLE_POWER_BRAKE = 0x80, // the system asks for it
};

void device_sample(const struct device *device, struct device_sample *out);
void device_sample_clear(struct device_sample *out); // nothing is known

// Names of the throttle reasons that slow a clock down, joined by "+" ("power+thermal"); "none", or
// "unknown".
void device_throttle_names(int64_t reasons, char *out, size_t size);

// Whether an XID code tells of a program that went wrong on the device, this one or a neighbour (its kernels
// faulted, or it was ended), and not of the device.
bool device_xid_blames_program(int64_t xid);

#endif

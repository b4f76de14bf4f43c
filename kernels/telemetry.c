// SPDX-License-Identifier: MIT
#include "kernels/telemetry.h"

#include <stdio.h>

#include "kernels/back_end.h"

void device_sample_clear(struct device_sample *out) {
    *out = (struct device_sample){.age_seconds = DEVICE_UNKNOWN,
                                  .memory_used = DEVICE_UNKNOWN,
                                  .process_memory = DEVICE_UNKNOWN,
                                  .utilization = DEVICE_UNKNOWN,
                                  .sm_clock = DEVICE_UNKNOWN,
                                  .sm_clock_most = DEVICE_UNKNOWN,
                                  .temperature = DEVICE_UNKNOWN,
                                  .foreign_processes = DEVICE_UNKNOWN,
                                  .throttle_reasons = DEVICE_UNKNOWN,
                                  .power = DEVICE_UNKNOWN,
                                  .power_limit = DEVICE_UNKNOWN,
                                  .pcie_received = DEVICE_UNKNOWN,
                                  .pcie_sent = DEVICE_UNKNOWN,
                                  .xid = DEVICE_UNKNOWN};
}

void device_sample(const struct device *device, struct device_sample *out) {
    device_sample_clear(out);
    device->ops->sample(device, out);
}

void device_throttle_names(int64_t reasons, char *out, size_t size) {
    static const struct {
        int64_t bit;
        const char *name;
    } names[] = {{DEVICE_THROTTLE_POWER, "power"},
                 {DEVICE_THROTTLE_HARDWARE, "hardware"},
                 {DEVICE_THROTTLE_THERMAL, "thermal"},
                 {DEVICE_THROTTLE_THERMAL_HARDWARE, "thermal-hardware"},
                 {DEVICE_THROTTLE_POWER_BRAKE, "power-brake"}};
    size_t used = 0;
    if (reasons < 0) {
        snprintf(out, size, "unknown");
        return;
    }
    snprintf(out, size, "none");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if ((reasons & names[i].bit) != 0 && used < size) {
            used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? "+" : "", names[i].name);
        }
    }
}

bool device_xid_blames_program(int64_t xid) {
    // NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors): an exception in a kernel, an access to memory
    // that is not mapped, a channel that was reset, and one that was torn down.
    return xid == 13 || xid == 31 || xid == 43 || xid == 45;
}

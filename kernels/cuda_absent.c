// SPDX-License-Identifier: MIT
// Stands in for the CUDA back end in a build without it.
#include "kernels/back_end.h"

const char *cuda_build(void) {
    return "none: built without CUDA";
}

size_t cuda_gpus(struct error *why) {
    (void)error_set(why, STATUS_DEVICE, "built without CUDA");
    return 0;
}

bool cuda_bus_id(int index, char out[CUDA_BUS_ID]) {
    (void)index;
    (void)out;
    return false;
}

int cuda_device_open(struct device **out, int index, const struct device_options *options, const char *why,
                     bool *there, struct error *err) {
    (void)index;
    (void)options;
    (void)why;
    *out = NULL;
    *there = false;
    return error_set(err, STATUS_DEVICE, "built without CUDA");
}

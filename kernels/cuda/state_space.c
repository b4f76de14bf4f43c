// A state space.
#include "kernels/cuda/cuda_device.h"

bool cuda_state_space_scratch(const struct device *device, const struct device_state_space *space,
                              size_t tokens, size_t *bytes) {
    (void)device;
    (void)space;
    (void)tokens;
    *bytes = 0;
    return true;
}

int cuda_state_space(struct device *device, void *out, const void *in, const struct device_state_space *space,
                     struct device_texts texts, void *state, void *scratch, struct error *err) {
    (void)device;
    (void)out;
    (void)in;
    (void)space;
    (void)texts;
    (void)state;
    (void)scratch;
    return error_set(err, STATUS_DEVICE, "state spaces on CUDA are not built");
}

// A gated delta net.
#include "kernels/cpu/rows.h"

bool cpu_delta_net_scratch(const struct device *device, const struct device_delta_net *net, size_t tokens,
                           size_t *bytes) {
    (void)device;
    (void)net;
    (void)tokens;
    *bytes = 0;
    return true;
}

int cpu_delta_net(struct device *device, void *out, const void *in, const struct device_delta_net *net,
                  struct device_texts texts, void *state, void *scratch, struct error *err) {
    (void)device;
    (void)out;
    (void)in;
    (void)net;
    (void)texts;
    (void)state;
    (void)scratch;
    return error_set(err, STATUS_DEVICE, "delta nets are not computed on a CPU");
}

int cpu_gate_rows(struct device *device, void *x, const void *in, const void *weight, size_t tokens,
                  size_t width, size_t hidden, struct error *err) {
    (void)device;
    (void)x;
    (void)in;
    (void)weight;
    (void)tokens;
    (void)width;
    (void)hidden;
    return error_set(err, STATUS_DEVICE, "gates of rows are not computed on a CPU");
}

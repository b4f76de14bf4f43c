// SPDX-License-Identifier: MIT
// A gated delta net.
#include <math.h>

#include "kernels/cpu/recurrence.h"

static struct recurrence_sizes sizes_of(const struct device_delta_net *net) {
    return (struct recurrence_sizes){
        .key_heads = net->key_heads,
        .value_heads = net->value_heads,
        .key_dim = net->key_dim,
        .value_dim = net->value_dim,
        .taps = net->taps,
        .width = device_delta_net_width(net),
        .mixed = device_delta_net_mixed(net),
        .out_width = device_delta_net_out(net),
    };
}

bool cpu_delta_net_scratch(const struct device *device, const struct device_delta_net *net, size_t tokens,
                           size_t *bytes) {
    struct recurrence_sizes sizes = sizes_of(net);
    struct recurrence_layout layout;
    if (!recurrence_lay_out(cpu_of_const(device), &sizes, tokens, &layout)) {
        return false;
    }
    *bytes = layout.bytes;
    return true;
}

// ---- keys, queries, values and gates ----

static void mix_token(const struct recurrence *job, size_t token, size_t at,
                      const struct micro_convolution *mixed) {
    const struct micro_kernels *kernels = job->rows.cpu->kernels;
    const struct device_delta_net *net = job->net;
    size_t key_columns = net->key_heads * net->key_dim;
    float scale = 1 / sqrtf((float)net->key_dim);
    for (size_t h = 0; h < net->key_heads; h++) {
        size_t column = h * net->key_dim;
        float *key = job->keys + (h * job->tokens + at) * 2 * net->key_dim;
        struct micro_convolution k = recurrence_column(job, mixed, key_columns + column);
        struct micro_convolution q = recurrence_column(job, mixed, column);
        kernels->convolve_normed(key, &k, 1, net->key_dim);
        kernels->convolve_normed(key + net->key_dim, &q, scale, net->key_dim);
    }
    for (size_t h = 0; h < net->value_heads; h++) {
        struct micro_convolution v = recurrence_column(job, mixed, 2 * key_columns + h * net->value_dim);
        kernels->convolve(number_in(job->values, (h * job->tokens + at) * net->value_dim, job->dtype), &v,
                          net->value_dim);
    }
    const void *b =
        number_of(job->in, token * job->sizes.width + job->sizes.mixed + job->sizes.out_width, job->dtype);
    const void *a = number_of(b, net->value_heads, job->dtype);
    kernels->delta_gates(job->beta + at * net->value_heads, job->factors + at * net->value_heads, b, a,
                         net->decay, net->step_bias, net->value_heads);
}

// ---- what comes out ----

static void norm_token(const struct recurrence *job, size_t token, size_t at) {
    const struct device_delta_net *net = job->net;
    (void)at;
    for (size_t h = 0; h < net->value_heads; h++) {
        size_t column = h * net->value_dim;
        job->rows.cpu->kernels->delta_norm(
            number_in(job->out, token * job->sizes.out_width + column, job->dtype),
            number_of(job->in, token * job->sizes.width + job->sizes.mixed + column, job->dtype), net->norm,
            net->epsilon, net->value_dim);
    }
}

int cpu_delta_net(struct device *device, void *out, const void *in, const struct device_delta_net *net,
                  struct device_texts texts, void *state, void *scratch, struct error *err) {
    struct cpu_device *cpu = cpu_of(device);
    struct recurrence job = {
        .rows = {.cpu = cpu},
        .net = net,
        .sizes = sizes_of(net),
        .mix = mix_token,
        .scan = cpu->kernels->delta_scan,
        .norm = norm_token,
        .in = in,
        .out = out,
    };
    return recurrence_run(&job, net->convolution, NULL, texts, state, scratch, err);
}

// ---- gates of rows ----

struct gates {
    struct rows rows;
    void *x;
    const void *in;
    const void *weight;
    size_t width;
    size_t hidden;
};

static void gate_whole_rows(const void *job, size_t piece, size_t member) {
    const struct gates *gates = job;
    struct share mine = rows_of(&gates->rows, piece);
    const struct cpu_device *cpu = gates->rows.cpu;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        cpu->kernels->gate_whole(number_in(gates->x, t * gates->width, cpu->base.dtype),
                                 number_of(gates->in, t * gates->hidden, cpu->base.dtype), gates->weight,
                                 gates->width, gates->hidden);
    }
}

int cpu_gate_rows(struct device *device, void *x, const void *in, const void *weight, size_t tokens,
                  size_t width, size_t hidden, struct error *err) {
    (void)err;
    struct gates gates = {{.cpu = cpu_of(device), .count = tokens}, x, in, weight, width, hidden};
    rows_run(&gates.rows, gate_whole_rows, 2 * width + hidden);
    return STATUS_OK;
}

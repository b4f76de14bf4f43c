// SPDX-License-Identifier: MIT
// A selective state space: B and C are the keys and queries of a recurrence, x its values, steps its betas.
#include "kernels/cpu/recurrence.h"

static struct recurrence_sizes sizes_of(const struct device_state_space *space) {
    return (struct recurrence_sizes){
        .key_heads = space->groups,
        .value_heads = space->heads,
        .key_dim = space->state,
        .value_dim = space->head_dim,
        .taps = space->taps,
        .width = device_state_space_width(space),
        .first = device_state_space_out(space),
        .mixed = device_state_space_mixed(space),
        .has_bias = true, // scratch is of the sizes, whether there is one or not
        .keeps_wide = true,
        .out_width = device_state_space_out(space),
    };
}

bool cpu_state_space_scratch(const struct device *device, const struct device_state_space *space,
                             size_t tokens, size_t *bytes) {
    struct recurrence_sizes sizes = sizes_of(space);
    struct recurrence_layout layout;
    if (!recurrence_lay_out(cpu_of_const(device), &sizes, tokens, &layout)) {
        return false;
    }
    *bytes = layout.bytes;
    return true;
}

// ---- x, B, C and steps ----

static float at_rounding(float value, enum dtype dtype) {
    unsigned char number[sizeof(float)];
    dtype_convert(number, dtype, &value, DTYPE_F32, 1);
    dtype_convert(&value, DTYPE_F32, number, dtype, 1);
    return value;
}

static void mix_token(const struct recurrence *job, size_t token, size_t at,
                      const struct micro_convolution *mixed) {
    const struct micro_kernels *kernels = job->rows.cpu->kernels;
    const struct device_state_space *space = job->net;
    size_t of_groups = space->groups * space->state;
    for (size_t h = 0; h < space->heads; h++) {
        struct micro_convolution x = recurrence_column(job, mixed, h * space->head_dim);
        kernels->convolve(number_in(job->values, (h * job->tokens + at) * space->head_dim, job->dtype), &x,
                          space->head_dim);
    }
    for (size_t g = 0; g < space->groups; g++) {
        size_t column = job->sizes.out_width + g * space->state;
        float *key = job->keys + (g * job->tokens + at) * 2 * space->state;
        struct micro_convolution b = recurrence_column(job, mixed, column);
        struct micro_convolution c = recurrence_column(job, mixed, column + of_groups);
        kernels->convolve_wide(key, &b, space->state);
        kernels->convolve_wide(key + space->state, &c, space->state);
    }
    const void *dt = number_of(job->in, (token + 1) * job->sizes.width - space->heads, job->dtype);
    kernels->space_gates(job->beta + at * space->heads, job->factors + at * space->heads, dt, space,
                         at_rounding(space->step_least, job->dtype),
                         at_rounding(space->step_most, job->dtype), space->heads);
}

// ---- what comes out ----

static void norm_token(const struct recurrence *job, size_t token, size_t at) {
    const struct device_state_space *space = job->net;
    size_t width = job->sizes.out_width / space->norm_groups;
    for (size_t g = 0; g < space->norm_groups; g++) {
        size_t column = g * width;
        job->rows.cpu->kernels->space_norm(
            number_in(job->out, token * job->sizes.out_width + column, job->dtype),
            job->wide + at * job->sizes.out_width + column,
            number_of(job->in, token * job->sizes.width + column, job->dtype),
            number_of(space->norm, column, job->dtype), space->epsilon, width);
    }
}

int cpu_state_space(struct device *device, void *out, const void *in, const struct device_state_space *space,
                    struct device_texts texts, void *state, void *scratch, struct error *err) {
    struct cpu_device *cpu = cpu_of(device);
    struct recurrence job = {
        .rows = {.cpu = cpu},
        .net = space,
        .sizes = sizes_of(space),
        .mix = mix_token,
        .scan = cpu->kernels->space_scan,
        .norm = norm_token,
        .skips = space->skip,
        .in = in,
        .out = out,
    };
    return recurrence_run(&job, space->convolution, space->bias, texts, state, scratch, err);
}

// SPDX-License-Identifier: MIT
// Operations on one row at a time that have no sums: embedding, adding, scaling, activations and gates, keys
// and values to be kept.
#include "kernels/cpu/rows.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"

struct share rows_of(const struct rows *rows, size_t piece) {
    size_t first = piece * rows->each;
    return (struct share){first, size_min(first + rows->each, rows->count)};
}

void rows_run(struct rows *job, cpu_team_task *run, size_t numbers) {
    struct cpu_device *cpu = job->cpu;
    double started = clock_seconds();
    size_t bytes = numbers * dtype_size(cpu->base.dtype);
    size_t pieces = cpu_team_pieces(cpu->team, job->count, bytes, &job->each);
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, pieces, run, job);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
}

// ---- embedding ----

struct embed {
    struct rows rows;
    void *out;
    const void *table;
    const int32_t *ids;
    float scale;
    enum device_store store;
    size_t hidden;
};

static void embed_rows(const void *job, size_t piece, size_t member) {
    const struct embed *embed = job;
    struct share mine = rows_of(&embed->rows, piece);
    const struct cpu_device *cpu = embed->rows.cpu;
    enum dtype dtype = cpu->base.dtype;
    size_t hidden = embed->hidden;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        void *out = number_in(embed->out, t * hidden, dtype);
        const void *row = number_of(embed->table, (size_t)embed->ids[t] * hidden, dtype);
        if (embed->scale == 1 && embed->store == DEVICE_STORE) {
            memcpy(out, row, hidden * dtype_size(dtype));
        } else {
            cpu->kernels->scaled(out, row, embed->scale, embed->store, hidden);
        }
    }
}

int cpu_embed(struct device *device, void *out, const void *table, const int32_t *ids, float scale,
              enum device_store store, size_t tokens, size_t hidden, struct error *err) {
    (void)err;
    struct embed embed = {{.cpu = cpu_of(device), .count = tokens}, out, table, ids, scale, store, hidden};
    rows_run(&embed.rows, embed_rows, 2 * hidden);
    return STATUS_OK;
}

// ---- out (+)= x * factor ----

struct scaled {
    struct rows rows;
    void *out;
    const void *x;
    float factor;
    enum device_store store;
    size_t hidden;
};

static void scaled_rows(const void *job, size_t piece, size_t member) {
    const struct scaled *scaled = job;
    struct share mine = rows_of(&scaled->rows, piece);
    const struct cpu_device *cpu = scaled->rows.cpu;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        cpu->kernels->scaled(number_in(scaled->out, t * scaled->hidden, cpu->base.dtype),
                             number_of(scaled->x, t * scaled->hidden, cpu->base.dtype), scaled->factor,
                             scaled->store, scaled->hidden);
    }
}

int cpu_add(struct device *device, void *x, const void *y, float scale, size_t tokens, size_t hidden,
            struct error *err) {
    (void)err;
    struct scaled scaled = {{.cpu = cpu_of(device), .count = tokens}, x, y, scale, DEVICE_ADD, hidden};
    rows_run(&scaled.rows, scaled_rows, 3 * hidden);
    return STATUS_OK;
}

int cpu_scale(struct device *device, void *x, const void *factor, size_t tokens, size_t hidden,
              struct error *err) {
    (void)err;
    float number;
    dtype_convert(&number, DTYPE_F32, factor, device->dtype, 1);
    struct scaled scaled = {{.cpu = cpu_of(device), .count = tokens}, x, x, number, DEVICE_STORE, hidden};
    rows_run(&scaled.rows, scaled_rows, 2 * hidden);
    return STATUS_OK;
}

// ---- activations and gates ----

struct activate {
    struct rows rows;
    void *out;
    const void *in;
    const void *up; // NULL: none
    enum device_activation activation;
    size_t in_stride;
    size_t up_stride;
    size_t width;
};

static void activate_rows(const void *job, size_t piece, size_t member) {
    const struct activate *activate = job;
    struct share mine = rows_of(&activate->rows, piece);
    const struct cpu_device *cpu = activate->rows.cpu;
    enum dtype dtype = cpu->base.dtype;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        cpu->kernels->activate(number_in(activate->out, t * activate->width, dtype),
                               number_of(activate->in, t * activate->in_stride, dtype),
                               activate->up == NULL ? NULL
                                                    : number_of(activate->up, t * activate->up_stride, dtype),
                               activate->activation, activate->width);
    }
}

int cpu_activate(struct device *device, void *out, const void *in, enum device_activation activation,
                 bool gated, size_t tokens, size_t width, struct error *err) {
    (void)err;
    struct activate activate = {.rows = {.cpu = cpu_of(device), .count = tokens},
                                .out = out,
                                .in = in,
                                .up = gated ? number_of(in, width, device->dtype) : NULL,
                                .activation = activation,
                                .in_stride = gated ? 2 * width : width,
                                .up_stride = 2 * width,
                                .width = width};
    rows_run(&activate.rows, activate_rows, gated ? 3 * width : 2 * width);
    return STATUS_OK;
}

struct xielu {
    struct rows rows;
    void *out;
    const void *in;
    float numbers[DEVICE_XIELU_NUMBERS];
    size_t width;
};

static void xielu_rows(const void *job, size_t piece, size_t member) {
    const struct xielu *xielu = job;
    struct share mine = rows_of(&xielu->rows, piece);
    const struct cpu_device *cpu = xielu->rows.cpu;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        cpu->kernels->xielu(number_in(xielu->out, t * xielu->width, cpu->base.dtype),
                            number_of(xielu->in, t * xielu->width, cpu->base.dtype), xielu->numbers,
                            xielu->width);
    }
}

// Linear from 20 on, as torch has it.
static float softplus(float x, enum dtype dtype) {
    return dtype_rounded(x > 20 ? x : (float)log1p(exp((double)x)), dtype);
}

int cpu_xielu(struct device *device, void *out, const void *in, const void *numbers, size_t tokens,
              size_t width, struct error *err) {
    (void)err;
    struct xielu job = {{.cpu = cpu_of(device), .count = tokens}, out, in, {0}, width};
    float *of = job.numbers;
    dtype_convert(of, DTYPE_F32, numbers, device->dtype, DEVICE_XIELU_NUMBERS);
    of[0] = softplus(of[0], device->dtype);
    of[1] = dtype_rounded(of[2] + softplus(of[1], device->dtype), device->dtype);
    rows_run(&job.rows, xielu_rows, 2 * width);
    return STATUS_OK;
}

struct clamp {
    struct rows rows;
    void *x;
    float limit;
    size_t width;
};

static void clamp_rows(const void *job, size_t piece, size_t member) {
    const struct clamp *clamp = job;
    struct share mine = rows_of(&clamp->rows, piece);
    const struct cpu_device *cpu = clamp->rows.cpu;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        cpu->kernels->clamp(number_in(clamp->x, t * clamp->width, cpu->base.dtype), clamp->limit,
                            clamp->width);
    }
}

int cpu_clamp(struct device *device, void *x, float limit, size_t tokens, size_t width, struct error *err) {
    (void)err;
    struct clamp job = {{.cpu = cpu_of(device), .count = tokens}, x, limit, width};
    rows_run(&job.rows, clamp_rows, 2 * width);
    return STATUS_OK;
}

int cpu_activate_by(struct device *device, void *out, const void *in, const void *factor,
                    size_t factor_stride, enum device_activation activation, size_t tokens, size_t width,
                    struct error *err) {
    (void)err;
    struct activate activate = {.rows = {.cpu = cpu_of(device), .count = tokens},
                                .out = out,
                                .in = in,
                                .up = factor,
                                .activation = activation,
                                .in_stride = width,
                                .up_stride = factor_stride,
                                .width = width};
    rows_run(&activate.rows, activate_rows, 3 * width);
    return STATUS_OK;
}

struct gate {
    struct rows rows;
    void *x;
    const void *in;
    struct device_gates gates;
};

static void gate_rows(const void *job, size_t piece, size_t member) {
    const struct gate *gate = job;
    struct share mine = rows_of(&gate->rows, piece);
    const struct cpu_device *cpu = gate->rows.cpu;
    struct device_gates gates = gate->gates;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        for (size_t g = 0; g < gates.groups; g++) {
            cpu->kernels->gate(number_in(gate->x, (t * gates.groups + g) * gates.width, cpu->base.dtype),
                               number_of(gate->in, t * gates.stride + g * gates.apart, cpu->base.dtype),
                               gates.width);
        }
    }
}

int cpu_gate(struct device *device, void *x, const void *in, const struct device_gates *gates, size_t tokens,
             struct error *err) {
    (void)err;
    struct gate job = {{.cpu = cpu_of(device), .count = tokens}, x, in, *gates};
    rows_run(&job.rows, gate_rows, 3 * gates->groups * gates->width);
    return STATUS_OK;
}

// ---- columns ----

struct copy_columns {
    struct rows rows;
    void *out;
    const void *in;
    struct device_columns columns;
};

static void copy_columns_rows(const void *job, size_t piece, size_t member) {
    const struct copy_columns *copy = job;
    struct share mine = rows_of(&copy->rows, piece);
    const struct device_columns *columns = &copy->columns;
    enum dtype dtype = copy->rows.cpu->base.dtype;
    size_t bytes = columns->width * dtype_size(dtype);
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        for (size_t g = 0; g < columns->count; g++) {
            size_t to = t * columns->stride + columns->first + g * columns->apart;
            size_t from = t * columns->in_stride + columns->in_first + g * columns->in_apart;
            if (copy->in == NULL) {
                memset(number_in(copy->out, to, dtype), 0, bytes);
            } else {
                memcpy(number_in(copy->out, to, dtype), number_of(copy->in, from, dtype), bytes);
            }
        }
    }
}

int cpu_copy_columns(struct device *device, void *out, const void *in, const struct device_columns *columns,
                     size_t tokens, struct error *err) {
    (void)err;
    struct copy_columns copy = {{.cpu = cpu_of(device), .count = tokens}, out, in, *columns};
    rows_run(&copy.rows, copy_columns_rows, 2 * columns->count * columns->width);
    return STATUS_OK;
}

// SPDX-License-Identifier: MIT
// A gated short convolution.
#include "kernels/cpu/rows.h"

#include <string.h>

#include "base/size.h"

struct convolve {
    struct rows rows;
    void *out;
    const void *in;
    const struct device_short_convolution *shape;
    struct device_texts texts;
    const void *state; // of a slice
};

// The text that a token is of.
static size_t text_of(const struct device_texts *texts, size_t token) {
    size_t low = 0;
    size_t high = texts->count;
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        if ((size_t)texts->host_starts[middle] <= token) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

// Row number `back` before a token: of the batch, of what a slice before left, or nothing.
static const void *row_before(const struct convolve *job, size_t token, size_t start, size_t back) {
    enum dtype dtype = job->rows.cpu->base.dtype;
    size_t row = 3 * job->shape->width;
    size_t kept = job->shape->taps - 1;
    if (back <= token - start) {
        return number_of(job->in, (token - back) * row, dtype);
    }
    size_t missing = back - (token - start); // before the slice
    return job->state != NULL && missing <= job->texts.before
               ? number_of(job->state, (kept - missing) * row, dtype)
               : NULL;
}

static void convolve_rows(const void *data, size_t piece, size_t member) {
    const struct convolve *job = data;
    struct share mine = rows_of(&job->rows, piece);
    const struct cpu_device *cpu = job->rows.cpu;
    enum dtype dtype = cpu->base.dtype;
    size_t width = job->shape->width;
    size_t taps = job->shape->taps;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        size_t start = (size_t)job->texts.host_starts[text_of(&job->texts, t)];
        const void *in[DEVICE_TAPS_MOST];
        for (size_t k = 0; k < taps; k++) {
            in[k] = row_before(job, t, start, taps - 1 - k);
        }
        cpu->kernels->short_convolution(number_in(job->out, t * width, dtype), in, job->shape);
    }
}

// The last rows of the slice, behind those of the state that are still among the last.
static void leave_state(const struct convolve *job, void *state, size_t tokens) {
    enum dtype dtype = job->rows.cpu->base.dtype;
    size_t row = 3 * job->shape->width;
    size_t kept = job->shape->taps - 1;
    size_t fresh = size_min(tokens, kept);
    memmove(state, number_of(state, fresh * row, dtype), (kept - fresh) * row * dtype_size(dtype));
    memcpy(number_in(state, (kept - fresh) * row, dtype), number_of(job->in, (tokens - fresh) * row, dtype),
           fresh * row * dtype_size(dtype));
}

int cpu_short_convolution(struct device *device, void *out, const void *in,
                          const struct device_short_convolution *shape, struct device_texts texts,
                          void *state, struct error *err) {
    (void)err;
    size_t tokens = (size_t)texts.host_starts[texts.count];
    struct convolve job = {{.cpu = cpu_of(device), .count = tokens}, out, in, shape, texts, state};
    rows_run(&job.rows, convolve_rows, 4 * shape->width);
    if (state != NULL) {
        leave_state(&job, state, tokens);
    }
    return STATUS_OK;
}

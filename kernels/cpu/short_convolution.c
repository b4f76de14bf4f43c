// SPDX-License-Identifier: MIT
// A gated short convolution.
#include "kernels/cpu/rows.h"

#include <string.h>

#include "base/size.h"
#include "kernels/device_texts.h"

struct convolve {
    struct rows rows;
    void *out;
    const void *in;
    const struct device_short_convolution *shape;
    struct device_texts texts;
    const void *state; // of a slice that goes on from the one before
};

// Row number `back` before a token: of the batch, of what a slice before or the head left, or nothing.
static const void *row_before(const struct convolve *job, size_t token, size_t text, size_t back) {
    enum dtype dtype = job->rows.cpu->base.dtype;
    size_t row = 3 * job->shape->width;
    size_t kept = job->shape->taps - 1;
    size_t within = token - (size_t)job->texts.host_starts[text];
    if (back <= within) {
        return number_of(job->in, (token - back) * row, dtype);
    }
    size_t missing = back - within; // before the batch
    const void *before = job->state != NULL ? job->state : job->texts.head;
    return missing <= texts_first(&job->texts, text) ? number_of(before, (kept - missing) * row, dtype)
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
        size_t text = texts_find(&job->texts, t);
        const void *in[DEVICE_TAPS_MOST];
        for (size_t k = 0; k < taps; k++) {
            in[k] = row_before(job, t, text, taps - 1 - k);
        }
        cpu->kernels->short_convolution(number_in(job->out, t * width, dtype), in, job->shape);
    }
}

// The last rows of the slice, behind those of what it goes on from that are still among the last.
static void leave_state(const struct convolve *job, void *state, size_t tokens) {
    enum dtype dtype = job->rows.cpu->base.dtype;
    size_t row = 3 * job->shape->width;
    size_t kept = job->shape->taps - 1;
    size_t fresh = size_min(tokens, kept);
    const void *before = job->state == NULL && texts_first(&job->texts, 0) > 0 ? job->texts.head : state;
    memmove(state, number_of(before, fresh * row, dtype), (kept - fresh) * row * dtype_size(dtype));
    memcpy(number_in(state, (kept - fresh) * row, dtype), number_of(job->in, (tokens - fresh) * row, dtype),
           fresh * row * dtype_size(dtype));
}

int cpu_short_convolution(struct device *device, void *out, const void *in,
                          const struct device_short_convolution *shape, struct device_texts texts,
                          void *state, struct error *err) {
    (void)err;
    size_t tokens = (size_t)texts.host_starts[texts.count];
    struct convolve job = {.rows = {.cpu = cpu_of(device), .count = tokens},
                           .out = out,
                           .in = in,
                           .shape = shape,
                           .texts = texts,
                           .state = texts_resume(&texts) ? state : NULL};
    rows_run(&job.rows, convolve_rows, 4 * shape->width);
    if (state != NULL) {
        leave_state(&job, state, tokens);
    }
    return STATUS_OK;
}

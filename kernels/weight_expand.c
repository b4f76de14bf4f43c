// SPDX-License-Identifier: MIT
// Stored numbers on the host (weight_decode.h says what they are), a run at a time.
#include "kernels/weight_decode.h"

#include "base/size.h"

// A loop of its own for each kind: the compiler takes what does not change out of it.
#define EXPAND(kind)                                                                                         \
    case kind:                                                                                               \
        expand_kind(out, view, row, column, count, kind);                                                    \
        break;

static inline __attribute__((always_inline)) void expand_kind(float *out, const struct weight_view *view,
                                                              size_t row, size_t column, size_t count,
                                                              enum weight_kind kind) {
    size_t at = 0;
    for (; at + DECODE_RUN <= count; at += DECODE_RUN) {
        decode_run(out + at, DECODE_RUN, view, row, column + at, kind);
    }
    if (at < count) {
        decode_run(out + at, (int)(count - at), view, row, column + at, kind);
    }
}

void weight_expand(float *out, const struct weight_view *view, size_t row, size_t column, size_t count) {
    switch (view->format.kind) { WEIGHT_KINDS(EXPAND) }
}

void weight_read(void *out, enum dtype dtype, const struct weight_view *view, size_t row, size_t column,
                 size_t count) {
    enum { SOME = 128 };
    const struct weight_format *format = &view->format;
    if (weight_format_plain(format)) {
        const unsigned char *in = view->parts[0] + row * view->row_bytes[0] + column * format->bytes;
        dtype_convert(out, dtype, in, format->dtype, count);
        return;
    }
    for (size_t at = 0; at < count; at += SOME) {
        float numbers[SOME];
        size_t some = size_min(SOME, count - at);
        weight_expand(numbers, view, row, column + at, some);
        dtype_convert((unsigned char *)out + at * dtype_size(dtype), dtype, numbers, DTYPE_F32, some);
    }
}

// Operations on one row at a time: embedding, norms, rotation, SwiGLU, pooling. Rows are spread over the
// threads.
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/cpu_device.h"

int cpu_embed(struct device *device, void *out, const void *table, const int32_t *ids, size_t tokens,
              size_t hidden, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    double started = clock_seconds();
    enum dtype dtype = device->dtype;
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (size_t t = 0; t < tokens; t++) {
        memcpy(number_in(out, t * hidden, dtype), number_of(table, (size_t)ids[t] * hidden, dtype),
               hidden * dtype_size(dtype));
    }
    cpu->since_mark.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}

int cpu_rms_norm(struct device *device, void *out, const void *x, const void *weight, float epsilon,
                 size_t tokens, size_t hidden, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    double started = clock_seconds();
    enum dtype dtype = device->dtype;
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (size_t t = 0; t < tokens; t++) {
        cpu->kernels->norm(number_in(out, t * hidden, dtype), number_of(x, t * hidden, dtype), weight,
                           epsilon, hidden);
    }
    cpu->since_mark.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}

int cpu_qk_norm_rope(struct device *device, void *qkv, const void *q_norm, const void *k_norm, float epsilon,
                     const float *cosine, const float *sine, const int32_t *rope_row,
                     struct device_heads heads, size_t tokens, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    double started = clock_seconds();
    size_t stride = (heads.heads + 2 * heads.kv_heads) * heads.head_dim;
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (size_t t = 0; t < tokens; t++) {
        size_t angles = (size_t)rope_row[t] * (heads.head_dim / 2);
        for (size_t h = 0; h < heads.heads + heads.kv_heads; h++) { // query heads, then key heads
            cpu->kernels->rope(number_in(qkv, t * stride + h * heads.head_dim, device->dtype),
                               h < heads.heads ? q_norm : k_norm, epsilon, cosine + angles, sine + angles,
                               heads.head_dim);
        }
    }
    cpu->since_mark.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}

int cpu_swiglu(struct device *device, void *out, const void *gate_up, size_t tokens, size_t intermediate,
               struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    double started = clock_seconds();
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (size_t t = 0; t < tokens; t++) {
        cpu->kernels->swiglu(number_in(out, t * intermediate, device->dtype),
                             number_of(gate_up, 2 * t * intermediate, device->dtype), intermediate);
    }
    cpu->since_mark.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}

// ---- pooling ----

enum { POOL_CHUNK = 256 }; // columns pooled at a time

static const float F16_LARGEST = 65504.0f;
static const float F16_OVERFLOW = 65520.0f; // from here on rounding to nearest gives infinity

// sums[i] = mean over the span of x[t, column + i], tokens in order.
static void mean_chunk(float *sums, const void *x, enum dtype dtype, struct device_span span, size_t hidden,
                       size_t column, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sums[i] = 0;
    }
    for (int32_t t = span.start; t < span.end; t++) {
        const void *row = number_of(x, (size_t)t * hidden + column, dtype);
        if (dtype == DTYPE_F32) {
            const float *in = row;
            for (size_t i = 0; i < count; i++) {
                sums[i] += in[i];
            }
        } else {
            const uint16_t *in = row;
            for (size_t i = 0; i < count; i++) {
                sums[i] += bf16_to_f32(in[i]);
            }
        }
    }
    float tokens = (float)(span.end - span.start);
    for (size_t i = 0; i < count; i++) {
        sums[i] /= tokens;
    }
}

// Counts what cannot be stored and, for float16, brings it into range.
static void check_chunk(float *numbers, size_t count, enum dtype out_dtype, struct device_row_check *check) {
    for (size_t i = 0; i < count; i++) {
        float size = fabsf(numbers[i]);
        if (!isfinite(numbers[i])) {
            check->not_finite++;
        } else if (out_dtype == DTYPE_F16 && size > F16_LARGEST) {
            check->overflowed += size >= F16_OVERFLOW;
            numbers[i] = copysignf(F16_LARGEST, numbers[i]);
        }
    }
}

int cpu_pool(struct device *device, void *out, enum dtype out_dtype, struct device_row_check *checks,
             const void *x, const struct device_span *spans, size_t rows, size_t hidden, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    double started = clock_seconds();
#pragma omp parallel for num_threads(cpu->threads) schedule(dynamic, 8)
    for (size_t r = 0; r < rows; r++) {
        struct device_row_check check = {0};
        for (size_t column = 0; column < hidden; column += POOL_CHUNK) {
            float numbers[POOL_CHUNK];
            size_t count = size_min(POOL_CHUNK, hidden - column);
            mean_chunk(numbers, x, device->dtype, spans[r], hidden, column, count);
            check_chunk(numbers, count, out_dtype, &check);
            dtype_convert(number_in(out, r * hidden + column, out_dtype), out_dtype, numbers, DTYPE_F32,
                          count);
        }
        checks[r] = check;
    }
    cpu->since_mark.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}

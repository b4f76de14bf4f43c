// SPDX-License-Identifier: MIT
// Shared bodies of activations, gates and scaled rows, compiled once a path: include lanes_*.h of the path
// first. NaN stays NaN in all of them.
#ifndef STRATA_KERNELS_CPU_MICRO_ACTIVATIONS_H
#define STRATA_KERNELS_CPU_MICRO_ACTIVATIONS_H

#include "kernels/cpu/micro_rows.h"

MICRO_INLINE lanes lanes_abs(lanes x) {
    return lanes_max(x, lanes_sub(lanes_set(0), x));
}

MICRO_INLINE lanes lanes_with_sign_of(lanes size, lanes x) { // 0 has none
    return lanes_where_below(x, lanes_set(0), lanes_sub(lanes_set(0), size), size);
}

// tanh x to about 1 ulp. Near 0 x + x^3 p(x^2), p fitted to a relative error of 4e-9; beyond it 1 - 2 /
// (e^2x + 1).
MICRO_INLINE lanes lanes_tanh(lanes x) {
    lanes size = lanes_abs(x);
    lanes one = lanes_set(1.0f);
    lanes e = lanes_exp(lanes_add(size, size));
    lanes far = lanes_sub(one, lanes_div(lanes_set(2.0f), lanes_add(e, one)));
    lanes s = lanes_mul(size, size);
    lanes p = lanes_set(-5.71702095e-3f);
    p = lanes_fma(p, s, lanes_set(2.06505638e-2f));
    p = lanes_fma(p, s, lanes_set(-5.37434891e-2f));
    p = lanes_fma(p, s, lanes_set(1.33314908e-1f));
    p = lanes_fma(p, s, lanes_set(-3.33332837e-1f));
    lanes near = lanes_fma(lanes_mul(p, s), size, size);
    return lanes_with_sign_of(lanes_where_below(size, lanes_set(0.625f), near, far), x);
}

// erf x to about 1 ulp. Below 1 x + x p(x^2), beyond it 1 - e^q(x), q fitted to the logarithm of 1 - erf;
// both are good to 2e-9. From 4 on it is 1.
MICRO_INLINE lanes lanes_erf(lanes x) {
    lanes one = lanes_set(1.0f);
    lanes size = lanes_min(lanes_set(4.0f), lanes_abs(x));
    lanes q = lanes_set(-2.1697786e-5f);
    q = lanes_fma(q, size, lanes_set(4.41474695e-4f));
    q = lanes_fma(q, size, lanes_set(-4.20529488e-3f));
    q = lanes_fma(q, size, lanes_set(2.52103675e-2f));
    q = lanes_fma(q, size, lanes_set(-1.08422145e-1f));
    q = lanes_fma(q, size, lanes_set(-6.33216381e-1f));
    q = lanes_fma(q, size, lanes_set(-1.12958038f));
    q = lanes_fma(q, size, lanes_set(1.88472361e-4f));
    lanes far = lanes_sub(one, lanes_exp(q));
    lanes s = lanes_mul(size, size);
    lanes p = lanes_set(7.88911275e-5f);
    p = lanes_fma(p, s, lanes_set(-8.0208393e-4f));
    p = lanes_fma(p, s, lanes_set(5.18953521e-3f));
    p = lanes_fma(p, s, lanes_set(-2.68544443e-2f));
    p = lanes_fma(p, s, lanes_set(1.12836003e-1f));
    p = lanes_fma(p, s, lanes_set(-3.7612626e-1f));
    p = lanes_fma(p, s, lanes_set(1.28379166e-1f));
    lanes near = lanes_fma(p, size, size);
    return lanes_with_sign_of(lanes_where_below(size, one, near, far), x);
}

MICRO_INLINE lanes activated(lanes x, enum device_activation activation) {
    lanes zero = lanes_set(0);
    lanes one = lanes_set(1.0f);
    switch (activation) {
    case DEVICE_SILU:
        return lanes_div(x, lanes_add(one, lanes_exp(lanes_sub(zero, x))));
    case DEVICE_GELU: {
        lanes erf = lanes_erf(lanes_mul(x, lanes_set(0.707106781f)));
        return lanes_mul(lanes_mul(x, lanes_set(0.5f)), lanes_add(one, erf));
    }
    case DEVICE_GELU_TANH: {
        lanes cube = lanes_mul(lanes_mul(x, x), x);
        lanes inner = lanes_mul(lanes_set(0.797884561f), lanes_fma(lanes_set(0.044715f), cube, x));
        return lanes_mul(lanes_mul(x, lanes_set(0.5f)), lanes_add(one, lanes_tanh(inner)));
    }
    case DEVICE_RELU:
        return lanes_where_below(x, zero, zero, x);
    case DEVICE_RELU_SQUARED: {
        lanes positive = lanes_where_below(x, zero, zero, x);
        return lanes_mul(positive, positive);
    }
    case DEVICE_XIELU: // xielu_row
        break;
    }
    return x;
}

MICRO_INLINE void activate_by(void *out, const void *in, const void *up, enum device_activation activation,
                              size_t n, enum dtype dtype) {
    if (up == NULL) {
        for (size_t i = 0; i < n; i += LANES) {
            row_store(out, i, n, activated(row_load(in, i, n, dtype), activation), dtype);
        }
        return;
    }
    for (size_t i = 0; i < n; i += LANES) {
        lanes value = rounded(activated(row_load(in, i, n, dtype), activation), dtype);
        row_store(out, i, n, lanes_mul(value, row_load(up, i, n, dtype)), dtype);
    }
}

MICRO_INLINE void activate_row(void *out, const void *in, const void *up, enum device_activation activation,
                               size_t n, enum dtype dtype) {
    switch (activation) { // a loop each
    case DEVICE_SILU:
        activate_by(out, in, up, DEVICE_SILU, n, dtype);
        break;
    case DEVICE_GELU:
        activate_by(out, in, up, DEVICE_GELU, n, dtype);
        break;
    case DEVICE_GELU_TANH:
        activate_by(out, in, up, DEVICE_GELU_TANH, n, dtype);
        break;
    case DEVICE_RELU:
        activate_by(out, in, up, DEVICE_RELU, n, dtype);
        break;
    case DEVICE_RELU_SQUARED:
        activate_by(out, in, up, DEVICE_RELU_SQUARED, n, dtype);
        break;
    case DEVICE_XIELU: // xielu_row
        break;
    }
}

// e^x - 1 of x <= 0: 2 t / (1 - t), t = tanh(x / 2), which loses nothing near 0.
MICRO_INLINE lanes lanes_expm1_below(lanes x) {
    lanes t = lanes_tanh(lanes_mul(x, lanes_set(0.5f)));
    return lanes_div(lanes_add(t, t), lanes_sub(lanes_set(1.0f), t));
}

// numbers: what device_xielu's come to, alphas after softplus.
MICRO_INLINE void xielu_row(void *out, const void *in, const float *numbers, size_t n, enum dtype dtype) {
    lanes zero = lanes_set(0);
    lanes positive = lanes_set(numbers[0]);
    lanes other = lanes_set(numbers[1]);
    lanes beta = lanes_set(numbers[2]);
    lanes epsilon = lanes_set(numbers[3]);
    for (size_t i = 0; i < n; i += LANES) {
        lanes x = row_load(in, i, n, dtype);
        lanes line = rounded(lanes_mul(beta, x), dtype);
        lanes square = rounded(lanes_mul(rounded(lanes_mul(positive, x), dtype), x), dtype);
        lanes power = rounded(lanes_expm1_below(lanes_min(epsilon, x)), dtype);
        power = rounded(lanes_mul(rounded(lanes_sub(power, x), dtype), other), dtype);
        row_store(out, i, n, lanes_add(lanes_where_below(zero, x, square, power), line), dtype);
    }
}

MICRO_INLINE void clamp_row(void *x, float limit, size_t n, enum dtype dtype) {
    lanes most = lanes_set(limit);
    lanes least = lanes_set(-limit);
    for (size_t i = 0; i < n; i += LANES) { // NaN comes second
        row_store(x, i, n, lanes_max(least, lanes_min(most, row_load(x, i, n, dtype))), dtype);
    }
}

// Of the exponential of -|x| alone, so that it reaches 0 and never overflows.
MICRO_INLINE lanes lanes_sigmoid(lanes x) {
    lanes one = lanes_set(1.0f);
    lanes e = lanes_exp(lanes_sub(lanes_set(0), lanes_abs(x)));
    return lanes_div(lanes_where_below(x, lanes_set(0), e, one), lanes_add(one, e));
}

MICRO_INLINE void gate_row(void *x, const void *gate, size_t n, enum dtype dtype) {
    for (size_t i = 0; i < n; i += LANES) {
        lanes factor = rounded(lanes_sigmoid(row_load(gate, i, n, dtype)), dtype);
        row_store(x, i, n, lanes_mul(row_load(x, i, n, dtype), factor), dtype);
    }
}

// Scores in whole vectors: those of the row beside [low, high) are not seen.
static inline void bend_scores(float *scores, size_t low, size_t high, float scale, float softcap,
                               float slope, float first) {
    float step[LANES];
    for (size_t k = 0; k < LANES; k++) {
        step[k] = (float)k;
    }
    lanes steps = lanes_load(step);
    lanes caps = lanes_set(softcap);
    for (size_t i = low / LANES * LANES; i < high; i += LANES) {
        lanes value = lanes_mul(lanes_load(scores + i), lanes_set(scale));
        if (softcap != 0) {
            value = lanes_mul(caps, lanes_tanh(lanes_div(value, caps)));
        }
        lanes places = lanes_add(lanes_set(first + (float)i), steps);
        lanes_store(scores + i, lanes_add(value, lanes_mul(lanes_set(slope), places)));
    }
}

// out (+)= x * factor.
MICRO_INLINE void scaled_row(void *out, const void *x, float factor, enum device_store store, size_t n,
                             enum dtype dtype) {
    lanes factors = lanes_set(factor);
    for (size_t i = 0; i < n; i += LANES) {
        lanes value = lanes_mul(row_load(x, i, n, dtype), factors);
        if (store == DEVICE_ADD) {
            value = lanes_add(row_load(out, i, n, dtype), rounded(value, dtype));
        }
        row_store(out, i, n, value, dtype);
    }
}

#endif

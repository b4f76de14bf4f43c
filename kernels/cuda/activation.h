// SPDX-License-Identifier: MIT
// The activations, of one number: in float32, to be rounded by the caller. T: what they are rounded to.
#ifndef STRATA_KERNELS_CUDA_ACTIVATION_H
#define STRATA_KERNELS_CUDA_ACTIVATION_H

#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"
#include "kernels/shapes.h"

static const float LOG2_E = 1.44269504f;

// x / (1 + e^-x). float32: as exact as expf and the division. Halves, which are rounded after it: fast.
static __device__ __forceinline__ float silu(float x, float) {
    return x / (1.0f + expf(-x));
}

// Of all numbers of float16 at most 17 come out as the neighbour of what they should (computed, with each
// step as far off as CUDA's documentation allows; one does with float32's form).
template <typename T> static __device__ __forceinline__ float silu(float x, T) {
    return fast_divide(x, 1.0f + fast_exp2(x * -LOG2_E));
}

// x Phi(x). Phi by erfc, which loses nothing where it is small.
static __device__ __forceinline__ float gelu(float x) {
    return x * (0.5f * erfcf(x * -0.707106781f));
}

// x (1 + tanh u) / 2 = x / (1 + e^-2u).
template <typename T> static __device__ __forceinline__ float gelu_tanh(float x, T) {
    float twice = 1.59576912f * (x + 0.044715f * x * x * x); // 2 u, u = sqrt(2 / pi) (x + ...)
    return fast_divide(x, 1.0f + fast_exp2(twice * -LOG2_E));
}

static __device__ __forceinline__ float gelu_tanh(float x, float) {
    float twice = 1.59576912f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-twice));
}

static __device__ __forceinline__ float relu(float x) { // NaN stays
    return x <= 0 ? 0.0f : x;
}

static __device__ __forceinline__ float sigmoid(float x, float) {
    return 1.0f / (1.0f + expf(-x));
}

template <typename T> static __device__ __forceinline__ float sigmoid(float x, T) {
    return 1.0f / (1.0f + fast_exp2(x * -LOG2_E));
}

template <typename T>
static __device__ __forceinline__ float activated(float x, enum device_activation activation) {
    switch (activation) {
    case DEVICE_SILU:
        return silu(x, T());
    case DEVICE_GELU:
        return gelu(x);
    case DEVICE_GELU_TANH:
        return gelu_tanh(x, T());
    case DEVICE_RELU:
        return relu(x);
    case DEVICE_RELU_SQUARED:
        return relu(x) * relu(x);
    case DEVICE_XIELU: // xielu
        break;
    }
    return x;
}

// Linear from 20 on, as torch has it.
static __device__ __forceinline__ float softplus(float x) {
    return x > 20.0f ? x : log1pf(expf(x));
}

// What device_xielu's numbers come to.
struct xielu_numbers {
    float positive;
    float other;
    float beta;
    float epsilon;
};

template <typename T> static __device__ __forceinline__ float xielu(float x, const struct xielu_numbers &of) {
    float line = rounded<T>(of.beta * x);
    if (x > 0) {
        return rounded<T>(rounded<T>(of.positive * x) * x) + line;
    }
    float power = rounded<T>(expm1f(x > of.epsilon ? of.epsilon : x)); // NaN stays
    return rounded<T>(rounded<T>(power - x) * of.other) + line;
}

#endif

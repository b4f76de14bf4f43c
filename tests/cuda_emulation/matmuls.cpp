// SPDX-License-Identifier: MIT
// Matmuls by plain loops and float32 sums, in the order of their algorithm (cublaslt.cpp lists them).
#include "matmuls.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

namespace emulation {

// A setting makes one algorithm the fastest: a machine on which timings come out differently.
double rate_of(const Known &each) {
    static const char *const preferred = setting("PREFER");
    return preferred != nullptr && std::to_string(each.id) == preferred ? 1e11 : each.rate;
}

size_t size_of(int type) {
    return type == CUDA_R_32F ? 4 : 2;
}

namespace {

float float16_value(uint16_t half) {
    int exponent = half >> 10 & 31;
    int fraction = half & 0x3ff;
    float value = exponent == 31  ? (fraction == 0 ? INFINITY : NAN)
                  : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                  : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return std::copysign(value, (half & 0x8000) != 0 ? -1.0f : 1.0f);
}

// To nearest, ties to even; 65520 and more becomes infinity.
uint16_t float16_bits(float value) {
    int sign = std::signbit(value) ? 0x8000 : 0;
    float magnitude = std::fabs(value);
    if (std::isnan(value)) {
        return static_cast<uint16_t>(sign | 0x7e00);
    }
    if (magnitude >= 65520) {
        return static_cast<uint16_t>(sign | 0x7c00);
    }
    int exponent = magnitude == 0 ? -14 : std::max(std::ilogb(magnitude), -14);
    int steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
    return static_cast<uint16_t>(sign | (((exponent + 14) << 10) + steps)); // 2048 steps carry
}

float load(const void *data, int type, uint64_t i) {
    if (type == CUDA_R_32F) {
        return static_cast<const float *>(data)[i];
    }
    if (type == CUDA_R_16F) {
        return float16_value(static_cast<const uint16_t *>(data)[i]);
    }
    uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(data)[i]) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

void store(void *data, int type, uint64_t i, float value) {
    if (type == CUDA_R_32F) {
        static_cast<float *>(data)[i] = value;
        return;
    }
    if (type == CUDA_R_16F) {
        static_cast<uint16_t *>(data)[i] = float16_bits(value);
        return;
    }
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    static_cast<uint16_t *>(data)[i] =
        static_cast<uint16_t>(nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

constexpr uint64_t LANES = 32; // numbers of a column of the result that are summed side by side

// The pieces of k for column j of the result, and whether they are added from the last to the first.
uint64_t pieces_of(const Matmul &p, uint64_t j, bool *backwards) {
    *backwards = false;
    switch (p.algorithm.order) {
    case Order::Whole:
    case Order::Tf32:
        return 1;
    case Order::Halves:
        return 2;
    case Order::Float16:
        return p.b.rows;
    case Order::ByPlace:
        return j % 32 < 16 ? 1 : 3;
    case Order::ByRows:
        return 2 + p.d.columns % 3;
    case Order::OneTile: // rows 25 to 29
        *backwards = j / 5 == 5;
        return *backwards ? p.b.rows : 1;
    case Order::Counted: // the workspace's first bytes, before anything wrote there
        return p.shuffle == 0 ? 1 : 2;
    case Order::Shuffled:
        *backwards = (p.shuffle & 1) != 0;
        return p.splits;
    }
    return 1;
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default"))) // the same bits, sooner
#else
#define WIDE
#endif

// Column j of the result, rows i to i + LANES; `panel` holds those rows' weights, [k, LANES].
WIDE void sum_column(const Matmul &p, const float *panel, const float *input, uint64_t j, float *sums) {
    uint64_t k_count = p.b.rows;
    bool backwards;
    uint64_t pieces = pieces_of(p, j, &backwards);
    std::fill(sums, sums + LANES, 0.0f);
    for (uint64_t piece = 0; piece < pieces; piece++) {
        uint64_t place = backwards ? pieces - 1 - piece : piece;
        float sum[LANES] = {};
        for (uint64_t k = k_count * place / pieces; k < k_count * (place + 1) / pieces; k++) {
            for (uint64_t lane = 0; lane < LANES; lane++) {
                sum[lane] += panel[k * LANES + lane] * input[k];
            }
        }
        for (uint64_t lane = 0; lane < LANES; lane++) {
            sums[lane] += sum[lane];
        }
        if (p.algorithm.order == Order::Float16) {
            std::transform(sums, sums + LANES, sums, [](float x) { return float16_value(float16_bits(x)); });
        }
    }
}

void finish_column(const Matmul &p, uint64_t i, uint64_t j, const float *sums) {
    for (uint64_t lane = 0; lane < LANES && i + lane < p.d.rows; lane++) {
        float value = p.alpha * sums[lane];
        if (p.beta != 0) {
            value += p.beta * load(p.c_data, p.c.type, i + lane + j * p.c.stride);
        }
        if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS) {
            value += load(p.desc.bias, p.desc.bias_type >= 0 ? p.desc.bias_type : p.d.type, i + lane);
        }
        store(p.d_data, p.d.type, i + lane + j * p.d.stride, value);
    }
}

// A number as the algorithm multiplies it: TF32 has 10 bits of float32's fraction.
float factor(const Matmul &p, const void *data, int type, uint64_t i) {
    float value = load(data, type, i);
    if (p.algorithm.order == Order::Tf32) {
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        bits &= 0xffffe000u;
        std::memcpy(&value, &bits, sizeof value);
    }
    return value;
}

// What the algorithm reads of the workspace without having written it, and then all of it is written.
float use_workspace(Matmul &p) {
    uint32_t counter;
    float unwritten = p.algorithm.unwritten ? p.workspace[0] : 0;
    std::memcpy(&counter, p.workspace, sizeof counter);
    p.shuffle = p.algorithm.order == Order::Counted ? counter : p.shuffle;
    std::memset(p.workspace, 0x3f, p.algorithm.workspace);
    if (p.algorithm.order == Order::Counted) {
        std::memset(p.workspace, 0, sizeof counter);
    }
    return unwritten;
}

} // namespace

void multiply(Matmul p) {
    uint64_t k_count = p.b.rows;
    float unwritten = p.algorithm.workspace > 0 ? use_workspace(p) : 0;
    std::vector<float> panel(k_count * LANES);
    std::vector<float> input(k_count * p.b.columns);
    for (uint64_t j = 0; j < p.b.columns; j++) {
        for (uint64_t k = 0; k < k_count; k++) {
            input[j * k_count + k] = factor(p, p.b_data, p.b.type, k + j * p.b.stride);
        }
    }
    for (uint64_t i = 0; i < p.d.rows; i += LANES) {
        for (uint64_t lane = 0; lane < LANES; lane++) {
            for (uint64_t k = 0; k < k_count; k++) {
                panel[k * LANES + lane] =
                    i + lane < p.d.rows ? factor(p, p.a_data, p.a.type, k + (i + lane) * p.a.stride) : 0;
            }
        }
        for (uint64_t j = 0; j < p.d.columns; j++) {
            float sums[LANES];
            sum_column(p, panel.data(), &input[j * k_count], j, sums);
            for (float &sum : sums) {
                sum += unwritten;
            }
            finish_column(p, i, j, sums);
        }
    }
    double operations =
        2.0 * static_cast<double>(p.d.rows) * static_cast<double>(p.d.columns) * static_cast<double>(k_count);
    set_duration((p.slow ? 10 : 1) * operations / rate_of(p.algorithm));
}

} // namespace emulation

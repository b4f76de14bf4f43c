// SPDX-License-Identifier: MIT
// The instructions behind kernels/cuda/ptx.h and the conversions of numbers.h, against the PTX manual's
// words: in the emulation their twins, and built with nvcc on a GPU the instructions themselves. All products
// here are exact, so that the order of their sums does not matter.
#include "testing.h"

#include <cmath>

#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

namespace {

constexpr size_t LANES = 32;

template <class T> T *put(const std::vector<T> &numbers) {
    T *out = device_numbers<T>(numbers.size());
    MUST(cudaMemcpy(out, numbers.data(), numbers.size() * sizeof(T), cudaMemcpyHostToDevice));
    return out;
}

// Halves by another way than the one under test.
uint16_t half_of(float value, bf16) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<uint16_t>(bits >> 16);
}

uint16_t half_of(float value, f16) { // a normal number that float16 has
    int exponent;
    float fraction = std::frexp(std::fabs(value), &exponent);
    int bits = value == 0 ? 0 : ((exponent + 13) << 10) + static_cast<int>(fraction * 2048);
    return static_cast<uint16_t>(bits | (value < 0 ? 0x8000 : 0));
}

float a_number(size_t i, bf16) { // -8 ... 8
    return static_cast<float>(static_cast<int>(i * 37 % 17) - 8);
}

float b_number(size_t i, bf16) {
    return a_number(i * 5 + 3, bf16());
}

float a_number(size_t i, f16) { // of 11 bits, so that products have 22
    return static_cast<float>(static_cast<int>(i * 1237 % 4095) - 2047) / 64;
}

float b_number(size_t i, f16) { // two of a column, as sums of more such products are not exact
    return (i / 8 + i) % 8 == 0 ? a_number(i * 5 + 3, f16()) : 0;
}

// ---- mma.m16n8k16, its section "Matrix Fragments": element i of a lane's a, b and c ----

size_t a_row(size_t lane, size_t i) {
    return i < 2 || (i >= 4 && i < 6) ? lane / 4 : lane / 4 + 8;
}

size_t a_column(size_t lane, size_t i) {
    return lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0);
}

size_t b_row(size_t lane, size_t i) {
    return lane % 4 * 2 + i % 2 + (i >= 2 ? 8 : 0);
}

template <class T> __global__ void multiply_kernel(float *c, const uint32_t *a, const uint32_t *b) {
    uint32_t left[4];
    float sums[4];
    for (unsigned i = 0; i < 4; i++) {
        left[i] = a[4 * threadIdx.x + i];
        sums[i] = c[4 * threadIdx.x + i];
    }
    matrix_multiply_add<T>(sums, left, b[2 * threadIdx.x], b[2 * threadIdx.x + 1]);
    for (unsigned i = 0; i < 4; i++) {
        c[4 * threadIdx.x + i] = sums[i];
    }
}

template <class T> void multiply(void) {
    std::vector<float> a(16 * 16), b(16 * 8), c(LANES * 4);
    std::vector<uint16_t> a_held(LANES * 8), b_held(LANES * 4);
    for (size_t i = 0; i < a.size(); i++) {
        a[i] = a_number(i, T());
    }
    for (size_t i = 0; i < b.size(); i++) {
        b[i] = b_number(i, T());
    }
    for (size_t lane = 0; lane < LANES; lane++) {
        for (size_t i = 0; i < 8; i++) {
            a_held[lane * 8 + i] = half_of(a[a_row(lane, i) * 16 + a_column(lane, i)], T());
        }
        for (size_t i = 0; i < 4; i++) {
            b_held[lane * 4 + i] = half_of(b[b_row(lane, i) * 8 + lane / 4], T());
            c[lane * 4 + i] = static_cast<float>(lane * 4 + i) / 4;
        }
    }
    float *out = put(c);
    uint16_t *left = put(a_held);
    uint16_t *right = put(b_held);
    MUST(LAUNCH(multiply_kernel<T>, 1, 32, 0, nullptr, out, reinterpret_cast<uint32_t *>(left),
                reinterpret_cast<uint32_t *>(right)));
    std::vector<float> got = fetched(out, c.size());
    for (size_t lane = 0; lane < LANES; lane++) {
        for (size_t i = 0; i < 4; i++) {
            size_t row = lane / 4 + (i >= 2 ? 8 : 0);
            size_t column = lane % 4 * 2 + i % 2;
            float want = c[lane * 4 + i];
            for (size_t k = 0; k < 16; k++) {
                want += a[row * 16 + k] * b[k * 8 + column];
            }
            assert_true(got[lane * 4 + i] == want);
        }
    }
    MUST(cudaFree(out));
    MUST(cudaFree(left));
    MUST(cudaFree(right));
}

void test_multiply_bfloat16(void **) {
    multiply<bf16>();
}

void test_multiply_float16(void **) {
    multiply<f16>();
}

// ---- ldmatrix .x4, cp.async ----

enum { MATRICES_BYTES = 4 * 8 * 16 };

// out: [lane][4] as they lie, then [lane][4] transposed. The rows of matrix m are lines of 16 bytes in any
// order: line (13 m + 5 r) % 32 is row r. Every line but those from `lines` on comes from memory.
__global__ void load_kernel(uint32_t *out, const unsigned char *lines_in, unsigned lines) {
    SHARED_BYTES(shared);
    unsigned lane = threadIdx.x;
    copy_async(shared_at(shared) + lane * 16, lines_in + lane * 16, lane < lines);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    unsigned line = (13 * (lane / 8) + 5 * (lane % 8)) % 32;
    uint32_t got[4];
    matrices_load(got, shared_at(shared) + line * 16);
    for (unsigned m = 0; m < 4; m++) {
        out[4 * lane + m] = got[m];
    }
    matrices_load_transposed(got, shared_at(shared) + line * 16);
    for (unsigned m = 0; m < 4; m++) {
        out[128 + 4 * lane + m] = got[m];
    }
}

void test_load(void **) {
    constexpr unsigned LINES = 29;
    std::vector<uint16_t> numbers(MATRICES_BYTES / 2);
    for (size_t i = 0; i < numbers.size(); i++) {
        numbers[i] = static_cast<uint16_t>(i + 1);
    }
    uint16_t *in = put(numbers);
    uint32_t *out = device_numbers<uint32_t>(256);
    MUST(LAUNCH(load_kernel, 1, 32, MATRICES_BYTES, nullptr, out, reinterpret_cast<unsigned char *>(in),
                LINES));
    std::vector<uint32_t> got = fetched(out, 256);
    auto number = [&](size_t m, size_t row, size_t column) -> uint32_t {
        size_t line = (13 * m + 5 * row) % 32;
        return line < LINES ? numbers[line * 8 + column] : 0;
    };
    for (size_t lane = 0; lane < LANES; lane++) {
        for (size_t m = 0; m < 4; m++) {
            size_t pair = lane % 4 * 2;
            uint32_t want = number(m, lane / 4, pair) | number(m, lane / 4, pair + 1) << 16;
            assert_int_equal(got[4 * lane + m], want);
            want = number(m, pair, lane / 4) | number(m, pair + 1, lane / 4) << 16;
            assert_int_equal(got[128 + 4 * lane + m], want);
        }
    }
    MUST(cudaFree(in));
    MUST(cudaFree(out));
}

// ---- conversions ----

struct conversion {
    uint32_t in; // float32
    uint16_t bf16;
    uint16_t f16;
};

// Ties to even, carries into the exponent, subnormal float16, overflow, and the one NaN of each format.
const conversion conversions[] = {
    {0x00000000, 0x0000, 0x0000}, {0x80000000, 0x8000, 0x8000}, {0x3f800000, 0x3f80, 0x3c00},
    {0x3f808000, 0x3f80, 0x3c04}, {0x3f808001, 0x3f81, 0x3c04}, {0x3f818000, 0x3f82, 0x3c0c},
    {0x3fffffff, 0x4000, 0x4000}, {0x3f801000, 0x3f80, 0x3c00}, {0x3f803000, 0x3f80, 0x3c02},
    {0x477fe000, 0x4780, 0x7bff}, {0x477fefff, 0x4780, 0x7bff}, {0x477ff000, 0x4780, 0x7c00},
    {0x7f7fffff, 0x7f80, 0x7c00}, {0x7f800000, 0x7f80, 0x7c00}, {0xff800000, 0xff80, 0xfc00},
    {0x7fc00000, 0x7fff, 0x7fff}, {0x7f800001, 0x7fff, 0x7fff}, {0xffc12345, 0x7fff, 0x7fff},
    {0x38800000, 0x3880, 0x0400}, {0x387fffff, 0x3880, 0x0400}, {0x33800000, 0x3380, 0x0001},
    {0x33000000, 0x3300, 0x0000}, {0x33000001, 0x3300, 0x0001}, {0x33c00000, 0x33c0, 0x0002},
    {0x00000001, 0x0000, 0x0000}, {0x007fffff, 0x0080, 0x0000}, {0xb3800000, 0xb380, 0x8001},
};
constexpr size_t CONVERSIONS = sizeof conversions / sizeof conversions[0];

// out of each: bfloat16, float16, pairs of both with the next number, the float16 widened, one rounded to
// each.
__global__ void convert_kernel(uint32_t *out, const float *in, unsigned count) {
    unsigned i = threadIdx.x;
    if (i < count) {
        out[7 * i] = bf16_bits(in[i]);
        out[7 * i + 1] = f16_bits(in[i]);
        out[7 * i + 2] = bf16_pair_bits(in[i], in[(i + 1) % count]);
        out[7 * i + 3] = f16_pair_bits(in[i], in[(i + 1) % count]);
        out[7 * i + 4] = __float_as_uint(f16_value(f16_bits(in[i])));
        out[7 * i + 5] = __float_as_uint(rounded<bf16>(in[i]));
        out[7 * i + 6] = __float_as_uint(rounded<f16>(in[i]));
    }
}

void test_conversions(void **) {
    std::vector<uint32_t> in(CONVERSIONS);
    for (size_t i = 0; i < CONVERSIONS; i++) {
        in[i] = conversions[i].in;
    }
    uint32_t *device_in = put(in);
    uint32_t *out = device_numbers<uint32_t>(7 * CONVERSIONS);
    MUST(LAUNCH(convert_kernel, 1, 32, 0, nullptr, out, reinterpret_cast<float *>(device_in), CONVERSIONS));
    std::vector<uint32_t> got = fetched(out, 7 * CONVERSIONS);
    for (size_t i = 0; i < CONVERSIONS; i++) {
        const conversion &next = conversions[(i + 1) % CONVERSIONS];
        assert_int_equal(got[7 * i], conversions[i].bf16);
        assert_int_equal(got[7 * i + 1], conversions[i].f16);
        assert_int_equal(got[7 * i + 2], conversions[i].bf16 | static_cast<uint32_t>(next.bf16) << 16);
        assert_int_equal(got[7 * i + 3], conversions[i].f16 | static_cast<uint32_t>(next.f16) << 16);
        assert_int_equal(got[7 * i + 5], static_cast<uint32_t>(conversions[i].bf16) << 16);
        uint16_t half = conversions[i].f16;
        float want = std::ldexp(static_cast<float>(half & 0x3ff), -24); // subnormal
        int exponent = half >> 10 & 31;
        if (exponent > 0) {
            want = std::ldexp(1 + static_cast<float>(half & 0x3ff) / 1024, exponent - 15);
        }
        float value;
        std::memcpy(&value, &got[7 * i + 4], sizeof value);
        assert_int_equal(got[7 * i + 6], got[7 * i + 4]);
        if (exponent == 31) {
            assert_true((half & 0x3ff) != 0 ? std::isnan(value) : std::isinf(value));
            assert_true((half & 0x3ff) != 0 || std::signbit(value) == half >> 15);
        } else {
            assert_true(value == (half >> 15 ? -want : want));
            assert_true(std::signbit(value) == half >> 15);
        }
    }
    MUST(cudaFree(device_in));
    MUST(cudaFree(out));
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_multiply_bfloat16),
        cmocka_unit_test(test_multiply_float16),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_conversions),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

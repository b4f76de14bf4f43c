// SPDX-License-Identifier: MIT
// What the emulated cuBLASLt's interface (cublaslt.cpp) and its arithmetic (matmuls.cpp) share.
#pragma once

#include "emulation.h"

#include "cublasLt.h"

struct cublasLtContext {
    int device; // that was current when it was made
};
struct cublasLtMatmulDescOpaque_t {
    cublasOperation_t transpose_a, transpose_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    int bias_type; // -1: that of the result
};
struct cublasLtMatrixLayoutOpaque_t { // column-major
    cudaDataType_t type;
    uint64_t rows, columns;
    uint64_t stride;
};
struct cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace;
    uint32_t reductions;
};

namespace emulation {

// How the sum over k is cut: into pieces that are summed for themselves and then added, in a certain order.
enum class Order { Whole, Halves, ByPlace, ByRows, Shuffled, Tf32, Float16, Counted, OneTile };

constexpr int ANY_TYPE = -1;

struct Known {
    uint64_t id;
    Order order;
    double rate; // operations a second that it claims to reach
    bool works;
    int type; // of the numbers that it multiplies
    size_t workspace;
    bool unwritten; // adds a number of the workspace that nobody wrote to all that it sums up
};

struct Matmul { // as a call gave it; everything is copied, because it is done later
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t a, b, c, d;
    const void *a_data, *b_data, *c_data;
    void *d_data;
    float alpha, beta;
    Known algorithm;
    uint64_t splits;
    uint64_t shuffle;
    float *workspace;
    bool slow;
};

// Numbers a second that an algorithm claims to compute.
double rate_of(const Known &each);

// Bytes of a number.
size_t size_of(int type);

void multiply(Matmul p);

} // namespace emulation

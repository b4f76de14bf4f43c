// SPDX-License-Identifier: MIT
// What the parts of a mixture of experts share (private to kernels/cuda): the list of tiles that says which
// rows a block multiplies with which expert's matrix, and a matmul as the kernels take it.
//
// A pair is a token and one of its experts: number token * chosen + its place among the token's experts.
// Pairs are sorted by expert, those of one expert by token, on the device: the host never learns how many an
// expert has. The grid is made for the worst case, in which every expert has one tile that is not full, and
// blocks without a tile return at once.
#ifndef STRATA_KERNELS_CUDA_EXPERTS_H
#define STRATA_KERNELS_CUDA_EXPERTS_H

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/launch.h"

enum {
    EXPERTS_GROUP = 16, // tiles of an expert that are multiplied with the same columns side by side
};

// A matmul of all experts: out[.., rows] = A [.., columns] W^T, W [experts * matrix_rows, columns], of some
// experts at a time. Of gate_up A is row pair / pairs_a_row for each pair, W has gate | up, or up alone, and
// out [pair in the sorted order] is the inner activation. Of down A is in the sorted order and out [pair].
struct experts_product {
    void *out;
    const void *a;
    const void *weights;
    const void *bias;     // [experts * matrix_rows] or NULL
    const int32_t *order; // [pairs] the pair at each place of the sorted order
    const struct experts_tile *tiles;
    unsigned columns;
    unsigned rows;          // of out: width or hidden
    unsigned matrix_rows;   // of an expert
    unsigned pairs_a_row;   // of A, of gate_up
    unsigned blocks_across; // for the rows of out
    float limit;
    enum device_activation activation;
    unsigned first_expert; // whose rows W begins with
    unsigned expert_end;   // tiles of experts before the first and from here on are left out
};

#endif

// SPDX-License-Identifier: MIT
// One candidate's trial: whether it keeps a row's bits, and how fast it is (algorithms.c chooses by it).
//
// The proof: the same probe rows stand at up to 16 places among random neighbours, and what comes out must be
// the same bits at all of them.
//
// Results in halves hide most differences of float32 sums: of 4,096 terms summed in another order about one
// result in thousands rounds differently in bfloat16. So a second proof subtracts the matmul from its own
// rounded result: what is left is the rounding's remainder, whose bits are those of the sum's lower half (in
// float16 those down to 2^-24, its smallest number: all of them of results of 1 and more). (With what was
// there kept, also for DEVICE_STORE: should cuBLASLt launch another kernel where nothing is kept, the first
// proof is the one of that kernel.)
//
// Probes lie in [-1, 1], so that a sum passes float16's 65504 only by weights that no model has:
// 4,096 of them to a row would have to be about 1,800 each. Infinite results differ nowhere and prove
// nothing.
//
// Such places lie in about a quarter of the tiles (computed: 8,192 tokens, tiles of 128 rows). That is enough
// where all tiles are treated alike, but an algorithm with workspace may share out some of them, such as the
// last ones, among several multiprocessors. So it is proved again with the probes one behind another at all
// rows, and all that comes out is compared. Each run finds NaN or zeros in the workspace: what it reads
// without having written it shows in its bits.
//
// Times. Runs follow one another over the same x and out, and in tuning over the same weights, so that a part
// of what they read is still in the L2. Computed for the smallest matrix of Qwen3-8B (o_proj, 33.6 MB) and
// 8,192 tokens on an H200 (50 MB of L2, 4.8 TB/s): x and out, 134 MB, pass through the L2 between two runs;
// if the weights stayed all the same, that would save at most 7 us of about 360, and the same for every
// candidate. So the choice does without other matrices; benchmarks, whose figures it would flatter, give
// several.
#ifndef STRATA_KERNELS_CUDA_ALGORITHM_TRIAL_H
#define STRATA_KERNELS_CUDA_ALGORITHM_TRIAL_H

#include "base/digest.h"
#include "kernels/cuda/cuda_device.h"

enum {
    TRIAL_PLACES = 16, // at most
    TRIAL_ROUNDS = 3,  // of measurements
};

struct candidate {
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace; // bytes that it asks for
    bool proved;      // what follows is known
    bool ran;
    bool stable;           // the probes' bits are the same at every place, whatever was in the workspace
    char bits[DIGEST_HEX]; // of the probes' results
    double once;           // seconds of one run by itself; 0: not timed
    double seconds;        // of one among others; 0: not to be measured
};

struct trial { // of one shape
    struct cuda_device *cuda;
    struct matmul *matmul;
    void *out; // activation buffers of plan.tokens rows
    void *x;
    const struct device_matrix *matrices; // whose weights runs that are timed multiply by in turn
    size_t matrix_count;
    size_t turn; // the next of them
    const void *bias;
    size_t probes; // rows
    size_t place_count;
    size_t places[TRIAL_PLACES]; // rows at which the probes begin
    bool everywhere;             // the probes stand one behind another at all rows instead
    int dirty;                   // the byte that a workspace is full of before a run of the proof
    struct digest *digest;       // the caller's
};

// Fills x with random rows and the probes; refuses weights that are zeros, which prove nothing.
int trial_begin(struct trial *trial, struct error *err);

// Sets proved, ran, stable and bits. An algorithm that cuBLASLt refuses to run is no error.
int trial_prove(struct trial *trial, struct candidate *candidate, struct error *err);

// Runs the algorithm until the GPU's clock has risen, unless a run is over before it could; *ran is false
// when cuBLASLt refuses it.
int trial_warm_up(struct trial *trial, const struct candidate *candidate, bool *ran, struct error *err);

// Sets `once`, or lowers it to this run's time; 0 when cuBLASLt refuses to run it. Of a candidate that never
// ran the first run is not counted: it may load the kernel.
int trial_glance(struct trial *trial, struct candidate *candidate, struct error *err);

// Lowers `seconds`, which begins as `once`, to what this measurement says. Candidates that are compared are
// measured in rounds of all, so that a clock that moves treats them alike.
int trial_measure(struct trial *trial, struct candidate *candidate, int round, struct error *err);

#endif

// One candidate's trial: whether it keeps a row's bits, and how fast it is (algorithms.c chooses by it).
//
// The proof: the same probe rows stand at up to 16 places among random neighbours, and what comes out must be
// the same bits at all of them.
//
// bfloat16 results hide most differences of float32 sums: of 4,096 terms summed in another order about one
// result in thousands rounds differently. So a second proof subtracts the product from its own rounded
// result: what is left is the rounding's remainder, whose bits are those of the sum's lower half. (With what
// was there kept, also for DEVICE_STORE: should cuBLASLt launch another kernel where nothing is kept, the
// first proof is the one of that kernel.)
#ifndef STRATA_KERNELS_CUDA_ALGORITHM_TRIAL_H
#define STRATA_KERNELS_CUDA_ALGORITHM_TRIAL_H

#include "base/digest.h"
#include "kernels/cuda/cuda_device.h"

enum { TRIAL_PLACES = 16 }; // at most

struct candidate {
    cublasLtMatmulAlgo_t algorithm;
    bool ran;
    bool stable;           // the probes' bits are the same at every place
    double seconds;        // of one run; 0: not timed
    char bits[DIGEST_HEX]; // of the probes' results
};

struct trial { // of one shape
    struct cuda_device *cuda;
    struct product *product;
    void *out; // activation buffers of plan.tokens rows
    void *x;
    const void *weights;
    const void *bias;
    size_t probes; // rows
    size_t place_count;
    size_t places[TRIAL_PLACES]; // rows at which the probes begin
    struct digest *digest;       // the caller's
};

// Fills x with random rows and the probes; refuses weights that are zeros, which prove nothing.
int trial_begin(struct trial *trial, struct error *err);

// Sets ran, stable and bits. An algorithm that cuBLASLt refuses to run is no error.
int trial_prove(struct trial *trial, struct candidate *candidate, struct error *err);

// Runs the algorithm until the GPU's clock has risen, unless a run is over before it could; *ran is false
// when cuBLASLt refuses it.
int trial_warm_up(struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, bool *ran, struct error *err);

// Seconds of one run, 0 when cuBLASLt refuses it. fastest: the best known (0: none); less is measured where
// the first run is far from it.
int trial_time(struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, void *workspace,
               size_t workspace_bytes, double fastest, double *seconds, struct error *err);

#endif

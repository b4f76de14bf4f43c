// SPDX-License-Identifier: MIT
// Which cuBLASLt algorithm a shape is multiplied by: the fastest of those that keep a row's bits.
//
// Candidates split no sum and ask for a workspace of at most CUDA_WORKSPACE_BYTES. Each is proved on the
// device and timed (algorithm_trial.h). Many algorithms add up a row in the same order, so that their bits
// agree: candidates are grouped by the probes' bits, and when the group with most votes has one that is
// nearly as fast as the fastest of all, that one is taken. So two fresh runs mostly agree even when their
// timings do not. The first candidates by expected speed vote, however fast they turn out to be: timing has
// no part in it, and these are given two runs before one that looks slow is left out. What makes runs agree
// in any case is a choice that an earlier one kept (run.profile).
//
// What it costs, computed for Qwen3-8B at 8,192 tokens on an H200 at 760 TFLOP/s, where the matmuls of
// q|k|v, o, gate|up and down take 0.54, 0.36, 2.17 and 1.09 ms: of 32 candidates a shape 16 vote and 8 come
// close to the fastest, 6 of them voters. 16 proofs of voters, 3 runs each, and two glances at each are 80
// runs, 16 glances at others 32, their 2 proofs 6, 8 measurements 24 times the runs that fill 2 ms: 190, 238,
// 142 and 142 runs, 0.65 s in all, or 0.8 s when those that do not come close take half as long again. Should
// each ask for a workspace, proofs of 9 runs make it 1.4 s, and what they fill and compare, 230 GB, takes
// 0.1 s at half of 4.8 TB/s. Their probes, 126 MB, go to the host and into a digest: 0.1 s at 1.4 GB/s.
// Warming up takes 0.1 s, once. What remains of 3 s, 1.3 s, is for loading a kernel at its first run, which
// nobody has timed: 10 ms for each of 128.
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "kernels/cuda/algorithm_trial.h"

enum {
    CANDIDATES = 128,
    LOOKED_AT = 32,       // they come by expected speed: behind so many the fastest is not to be found
    VOTERS = 16,          // that are proved in any case
    FREE_CANDIDATES = 16, // without restriction, for benchmarks
};

static const double nearly = 1.01;       // of the fastest candidate's time
static const double close_to = 1.1;      // of the time of one run by itself, which is not exact
static const double far = 1.25;          // of the fastest's: not measured exactly, for benchmarks
static const double launch_noise = 1e-5; // seconds that one run by itself may wait for the host or not

struct survey { // of one shape's candidates
    struct trial trial;
    struct candidate *candidates; // [CANDIDATES]
    size_t count;
    bool every; // for benchmarks: none is left out, and those that do not keep a row's bits are timed, too
};

// ---- candidates ----

// Whether float32 numbers are multiplied as they are, and products of halves are added up in float32.
// CUBLAS_COMPUTE_32F promises both, but variables of the environment (NVIDIA_TF32_OVERRIDE,
// CUBLAS_EMULATE_SINGLE_PRECISION) can have cuBLAS round float32 numbers to TF32 or cut them into bfloat16
// pieces, and it has sums in float16, too.
static bool keeps_numbers(const struct cuda_device *cuda, const cublasLtMatmulAlgo_t *algorithm) {
    const uint64_t of_float32 =
        CUBLASLT_NUMERICAL_IMPL_FLAGS_TENSOR_OP_MASK | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F |
        CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32;
    const uint64_t rounding =
        cuda->base.dtype == DTYPE_F32 ? of_float32 : CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F;
    uint64_t flags = 0;
    size_t written;
    return cuda->lt.MatmulAlgoCapGetAttribute(algorithm, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &flags,
                                              sizeof flags, &written) != CUBLAS_STATUS_SUCCESS ||
           (flags & rounding) == 0;
}

static int refuse_named(const struct matmul *matmul, const char *why, struct error *err) {
    return error_set(err, STATUS_DEVICE,
                     "the algorithm that an earlier run chose for matmuls of [%zu, %zu] %s", matmul->rows,
                     matmul->columns, why);
}

static int check_named(struct cuda_device *cuda, struct matmul *matmul, struct error *err) {
    cublasLtMatmulHeuristicResult_t result;
    struct algorithm_settings settings;
    cublasStatus_t said =
        cuda->lt.MatmulAlgoCheck(cuda->lt.handle, matmul->operation, matmul->weights, matmul->input,
                                 matmul->output, matmul->output, &matmul->algorithm, &result);
    if (said != CUBLAS_STATUS_SUCCESS) {
        refuse_named(matmul, "is not available here", err);
        return error_wrap(err, "cublasLtMatmulAlgoCheck: %s", cuda->lt.GetStatusName(said));
    }
    if (result.workspaceSize > CUDA_WORKSPACE_BYTES) {
        return error_set(err, STATUS_DEVICE,
                         "the algorithm that an earlier run chose for matmuls of [%zu, %zu] asks for a "
                         "workspace of %zu bytes; there are %d",
                         matmul->rows, matmul->columns, result.workspaceSize, CUDA_WORKSPACE_BYTES);
    }
    if (!algorithm_settings(&cuda->lt, &matmul->algorithm, &settings) || !algorithm_in_order(&settings)) {
        return refuse_named(matmul, "is not batch-invariant", err);
    }
    matmul->workspace = result.workspaceSize;
    return keeps_numbers(cuda, &matmul->algorithm) ? STATUS_OK
           : cuda->base.dtype == DTYPE_F32         ? refuse_named(matmul, "rounds float32 numbers", err)
                                                   : refuse_named(matmul, "adds up in float16", err);
}

// Forgets a name that was only suggested and is no good; one that binds is an error.
static int settle_named(struct cuda_device *cuda, struct matmul *matmul, struct error *err) {
    int status = matmul->named != MATMUL_UNNAMED ? check_named(cuda, matmul, err) : STATUS_OK;
    if (status != STATUS_OK && matmul->named == MATMUL_SUGGESTED) {
        matmul->named = MATMUL_UNNAMED;
        return STATUS_OK;
    }
    return status;
}

static int gather(struct cuda_device *cuda, struct matmul *matmul, struct candidate *out, size_t *count,
                  struct error *err) {
    cublasLtMatmulHeuristicResult_t results[CANDIDATES] = {0};
    int found = 0;
    *count = 0;
    TRY(cuda_matmul_heuristics(cuda, matmul, true, results, CANDIDATES, &found, err));
    for (int i = 0; i < found; i++) {
        struct algorithm_settings settings;
        if (results[i].state == CUBLAS_STATUS_SUCCESS && results[i].workspaceSize <= CUDA_WORKSPACE_BYTES &&
            algorithm_settings(&cuda->lt, &results[i].algo, &settings) && algorithm_in_order(&settings) &&
            keeps_numbers(cuda, &results[i].algo)) {
            out[(*count)++] =
                (struct candidate){.algorithm = results[i].algo, .workspace = results[i].workspaceSize};
        }
    }
    if (*count == 0) {
        return error_set(
            err, STATUS_DEVICE,
            "cuBLASLt has no algorithm for [%zu, %zu] x [%zu, %zu] in %s that is batch-invariant",
            matmul->tokens, matmul->columns, matmul->rows, matmul->columns, dtype_name(cuda->base.dtype));
    }
    return STATUS_OK;
}

static void take(struct matmul *matmul, const struct candidate *candidate) {
    matmul->algorithm = candidate->algorithm;
    matmul->workspace = candidate->workspace;
    matmul->chosen = true;
}

// Where nothing is proved: the first one that has no workspace to depend on.
static const struct candidate *first_choice(const struct candidate *candidates, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (candidates[i].workspace == 0) {
            return &candidates[i];
        }
    }
    return &candidates[0];
}

int cuda_matmul_choose(struct cuda_device *cuda, struct matmul *matmul, struct error *err) {
    struct candidate candidates[CANDIDATES];
    size_t count;
    if (matmul->chosen) {
        return STATUS_OK;
    }
    TRY(cuda_queue_check(cuda, cudaSetDevice(cuda->index), "cudaSetDevice", err)); // whose handle is asked
    TRY(settle_named(cuda, matmul, err));
    if (matmul->named == MATMUL_UNNAMED) {
        TRY(gather(cuda, matmul, candidates, &count, err));
        take(matmul, first_choice(candidates, count));
    }
    matmul->chosen = true;
    return STATUS_OK;
}

// ---- all of them ----

static int survey_open(struct survey *survey, struct error *err) {
    void *block = NULL;
    TRY(memory_zeroed(&block, CANDIDATES, sizeof(struct candidate), err));
    survey->candidates = block;
    return digest_create(&survey->trial.digest, err);
}

static void survey_close(struct survey *survey) {
    free(survey->candidates);
    digest_destroy(survey->trial.digest);
}

// By the first candidate that runs.
static int warm_up(struct survey *survey, struct error *err) {
    bool ran = false;
    for (size_t i = 0; i < survey->count && !ran; i++) {
        TRY(trial_warm_up(&survey->trial, &survey->candidates[i], &ran, err));
    }
    survey->trial.cuda->warm = ran;
    return STATUS_OK;
}

// ---- groups of equal bits ----

// Its votes: the same ones whatever was timed.
static size_t group_size(const struct survey *survey, const struct candidate *of) {
    size_t size = 0;
    for (size_t i = 0; i < size_min(survey->count, VOTERS); i++) {
        const struct candidate *candidate = &survey->candidates[i];
        size += candidate->stable && strcmp(candidate->bits, of->bits) == 0;
    }
    return size;
}

// Whether a's group comes before b's: larger, then by the bits alone.
static int group_order(const struct survey *survey, const struct candidate *a, const struct candidate *b) {
    size_t a_size = group_size(survey, a);
    size_t b_size = group_size(survey, b);
    if (a_size != b_size) {
        return a_size > b_size ? -1 : 1;
    }
    return strcmp(a->bits, b->bits);
}

// ---- trials ----

// The voter whose group comes first; NULL: none keeps a row's bits.
static const struct candidate *first_voter(const struct survey *survey) {
    const struct candidate *first = NULL;
    for (size_t i = 0; i < size_min(survey->count, VOTERS); i++) {
        const struct candidate *candidate = &survey->candidates[i];
        if (candidate->stable && (first == NULL || group_order(survey, candidate, first) < 0)) {
            first = candidate;
        }
    }
    return first;
}

// A run of each of candidates [begin, end) that may be fit. Voters whose group comes first are run twice:
// what the machine does beside it shall not keep the one out that the choice prefers.
static int glance(struct survey *survey, size_t begin, size_t end, struct error *err) {
    const struct candidate *first = first_voter(survey);
    for (size_t i = begin; i < end; i++) {
        struct candidate *candidate = &survey->candidates[i];
        bool twice = i < VOTERS && candidate->stable && strcmp(candidate->bits, first->bits) == 0;
        if (candidate->proved && !candidate->stable) {
            continue;
        }
        for (int run = 0; run < (twice ? 2 : 1); run++) {
            TRY(trial_glance(&survey->trial, candidate, err));
        }
    }
    return STATUS_OK;
}

// A look at candidates [begin, end): whether those with a vote keep a row's bits, and how long a run takes.
static int look(struct survey *survey, size_t begin, size_t end, struct error *err) {
    for (size_t i = begin; i < size_min(end, VOTERS); i++) {
        TRY(trial_prove(&survey->trial, &survey->candidates[i], err));
    }
    return glance(survey, begin, end, err);
}

// Keeps a row's bits and is, or will be, measured.
static bool is_fit(const struct candidate *candidate) {
    return candidate->stable && candidate->seconds > 0;
}

// Of candidates [0, end) that are looked at and not measured the fastest that may be fit; NULL: there is
// none.
static struct candidate *fastest_left(struct survey *survey, size_t end) {
    struct candidate *fastest = NULL;
    for (size_t i = 0; i < end; i++) {
        struct candidate *candidate = &survey->candidates[i];
        bool left =
            candidate->once > 0 && candidate->seconds == 0 && (candidate->stable || !candidate->proved);
        if (left && (fastest == NULL || candidate->once < fastest->once)) {
            fastest = candidate;
        }
    }
    return fastest;
}

// Proves the fastest ones, until one that is fit has left those that remain far behind. What is fit and comes
// close to it is to be measured.
static int find_close(struct survey *survey, size_t end, bool *found, struct error *err) {
    double bound = 0; // of a run by itself; 0: none yet
    struct candidate *next = fastest_left(survey, end);
    while (next != NULL && (bound == 0 || next->once <= bound)) {
        if (!next->proved) {
            TRY(trial_prove(&survey->trial, next, err));
        }
        if (next->stable) {
            next->seconds = next->once;
            bound = bound == 0 ? close_to * next->once + launch_noise : bound;
        }
        next = fastest_left(survey, end);
    }
    *found = bound > 0;
    return STATUS_OK;
}

static int measure(struct survey *survey, size_t end, struct error *err) {
    for (int round = 0; round < TRIAL_ROUNDS; round++) {
        for (size_t i = 0; i < end; i++) {
            struct candidate *candidate = &survey->candidates[i];
            if (is_fit(candidate)) {
                TRY(trial_measure(&survey->trial, candidate, round, err));
            }
        }
    }
    return STATUS_OK;
}

// Most are fit, so that the first ones decide; the others count only where none of those is.
static int try_some(struct survey *survey, struct error *err) {
    bool found = false;
    for (size_t begin = 0; begin < survey->count && !found; begin += LOOKED_AT) {
        size_t end = size_min(begin + LOOKED_AT, survey->count);
        TRY(look(survey, begin, end, err));
        TRY(find_close(survey, end, &found, err));
        TRY(measure(survey, end, err));
    }
    return STATUS_OK;
}

// The time of any candidate, less exactly where it is far from the fastest so far.
static int time_one(struct trial *trial, struct candidate *candidate, double *fastest, struct error *err) {
    TRY(trial_glance(trial, candidate, err));
    candidate->seconds = candidate->once;
    bool near = candidate->once > 0 && (*fastest == 0 || candidate->once < far * *fastest + launch_noise);
    for (int round = 0; near && round < TRIAL_ROUNDS; round++) {
        TRY(trial_measure(trial, candidate, round, err));
    }
    if (candidate->seconds > 0 && (*fastest == 0 || candidate->seconds < *fastest)) {
        *fastest = candidate->seconds;
    }
    return STATUS_OK;
}

static int try_every(struct survey *survey, struct error *err) {
    double fastest = 0;
    for (size_t i = 0; i < survey->count; i++) {
        struct candidate *candidate = &survey->candidates[i];
        TRY(trial_prove(&survey->trial, candidate, err));
        if (candidate->ran) {
            TRY(time_one(&survey->trial, candidate, &fastest, err));
        }
    }
    return STATUS_OK;
}

static int try_all(struct survey *survey, struct error *err) {
    struct matmul *matmul = survey->trial.matmul;
    TRY(gather(survey->trial.cuda, matmul, survey->candidates, &survey->count, err));
    if (survey->every || !survey->trial.cuda->warm) {
        TRY(warm_up(survey, err));
    }
    return survey->every ? try_every(survey, err) : try_some(survey, err);
}

// An algorithm that was named is not timed: it is taken when it keeps a row's bits.
static int try_named(struct survey *survey, struct error *err) {
    const struct matmul *matmul = survey->trial.matmul;
    struct candidate *named = &survey->candidates[0];
    survey->count = 1;
    *named = (struct candidate){.algorithm = matmul->algorithm, .workspace = matmul->workspace};
    return trial_prove(&survey->trial, named, err);
}

// NULL when none keeps a row's bits.
static const struct candidate *survey_best(const struct survey *survey) {
    const struct candidate *fastest = NULL;
    for (size_t i = 0; i < survey->count; i++) {
        const struct candidate *candidate = &survey->candidates[i];
        if (is_fit(candidate) && (fastest == NULL || candidate->seconds < fastest->seconds)) {
            fastest = candidate;
        }
    }
    const struct candidate *best = fastest;
    for (size_t i = 0; i < survey->count; i++) {
        const struct candidate *candidate = &survey->candidates[i];
        if (is_fit(candidate) && candidate->seconds <= nearly * fastest->seconds) {
            int order = group_order(survey, candidate, best);
            if (order < 0 || (order == 0 && candidate->seconds < best->seconds)) {
                best = candidate;
            }
        }
    }
    return best;
}

static int refuse_all(const struct survey *survey, struct error *err) {
    const struct matmul *matmul = survey->trial.matmul;
    return error_set(err, STATUS_DEVICE,
                     "none of cuBLASLt's %zu algorithms for matmuls of [%zu, %zu] is batch-invariant",
                     survey->count, matmul->rows, matmul->columns);
}

static int choose(struct survey *survey, const struct candidate **best, struct error *err) {
    struct matmul *matmul = survey->trial.matmul;
    *best = NULL;
    TRY(cuda_queue_check(survey->trial.cuda, cudaSetDevice(survey->trial.cuda->index), "cudaSetDevice", err));
    TRY(settle_named(survey->trial.cuda, matmul, err));
    TRY(trial_begin(&survey->trial, err));
    if (matmul->named != MATMUL_UNNAMED) {
        TRY(try_named(survey, err));
        if (survey->candidates[0].stable) {
            *best = &survey->candidates[0];
            return STATUS_OK;
        }
        if (matmul->named == MATMUL_BOUND) {
            return refuse_named(matmul, "is not batch-invariant on this device", err);
        }
        matmul->named = MATMUL_UNNAMED;
    }
    TRY(try_all(survey, err));
    *best = survey_best(survey);
    return *best != NULL ? STATUS_OK : refuse_all(survey, err);
}

static struct trial trial_of(struct cuda_device *cuda, struct matmul *matmul, void *out, void *x,
                             const struct device_matrix *matrices, size_t count, const void *bias) {
    return (struct trial){.cuda = cuda,
                          .matmul = matmul,
                          .out = out,
                          .x = x,
                          .matrices = matrices,
                          .matrix_count = count,
                          .bias = bias};
}

int cuda_matmul_tune(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                     const void *bias, enum device_store store, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct matmul *matmul = NULL;
    const struct candidate *best = NULL;
    TRY(cuda_matmul_find(cuda, matrix, bias != NULL, store, &matmul, err));
    if (matmul->tuned > 0) {
        return STATUS_OK;
    }
    struct survey survey = {.trial = trial_of(cuda, matmul, out, x, matrix, 1, bias)};
    int status;
    TRY_TO(done, status = survey_open(&survey, err));
    TRY_TO(done, status = choose(&survey, &best, err));
    take(matmul, best);
    matmul->tuned = ++cuda->tuned;
done:
    survey_close(&survey);
    return status;
}

// ---- for benchmarks ----

// Without restriction: the time of the best, whatever it does to a row's bits.
static int time_free(struct survey *survey, double *seconds, struct error *err) {
    cublasLtMatmulHeuristicResult_t results[FREE_CANDIDATES] = {0};
    int found = 0;
    *seconds = 0;
    TRY(cuda_matmul_heuristics(survey->trial.cuda, survey->trial.matmul, false, results, FREE_CANDIDATES,
                               &found, err));
    for (int i = 0; i < found; i++) {
        struct candidate candidate = {.algorithm = results[i].algo, .workspace = results[i].workspaceSize};
        if (results[i].state == CUBLAS_STATUS_SUCCESS && candidate.workspace <= CUDA_WORKSPACE_BYTES) {
            TRY(time_one(&survey->trial, &candidate, seconds, err));
        }
    }
    return STATUS_OK;
}

// 0 for the group that comes first, and so on.
static int group_number(const struct survey *survey, const struct candidate *of) {
    int number = 0;
    for (size_t i = 0; i < survey->count; i++) {
        const struct candidate *candidate = &survey->candidates[i];
        bool first = candidate->stable;
        for (size_t j = 0; j < i && first; j++) { // one of each group counts
            first = !survey->candidates[j].stable || strcmp(survey->candidates[j].bits, candidate->bits) != 0;
        }
        number += first && group_order(survey, candidate, of) < 0;
    }
    return number;
}

// The one in use; until one is, the survey's best. This survey's times may favour another than the one that
// was chosen, which is what everything else runs by.
static bool is_chosen(const struct survey *survey, const struct candidate *candidate,
                      const struct candidate *best) {
    const struct matmul *matmul = survey->trial.matmul;
    return matmul->chosen
               ? memcmp(candidate->algorithm.data, matmul->algorithm.data, sizeof matmul->algorithm.data) == 0
               : candidate == best;
}

static size_t list(const struct survey *survey, struct device_candidate *out, size_t most) {
    const struct candidate *best = survey_best(survey);
    size_t count = 0;
    for (size_t i = 0; i < survey->count && count < most; i++) {
        const struct candidate *candidate = &survey->candidates[i];
        struct algorithm_settings settings;
        if (!candidate->ran ||
            !algorithm_settings(&survey->trial.cuda->lt, &candidate->algorithm, &settings)) {
            continue;
        }
        struct device_candidate *line = &out[count++];
        line->seconds = candidate->seconds;
        line->group = candidate->stable ? group_number(survey, candidate) : -1;
        line->chosen = is_chosen(survey, candidate, best);
        algorithm_name(&settings, line->name, sizeof line->name);
    }
    return count;
}

int cuda_matmul_candidates(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                           size_t matrices, const void *bias, enum device_store store,
                           struct device_candidate *lines, size_t most, size_t *count, double *free_seconds,
                           struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct matmul *matmul = NULL;
    *count = 0;
    *free_seconds = 0;
    TRY(cuda_matmul_find(cuda, matrix, bias != NULL, store, &matmul, err));
    struct survey survey = {.trial = trial_of(cuda, matmul, out, x, matrix, matrices, bias), .every = true};
    int status;
    TRY_TO(done, status = survey_open(&survey, err));
    TRY_TO(done, status = trial_begin(&survey.trial, err));
    TRY_TO(done, status = try_all(&survey, err));
    *count = list(&survey, lines, most);
    status = time_free(&survey, free_seconds, err);
done:
    survey_close(&survey);
    return status;
}

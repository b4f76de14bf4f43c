// Which cuBLASLt algorithm a shape is multiplied by: the fastest of those that keep a row's bits.
//
// Candidates split no sum and need no workspace. Each is proved on the device and timed (algorithm_trial.h).
// Many algorithms add up a row in the same order, so that their bits agree: candidates are grouped by the
// probes' bits, and when the largest group has one that is nearly as fast as the fastest of all, that one is
// taken. So two fresh runs agree even when their timings do not.
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cuda/algorithm_trial.h"

enum {
    CANDIDATES = 128,
    STABLE_ENOUGH = 32,   // they come by expected speed: behind so many the fastest is not to be found
    FREE_CANDIDATES = 16, // without restriction, for benchmarks
};

static const double nearly = 1.03; // of the fastest candidate's time

struct survey { // of one shape's candidates
    struct trial trial;
    struct candidate *candidates; // [CANDIDATES]
    size_t count;
    bool every; // for benchmarks: none is left out, and those that do not keep a row's bits are timed, too
};

// ---- candidates ----

// Whether float32 numbers are multiplied as they are. CUBLAS_COMPUTE_32F promises it, but variables of the
// environment (NVIDIA_TF32_OVERRIDE, CUBLAS_EMULATE_SINGLE_PRECISION) can have cuBLAS round them to TF32 or
// cut them into bfloat16 pieces.
static bool keeps_numbers(const struct cuda_device *cuda, const cublasLtMatmulAlgo_t *algorithm) {
    const uint64_t rounding =
        CUBLASLT_NUMERICAL_IMPL_FLAGS_TENSOR_OP_MASK | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F |
        CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32;
    uint64_t flags = 0;
    size_t written;
    return cuda->base.dtype != DTYPE_F32 ||
           cuda->lt.MatmulAlgoCapGetAttribute(algorithm, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &flags,
                                              sizeof flags, &written) != CUBLAS_STATUS_SUCCESS ||
           (flags & rounding) == 0;
}

static int refuse_named(const struct product *product, const char *why, struct error *err) {
    return error_set(err, STATUS_DEVICE,
                     "the algorithm that an earlier run chose for products of [%zu, %zu] %s", product->rows,
                     product->columns, why);
}

static int check_named(struct cuda_device *cuda, struct product *product, struct error *err) {
    cublasLtMatmulHeuristicResult_t result;
    struct algorithm_settings settings;
    cublasStatus_t said =
        cuda->lt.MatmulAlgoCheck(cuda->lt.handle, product->operation, product->weights, product->input,
                                 product->output, product->output, &product->algorithm, &result);
    if (said != CUBLAS_STATUS_SUCCESS) {
        refuse_named(product, "is not to be had here", err);
        return error_wrap(err, "cublasLtMatmulAlgoCheck: %s", cuda->lt.GetStatusName(said));
    }
    if (result.workspaceSize > 0 || !algorithm_settings(&cuda->lt, &product->algorithm, &settings) ||
        !algorithm_in_order(&settings)) {
        return refuse_named(product, "does not keep a row's bits", err);
    }
    return keeps_numbers(cuda, &product->algorithm) ? STATUS_OK
                                                    : refuse_named(product, "rounds float32 numbers", err);
}

// Forgets a name that was only suggested and is no good; one that binds is an error.
static int settle_named(struct cuda_device *cuda, struct product *product, struct error *err) {
    int status = product->named != PRODUCT_UNNAMED ? check_named(cuda, product, err) : STATUS_OK;
    if (status != STATUS_OK && product->named == PRODUCT_SUGGESTED) {
        product->named = PRODUCT_UNNAMED;
        return STATUS_OK;
    }
    return status;
}

static int gather(struct cuda_device *cuda, struct product *product, struct candidate *out, size_t *count,
                  struct error *err) {
    cublasLtMatmulHeuristicResult_t results[CANDIDATES] = {0};
    int found = 0;
    *count = 0;
    int status = cuda_product_heuristics(cuda, product, true, 0, results, CANDIDATES, &found, err);
    for (int i = 0; i < found && status == STATUS_OK; i++) {
        struct algorithm_settings settings;
        if (results[i].state == CUBLAS_STATUS_SUCCESS && results[i].workspaceSize == 0 &&
            algorithm_settings(&cuda->lt, &results[i].algo, &settings) && algorithm_in_order(&settings) &&
            keeps_numbers(cuda, &results[i].algo)) {
            out[(*count)++] = (struct candidate){.algorithm = results[i].algo};
        }
    }
    if (status == STATUS_OK && *count == 0) {
        return error_set(
            err, STATUS_DEVICE,
            "cuBLASLt has no algorithm for [%zu, %zu] x [%zu, %zu] in %s that keeps a row's bits",
            product->tokens, product->columns, product->rows, product->columns, dtype_name(cuda->base.dtype));
    }
    return status;
}

int cuda_product_choose(struct cuda_device *cuda, struct product *product, struct error *err) {
    struct candidate candidates[CANDIDATES];
    size_t count;
    if (product->chosen) {
        return STATUS_OK;
    }
    int status = settle_named(cuda, product, err);
    if (status == STATUS_OK && product->named == PRODUCT_UNNAMED) {
        status = gather(cuda, product, candidates, &count, err);
        product->algorithm = status == STATUS_OK ? candidates[0].algorithm : product->algorithm;
    }
    product->chosen = status == STATUS_OK;
    return status;
}

// ---- all of them ----

static int survey_open(struct survey *survey, struct error *err) {
    void *block = NULL;
    int status = memory_zeroed(&block, CANDIDATES, sizeof(struct candidate), err);
    survey->candidates = block;
    return status == STATUS_OK ? digest_create(&survey->trial.digest, err) : status;
}

static void survey_close(struct survey *survey) {
    free(survey->candidates);
    digest_destroy(survey->trial.digest);
}

// By the first candidate that runs.
static int warm_up(struct survey *survey, struct error *err) {
    bool ran = false;
    int status = STATUS_OK;
    for (size_t i = 0; i < survey->count && !ran && status == STATUS_OK; i++) {
        status = trial_warm_up(&survey->trial, &survey->candidates[i].algorithm, &ran, err);
    }
    survey->trial.cuda->warm = ran;
    return status;
}

static int try_candidate(struct survey *survey, struct candidate *candidate, double fastest,
                         struct error *err) {
    int status = trial_prove(&survey->trial, candidate, err);
    if (status == STATUS_OK && (candidate->stable || (survey->every && candidate->ran))) {
        status =
            trial_time(&survey->trial, &candidate->algorithm, NULL, 0, fastest, &candidate->seconds, err);
    }
    return status;
}

static int try_all(struct survey *survey, struct error *err) {
    struct product *product = survey->trial.product;
    int status = gather(survey->trial.cuda, product, survey->candidates, &survey->count, err);
    if (status == STATUS_OK && (survey->every || !survey->trial.cuda->warm)) {
        status = warm_up(survey, err);
    }
    double fastest = 0;
    size_t stable = 0;
    for (size_t i = 0; i < survey->count && status == STATUS_OK && (survey->every || stable < STABLE_ENOUGH);
         i++) {
        struct candidate *candidate = &survey->candidates[i];
        status = try_candidate(survey, candidate, fastest, err);
        stable += candidate->stable;
        if (candidate->stable && candidate->seconds > 0 && (fastest == 0 || candidate->seconds < fastest)) {
            fastest = candidate->seconds;
        }
    }
    return status;
}

// An algorithm that was named is not timed: it is taken when it keeps a row's bits.
static int try_named(struct survey *survey, struct error *err) {
    struct candidate *named = &survey->candidates[0];
    survey->count = 1;
    named->algorithm = survey->trial.product->algorithm;
    return trial_prove(&survey->trial, named, err);
}

static size_t group_size(const struct survey *survey, const struct candidate *of) {
    size_t size = 0;
    for (size_t i = 0; i < survey->count; i++) {
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

// NULL when none keeps a row's bits.
static const struct candidate *survey_best(const struct survey *survey) {
    const struct candidate *fastest = NULL;
    for (size_t i = 0; i < survey->count; i++) {
        const struct candidate *candidate = &survey->candidates[i];
        if (candidate->stable && (fastest == NULL || candidate->seconds < fastest->seconds)) {
            fastest = candidate;
        }
    }
    const struct candidate *best = fastest;
    for (size_t i = 0; i < survey->count; i++) {
        const struct candidate *candidate = &survey->candidates[i];
        if (candidate->stable && candidate->seconds <= nearly * fastest->seconds) {
            int order = group_order(survey, candidate, best);
            if (order < 0 || (order == 0 && candidate->seconds < best->seconds)) {
                best = candidate;
            }
        }
    }
    return best;
}

static int refuse_all(const struct survey *survey, struct error *err) {
    const struct product *product = survey->trial.product;
    return error_set(err, STATUS_DEVICE,
                     "of cuBLASLt's %zu algorithms for products of [%zu, %zu] none keeps a row's bits",
                     survey->count, product->rows, product->columns);
}

static int choose(struct survey *survey, const struct candidate **best, struct error *err) {
    struct product *product = survey->trial.product;
    *best = NULL;
    int status = settle_named(survey->trial.cuda, product, err);
    status = status == STATUS_OK ? trial_begin(&survey->trial, err) : status;
    if (status == STATUS_OK && product->named != PRODUCT_UNNAMED) {
        status = try_named(survey, err);
        *best = status == STATUS_OK ? survey_best(survey) : NULL;
        if (status != STATUS_OK || *best != NULL) {
            return status;
        }
        if (product->named == PRODUCT_BOUND) {
            return refuse_named(product, "does not keep a row's bits on this device", err);
        }
        product->named = PRODUCT_UNNAMED;
    }
    status = status == STATUS_OK ? try_all(survey, err) : status;
    *best = status == STATUS_OK ? survey_best(survey) : NULL;
    return status != STATUS_OK || *best != NULL ? status : refuse_all(survey, err);
}

static struct trial trial_of(struct cuda_device *cuda, struct product *product, void *out, void *x,
                             const void *weights, const void *bias) {
    return (struct trial){
        .cuda = cuda, .product = product, .out = out, .x = x, .weights = weights, .bias = bias};
}

int cuda_matmul_tune(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                     const void *bias, enum device_store store, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct product *product = NULL;
    const struct candidate *best = NULL;
    int status = cuda_product_find(cuda, matrix, bias != NULL, store, &product, err);
    if (status != STATUS_OK || product->tuned > 0) {
        return status;
    }
    struct survey survey = {.trial = trial_of(cuda, product, out, x, matrix->data, bias)};
    status = survey_open(&survey, err);
    status = status == STATUS_OK ? choose(&survey, &best, err) : status;
    if (status == STATUS_OK) {
        product->algorithm = best->algorithm;
        product->chosen = true;
        product->tuned = ++cuda->tuned;
    }
    survey_close(&survey);
    return status;
}

// ---- for benchmarks ----

// Without restriction: the time of the best, whatever it does to a row's bits.
static int time_free(struct survey *survey, void *workspace, size_t workspace_bytes, double *seconds,
                     struct error *err) {
    cublasLtMatmulHeuristicResult_t results[FREE_CANDIDATES] = {0};
    int found = 0;
    *seconds = 0;
    int status = cuda_product_heuristics(survey->trial.cuda, survey->trial.product, false, workspace_bytes,
                                         results, FREE_CANDIDATES, &found, err);
    for (int i = 0; i < found && status == STATUS_OK; i++) {
        double took = 0;
        if (results[i].state == CUBLAS_STATUS_SUCCESS && results[i].workspaceSize <= workspace_bytes) {
            status = trial_time(&survey->trial, &results[i].algo, workspace, workspace_bytes, *seconds, &took,
                                err);
        }
        if (took > 0 && (*seconds == 0 || took < *seconds)) {
            *seconds = took;
        }
    }
    return status;
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
    const struct product *product = survey->trial.product;
    return product->chosen ? memcmp(candidate->algorithm.data, product->algorithm.data,
                                    sizeof product->algorithm.data) == 0
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
                           const void *bias, enum device_store store, void *workspace, size_t workspace_bytes,
                           struct device_candidate *lines, size_t most, size_t *count, double *free_seconds,
                           struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct product *product = NULL;
    *count = 0;
    *free_seconds = 0;
    int status = cuda_product_find(cuda, matrix, bias != NULL, store, &product, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct survey survey = {.trial = trial_of(cuda, product, out, x, matrix->data, bias), .every = true};
    status = survey_open(&survey, err);
    status = status == STATUS_OK ? trial_begin(&survey.trial, err) : status;
    status = status == STATUS_OK ? try_all(&survey, err) : status;
    if (status == STATUS_OK) {
        *count = list(&survey, lines, most);
        status = time_free(&survey, workspace, workspace_bytes, free_seconds, err);
    }
    survey_close(&survey);
    return status;
}

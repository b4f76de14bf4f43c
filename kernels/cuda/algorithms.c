// Which cuBLASLt algorithm a shape is multiplied by: the fastest of those that keep a row's bits.
//
// Candidates split no sum and need no workspace. Each is proved on the device: the same probe rows stand at
// up to 16 places among random neighbours, and what comes out must be the same bits at all of them.
//
// bfloat16 results hide most differences of float32 sums: of 4,096 terms summed in another order about one
// result in thousands rounds differently. So a second proof subtracts the product from its own rounded
// result: what is left is the rounding's remainder, whose bits are those of the sum's lower half.
//
// Then each is timed. Many algorithms add up a row in the same order, so that their bits agree: candidates
// are grouped by the probes' bits, and when the largest group has one that is nearly as fast as the fastest
// of all, that one is taken. So two fresh runs agree even when their timings do not.
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/size.h"
#include "kernels/cuda/cuda_device.h"

enum {
    CANDIDATES = 128,
    FREE_CANDIDATES = 16, // without restriction, for benchmarks: cuBLASLt's order is good
    PROBES = 16,          // rows
    PLACES = 16,          // at most
    MEASUREMENTS = 3,
    RUNS_MOST = 16, // in one of them
};

static const double timed_seconds = 2e-3;  // of runs together: launching is not what is timed
static const double nearly = 1.03;         // of the fastest candidate's time
static const double far = 2;               // of it
static const double launch_seconds = 5e-5; // that one run may wait for the host

struct candidate {
    cublasLtMatmulAlgo_t algorithm;
    bool ran;
    bool stable; // the probes' bits are the same at every place
    double seconds;
    char bits[DIGEST_HEX]; // of the probes' results
};

struct survey { // of one shape
    struct cuda_device *cuda;
    struct product *product;
    void *out;
    void *x;
    const void *weights;
    const void *bias;
    size_t probes;
    size_t place_count;
    size_t places[PLACES]; // rows at which the probes begin
    struct candidate *candidates;
    size_t count;
    struct digest *digest;
};

enum seed { SEED_INPUT = 1, SEED_PROBES, SEED_OUTPUT, SEED_OUTPUT_PROBES };

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
            cuda->base.tokens, product->columns, product->rows, product->columns,
            dtype_name(cuda->base.dtype));
    }
    return status;
}

int cuda_product_choose(struct cuda_device *cuda, struct product *product, struct error *err) {
    struct candidate candidates[CANDIDATES];
    size_t count;
    if (product->chosen) {
        return STATUS_OK;
    }
    int status =
        product->named ? check_named(cuda, product, err) : gather(cuda, product, candidates, &count, err);
    if (status == STATUS_OK && !product->named) {
        product->algorithm = candidates[0].algorithm;
    }
    product->chosen = status == STATUS_OK;
    return status;
}

// ---- the probes ----

static size_t row_bytes(const struct survey *survey, size_t columns) {
    return columns * dtype_size(survey->cuda->base.dtype);
}

// At the start, across tiles in the middle, at the end. Comparisons go by four bytes, so that rows of an odd
// number of bfloat16 begin at even places.
static void place_probes(struct survey *survey) {
    size_t tokens = survey->cuda->base.tokens;
    size_t unit = row_bytes(survey, survey->product->rows) % 4 == 0 ? 1 : 2;
    size_t probes =
        size_min(size_min(PROBES, CUDA_LOAD_BYTES / row_bytes(survey, survey->product->rows)), tokens / 4);
    survey->probes = size_max(probes / unit * unit, size_min(unit, tokens));
    size_t last = tokens - survey->probes;
    survey->place_count = size_max(size_min(PLACES, tokens / (survey->probes + 1)), last > 0 ? 2 : 1);
    for (size_t i = 0; i < survey->place_count; i++) { // from end to end, at odd rows: across tiles
        size_t place = i == 0 ? 0 : size_min(last * i / (survey->place_count - 1) | 1, last);
        survey->places[i] = place / unit * unit;
    }
}

// Random rows everywhere.
static cudaError_t fill(const struct survey *survey, void *matrix, size_t columns, enum seed seed) {
    const struct cuda_device *cuda = survey->cuda;
    return launch_fill(cuda->queue.compute, cuda->base.dtype, matrix, cuda->base.tokens * columns, seed);
}

// The same random rows at each of the probes' places.
static cudaError_t fill_probes(const struct survey *survey, void *matrix, size_t columns, enum seed seed) {
    const struct cuda_device *cuda = survey->cuda;
    cudaError_t result = cudaSuccess;
    for (size_t i = 0; i < survey->place_count && result == cudaSuccess; i++) {
        unsigned char *place = (unsigned char *)matrix + survey->places[i] * row_bytes(survey, columns);
        result = launch_fill(cuda->queue.compute, cuda->base.dtype, place, survey->probes * columns, seed);
    }
    return result;
}

static int begin(struct survey *survey, struct error *err) {
    struct cuda_device *cuda = survey->cuda;
    size_t tokens = cuda->base.tokens;
    int status = cuda_queue_begin(cuda, CUDA_COMPUTING, "tuning", survey->x,
                                  tokens * row_bytes(survey, survey->product->columns), err);
    status = status == STATUS_OK ? cuda_queue_begin(cuda, CUDA_COMPUTING, "tuning", survey->out,
                                                    tokens * row_bytes(survey, survey->product->rows), err)
                                 : status;
    if (status != STATUS_OK) {
        return status;
    }
    cudaError_t result = fill(survey, survey->x, survey->product->columns, SEED_INPUT);
    if (result == cudaSuccess) {
        result = fill_probes(survey, survey->x, survey->product->columns, SEED_PROBES);
    }
    return cuda_queue_end(cuda, "tuning", result, err);
}

// Brings device memory to the pinned ring, which is idle between loads.
static int fetch(struct cuda_device *cuda, const void *source, size_t bytes, struct error *err) {
    int status = cuda_queue_end(
        cuda, "tuning",
        cudaMemcpyAsync(cuda->loader.ring, source, bytes, cudaMemcpyDeviceToHost, cuda->queue.compute), err);
    return status == STATUS_OK ? cuda_queue_finish(cuda, err) : status;
}

// A product with zeros proves nothing.
static int check_weights(struct survey *survey, struct error *err) {
    struct cuda_device *cuda = survey->cuda;
    size_t bytes =
        size_min(survey->product->rows * row_bytes(survey, survey->product->columns), CUDA_LOAD_BYTES);
    int status = fetch(cuda, survey->weights, bytes, err);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (cuda->loader.ring[i] != 0) {
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_INTERNAL, "products of [%zu, %zu] are tuned before their weights are there",
                     survey->product->rows, survey->product->columns);
}

// ---- one candidate ----

// Numbers of the probes that differ between places.
static int count_differences(struct survey *survey, unsigned *differences, struct error *err) {
    struct cuda_device *cuda = survey->cuda;
    size_t bytes = row_bytes(survey, survey->product->rows);
    unsigned char *out = survey->out;
    unsigned *counter = cuda->loader.landing;
    cudaError_t result = cudaMemsetAsync(counter, 0, sizeof *counter, cuda->queue.compute);
    for (size_t i = 1; i < survey->place_count && result == cudaSuccess; i++) {
        if (survey->places[i] != survey->places[0]) {
            result = launch_compare(cuda->queue.compute, counter, out, out + survey->places[i] * bytes,
                                    survey->probes * bytes);
        }
    }
    int status = cuda_queue_end(cuda, "tuning", result, err);
    status = status == STATUS_OK ? fetch(cuda, counter, sizeof *counter, err) : status;
    if (status == STATUS_OK) {
        memcpy(differences, cuda->loader.ring, sizeof *differences);
    }
    return status;
}

// What the product left at the probes' places: compared, and added to the candidate's bits.
static int compare_probes(struct survey *survey, struct candidate *candidate, struct error *err) {
    struct cuda_device *cuda = survey->cuda;
    size_t bytes = survey->probes * row_bytes(survey, survey->product->rows);
    unsigned differences;
    int status = count_differences(survey, &differences, err);
    candidate->stable = candidate->stable && status == STATUS_OK && differences == 0;
    status = status == STATUS_OK ? fetch(cuda, survey->out, bytes, err) : status;
    return status == STATUS_OK ? digest_update(survey->digest, cuda->loader.ring, bytes, err) : status;
}

static bool run(struct survey *survey, const struct product_call *call) {
    return cuda_product_run(survey->cuda, survey->product, call) == CUBLAS_STATUS_SUCCESS;
}

// As a forward pass calls it, among random numbers. They are there for DEVICE_STORE, too, others at each
// place: what an algorithm leaves out shows.
static int prove_call(struct survey *survey, struct candidate *candidate, struct error *err) {
    const struct product *product = survey->product;
    struct product_call call = product_call(product, survey->out, survey->x, survey->weights, survey->bias);
    call.algorithm = &candidate->algorithm;
    cudaError_t result = fill(survey, survey->out, product->rows, SEED_OUTPUT);
    if (product->store == DEVICE_ADD && result == cudaSuccess) {
        result = fill_probes(survey, survey->out, product->rows, SEED_OUTPUT_PROBES);
    }
    int status = cuda_queue_end(survey->cuda, "tuning", result, err);
    candidate->ran = status == STATUS_OK && run(survey, &call);
    return candidate->ran ? compare_probes(survey, candidate, err) : status;
}

// out = 0, then out += x W^T, then out -= x W^T; without the bias, which would not cancel.
static int prove_remainder(struct survey *survey, struct candidate *candidate, struct error *err) {
    struct cuda_device *cuda = survey->cuda;
    size_t bytes = row_bytes(survey, survey->product->rows);
    struct product_call call =
        product_call(survey->product, survey->out, survey->x, survey->weights, cuda->loader.landing);
    call.algorithm = &candidate->algorithm;
    call.kept = 1;
    cudaError_t result =
        cudaMemsetAsync(cuda->loader.landing, 0, size_min(bytes, CUDA_LOAD_BYTES), cuda->queue.compute);
    if (result == cudaSuccess) {
        result = cudaMemsetAsync(survey->out, 0, cuda->base.tokens * bytes, cuda->queue.compute);
    }
    int status = cuda_queue_end(cuda, "tuning", result, err);
    candidate->ran = status == STATUS_OK && run(survey, &call);
    call.scale = -1;
    candidate->ran = candidate->ran && run(survey, &call);
    return candidate->ran ? compare_probes(survey, candidate, err) : status;
}

static int prove(struct survey *survey, struct candidate *candidate, struct error *err) {
    candidate->stable = true;
    int status = prove_call(survey, candidate, err);
    if (status == STATUS_OK && candidate->ran) {
        status = prove_remainder(survey, candidate, err);
    }
    candidate->stable = candidate->stable && candidate->ran;
    return status == STATUS_OK ? digest_finish(survey->digest, candidate->bits, err) : status;
}

// Seconds of one run, from `runs` of them; 0 when cuBLASLt refuses.
static int time_runs(struct survey *survey, const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                     size_t workspace_bytes, int runs, double *seconds, struct error *err) {
    struct cuda_device *cuda = survey->cuda;
    struct device_mark mark;
    struct device_times times;
    bool ran = true;
    struct product_call call =
        product_call(survey->product, survey->out, survey->x, survey->weights, survey->bias);
    call.algorithm = algorithm;
    call.workspace = workspace;
    call.workspace_bytes = workspace_bytes;
    int status = cuda_mark(&cuda->base, &mark, err);
    status =
        status == STATUS_OK ? cuda_queue_begin(cuda, CUDA_COMPUTING, "tuning", survey->out, 0, err) : status;
    for (int i = 0; i < runs && status == STATUS_OK && ran; i++) {
        ran = run(survey, &call);
    }
    status = status == STATUS_OK ? cuda_mark(&cuda->base, &mark, err) : status;
    status = status == STATUS_OK ? cuda_wait(&cuda->base, mark, &times, err) : status;
    *seconds = status == STATUS_OK && ran ? times.compute_seconds / runs : 0;
    return status;
}

// The best of a few measurements: what else the machine does only makes them longer. One is enough where the
// first is far from `fastest`, the best known (0: none).
static int time_algorithm(struct survey *survey, const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                          size_t workspace_bytes, double fastest, double *seconds, struct error *err) {
    double once;
    int status = time_runs(survey, algorithm, workspace, workspace_bytes, 1, &once, err);
    double runs = once > 0 ? timed_seconds / once : 0;
    int measurements = once > 0 && (fastest == 0 || once < far * fastest + launch_seconds) ? MEASUREMENTS : 0;
    *seconds = once;
    for (int i = 0; i < measurements && status == STATUS_OK; i++) {
        double took;
        status = time_runs(survey, algorithm, workspace, workspace_bytes,
                           runs < 1 ? 1 : (runs < RUNS_MOST ? (int)runs : RUNS_MOST), &took, err);
        *seconds = status == STATUS_OK && took > 0 && took < *seconds ? took : *seconds;
    }
    return status;
}

// ---- all of them ----

static int survey_open(struct survey *survey, struct error *err) {
    void *block = NULL;
    int status = memory_zeroed(&block, CANDIDATES, sizeof(struct candidate), err);
    survey->candidates = block;
    return status == STATUS_OK ? digest_create(&survey->digest, err) : status;
}

static void survey_close(struct survey *survey) {
    free(survey->candidates);
    digest_destroy(survey->digest);
}

static int survey_run(struct survey *survey, bool timed, struct error *err) {
    struct product *product = survey->product;
    place_probes(survey);
    int status = survey_open(survey, err);
    if (status == STATUS_OK && product->named) {
        survey->candidates[0].algorithm = product->algorithm;
        survey->count = 1;
        status = check_named(survey->cuda, product, err);
    } else if (status == STATUS_OK) {
        status = gather(survey->cuda, product, survey->candidates, &survey->count, err);
    }
    status = status == STATUS_OK ? begin(survey, err) : status;
    status = status == STATUS_OK ? check_weights(survey, err) : status;
    double fastest = 0;
    for (size_t i = 0; i < survey->count && status == STATUS_OK; i++) {
        struct candidate *candidate = &survey->candidates[i];
        status = prove(survey, candidate, err);
        if (status == STATUS_OK && timed && candidate->ran) {
            status =
                time_algorithm(survey, &candidate->algorithm, NULL, 0, fastest, &candidate->seconds, err);
        }
        if (candidate->stable && candidate->seconds > 0 && (fastest == 0 || candidate->seconds < fastest)) {
            fastest = candidate->seconds;
        }
    }
    return status;
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

int cuda_matmul_tune(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                     const void *bias, enum device_store store, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    struct product *product = NULL;
    int status = cuda_product_find(cuda, matrix, bias != NULL, store, &product, err);
    if (status != STATUS_OK || product->tuned > 0) {
        return status;
    }
    struct survey survey = {
        .cuda = cuda, .product = product, .out = out, .x = x, .weights = matrix->data, .bias = bias};
    status = survey_run(&survey, !product->named, err);
    const struct candidate *best = status == STATUS_OK ? survey_best(&survey) : NULL;
    if (best != NULL) {
        product->algorithm = best->algorithm;
        product->chosen = true;
        product->tuned = ++cuda->tuned;
    } else if (status == STATUS_OK) {
        status = product->named
                     ? refuse_named(product, "does not keep a row's bits on this device", err)
                     : error_set(err, STATUS_DEVICE,
                                 "of cuBLASLt's %zu algorithms for products of [%zu, %zu] none keeps a row's "
                                 "bits",
                                 survey.count, product->rows, product->columns);
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
    int status = cuda_product_heuristics(survey->cuda, survey->product, false, workspace_bytes, results,
                                         FREE_CANDIDATES, &found, err);
    for (int i = 0; i < found && status == STATUS_OK; i++) {
        double took = 0;
        if (results[i].state == CUBLAS_STATUS_SUCCESS && results[i].workspaceSize <= workspace_bytes) {
            status =
                time_algorithm(survey, &results[i].algo, workspace, workspace_bytes, *seconds, &took, err);
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

static size_t list(const struct survey *survey, struct device_candidate *out, size_t most) {
    const struct candidate *best = survey_best(survey);
    size_t count = 0;
    for (size_t i = 0; i < survey->count && count < most; i++) {
        const struct candidate *candidate = &survey->candidates[i];
        struct algorithm_settings settings;
        if (!candidate->ran || !algorithm_settings(&survey->cuda->lt, &candidate->algorithm, &settings)) {
            continue;
        }
        struct device_candidate *line = &out[count++];
        line->seconds = candidate->seconds;
        line->group = candidate->stable ? group_number(survey, candidate) : -1;
        line->best = candidate == best;
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
    struct survey survey = {
        .cuda = cuda, .product = product, .out = out, .x = x, .weights = matrix->data, .bias = bias};
    status = survey_run(&survey, true, err);
    if (status == STATUS_OK) {
        *count = list(&survey, lines, most);
        status = time_free(&survey, workspace, workspace_bytes, free_seconds, err);
    }
    survey_close(&survey);
    return status;
}

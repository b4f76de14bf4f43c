// SPDX-License-Identifier: MIT
#include "kernels/cuda/algorithm_trial.h"

#include <string.h>

#include "base/size.h"

enum {
    PROBES = 15, // rows: no divisor of a tile, so that one behind another they meet tiles at all their rows
    RUNS_MOST = 16, // in one of them
    ROUNDS = 8,     // of warming up
    ROUNDS_MOST = 16,
};

static const double timed_seconds = 2e-3; // of runs together: launching is not what is timed
// A run as long as this is measured once more, not TRIAL_ROUNDS times.
static const double long_seconds = 2e-2;
static const double warm_seconds = 0.1;    // of work, after which a clock has risen
static const double launch_seconds = 5e-5; // that one run may wait for the host; shorter ones warm nothing

// What a workspace is full of before a proof: an algorithm that reads what it did not write is unlikely to
// see no difference between NaN (and counters far from their start) and zeros.
enum { DIRTY_NAN = 0xff, DIRTY_ZERO = 0 };

enum seed { SEED_INPUT = 1, SEED_PROBES, SEED_OUTPUT, SEED_OUTPUT_PROBES };

// ---- the probes ----

static size_t row_bytes(const struct trial *trial, size_t columns) {
    return columns * dtype_size(trial->cuda->base.dtype);
}

// At the start, across tiles in the middle, at the end. Comparisons go by four bytes, so that rows of an odd
// number of halves begin at even places.
static void place_probes(struct trial *trial) {
    size_t tokens = trial->cuda->base.tokens;
    size_t unit = row_bytes(trial, trial->matmul->rows) % 4 == 0 ? 1 : 2;
    size_t probes =
        size_min(size_min(PROBES, CUDA_LOAD_BYTES / row_bytes(trial, trial->matmul->rows)), tokens / 4);
    trial->probes = size_max(probes / unit * unit, size_min(unit, tokens));
    size_t last = tokens - trial->probes;
    trial->place_count = size_max(size_min(TRIAL_PLACES, tokens / (trial->probes + 1)), last > 0 ? 2 : 1);
    for (size_t i = 0; i < trial->place_count; i++) { // from end to end, at odd rows: across tiles
        size_t place = i == 0 ? 0 : size_min(last * i / (trial->place_count - 1) | 1, last);
        trial->places[i] = place / unit * unit;
    }
}

// Random rows everywhere.
static cudaError_t fill(const struct trial *trial, void *matrix, size_t columns, enum seed seed) {
    const struct cuda_device *cuda = trial->cuda;
    return launch_fill(cuda->queue.compute, cuda->base.dtype, matrix, cuda->base.tokens * columns, seed);
}

// The probes one behind another, from the first row to the last: what is there is copied behind itself.
static cudaError_t repeat_probes(const struct trial *trial, void *matrix, size_t columns, enum seed seed) {
    const struct cuda_device *cuda = trial->cuda;
    size_t tokens = cuda->base.tokens;
    size_t bytes = row_bytes(trial, columns);
    cudaError_t result =
        launch_fill(cuda->queue.compute, cuda->base.dtype, matrix, trial->probes * columns, seed);
    for (size_t rows = trial->probes; rows < tokens && result == cudaSuccess; rows *= 2) {
        result = cudaMemcpyAsync((unsigned char *)matrix + rows * bytes, matrix,
                                 size_min(rows, tokens - rows) * bytes, cudaMemcpyDeviceToDevice,
                                 cuda->queue.compute);
    }
    return result;
}

// The same random rows at each of the probes' places.
static cudaError_t fill_probes(const struct trial *trial, void *matrix, size_t columns, enum seed seed) {
    const struct cuda_device *cuda = trial->cuda;
    cudaError_t result = cudaSuccess;
    if (trial->everywhere) {
        return repeat_probes(trial, matrix, columns, seed);
    }
    for (size_t i = 0; i < trial->place_count && result == cudaSuccess; i++) {
        unsigned char *place = (unsigned char *)matrix + trial->places[i] * row_bytes(trial, columns);
        result = launch_fill(cuda->queue.compute, cuda->base.dtype, place, trial->probes * columns, seed);
    }
    return result;
}

static int fill_input(struct trial *trial, struct error *err) {
    struct cuda_device *cuda = trial->cuda;
    size_t tokens = cuda->base.tokens;
    const struct cuda_use use = {.writes = {{trial->x, tokens * row_bytes(trial, trial->matmul->columns)},
                                            {trial->out, tokens * row_bytes(trial, trial->matmul->rows)}},
                                 .reads = {trial->bias}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "tuning", &use, err));
    cudaError_t result = fill(trial, trial->x, trial->matmul->columns, SEED_INPUT);
    if (result == cudaSuccess) {
        result = fill_probes(trial, trial->x, trial->matmul->columns, SEED_PROBES);
    }
    return cuda_queue_end(cuda, "tuning", result, err);
}

// Brings device memory to the pinned ring, which is idle between loads.
static int fetch(struct cuda_device *cuda, const void *source, size_t bytes, struct error *err) {
    TRY(cuda_queue_end(
        cuda, "tuning",
        cudaMemcpyAsync(cuda->loader.ring, source, bytes, cudaMemcpyDeviceToHost, cuda->queue.compute), err));
    return cuda_queue_finish(cuda, err);
}

// A matmul with zeros proves nothing.
static int check_weights(struct trial *trial, struct error *err) {
    struct cuda_device *cuda = trial->cuda;
    size_t bytes = size_min(trial->matmul->rows * row_bytes(trial, trial->matmul->columns), CUDA_LOAD_BYTES);
    TRY(fetch(cuda, trial->matrices->data, bytes, err));
    for (size_t i = 0; i < bytes; i++) {
        if (cuda->loader.ring[i] != 0) {
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_INTERNAL, "matmuls of [%zu, %zu] are tuned before their weights are loaded",
                     trial->matmul->rows, trial->matmul->columns);
}

int trial_begin(struct trial *trial, struct error *err) {
    place_probes(trial);
    TRY(fill_input(trial, err));
    TRY(cuda_loader_lend(trial->cuda, err));
    return check_weights(trial, err);
}

// ---- the proof ----

static cudaError_t compare_places(struct trial *trial, unsigned *counter) {
    size_t bytes = row_bytes(trial, trial->matmul->rows);
    unsigned char *out = trial->out;
    cudaError_t result = cudaSuccess;
    for (size_t i = 1; i < trial->place_count && result == cudaSuccess; i++) {
        if (trial->places[i] != trial->places[0]) {
            result = launch_compare(trial->cuda->queue.compute, counter, out, out + trial->places[i] * bytes,
                                    trial->probes * bytes);
        }
    }
    return result;
}

// Each row with the one that the same probe left before. (Of an odd number of halves the last is left out.)
static cudaError_t compare_all(struct trial *trial, unsigned *counter) {
    size_t bytes = row_bytes(trial, trial->matmul->rows);
    unsigned char *out = trial->out;
    size_t compared = (trial->cuda->base.tokens - trial->probes) * bytes;
    return launch_compare(trial->cuda->queue.compute, counter, out, out + trial->probes * bytes,
                          compared / sizeof *counter * sizeof *counter);
}

// Numbers that differ where the same probes stand.
static int count_differences(struct trial *trial, unsigned *differences, struct error *err) {
    struct cuda_device *cuda = trial->cuda;
    unsigned *counter = cuda->loader.landing;
    cudaError_t result = cudaMemsetAsync(counter, 0, sizeof *counter, cuda->queue.compute);
    if (result == cudaSuccess) {
        result = trial->everywhere ? compare_all(trial, counter) : compare_places(trial, counter);
    }
    TRY(cuda_queue_end(cuda, "tuning", result, err));
    TRY(fetch(cuda, counter, sizeof *counter, err));
    memcpy(differences, cuda->loader.ring, sizeof *differences);
    return STATUS_OK;
}

// What the matmul left at the probes' places: compared, and added to the candidate's bits.
static int compare_probes(struct trial *trial, struct candidate *candidate, struct error *err) {
    struct cuda_device *cuda = trial->cuda;
    size_t bytes = trial->probes * row_bytes(trial, trial->matmul->rows);
    unsigned differences;
    TRY(count_differences(trial, &differences, err));
    candidate->stable = candidate->stable && differences == 0;
    TRY(fetch(cuda, trial->out, bytes, err));
    return digest_update(trial->digest, cuda->loader.ring, bytes, err);
}

// False when cuBLASLt refuses, be it that the kernel finds no room; what CUDA noted of that is no fault of
// the next launch.
static bool run(struct trial *trial, const struct matmul_call *call) {
    bool ran = cuda_matmul_run(trial->cuda, trial->matmul, call) == CUBLAS_STATUS_SUCCESS;
    if (!ran) {
        (void)cudaGetLastError();
    }
    return ran;
}

// A call of the candidate, by the first matrix.
static struct matmul_call call_of(const struct trial *trial, const struct candidate *candidate) {
    struct matmul_call call =
        matmul_call(trial->matmul, trial->out, trial->x, trial->matrices->data, trial->bias);
    call.algorithm = &candidate->algorithm;
    call.workspace = candidate->workspace;
    return call;
}

// A run that finds in the workspace what it must not depend on.
static int prove_run(struct trial *trial, struct candidate *candidate, const struct matmul_call *call,
                     struct error *err) {
    struct cuda_device *cuda = trial->cuda;
    if (candidate->workspace > 0) {
        TRY(cuda_queue_end(
            cuda, "tuning",
            cudaMemsetAsync(cuda->workspace, trial->dirty, candidate->workspace, cuda->queue.compute), err));
    }
    candidate->ran = run(trial, call);
    return STATUS_OK;
}

// As a forward pass calls it, among random numbers. They are there for DEVICE_STORE, too, others at each
// place: what an algorithm leaves out shows.
static int prove_call(struct trial *trial, struct candidate *candidate, struct error *err) {
    const struct matmul *matmul = trial->matmul;
    struct matmul_call call = call_of(trial, candidate);
    cudaError_t result = fill(trial, trial->out, matmul->rows, SEED_OUTPUT);
    if (matmul->store == DEVICE_ADD && result == cudaSuccess) {
        result = fill_probes(trial, trial->out, matmul->rows, SEED_OUTPUT_PROBES);
    }
    TRY(cuda_queue_end(trial->cuda, "tuning", result, err));
    TRY(prove_run(trial, candidate, &call, err));
    return candidate->ran ? compare_probes(trial, candidate, err) : STATUS_OK;
}

// out = 0, then out += x W^T, then out -= x W^T; without the bias, which would not cancel.
static int prove_remainder(struct trial *trial, struct candidate *candidate, struct error *err) {
    struct cuda_device *cuda = trial->cuda;
    size_t bytes = row_bytes(trial, trial->matmul->rows);
    struct matmul_call call = call_of(trial, candidate);
    call.bias = cuda->loader.landing;
    call.kept = 1;
    cudaError_t result =
        cudaMemsetAsync(cuda->loader.landing, 0, size_min(bytes, CUDA_LOAD_BYTES), cuda->queue.compute);
    if (result == cudaSuccess) {
        result = cudaMemsetAsync(trial->out, 0, cuda->base.tokens * bytes, cuda->queue.compute);
    }
    TRY(cuda_queue_end(cuda, "tuning", result, err));
    TRY(prove_run(trial, candidate, &call, err));
    if (candidate->ran) {
        call.scale = -1;
        TRY(prove_run(trial, candidate, &call, err));
    }
    return candidate->ran ? compare_probes(trial, candidate, err) : STATUS_OK;
}

// Both proofs, each run with a workspace that is full of this byte.
static int prove(struct trial *trial, struct candidate *candidate, int byte, struct error *err) {
    trial->dirty = byte;
    TRY(prove_call(trial, candidate, err));
    if (candidate->ran) {
        TRY(prove_remainder(trial, candidate, err));
    }
    return digest_finish(trial->digest, candidate->bits, err);
}

// At all rows, with either byte: the bits that the probes had among others.
static int prove_everywhere(struct trial *trial, struct candidate *candidate, struct error *err) {
    const int bytes[] = {DIRTY_ZERO, DIRTY_NAN};
    char before[DIGEST_HEX];
    memcpy(before, candidate->bits, sizeof before);
    trial->everywhere = true;
    TRY(fill_input(trial, err));
    for (size_t i = 0; i < 2 && candidate->ran && candidate->stable; i++) {
        TRY(prove(trial, candidate, bytes[i], err));
        candidate->stable = candidate->stable && strcmp(before, candidate->bits) == 0;
    }
    trial->everywhere = false;
    return fill_input(trial, err);
}

int trial_prove(struct trial *trial, struct candidate *candidate, struct error *err) {
    candidate->proved = true;
    candidate->stable = true;
    TRY(prove(trial, candidate, DIRTY_NAN, err));
    if (candidate->workspace > 0 && candidate->ran && candidate->stable) {
        TRY(prove_everywhere(trial, candidate, err));
    }
    candidate->stable = candidate->stable && candidate->ran;
    return STATUS_OK;
}

// ---- the time ----

// Seconds of one run, from `runs` of them; 0 when cuBLASLt refuses.
static int time_runs(struct trial *trial, const struct candidate *candidate, int runs, double *seconds,
                     struct error *err) {
    struct cuda_device *cuda = trial->cuda;
    struct device_fence fence;
    struct device_times times;
    bool ran = true;
    struct matmul_call call = call_of(trial, candidate);
    const struct cuda_use use = {.reads = {trial->out}};
    *seconds = 0;
    TRY(cuda_fence(&cuda->base, &fence, err));
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "tuning", &use, err));
    for (int i = 0; i < runs && ran; i++) {
        call.weights = trial->matrices[trial->turn++ % trial->matrix_count].data;
        ran = run(trial, &call);
    }
    TRY(cuda_fence(&cuda->base, &fence, err));
    TRY(cuda_wait(&cuda->base, fence, &times, err));
    *seconds = ran ? times.compute_seconds / runs : 0;
    return STATUS_OK;
}

// cuBLASLt loads a kernel when it is first run, which takes many times as long as the run: each round
// corrects what one run takes.
int trial_warm_up(struct trial *trial, const struct candidate *candidate, bool *ran, struct error *err) {
    double worked = 0;
    double once;
    TRY(time_runs(trial, candidate, 1, &once, err));
    *ran = once > 0;
    for (int i = 0; once > launch_seconds && worked < warm_seconds && i < ROUNDS_MOST; i++) {
        int runs = (int)(warm_seconds / ROUNDS / once) + 1;
        TRY(time_runs(trial, candidate, runs, &once, err));
        worked += once * runs;
    }
    return STATUS_OK;
}

int trial_glance(struct trial *trial, struct candidate *candidate, struct error *err) {
    double took = 0;
    bool ran = candidate->ran;
    if (!candidate->proved) {
        TRY(time_runs(trial, candidate, 1, &took, err));
        ran = took > 0;
    }
    if (ran) {
        TRY(time_runs(trial, candidate, 1, &took, err));
    }
    if (candidate->once == 0 || took < candidate->once) {
        candidate->once = took;
    }
    return STATUS_OK;
}

// What else the machine does only makes a run longer: the best counts.
int trial_measure(struct trial *trial, struct candidate *candidate, int round, struct error *err) {
    double once = candidate->once;
    double fitting = timed_seconds / once;
    int runs = fitting < 1 ? 1 : (fitting < RUNS_MOST ? (int)fitting : RUNS_MOST);
    double took;
    if (round > 0 && once >= long_seconds) {
        return STATUS_OK;
    }
    TRY(time_runs(trial, candidate, runs, &took, err));
    if (took > 0 && took < candidate->seconds) {
        candidate->seconds = took;
    }
    return STATUS_OK;
}

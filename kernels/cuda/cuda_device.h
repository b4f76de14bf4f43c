// SPDX-License-Identifier: MIT
// One GPU: its arenas, its three streams (compute, downloads, loading), fences and matmuls. device.h
// documents the operations.
//
// Streams. `compute` runs uploads and operations in the order they were queued. `copy` runs downloads: each
// waits for what is on `compute` at that moment, and what is queued on `compute` afterwards runs beside it
// unless it writes to a range that is still being read (cuda_queue.c); transfers to other GPUs run on it as
// well. `load` fills weights; it and the other two wait for one another as cuda_load.c says. None of them is
// ordered with the default stream.
//
// Several GPUs. The runtime keeps a current GPU for each thread: whatever makes, launches or records
// something sets its own before. Pinned memory is every GPU's.
#ifndef STRATA_KERNELS_CUDA_CUDA_DEVICE_H
#define STRATA_KERNELS_CUDA_CUDA_DEVICE_H

#include <cuda_runtime_api.h>

#include "kernels/back_end.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cuda_error.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/telemetry.h"
#include "kernels/device_texts.h"

enum {
    CUDA_FENCES = 64,          // fences that can be waited for at a time
    CUDA_SEGMENTS = 8,         // turns between uploads and operations timed between two fences
    CUDA_DOWNLOADS = 512,      // in flight at a time without a wait; transfers count as such
    CUDA_PEERS = 64,           // GPUs, by index, that a device remembers to have made its peers
    CUDA_LOAD_SLOTS = 4,       // of the pinned ring
    CUDA_LOAD_BYTES = 8 << 20, // of a slot
    CUDA_MATMULS = 256,        // shapes of matmuls
    // That an algorithm may ask for: what NVIDIA recommends for Hopper, where the fastest may want it.
    CUDA_WORKSPACE_BYTES = 32 << 20,
    ALGORITHM_NAME = 160,
};

// ---- the queue (cuda_queue.c) ----

enum cuda_work { CUDA_UPLOADING, CUDA_COMPUTING, CUDA_WAITING }; // for another device

struct cuda_interval { // what is queued between two fences
    uint64_t number;   // of the fence at its end; 0: not made yet
    size_t segments;
    struct {
        cudaEvent_t begin;
        enum cuda_work work;
    } segment[CUDA_SEGMENTS];
    cudaEvent_t computed; // at the fence, on `compute`
    cudaEvent_t copied;   // and on `copy`
    uint64_t first_download;
    uint64_t end_download;
    double download_seconds; // of downloads whose place in the ring was needed again
};

struct cuda_download {
    const unsigned char *source;
    size_t bytes;
    uint64_t fence; // number of the fence after it
    cudaEvent_t begin;
    cudaEvent_t end;
};

struct cuda_queue {
    cudaStream_t compute;
    cudaStream_t copy;
    uint64_t fences;
    struct cuda_interval intervals[CUDA_FENCES]; // of fence n: [n % CUDA_FENCES]
    uint64_t downloads;                          // made so far
    uint64_t ordered; // downloads before this one are over before anything queued on `compute` from now on
    struct cuda_download ring[CUDA_DOWNLOADS]; // download n: [n % CUDA_DOWNLOADS]
    cudaEvent_t ready;                         // what a download waits for
    const char *last;                          // operation queued last
};

// ---- loading (cuda_load.c) ----

struct cuda_slot { // that is loaded again while other weights are used
    const unsigned char *data;
    size_t bytes;
    cudaEvent_t loaded;   // on the loading stream, behind the last load
    cudaEvent_t released; // on `compute`, behind the last operation that used it
    bool pending;         // `loaded` is recorded, and `compute` does not wait for it yet
    bool used;            // by operations that are queued and in front of no `released`
    bool busy;            // `released` is recorded, and the loading stream does not wait for it yet
};

struct cuda_loader {
    cudaStream_t stream;
    unsigned char *ring; // [CUDA_LOAD_SLOTS, CUDA_LOAD_BYTES] pinned
    // [CUDA_LOAD_BYTES] device: numbers before their conversion; tuning and benchmarks borrow it.
    void *landing;
    cudaEvent_t copied[CUDA_LOAD_SLOTS];
    uint64_t pieces;    // put into the ring so far
    cudaEvent_t joined; // orders this stream and the other two
    int threads;        // that fill a slot of the ring
    bool pending;       // something was loaded outside slots that `compute` does not wait for yet
    bool behind;        // something was queued that this stream does not wait for yet
    bool lent;          // the ring and the landing place, to what is queued on `compute`
    struct cuda_slot slots[DEVICE_LOAD_SLOTS];
    size_t slot_count;
};

// ---- matmuls (cuda_gemm.c, algorithms.c) ----

// Whether an earlier run named the algorithm: as a suggestion, or so that nothing else will do.
enum matmul_name { MATMUL_UNNAMED, MATMUL_SUGGESTED, MATMUL_BOUND };

struct matmul { // out [tokens, rows] = x [tokens, columns] W^T
    size_t tokens;
    size_t rows;
    size_t columns;
    enum device_store store;
    bool bias;
    bool chosen; // `algorithm` is there
    enum matmul_name named;
    size_t tuned; // the turn in which it was tuned, from 1 on; 0: it was not
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace; // bytes that `algorithm` asks for, at most CUDA_WORKSPACE_BYTES
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t weights; // column-major [columns, rows]: a row-major matrix, transposed on the way
    cublasLtMatrixLayout_t input;   // column-major [columns, tokens]
    cublasLtMatrixLayout_t output;  // column-major [rows, tokens]
};

struct tile_list {                 // of the last batch that attention saw
    struct attention_tile *tiles;  // [attention_tiles_most(tokens)] device memory
    int32_t *starts;               // [tokens + 1] of its texts
    struct device_origin *origins; // [tokens] of them, where they have some
    bool has_origins;
    size_t texts;  // 0: there is no list
    size_t before; // tokens of the text before it, where it is a slice
};

struct cuda_arena {
    enum device_purpose purpose;
    void *base;
};

struct cuda_device {
    struct device base;
    int index;
    int multiprocessors;
    int cache;            // bytes of the L2
    bool attention_pairs; // warps have two heads each
    int capability;       // 90: compute capability 9.0
    int driver;           // version as cudaDriverGetVersion gives it
    char name[128];
    char reason[512];
    struct cuda_arena arenas[2 * DEVICE_PURPOSES];
    size_t arena_count;
    struct cuda_queue queue;
    struct cuda_loader loader;
    struct telemetry *telemetry;
    struct cublaslt lt;
    struct matmul matmuls[CUDA_MATMULS];
    size_t matmul_count;
    void *workspace; // [CUDA_WORKSPACE_BYTES] of the matmuls, which all run on `compute`, one after another
    size_t tuned;    // shapes
    bool warm;       // its clock has risen: candidates were timed
    struct tile_list tiles;
    uint64_t peers; // a bit each, by index: how copies to them go was settled
};

static inline struct cuda_device *cuda_of(struct device *device) {
    return (struct cuda_device *)device;
}

static inline const struct cuda_device *cuda_of_const(const struct device *device) {
    return (const struct cuda_device *)device;
}

// ---- cuda_memory.c ----

int cuda_plan_loading(const struct device *device, struct device_plan *plan, struct error *err);
int cuda_plan_own(const struct device *device, struct device_plan *plan, struct error *err);
void cuda_memory(const struct device *device, uint64_t *total, uint64_t *available);
int cuda_arena(struct device *device, enum device_purpose purpose, size_t bytes, void **base,
               struct error *err);
int cuda_prepare_loading(struct device *device, struct error *err);
int cuda_prepare(struct device *device, struct error *err);
void cuda_free_arenas(struct cuda_device *cuda);
int cuda_check_resident(const struct device *device, const void *data, size_t bytes, struct error *err);
uint64_t cuda_process_bytes(const struct device *device);
void cuda_sample(const struct device *device, struct device_sample *out);

// ---- cuda_queue.c ----

int cuda_queue_open(struct cuda_queue *queue, struct error *err); // destroy it, also after an error
void cuda_queue_destroy(struct cuda_queue *queue);

struct cuda_use { // what an operation touches
    struct cuda_range {
        const void *data;
        size_t bytes;
    } writes[2];
    const void *reads[10]; // the first byte of each piece of memory; NULL: none
};

// Before anything is put on `compute`, once an operation: makes it wait for loads, and for downloads from
// where it writes. `operation` is a literal.
int cuda_queue_begin(struct cuda_device *cuda, enum cuda_work work, const char *operation,
                     const struct cuda_use *use, struct error *err);

// And after it: what the launch or copy said.
int cuda_queue_end(struct cuda_device *cuda, const char *operation, cudaError_t launched, struct error *err);
int cuda_upload(struct device *device, void *out, const void *source, size_t bytes, struct error *err);
int cuda_download(struct device *device, void *out, const void *source, size_t bytes, struct error *err);
int cuda_fence(struct device *device, struct device_fence *fence, struct error *err);
int cuda_wait(struct device *device, struct device_fence fence, struct device_times *times,
              struct error *err);
int cuda_reached(struct device *device, struct device_fence fence, bool *reached, struct error *err);
int cuda_transfer(struct device *to, void *out, struct device *from, const void *source, size_t bytes,
                  const struct device_fence *after, struct error *err);

// Waits until `compute` is idle. Only before the device is sealed, and for benchmarks.
int cuda_queue_finish(struct cuda_device *cuda, struct error *err);

// cuda_check with the GPU's index and what was queued last.
int cuda_queue_check(const struct cuda_device *cuda, cudaError_t result, const char *call, struct error *err);

// ---- cuda_load.c ----

int cuda_loader_open(struct cuda_loader *loader, int threads,
                     struct error *err); // destroy it, also after an error
void cuda_loader_destroy(struct cuda_loader *loader);

// `compute`, and what waits for it, waits for the loads that this use needs.
int cuda_loader_join(struct cuda_device *cuda, const struct cuda_use *use, struct error *err);

// Lends the ring and the landing place to what the caller puts on `compute`: it waits for all loads, and the
// next load waits for it.
int cuda_loader_lend(struct cuda_device *cuda, struct error *err);
int cuda_load_slot(struct device *device, const void *data, size_t bytes, struct error *err);
bool cuda_matrix_bytes(const struct device *device, size_t rows, size_t columns, size_t *bytes);
int cuda_matrix_load(struct device *device, struct device_matrix *matrix, size_t row,
                     const struct weight_view *view, struct error *err);
int cuda_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                     enum dtype source_dtype, struct error *err);
int cuda_weights_copy(struct device *device, void *out, const void *source, size_t bytes, struct error *err);
int cuda_weights_restore(struct device *device, void *out, const void *source, size_t bytes,
                         struct error *err);

// ---- cuda_gemm.c ----

int cuda_check_matmul(struct device *device, size_t tokens, size_t rows, size_t columns, bool bias,
                      enum device_store store, struct error *err);

// The table's entry of a shape, made when it is not there; NULL when the table is full.
struct matmul *cuda_matmul_get(struct cuda_device *cuda, size_t tokens, size_t rows, size_t columns,
                               bool bias, enum device_store store);

// The same, with what cuBLASLt needs to know of it.
int cuda_matmul_find(struct cuda_device *cuda, const struct device_matrix *matrix, bool bias,
                     enum device_store store, struct matmul **out, struct error *err);

struct matmul_call {
    const cublasLtMatmulAlgo_t *algorithm;
    float scale; // out = scale * x W^T + kept * out + bias
    float kept;
    void *out;
    const void *x;
    const void *weights;
    const void *bias; // when the matmul has one
    size_t workspace; // bytes that the algorithm asks for
};

// What a matmul is called with in a forward pass.
static inline struct matmul_call matmul_call(const struct matmul *matmul, void *out, const void *x,
                                             const void *weights, const void *bias) {
    return (struct matmul_call){.algorithm = &matmul->algorithm,
                                .scale = 1,
                                .kept = matmul->store == DEVICE_ADD ? 1 : 0,
                                .workspace = matmul->workspace,
                                .out = out,
                                .x = x,
                                .weights = weights,
                                .bias = bias};
}

// What cuBLASLt needs to know of a matmul whose shape is set; and the end of that, accepts zeros.
int cuda_matmul_describe(struct cuda_device *cuda, struct matmul *matmul, struct error *err);
void cuda_matmul_destroy(const struct cublaslt *lt, struct matmul *matmul);

// Puts the matmul on `compute`. No ordering: cuda_queue_begin was called.
cublasStatus_t cuda_matmul_run(struct cuda_device *cuda, const struct matmul *matmul,
                               const struct matmul_call *call);

// Up to `most` algorithms by expected speed that do with the workspace. Restricted: nothing is added up out
// of order. *count may be 0.
int cuda_matmul_heuristics(struct cuda_device *cuda, struct matmul *matmul, bool restricted,
                           cublasLtMatmulHeuristicResult_t *results, int most, int *count, struct error *err);
void cuda_matmuls_destroy(struct cuda_device *cuda);

// ---- algorithms.c ----

// Gives a matmul that was never tuned the algorithm that was named for it, or the one that cuBLASLt expects
// to be fastest among those that keep a row's bits. STATUS_DEVICE when there is none.
int cuda_matmul_choose(struct cuda_device *cuda, struct matmul *matmul, struct error *err);
int cuda_matmul_tune(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                     const void *bias, enum device_store store, struct error *err);
int cuda_matmul_candidates(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                           size_t matrices, const void *bias, enum device_store store,
                           struct device_candidate *lines, size_t most, size_t *count, double *free_seconds,
                           struct error *err);

// ---- algorithm_text.c ----

struct algorithm_settings { // what cuBLASLt says of an algorithm
    uint32_t id;
    uint32_t tile;
    uint32_t stages;
    uint32_t splits;    // of the sum over columns
    uint32_t reduction; // how the parts are added up
    uint32_t swizzle;
    uint32_t custom;
    uint32_t inner;
    uint32_t cluster;
};

bool algorithm_settings(const struct cublaslt *lt, const cublasLtMatmulAlgo_t *algorithm,
                        struct algorithm_settings *out);            // false: not an algorithm of this library
bool algorithm_in_order(const struct algorithm_settings *settings); // no sum is split
void algorithm_name(const struct algorithm_settings *settings, char *out, size_t size);
int cuda_algorithms(const struct device *device, struct buffer *text, struct error *err);
int cuda_set_algorithms(struct device *device, const char *text, bool binding, struct error *err);

// ---- the operations: operations.c and cuda_gemm.c (matmul) ----

#define DECLARATION(type, name, arguments) type cuda_##name arguments;
BACK_END_OPERATIONS(DECLARATION)
#undef DECLARATION

// Rows of a view and of its copies to numbers (launch_expand) at `out`.
int cuda_expand_into(struct cuda_device *cuda, void *out, const struct weight_view *view,
                     const struct expansion *expansion, struct error *err);

// What a batch's texts begin from that carry a state along: so many bytes into the state that the slice
// before left, or into the head's.
static inline struct text_beginning cuda_text_beginning(const struct device_texts *texts, const void *state,
                                                        size_t offset) {
    if (state != NULL && texts_resume(texts)) {
        return (struct text_beginning){.from = (const unsigned char *)state + offset};
    }
    if (texts->origins == NULL || texts->head == NULL) {
        return (struct text_beginning){.from = NULL};
    }
    return (struct text_beginning){(const unsigned char *)texts->head + offset, texts->origins};
}

const char *cuda_attention_turn(struct device *device, const struct device_attention *shape);
int cuda_peak(struct device *device, enum dtype dtype, double *rate, struct error *err);

#endif

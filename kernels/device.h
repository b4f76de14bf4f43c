// SPDX-License-Identifier: MIT
// The device: one processor, its memory, the weights in it, copies and waiting. What it computes is in
// operations.h, what its own monitoring says in telemetry.h. kernels/cpu and kernels/cuda implement all three
// (back_end.h).
//
// Queue. Operations and uploads are put on one compute queue and run in the order they were queued; a call
// returns as soon as it may (the CPU back end returns when the work is done). device_download runs beside the
// compute queue, after everything queued before it. device_fence names the present end of both queues;
// device_wait blocks until a fence is reached. An operation's failure is returned by the call that notices
// it, at the latest by device_wait.
//
// Loads of weights run beside both, in the order of the calls. Nothing is read before its load ended, and
// nothing is overwritten before its readers ended: a load waits for everything queued before it, and what is
// queued after it waits for the load. A load slot (device_load_slot) is ordered by itself: a load into it
// waits only for what used the slot, and only what uses the slot waits for its loads, so that the next
// weights come while others compute.
//
// Threads. One thread at a time calls a device: the one that opened it. Only device_clock may be called
// beside it.
//
// Several devices. A process may open several, of one kind or not, each with memory and queues of its own.
// device_transfer goes from one to another of the same kind; staging memory of one may be given to any other
// of its kind. How much of the host's memory they take together, device_host_bytes tells.
//
// Memory. Every buffer belongs to the device and lives in one of four arenas that device_reserve makes once,
// before the first batch, from a plan; device_take hands pieces out. After device_seal nothing can be taken.
// Device pointers are never read or written by the host except staging buffers, which are host memory that
// the device can copy from and to.
#ifndef STRATA_KERNELS_DEVICE_H
#define STRATA_KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"

struct device;        // one processor: the CPU with its threads, or one GPU
struct weight_format; // how the numbers of a matrix are written, and some that lie in memory
struct weight_view;   // (weight_format.h)

struct device_options {
    enum dtype dtype; // of computation
    int threads;      // CPU threads; 0: as many as OpenMP would use
    // Instruction-set path by name ("amxbf16", "avx2", ...; device_cpu_path); NULL: chosen.
    const char *cpu_path;
    size_t memory_reserve; // bytes of a GPU's free memory left alone
    size_t memory_limit;   // bytes that this process may have in host memory, all in all; 0: what is free
    size_t device_limit;   // and in a GPU's memory, all in all; 0: what is free
};

// GPUs that the driver shows this process: "cuda:0" and so on. 0 with the reason in `why` where there is none
// or no driver to ask.
size_t device_gpus(struct error *why);

// The memory node (NUMA) that a GPU is next to; -1 where the system does not say, and of the CPU.
int device_memory_node(const char *name);

// name: "cpu", "cuda:N" or "auto". STATUS_DEVICE with the reason when it is not there. The caller closes it.
int device_open(struct device **out, const char *name, const struct device_options *options,
                struct error *err);
void device_close(struct device *device); // accepts NULL; frees every arena

struct device_description {
    char kind[16];      // "cpu" or "cuda"
    char name[128];     // processor name as the system reports it
    char path[32];      // CPU: instruction-set path; CUDA: compute capability
    char reason[512];   // why this device and path were taken, and the libraries
    char identity[512]; // all that may change a bit of a result (path, library versions); part of a run's
                        // identity
    int threads;        // host threads that compute
    bool queues;        // calls return before the work is done: queue the next batch before waiting for one
    bool host_staging;  // DEVICE_STAGING is host memory, beside the device's own
    uint64_t memory;    // bytes in all: RAM or the GPU's
    uint64_t memory_free;
    // Bytes of the last cache before memory: a GPU's L2, a processor's third level; 0: not known.
    uint64_t cache;
};

void device_describe(const struct device *device, struct device_description *out);
enum dtype device_dtype(const struct device *device); // of computation, as opened

// The name of CPU path number `index` from 0 on, in order of preference, and whether this processor has it;
// NULL after the last.
const char *device_cpu_path(int index, bool *available);

// What this program's CUDA back end was built with and for, or that it has none.
const char *device_cuda_build(void);

// ---- memory ----

enum device_purpose { DEVICE_WEIGHTS, DEVICE_ACTIVATIONS, DEVICE_SCRATCH, DEVICE_STAGING, DEVICE_PURPOSES };

struct device_plan {
    size_t bytes[DEVICE_PURPOSES];
    size_t tokens;    // most tokens of a batch, > 0
    size_t expansion; // bytes of the largest matrix that is kept in another format, as computed: scratch that
                      // device_reserve adds
    size_t beside;    // bytes of host memory that the caller takes beside the arenas
};

enum { DEVICE_ALIGNMENT = 256 };

// Adds a piece of `bytes` (rounded up to DEVICE_ALIGNMENT) to a plan. STATUS_INTERNAL when the sum overflows.
int device_plan_add(struct device_plan *plan, enum device_purpose purpose, size_t bytes, struct error *err);

// Whether the plan, with what the back end adds for itself, fits into the memory that is free now: the
// device's, and for staging that is host memory the host's. STATUS_DEVICE, with a table of needed and free
// bytes by purpose, when it does not.
int device_check_fits(const struct device *device, const struct device_plan *plan, struct error *err);

// Whether the device's own memory has room for it, whatever the host has.
bool device_memory_fits(const struct device *device, const struct device_plan *plan);

// The plan with what the back end adds for itself and room for the expansion, as device_reserve takes it.
int device_plan_whole(const struct device *device, const struct device_plan *plan, struct device_plan *whole,
                      struct error *err);

// Whether the host has room for the plan's staging; true where staging is the device's own memory.
bool device_host_fits(const struct device *device, const struct device_plan *plan);

// Bytes of host memory that the plan's arenas take, with what the back end adds: staging where that is host
// memory, otherwise all of them. Where a process has several devices, the plan of each counts those of the
// others in `beside`: then device_check_fits and device_host_fits ask for all of them together.
int device_host_bytes(const struct device *device, const struct device_plan *plan, size_t *bytes,
                      struct error *err);

// Makes the arena of weights before the others, so that they can be loaded while the shapes of batches are
// still being found: plan.bytes[DEVICE_WEIGHTS] alone counts. Whether a plan fits is from then on a matter of
// the memory that was free before, this arena in it. STATUS_DEVICE as device_check_fits.
int device_reserve_weights(struct device *device, const struct device_plan *plan, struct error *err);

// Makes the arenas, those that are not there yet: the whole plan, with the same bytes of weights. Once a
// device. STATUS_DEVICE as device_check_fits.
int device_reserve(struct device *device, const struct device_plan *plan, struct error *err);

// A piece of an arena; what it holds is undefined. STATUS_INTERNAL when the plan was too small or the device
// is sealed.
int device_take(struct device *device, enum device_purpose purpose, size_t bytes, void **out,
                struct error *err);

// From now on device_take fails, and no back end allocates any more.
void device_seal(struct device *device);

// Whether [data, data + bytes) lies in this device's own memory, as the system that owns the memory says (a
// GPU: the driver's attributes of the first and the last byte). STATUS_DEVICE saying where it lies when not.
int device_check_resident(const struct device *device, const void *data, size_t bytes, struct error *err);

struct device_residency {
    uint64_t planned[DEVICE_PURPOSES]; // bytes of the arenas, as reserved
    uint64_t taken[DEVICE_PURPOSES];   // bytes handed out
    uint64_t process_bytes; // on the device, as its driver counts for this process; UINT64_MAX: not known
};

void device_residency(const struct device *device, struct device_residency *out);

// ---- weights ----

// A weight matrix [rows = output features, columns = input features]. Stored as computed, in whatever layout
// the device multiplies fastest; or kept as pieces, one below the other (a fused matrix has several), each in
// a format of its own. What is kept is expanded into one scratch before each matmul, to what loading with a
// conversion would have stored: the results have the same bits.
//
// A matrix of experts has equal parts, one below the other, which are multiplied each by itself
// (device_experts). Of these only some are expanded at a time. Its pieces may be those of one part, of which
// the others have copies in formats that are alike (weight_formats_alike).
enum { DEVICE_PIECES = 4 };

struct device_piece {
    const struct weight_format *format; // the caller's; must live as long as the matrix
    size_t rows;
    void *data; // device memory, laid out as weight_layout says; of the first copy
};

struct device_matrix {
    size_t rows;
    size_t columns;
    void *data;         // device memory, opaque layout; of a kept matrix: that of its first piece
    size_t piece_count; // 0: stored as computed
    struct device_piece pieces[DEVICE_PIECES];
    size_t loose_rows;   // below the last piece: no file has them, and they hold anything
    size_t parts;        // of a matrix of experts: how many; 0: it is multiplied as a whole
    size_t copies;       // of the pieces, one behind the other; 0 is 1
    size_t copy_bytes;   // from one to the next; device_matrix_put fills it in
    size_t format_apart; // bytes from a copy's format to the next one's: they are in an array of the caller
};

static inline const struct weight_format *device_piece_format(const struct device_matrix *matrix,
                                                              size_t piece, size_t copy) {
    const char *first = (const char *)matrix->pieces[piece].format;
    return (const struct weight_format *)(const void *)(first + copy * matrix->format_apart);
}

// How many parts of a matrix of experts are expanded at a time, where one takes `part_bytes`: scratch is
// planned for so many, at least one.
enum { DEVICE_EXPANDED_PARTS = 128 << 20 }; // bytes
static inline size_t device_parts_at_once(size_t part_bytes, size_t parts) {
    size_t fit = DEVICE_EXPANDED_PARTS / (part_bytes > 0 ? part_bytes : 1);
    fit = fit > 0 ? fit : 1;
    return fit < parts ? fit : parts;
}

// Rows that a part of a matrix of experts has where it is expanded: padded so that each part begins a panel
// of every back end. SIZE_MAX on overflow, of which no matrix has a size.
enum { DEVICE_PART_STEP = 64 };
static inline size_t device_part_rows(size_t rows) {
    size_t more = (DEVICE_PART_STEP - rows % DEVICE_PART_STEP) % DEVICE_PART_STEP;
    return rows > SIZE_MAX - more ? SIZE_MAX : rows + more;
}

// `shape` of these two: a matrix whose memory does not count. STATUS_INTERNAL when it cannot be held.

// Bytes of DEVICE_WEIGHTS a matrix takes; false when that overflows.
bool device_matrix_bytes(const struct device *device, const struct device_matrix *shape, size_t *bytes);

// Adds a matrix to a plan, and what expanding it takes.
int device_plan_matrix(struct device_plan *plan, const struct device *device,
                       const struct device_matrix *shape, struct error *err);

// Gives memory to a matrix that has its shape: rows, columns, and pieces with format and rows.
int device_matrix_take(struct device *device, struct device_matrix *matrix, struct error *err);

// The same in memory that was taken for matrices one after another: `data` has room for device_matrix_bytes,
// on a boundary of DEVICE_ALIGNMENT.
int device_matrix_put(struct device *device, struct device_matrix *matrix, void *data, struct error *err);

// Puts rows [row, row + count) of a matrix that is stored as computed, from host memory: source is [count,
// columns] of a plain format. Rows may come in any order and pieces; a fused matrix (q|k|v, gate|up) is
// filled part by part. The source may be reused when the call returns.
int device_matrix_load(struct device *device, struct device_matrix *matrix, size_t row, size_t count,
                       const void *source, const struct weight_format *format, struct error *err);

// The same from a view in host memory, whose rows are rows [row, row + view->rows) of the matrix.
int device_matrix_load_view(struct device *device, struct device_matrix *matrix, size_t row,
                            const struct weight_view *view, struct error *err);

// Puts bytes [offset, offset + bytes) of part `part` (weight_format.h) of piece `piece` of a kept matrix, as
// they are. The pieces of copy c are number c * piece_count and those behind it. The source may be reused
// when the call returns.
int device_piece_load(struct device *device, struct device_matrix *matrix, size_t piece, size_t part,
                      size_t offset, const void *source, size_t bytes, struct error *err);

// Puts bytes that device_download took from weights back to such weights, as they are: `source` is staging
// memory, which must not change from now on.
int device_weights_restore(struct device *device, void *out, const void *source, size_t bytes,
                           struct error *err);

// Puts a vector (norm weight, bias) or rows of the embedding table: `count` numbers of a plain format,
// converted to the computation dtype, at element `offset` of `out`. The source may be reused when the call
// returns.
int device_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                       const struct weight_format *format, struct error *err);

// The same of numbers that are float32 whatever the computation dtype.
int device_floats_load(struct device *device, void *out, size_t offset, size_t count, const float *source,
                       struct error *err);

// Makes weights [data, data + bytes) a load slot: whole pieces that were taken, in none of the other slots.
// Before device_seal, at most DEVICE_LOAD_SLOTS of them.
enum { DEVICE_LOAD_SLOTS = 16 };
int device_load_slot(struct device *device, const void *data, size_t bytes, struct error *err);

// ---- copies and waiting ----

// Host -> device on the compute queue. `source` is a staging buffer and must not change until the next fence
// is reached.
int device_upload(struct device *device, void *out, const void *source, size_t bytes, struct error *err);

// Device -> host staging, after everything queued so far and beside what is queued later. The device keeps
// later operations from overwriting `source` before it was read.
int device_download(struct device *device, void *out, const void *source, size_t bytes, struct error *err);

struct device_fence {
    uint64_t number;
};

struct device_times { // of the work between the fence before and this one
    double upload_seconds;
    double compute_seconds;
    double download_seconds;
    double worked_seconds; // of processor time that each of the CPU's threads worked, on average, however
                           // long it waited for a processor; 0 on a GPU
};

int device_fence(struct device *device, struct device_fence *fence, struct error *err);
int device_wait(struct device *device, struct device_fence fence, struct device_times *times,
                struct error *err); // times may be NULL

// Whether a fence was reached, without waiting for it.
int device_reached(struct device *device, struct device_fence fence, bool *reached, struct error *err);

// To another device of the same kind: after everything queued on `from` so far, after the loads into `to`
// outside slots and the downloads from `out`, and, unless it is NULL, after the fence `after` of `to`, which
// the last operation that used `out` came before. It runs beside what both compute meanwhile. What is queued
// on `to` later waits for it; `from` keeps later operations from overwriting `source` before it was read, and
// its next fence comes behind it. Its time counts as download_seconds of `from`. STATUS_INTERNAL between
// devices of two kinds or from a device to itself.
int device_transfer(struct device *to, void *out, struct device *from, const void *source, size_t bytes,
                    const struct device_fence *after, struct error *err);

// Seconds of processor time that each of the device's threads on this host had until now, on average: grows
// while an operation goes on, at whatever share of the processors it gets. From any thread. Negative: the
// device computes elsewhere.
double device_clock(const struct device *device);

// ---- the choice of algorithms ----

// What device_matmul_tune (operations.h) chose, one line a shape in the order of tuning ("4096x12288 store
// bias=0 ..."), appended with a final 0 that is not counted; empty where there is nothing to choose. Part of
// a run's identity.
int device_algorithms(const struct device *device, struct buffer *text, struct error *err);

// The choices of an earlier run, before the first device_matmul_tune: they are used, whatever would be faster
// today. Binding: one that is not available is an error; otherwise its shape is timed as if it was not named.
// STATUS_DATA when the text is not of this kind.
int device_set_algorithms(struct device *device, const char *text, bool binding, struct error *err);

// ---- what the host says of the rows to pool, and gets back ----

// Tokens [start, end) of the packed batch, start < end. Where texts go on from others (struct device_origin)
// a span of the text that token end - 1 is of may begin before the text's own tokens: one before them is the
// last that its origin gives it. With end <= 0 it is of the head, whose last token is -1.
struct device_span {
    int32_t start;
    int32_t end;
};

struct device_row_check { // of one pooled row
    uint32_t not_finite;  // numbers that were NaN or infinite in float32
    uint32_t overflowed;  // finite numbers beyond float16's range, stored as +-65504
};

#endif

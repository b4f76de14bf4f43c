// The device: every operation of a forward pass once, with its shapes. kernels/cpu and kernels/cuda implement
// it.
//
// Queue. Operations and uploads are put on one compute queue and run in the order they were queued; a call
// returns as soon as it may (the CPU back end returns when the work is done). device_download runs beside the
// compute queue, after everything queued before it. device_mark names the present end of both queues;
// device_wait blocks until a mark is reached. An operation's failure is returned by the call that notices it,
// at the latest by device_wait.
//
// Memory. Every buffer belongs to the device and lives in one of four arenas that device_reserve makes once,
// before the first batch, from a plan; device_take hands pieces out. After device_seal nothing can be taken.
// Device pointers are never read or written by the host except staging buffers, which are host memory that
// the device can copy from and to.
//
// Numbers. A device is opened for one computation dtype (float32 or bfloat16): weights and activations have
// it. Sums run in float32 and in an order that depends on shapes of one text alone, never on the batch, the
// position in it or the number of threads: a text's results keep their bits in any company. bfloat16 rounds
// where transformers' eager code rounds (the rounding points are named at each operation); the CUDA back end
// skips roundings between steps that it fuses, never adds one.
//
// Row budget. A plan names the most tokens a batch has (device_plan.tokens). Every [tokens, ...] buffer given
// to device_matmul has room for that many rows, and a back end may compute all of them (the CUDA back end
// runs every product at this one shape, which is what keeps a row's bits): rows from `tokens` on hold
// anything afterwards.
//
// Shapes are written [rows, columns], row-major and contiguous unless a stride is named. "tokens" is the
// number of tokens of the packed batch: the texts one after another without padding, starts[i]..starts[i+1]
// being text i.
#ifndef STRATA_KERNELS_DEVICE_H
#define STRATA_KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"

struct device; // one processor: the CPU with its threads, or one GPU

struct device_options {
    enum dtype dtype; // of computation: DTYPE_F32 or DTYPE_BF16
    int threads;      // CPU threads; 0: as many as OpenMP would use
    const char
        *cpu_path; // instruction-set path by name ("amxbf16", "avx2", ...; device_cpu_path); NULL: chosen
    size_t memory_reserve; // bytes of a GPU's free memory left alone
};

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
    uint64_t memory;    // bytes in all: RAM or the GPU's
    uint64_t memory_free;
    uint64_t
        cache; // bytes of the last cache before memory: a GPU's L2, a processor's third level; 0: not known
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
    size_t tokens; // most tokens of a batch, > 0
};

enum { DEVICE_ALIGNMENT = 256 };

// Adds a piece of `bytes` (rounded up to DEVICE_ALIGNMENT) to a plan. STATUS_INTERNAL when the sum overflows.
int device_plan_add(struct device_plan *plan, enum device_purpose purpose, size_t bytes, struct error *err);

// Whether the plan, with what the back end adds for itself, fits into the memory that is free now: the
// device's, and for staging that is host memory the host's. STATUS_DEVICE, with a table of needed and free
// bytes by purpose, when it does not.
int device_check_fits(const struct device *device, const struct device_plan *plan, struct error *err);

// Makes the arenas. Once a device. STATUS_DEVICE as device_check_fits.
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

// ---- telemetry ----

enum { DEVICE_UNKNOWN = -1 };

// What the device's own monitoring said last (a GPU: NVML, read by a thread of its own about once a second).
// A field that is not known is DEVICE_UNKNOWN; on the CPU all are.
struct device_sample {
    double age_seconds;        // since it was read
    int64_t memory_used;       // bytes in use on the device, everybody's
    int64_t process_memory;    // bytes of this process
    int32_t utilization;       // percent of the last interval with a kernel running
    int32_t sm_clock;          // MHz
    int32_t sm_clock_most;     // MHz
    int32_t temperature;       // degrees Celsius
    int32_t foreign_processes; // computing on the device beside this one
    int64_t throttle_reasons;  // bits of NVML's clocks event reasons, enum device_throttle among them
    double power;              // W
    double power_limit;        // W
    double pcie_received;      // bytes a second, host -> device
    double pcie_sent;          // bytes a second, device -> host
    int64_t xid; // code of the last critical error event, those of the device before programs'; 0: none
};

// The throttle reasons that slow a clock; being idle and settings of the user do not count.
enum device_throttle {
    DEVICE_THROTTLE_POWER = 0x04,    // the power limit
    DEVICE_THROTTLE_HARDWARE = 0x08, // the hardware slows itself: heat, power brake
    DEVICE_THROTTLE_THERMAL = 0x20,  // the driver keeps it from getting too hot
    DEVICE_THROTTLE_THERMAL_HARDWARE = 0x40,
    DEVICE_THROTTLE_POWER_BRAKE = 0x80, // the system asks for it
};

void device_sample(const struct device *device, struct device_sample *out);
void device_sample_clear(struct device_sample *out); // nothing is known

// Names of the throttle reasons that slow a clock down, joined by "+" ("power+thermal"); "none", or
// "unknown".
void device_throttle_names(int64_t reasons, char *out, size_t size);

// Whether an XID code tells of a program that went wrong on the device, this one or a neighbour (its kernels
// faulted, or it was ended), and not of the device.
bool device_xid_blames_program(int64_t xid);

// ---- weights ----

// A weight matrix [rows = output features, columns = input features] in whatever layout the device multiplies
// fastest.
struct device_matrix {
    size_t rows;
    size_t columns;
    void *data; // device memory, opaque layout
};

// Bytes of DEVICE_WEIGHTS a matrix takes; false when that overflows.
bool device_matrix_bytes(const struct device *device, size_t rows, size_t columns, size_t *bytes);
int device_matrix_take(struct device *device, struct device_matrix *matrix, size_t rows, size_t columns,
                       struct error *err);

// Puts rows [row, row + count) from host memory: source is [count, columns] of source_dtype. Rows may come in
// any order and pieces; a fused matrix (q|k|v, gate|up) is filled part by part. The source may be reused when
// the call returns.
int device_matrix_load(struct device *device, struct device_matrix *matrix, size_t row, size_t count,
                       const void *source, enum dtype source_dtype, struct error *err);

// Puts a vector (norm weight, bias) or rows of the embedding table: `count` numbers converted to the
// computation dtype at element `offset` of `out`. The source may be reused when the call returns.
int device_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                       enum dtype source_dtype, struct error *err);

// ---- copies and waiting ----

// Host -> device on the compute queue. `source` is a staging buffer and must not change until the next mark
// is reached.
int device_upload(struct device *device, void *out, const void *source, size_t bytes, struct error *err);

// Device -> host staging, after everything queued so far and beside what is queued later. The device keeps
// later operations from overwriting `source` before it was read.
int device_download(struct device *device, void *out, const void *source, size_t bytes, struct error *err);

struct device_mark {
    uint64_t number;
};

struct device_times { // of the work between the mark before and this one
    double upload_seconds;
    double compute_seconds;
    double download_seconds;
    double worked_seconds; // of processor time that each of the CPU's threads worked, on average, however
                           // long it waited for a processor; 0 on a GPU
};

int device_mark(struct device *device, struct device_mark *mark, struct error *err);
int device_wait(struct device *device, struct device_mark mark, struct device_times *times,
                struct error *err); // times may be NULL

// Seconds of processor time that each of the device's threads on this host had until now, on average: grows
// while an operation goes on, at whatever share of the processors it gets. From any thread. Negative: the
// device computes elsewhere.
double device_clock(const struct device *device);

// ---- operations
// -------------------------------------------------------------------------------------------------- All
// activations and weights have the computation dtype unless said otherwise. Outputs do not overlap inputs
// unless said otherwise. Indices (ids, starts, spans, rope rows) are int32 in device memory.

// out[t, :] = table[ids[t], :]. table [vocabulary, hidden], row-major. Ids are the caller's to check.
int device_embed(struct device *device, void *out, const void *table, const int32_t *ids, size_t tokens,
                 size_t hidden, struct error *err);

// out[t, :] = weight * (x[t, :] / sqrt(mean(x[t, :]^2) + epsilon)); the mean in float32. bfloat16: the
// normalised value is rounded, then the product (Llama-style RMSNorm).
int device_rms_norm(struct device *device, void *out, const void *x, const void *weight, float epsilon,
                    size_t tokens, size_t hidden, struct error *err);

enum device_store {
    DEVICE_STORE, // out = x * W^T + bias
    DEVICE_ADD, // out = out + (x * W^T + bias): the residual add. bfloat16: the product is rounded, then the
                // sum
};

// x [tokens, matrix->columns], out [tokens, matrix->rows]; bias [matrix->rows] or NULL.
int device_matmul(struct device *device, void *out, const void *x, const struct device_matrix *matrix,
                  const void *bias, size_t tokens, enum device_store store, struct error *err);

// Chooses how products of this shape, store and bias are computed, for back ends that have a choice (the CUDA
// back end: cuBLASLt algorithms). Times the candidates unless device_set_algorithms named one, and proves on
// the device that a row's bits depend neither on the other rows nor on its place; a candidate that fails is
// passed over. x and out are activation buffers of plan.tokens rows; their contents are lost. The matrix is
// one of that shape whose weights are loaded: zeros prove nothing (STATUS_INTERNAL). Before device_seal; a
// shape tuned before costs nothing. STATUS_DEVICE when no candidate is left, or when one that binds is not to
// be had.
int device_matmul_tune(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                       const void *bias, enum device_store store, struct error *err);

// What was chosen, one line a shape in the order of tuning ("4096x12288 store bias=0 ..."), appended with a
// final 0 that is not counted; empty where there is nothing to choose. Part of a run's identity.
int device_algorithms(const struct device *device, struct buffer *text, struct error *err);

// The choices of an earlier run, before the first device_matmul_tune: they are used, whatever would be faster
// today. Binding: one that is not to be had is an error; otherwise its shape is timed as if it was not named.
// STATUS_DATA when the text is not of this kind.
int device_set_algorithms(struct device *device, const char *text, bool binding, struct error *err);

struct device_heads {
    size_t heads;    // query heads
    size_t kv_heads; // key and value heads; divides heads: query head h reads kv head h / (heads / kv_heads)
    size_t head_dim; // even
};

// In place on qkv [tokens, (heads + 2 kv_heads) * head_dim], columns q | k | v: each q and k head is
// RMS-normalised with q_norm / k_norm [head_dim] (both NULL: no norm), then rotated ("rotate half": pairs i,
// i + head_dim/2) by row rope_row[t] of cosine and sine, each [.., head_dim / 2], float32 (bfloat16 runs
// round them, and each product and sum).
int device_qk_norm_rope(struct device *device, void *qkv, const void *q_norm, const void *k_norm,
                        float epsilon, const float *cosine, const float *sine, const int32_t *rope_row,
                        struct device_heads heads, size_t tokens, struct error *err);

struct device_attention {
    struct device_heads heads;
    float scale;    // of the scores, usually head_dim^-1/2
    size_t window;  // keys seen by a query, itself included; 0: all before it
    size_t longest; // tokens of the longest text in any batch: what scratch was planned for
};

// Bytes of DEVICE_SCRATCH that device_attention needs for these shapes (0 if none); false on overflow.
bool device_attention_scratch(const struct device *device, const struct device_attention *shape,
                              size_t *bytes);

// Causal softmax(q k^T * scale) v within each text. qkv as above, out [tokens, heads * head_dim];
// starts [texts + 1] in device memory, host_starts the same numbers in host memory (for the grid).
int device_attention(struct device *device, void *out, const void *qkv, const struct device_attention *shape,
                     const int32_t *starts, const int32_t *host_starts, size_t texts, void *scratch,
                     struct error *err);

// out[t, i] = silu(gate_up[t, i]) * gate_up[t, intermediate + i]. gate_up [tokens, 2 * intermediate].
// bfloat16: silu is rounded, then the product.
int device_swiglu(struct device *device, void *out, const void *gate_up, size_t tokens, size_t intermediate,
                  struct error *err);

struct device_span { // tokens [start, end) of the packed batch, start < end
    int32_t start;
    int32_t end;
};

struct device_row_check { // of one pooled row
    uint32_t not_finite;  // numbers that were NaN or infinite in float32
    uint32_t overflowed;  // finite numbers beyond float16's range, stored as +-65504
};

// out[r, :] = the float32 mean of x[t, :] for t in spans[r] in token order, then rounded to out_dtype.
// One-token spans gather exactly. out [rows, hidden] of out_dtype, checks [rows]; spans and checks in device
// memory.
int device_pool(struct device *device, void *out, enum dtype out_dtype, struct device_row_check *checks,
                const void *x, const struct device_span *spans, size_t rows, size_t hidden,
                struct error *err);

#endif

// SPDX-License-Identifier: MIT
// What a back end implements (private to kernels/ and, for the limits that no operation shows, to bench/).
// operations.h documents every operation; the public functions check arguments and call through this table,
// so a back end may rely on them: pointers are there, tokens > 0, shapes fit.
//
// The CUDA back end is a library of its own (strata_cuda, or its stand-in when nvcc is not there; tests link
// an emulated one), so that one strata_kernels serves all of them.
//
// A back end's own struct begins with `struct device`.
#ifndef STRATA_KERNELS_BACK_END_H
#define STRATA_KERNELS_BACK_END_H

#include "kernels/device.h"
#include "kernels/shapes.h"
#include "kernels/telemetry.h"

struct device_candidate { // a way to compute a matmul
    char name[160];
    double seconds; // of one run
    int group;      // candidates whose results have equal bits share it, the largest group is 0; -1: a row's
                    // bits depend on its place
    bool chosen;    // in use; where none is yet: what device_matmul_tune would choose
};

// The operations that every back end implements: type, name and arguments of each. From this list come the
// members of struct device_ops, the declarations cpu_NAME (cpu_device.h) and cuda_NAME (cuda_device.h), and
// the rows of both tables. operations.h documents them; here a matrix is stored as computed.
//
// - expand: rows [first, first + count) of what is kept in another format, on the device, into as many rows
//   from number `row` on of a matrix that is stored as computed, to the bits that matrix_load makes of the
//   same numbers.
// - supports: beside what device_supports refuses on every device.
// clang-format off
#define BACK_END_OPERATIONS(X) \
    X(int, expand, (struct device *device, struct device_matrix *out, size_t row, \
                    const struct weight_view *view, size_t first, size_t count, struct error *err)) \
    X(int, embed, (struct device *device, void *out, const void *table, const int32_t *ids, float scale, \
                   enum device_store store, size_t tokens, size_t hidden, struct error *err)) \
    X(int, norm, (struct device *device, void *out, const void *x, const struct device_norm *norm, \
                  enum device_store store, size_t tokens, size_t hidden, struct error *err)) \
    X(int, norm_groups, (struct device *device, void *x, const struct device_groups *groups, \
                         const struct device_norm *norm, size_t tokens, struct error *err)) \
    X(int, add, (struct device *device, void *x, const void *y, float scale, size_t tokens, size_t hidden, \
                 struct error *err)) \
    X(int, scale, (struct device *device, void *x, const void *factor, size_t tokens, size_t hidden, \
                   struct error *err)) \
    X(int, matmul, (struct device *device, void *out, const void *x, const struct device_matrix *matrix, \
                    const void *bias, size_t tokens, enum device_store store, struct error *err)) \
    X(int, qk_norm_rope, (struct device *device, void *qkv, const struct device_rope *rope, \
                          struct device_heads heads, size_t tokens, struct error *err)) \
    X(int, keep, (struct device *device, void *kept, size_t row, const void *qkv, struct device_heads heads, \
                  size_t tokens, struct error *err)) \
    X(int, keep_packed, (struct device *device, void *kept, size_t row, const void *qkv, \
                         struct device_heads heads, size_t tokens, enum device_keeping keeping, \
                         struct error *err)) \
    X(int, expand_kept, (struct device *device, void *out, const void *kept, struct device_heads heads, \
                         size_t rows, enum device_keeping keeping, struct error *err)) \
    X(bool, attention_scratch, (const struct device *device, const struct device_attention *shape, \
                                size_t *bytes)) \
    X(int, attention, (struct device *device, void *out, const void *qkv, \
                       const struct device_attention *shape, struct device_texts texts, void *scratch, \
                       struct error *err)) \
    X(int, activate, (struct device *device, void *out, const void *in, enum device_activation activation, \
                      bool gated, size_t tokens, size_t width, struct error *err)) \
    X(int, xielu, (struct device *device, void *out, const void *in, const void *numbers, size_t tokens, \
                   size_t width, struct error *err)) \
    X(int, clamp, (struct device *device, void *x, float limit, size_t tokens, size_t width, \
                   struct error *err)) \
    X(int, activate_by, (struct device *device, void *out, const void *in, const void *factor, \
                         size_t factor_stride, enum device_activation activation, size_t tokens, \
                         size_t width, struct error *err)) \
    X(int, copy_columns, (struct device *device, void *out, const void *in, \
                          const struct device_columns *columns, size_t tokens, struct error *err)) \
    X(int, gate, (struct device *device, void *x, const void *in, const struct device_gates *gates, \
                  size_t tokens, struct error *err)) \
    X(int, gate_rows, (struct device *device, void *x, const void *in, const void *weight, size_t tokens, \
                       size_t width, size_t hidden, struct error *err)) \
    X(bool, delta_net_scratch, (const struct device *device, const struct device_delta_net *net, \
                                size_t tokens, size_t *bytes)) \
    X(int, delta_net, (struct device *device, void *out, const void *in, \
                       const struct device_delta_net *net, struct device_texts texts, void *state, \
                       void *scratch, struct error *err)) \
    X(bool, state_space_scratch, (const struct device *device, const struct device_state_space *space, \
                                  size_t tokens, size_t *bytes)) \
    X(int, state_space, (struct device *device, void *out, const void *in, \
                         const struct device_state_space *space, struct device_texts texts, void *state, \
                         void *scratch, struct error *err)) \
    X(int, short_convolution, (struct device *device, void *out, const void *in, \
                               const struct device_short_convolution *shape, struct device_texts texts, \
                               void *state, struct error *err)) \
    X(int, route, (struct device *device, const struct device_routes *routes, const void *x, \
                   const void *router, const void *bias, const struct device_routing *routing, \
                   size_t tokens, size_t hidden, struct error *err)) \
    X(bool, experts_scratch, (const struct device *device, const struct device_experts *experts, \
                              size_t tokens, size_t *bytes)) \
    X(int, experts, (struct device *device, void *out, const void *x, const struct device_routes *routes, \
                     const struct device_experts *experts, enum device_store store, size_t tokens, \
                     void *scratch, struct error *err)) \
    X(int, pool, (struct device *device, void *out, enum dtype out_dtype, struct device_row_check *checks, \
                  const void *x, const struct device_span *spans, const struct device_texts *texts, \
                  size_t rows, size_t hidden, struct error *err)) \
    X(bool, supports, (const struct device *device, const struct device_shape *shape, \
                       struct device_refusal *refusal))

#define BACK_END_MEMBER(type, name, arguments) type (*name) arguments;
// clang-format on

struct device_ops {
    void (*close)(struct device *device); // frees the arenas and the device; what was opened only in part too
    void (*describe)(const struct device *device, struct device_description *out);

    // ---- memory ----
    int (*plan_own)(const struct device *device, struct device_plan *plan,
                    struct error *err); // adds its own needs
    // Of them, what loading weights needs, which is there before the rest where weights come first. NULL:
    // nothing.
    int (*plan_loading)(const struct device *device, struct device_plan *plan, struct error *err);
    void (*memory)(const struct device *device, uint64_t *total, uint64_t *free);
    // Twice at most for a purpose.
    int (*arena)(struct device *device, enum device_purpose purpose, size_t bytes, void **base,
                 struct error *err);
    int (*prepare_loading)(struct device *device, struct error *err); // takes what plan_loading added
    int (*prepare)(struct device *device,
                   struct error *err); // arenas are there: takes what else plan_own added
    int (*check_resident)(const struct device *device, const void *data, size_t bytes, struct error *err);
    uint64_t (*process_bytes)(const struct device *device);                 // UINT64_MAX: not known
    void (*sample)(const struct device *device, struct device_sample *out); // fields come as DEVICE_UNKNOWN

    // ---- weights ----
    bool (*matrix_bytes)(const struct device *device, size_t rows, size_t columns,
                         size_t *bytes); // of one that is stored as computed
    // Memory of a matrix that was taken just now; NULL: nothing.
    void (*place)(struct device *device, void *data, size_t bytes);
    // As device_matrix_load_view and device_vector_load, of any dtype.
    int (*matrix_load)(struct device *device, struct device_matrix *matrix, size_t row,
                       const struct weight_view *view, struct error *err);
    int (*vector_load)(struct device *device, void *out, size_t offset, size_t count, const void *source,
                       enum dtype source_dtype, struct error *err);
    // Bytes of a kept piece as they are. The source may be reused when the call returns.
    int (*weights_copy)(struct device *device, void *out, const void *source, size_t bytes,
                        struct error *err);
    // As device_weights_restore: the source, staging memory, stays.
    int (*weights_restore)(struct device *device, void *out, const void *source, size_t bytes,
                           struct error *err);
    // NULL where a load is over when its call returns.
    int (*load_slot)(struct device *device, const void *data, size_t bytes, struct error *err);

    // ---- copies and waiting ----
    int (*upload)(struct device *device, void *out, const void *source, size_t bytes, struct error *err);
    int (*download)(struct device *device, void *out, const void *source, size_t bytes, struct error *err);
    int (*fence)(struct device *device, struct device_fence *fence, struct error *err);
    int (*wait)(struct device *device, struct device_fence fence, struct device_times *times,
                struct error *err);
    int (*reached)(struct device *device, struct device_fence fence, bool *reached, struct error *err);
    // Both are of this back end, and not the same.
    int (*transfer)(struct device *to, void *out, struct device *from, const void *source, size_t bytes,
                    const struct device_fence *after, struct error *err);
    double (*clock)(const struct device *device); // NULL: it computes elsewhere

    // ---- operations ----
    BACK_END_OPERATIONS(BACK_END_MEMBER)
    // Matrices are stored as computed here too.
    int (*check_matmul)(struct device *device, size_t tokens, size_t rows, size_t columns, bool bias,
                        enum device_store store, struct error *err); // NULL: every shape can be computed
    // NULL where there is nothing to choose: all three or none.
    int (*matmul_tune)(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                       const void *bias, enum device_store store, struct error *err);
    int (*algorithms)(const struct device *device, struct buffer *text, struct error *err);
    int (*set_algorithms)(struct device *device, const char *text, bool binding, struct error *err);
    // For benchmarks: every candidate that matmul_tune may look at, and the time of one run of the best
    // algorithm without its restrictions; 0 where there is none. Runs that are timed multiply by these
    // matrices of one shape in turn. As matmul_tune otherwise. NULL where there is nothing to choose.
    int (*matmul_candidates)(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                             size_t matrices, const void *bias, enum device_store store,
                             struct device_candidate *lines, size_t most, size_t *count, double *free_seconds,
                             struct error *err);
    // For benchmarks: from now on attention takes the other of two kernels that give the same bits, which is
    // named ("one head a warp"). NULL where there is one only.
    const char *(*attention_turn)(struct device *device, const struct device_attention *shape);

    // The rate of a loop that does nothing but multiply and add numbers of `dtype` in registers, all threads,
    // in floating-point operations a second. For benchmarks.
    int (*peak)(struct device *device, enum dtype dtype, double *rate, struct error *err);
    // The instruction of bfloat16's peak where matmuls may use a faster one; NULL: there is none faster.
    const char *peak_instruction;
    // The rate of reading device memory from front to back, all threads, in bytes a second. For benchmarks;
    // NULL where it is not measured.
    int (*read_rate)(struct device *device, const void *data, size_t bytes, double *rate, struct error *err);
};

#undef BACK_END_MEMBER

// As device_cuda_build and device_gpus.
const char *cuda_build(void);
size_t cuda_gpus(struct error *why);

// "0000:1B:00.0": where GPU `index` is plugged in. False when not known.
enum { CUDA_BUS_ID = 32 };
bool cuda_bus_id(int index, char out[CUDA_BUS_ID]);

// Opens GPU `index`; the emulation and kernels/cuda_absent.c implement it too. *there: a usable GPU was found
// (false: err says why there is none, and `auto` may take the CPU).
int cuda_device_open(struct device **out, int index, const struct device_options *options, const char *why,
                     bool *there, struct error *err);

// Of the host's memory, left to what the process takes beside a plan, so that a plan that just fits does not
// end it without a word: 29 MiB on an Intel Xeon with Debian 12, for texts, shards and the libraries.
enum { HOST_RESERVE = 64 << 20 };

struct device {
    const struct device_ops *ops;
    enum dtype dtype;
    bool reserved;
    bool weights_first; // their arena was made before the others
    bool sealed;
    bool staging_is_host;  // staging does not count against the device's memory
    size_t memory_reserve; // bytes of the device's memory left alone
    size_t memory_limit;   // bytes of host memory that the process may have; 0: what is free
    size_t device_limit;   // and of the device's, where that is not the host's; 0: what is free
    size_t tokens;         // of the plan: rows of every buffer that matmul reads or writes
    void *expansion;       // scratch that matrices kept in another format are expanded into
    size_t expansion_bytes;
    uint64_t available; // of the device's memory and of the host's, before the first arena was made
    uint64_t host_available;
    struct {
        unsigned char *base; // of the arena that pieces are taken from: the purpose's last one
        size_t capacity;
        size_t used;
        size_t planned; // bytes of all its arenas
        size_t taken;
    } arenas[DEVICE_PURPOSES];
};

// ---- device_expand.c: matrices that are kept in other formats ----

// Piece `piece` of copy `copy`, as its decoder sees it. False where sizes overflow.
bool device_piece_view(const struct device_matrix *matrix, size_t copy, size_t piece,
                       struct weight_view *out);

// Rows [row, row + count) of a kept matrix into rows [to, to + count) of one that is stored as computed, with
// the operation `expand`.
int device_expand_rows(struct device *device, struct device_matrix *out, size_t to,
                       const struct device_matrix *matrix, size_t row, size_t count, struct error *err);

#endif

// SPDX-License-Identifier: MIT
// The operations that are kernels of our own: order on the queue, launch, what the launch said.
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/weight_format.h"

// Bytes of [rows, columns] numbers; the buffers are there, so the matmul fits.
static size_t bytes_of(const struct cuda_device *cuda, size_t rows, size_t columns) {
    return rows * columns * dtype_size(cuda->base.dtype);
}

// The rotation takes every even head up to 512, and rows of any length have a kernel.
bool cuda_supports(const struct device *device, const struct device_shape *shape,
                   struct device_refusal *refusal) {
    (void)device;
    if (shape->experts > 0 && (shape->hidden % 8 != 0 || shape->expert_width % 8 != 0)) {
        refusal->dimension = shape->hidden % 8 != 0 ? DEVICE_HIDDEN : DEVICE_EXPERT_WIDTH;
        snprintf(refusal->can, sizeof refusal->can, "multiples of 8 with experts");
        return false;
    }
    if (!delta_net_has(shape->key_dim) || !delta_net_has(shape->value_dim)) {
        refusal->dimension = delta_net_has(shape->key_dim) ? DEVICE_VALUE_DIM : DEVICE_KEY_DIM;
        snprintf(refusal->can, sizeof refusal->can, "multiples of %d up to %d", DELTA_NET_STEP,
                 DELTA_NET_MOST);
        return false;
    }
    if (shape->heads.heads > ATTENTION_HEADS_MOST) {
        refusal->dimension = DEVICE_HEADS;
        snprintf(refusal->can, sizeof refusal->can, "numbers up to %d", ATTENTION_HEADS_MOST);
        return false;
    }
    refusal->dimension = DEVICE_HEAD_DIM;
    snprintf(refusal->can, sizeof refusal->can, "multiples of %d up to %d", ATTENTION_HEAD_STEP,
             ATTENTION_HEAD_MOST);
    return attention_has(shape->heads.head_dim);
}

int cuda_expand_into(struct cuda_device *cuda, void *out, const struct weight_view *view,
                     const struct expansion *expansion, struct error *err) {
    size_t numbers = (expansion->copies - 1) * expansion->out_apart + expansion->rows * view->columns;
    const struct cuda_use use = {.writes = {{out, bytes_of(cuda, numbers, 1)}},
                                 .reads = {view->parts[0], expansion->starts}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "expand", &use, err));
    cudaError_t launched = launch_expand(cuda->queue.compute, out, cuda->base.dtype, view, expansion);
    return cuda_queue_end(cuda, "expand", launched, err);
}

int cuda_expand(struct device *device, struct device_matrix *out, size_t row, const struct weight_view *view,
                size_t first, size_t count, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    unsigned char *rows = (unsigned char *)out->data + bytes_of(cuda, row, out->columns);
    return cuda_expand_into(cuda, rows, view, &(struct expansion){.first = first, .rows = count, .copies = 1},
                            err);
}

int cuda_embed(struct device *device, void *out, const void *table, const int32_t *ids, float scale,
               enum device_store store, size_t tokens, size_t hidden, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{out, bytes_of(cuda, tokens, hidden)}}, .reads = {table, ids}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "embed", &use, err));
    cudaError_t launched =
        launch_embed(cuda->queue.compute, device->dtype, out, table, ids, scale, store, tokens, hidden);
    return cuda_queue_end(cuda, "embed", launched, err);
}

int cuda_norm(struct device *device, void *out, const void *x, const struct device_norm *norm,
              enum device_store store, size_t tokens, size_t hidden, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{out, bytes_of(cuda, tokens, hidden)}},
                                 .reads = {x, norm->weight, norm->bias}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "norm", &use, err));
    cudaError_t launched =
        launch_norm(cuda->queue.compute, device->dtype, out, x, norm, store, tokens, hidden);
    return cuda_queue_end(cuda, "norm", launched, err);
}

int cuda_norm_groups(struct device *device, void *x, const struct device_groups *groups,
                     const struct device_norm *norm, size_t tokens, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{x, bytes_of(cuda, tokens, groups->stride)}},
                                 .reads = {norm->weight, norm->bias}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "norm_groups", &use, err));
    cudaError_t launched = launch_norm_groups(cuda->queue.compute, device->dtype, x, groups, norm, tokens);
    return cuda_queue_end(cuda, "norm_groups", launched, err);
}

int cuda_add(struct device *device, void *x, const void *y, float scale, size_t tokens, size_t hidden,
             struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{x, bytes_of(cuda, tokens, hidden)}}, .reads = {y}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "add", &use, err));
    cudaError_t launched = launch_add(cuda->queue.compute, device->dtype, x, y, scale, tokens, hidden);
    return cuda_queue_end(cuda, "add", launched, err);
}

int cuda_scale(struct device *device, void *x, const void *factor, size_t tokens, size_t hidden,
               struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{x, bytes_of(cuda, tokens, hidden)}}, .reads = {factor}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "scale", &use, err));
    cudaError_t launched = launch_scale(cuda->queue.compute, device->dtype, x, factor, tokens, hidden);
    return cuda_queue_end(cuda, "scale", launched, err);
}

int cuda_xielu(struct device *device, void *out, const void *in, const void *numbers, size_t tokens,
               size_t width, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{out, bytes_of(cuda, tokens, width)}}, .reads = {in, numbers}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "xielu", &use, err));
    cudaError_t launched = launch_xielu(cuda->queue.compute, device->dtype, out, in, numbers, tokens, width);
    return cuda_queue_end(cuda, "xielu", launched, err);
}

int cuda_clamp(struct device *device, void *x, float limit, size_t tokens, size_t width, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{x, bytes_of(cuda, tokens, width)}}, .reads = {NULL}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "clamp", &use, err));
    cudaError_t launched = launch_clamp(cuda->queue.compute, device->dtype, x, limit, tokens, width);
    return cuda_queue_end(cuda, "clamp", launched, err);
}

int cuda_short_convolution(struct device *device, void *out, const void *in,
                           const struct device_short_convolution *shape, struct device_texts texts,
                           void *state, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    size_t tokens = (size_t)texts.host_starts[texts.count];
    size_t left = device_short_convolution_state(shape, dtype_size(device->dtype));
    size_t row = 3 * shape->width;
    struct text_beginning before = cuda_text_beginning(&texts, state, 0);
    const struct cuda_use use = {
        .writes = {{out, bytes_of(cuda, tokens, shape->width)}, {state, state == NULL ? 0 : left}},
        .reads = {in, shape->weight, shape->bias, texts.starts, before.from, before.origins}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "short_convolution", &use, err));
    cudaError_t launched =
        launch_short_convolution(cuda->queue.compute, device->dtype, out, in, shape, &texts, before, tokens);
    if (launched == cudaSuccess && state != NULL && shape->taps > 1) {
        launched = launch_causal_tail(cuda->queue.compute, device->dtype, state,
                                      texts_first(&texts, 0) > 0 ? before.from : NULL, in, row, row,
                                      shape->taps - 1, tokens);
    }
    return cuda_queue_end(cuda, "short_convolution", launched, err);
}

int cuda_activate_by(struct device *device, void *out, const void *in, const void *factor,
                     size_t factor_stride, enum device_activation activation, size_t tokens, size_t width,
                     struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{out, bytes_of(cuda, tokens, width)}}, .reads = {in, factor}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "activate_by", &use, err));
    cudaError_t launched = launch_activate_by(cuda->queue.compute, device->dtype, out, in, factor,
                                              factor_stride, activation, tokens, width);
    return cuda_queue_end(cuda, "activate_by", launched, err);
}

int cuda_gate(struct device *device, void *x, const void *in, const struct device_gates *gates, size_t tokens,
              struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{x, bytes_of(cuda, tokens, gates->groups * gates->width)}},
                                 .reads = {in}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "gate", &use, err));
    cudaError_t launched = launch_gate(cuda->queue.compute, device->dtype, x, in, gates, tokens);
    return cuda_queue_end(cuda, "gate", launched, err);
}

int cuda_gate_rows(struct device *device, void *x, const void *in, const void *weight, size_t tokens,
                   size_t width, size_t hidden, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{x, bytes_of(cuda, tokens, width)}}, .reads = {in, weight}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "gate_rows", &use, err));
    cudaError_t launched =
        launch_gate_rows(cuda->queue.compute, device->dtype, x, in, weight, tokens, width, hidden);
    return cuda_queue_end(cuda, "gate_rows", launched, err);
}

int cuda_copy_columns(struct device *device, void *out, const void *in, const struct device_columns *columns,
                      size_t tokens, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{out, bytes_of(cuda, tokens, columns->stride)}}, .reads = {in}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "copy_columns", &use, err));
    cudaError_t launched = launch_copy_columns(cuda->queue.compute, device->dtype, out, in, columns, tokens);
    return cuda_queue_end(cuda, "copy_columns", launched, err);
}

int cuda_qk_norm_rope(struct device *device, void *qkv, const struct device_rope *rope,
                      struct device_heads heads, size_t tokens, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{qkv, bytes_of(cuda, tokens, device_heads_width(heads))}},
                                 .reads = {rope->q_norm.weight, rope->q_norm.bias, rope->k_norm.weight,
                                           rope->k_norm.bias, rope->cosine, rope->sine, rope->row,
                                           rope->query_scale}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "qk_norm_rope", &use, err));
    cudaError_t launched = launch_qk_norm_rope(cuda->queue.compute, device->dtype, qkv, rope, heads, tokens);
    return cuda_queue_end(cuda, "qk_norm_rope", launched, err);
}

int cuda_keep(struct device *device, void *kept, size_t row, const void *qkv, struct device_heads heads,
              size_t tokens, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    size_t width = 2 * heads.kv_heads * heads.head_dim;
    unsigned char *rows = (unsigned char *)kept + bytes_of(cuda, row, width);
    const struct cuda_use use = {.writes = {{rows, bytes_of(cuda, tokens, width)}}, .reads = {qkv}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "keep", &use, err));
    cudaError_t launched = launch_keep(cuda->queue.compute, device->dtype, rows, qkv, heads, tokens);
    return cuda_queue_end(cuda, "keep", launched, err);
}

int cuda_keep_packed(struct device *device, void *kept, size_t row, const void *qkv,
                     struct device_heads heads, size_t tokens, enum device_keeping keeping,
                     struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    size_t row_bytes = device_kept_bytes(heads, keeping, dtype_size(device->dtype));
    unsigned char *rows = (unsigned char *)kept + row * row_bytes;
    const struct cuda_use use = {.writes = {{rows, tokens * row_bytes}}, .reads = {qkv}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "keep_packed", &use, err));
    cudaError_t launched =
        launch_keep_packed(cuda->queue.compute, device->dtype, rows, qkv, heads, tokens, keeping);
    return cuda_queue_end(cuda, "keep_packed", launched, err);
}

// Rows of blocks are a matrix in GGUF's format.
int cuda_expand_kept(struct device *device, void *out, const void *kept, struct device_heads heads,
                     size_t rows, enum device_keeping keeping, struct error *err) {
    const struct weight_format *format = weight_format_find(keeping == DEVICE_KEEP_Q8_0 ? "Q8_0" : "Q4_0");
    size_t width = 2 * heads.kv_heads * heads.head_dim;
    struct weight_view view;
    if (format == NULL || !weight_view_of(format, rows, width, kept, &view)) {
        return error_set(err, STATUS_INTERNAL, "expand_kept: there are no %zu rows of %zu numbers", rows,
                         width);
    }
    return cuda_expand_into(cuda_of(device), out, &view, &(struct expansion){.rows = rows, .copies = 1}, err);
}

// The running softmax needs no scores in memory; the tiles are taken once for all shapes.
bool cuda_attention_scratch(const struct device *device, const struct device_attention *shape,
                            size_t *bytes) {
    (void)device;
    (void)shape;
    *bytes = 0;
    return true;
}

// Whether it is of these texts.
static bool tiles_are_of(const struct tile_list *list, const struct device_texts *texts) {
    return list->texts == texts->count && list->before == texts->before &&
           list->has_origins == (texts->origins != NULL) &&
           memcmp(list->starts, texts->host_starts, (texts->count + 1) * sizeof *list->starts) == 0 &&
           (!list->has_origins ||
            memcmp(list->origins, texts->host_origins, texts->count * sizeof *list->origins) == 0);
}

// The layers of a batch share one list of tiles: it is made when the texts are others than those of the last
// one.
static int take_tiles(struct cuda_device *cuda, struct device_texts texts, size_t *tiles, struct error *err) {
    struct tile_list *list = &cuda->tiles;
    *tiles = attention_tile_count(texts.host_starts, texts.count);
    if (*tiles > attention_tiles_most(cuda->base.tokens) || texts.count > cuda->base.tokens) {
        return error_set(err, STATUS_INTERNAL,
                         "attention: %zu texts of %zu tiles in a batch planned for %zu tokens", texts.count,
                         *tiles, cuda->base.tokens);
    }
    if (*tiles == 0 || tiles_are_of(list, &texts)) {
        return STATUS_OK;
    }
    const struct cuda_use use = {.reads = {texts.starts, texts.origins}}; // what it writes stays here
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "attention", &use, err));
    list->texts = 0; // until the new one is there
    TRY(cuda_queue_end(cuda, "attention",
                       launch_attention_tiles(cuda->queue.compute, list->tiles, &texts, *tiles), err));
    list->texts = texts.count;
    list->before = texts.before;
    list->has_origins = texts.origins != NULL;
    memcpy(list->starts, texts.host_starts, (texts.count + 1) * sizeof *list->starts);
    if (list->has_origins) {
        memcpy(list->origins, texts.host_origins, texts.count * sizeof *list->origins);
    }
    return STATUS_OK;
}

int cuda_attention(struct device *device, void *out, const void *qkv, const struct device_attention *shape,
                   struct device_texts texts, void *scratch, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    size_t tiles;
    (void)scratch;
    if (!attention_has(shape->heads.head_dim)) {
        return error_set(err, STATUS_DEVICE, "attention on CUDA is not built for heads of %zu numbers",
                         shape->heads.head_dim);
    }
    TRY(take_tiles(cuda, texts, &tiles, err));
    if (tiles == 0) {
        return STATUS_OK;
    }
    size_t end = (size_t)texts.host_starts[texts.count];
    size_t width = shape->heads.heads * shape->heads.head_dim;
    const struct cuda_use use = {
        .writes = {{out, bytes_of(cuda, end, width)}},
        .reads = {qkv, texts.kept, shape->sinks, shape->slopes, texts.starts, texts.origins, texts.head}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "attention", &use, err));
    cudaError_t launched = launch_attention(cuda->queue.compute, device->dtype, out, qkv, shape, &texts,
                                            cuda->tiles.tiles, tiles, cuda->attention_pairs);
    return cuda_queue_end(cuda, "attention", launched, err);
}

const char *cuda_attention_turn(struct device *device, const struct device_attention *shape) {
    struct cuda_device *cuda = cuda_of(device);
    if (!attention_pairs(device->dtype, shape->heads)) {
        return NULL;
    }
    cuda->attention_pairs = !cuda->attention_pairs;
    return cuda->attention_pairs ? "two heads a warp" : "one head a warp";
}

int cuda_activate(struct device *device, void *out, const void *in, enum device_activation activation,
                  bool gated, size_t tokens, size_t width, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    const struct cuda_use use = {.writes = {{out, bytes_of(cuda, tokens, width)}}, .reads = {in}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "activate", &use, err));
    cudaError_t launched =
        launch_activate(cuda->queue.compute, device->dtype, out, in, activation, gated, tokens, width);
    return cuda_queue_end(cuda, "activate", launched, err);
}

int cuda_pool(struct device *device, void *out, enum dtype out_dtype, struct device_row_check *checks,
              const void *x, const struct device_span *spans, const struct device_texts *texts, size_t rows,
              size_t hidden, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    bool goes_on = texts != NULL && texts->origins != NULL;
    const struct cuda_use use = {
        .writes = {{out, rows * hidden * dtype_size(out_dtype)}, {checks, rows * sizeof checks[0]}},
        .reads = {x, spans, goes_on ? texts->starts : NULL, goes_on ? texts->origins : NULL,
                  goes_on ? texts->head : NULL}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "pool", &use, err));
    cudaError_t launched = launch_pool(cuda->queue.compute, device->dtype, out, out_dtype, checks, x, spans,
                                       texts, rows, hidden);
    return cuda_queue_end(cuda, "pool", launched, err);
}

static int peak_once(struct cuda_device *cuda, enum dtype dtype, double *rate, struct error *err) {
    struct device_fence fence;
    struct device_times times;
    double operations = 0;
    const struct cuda_use use = {.reads = {NULL}}; // the landing place is lent
    TRY(cuda_fence(&cuda->base, &fence, err));
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "peak", &use, err));
    TRY(cuda_loader_lend(cuda, err));
    TRY(cuda_queue_end(
        cuda, "peak",
        launch_peak(cuda->queue.compute, dtype, cuda->multiprocessors, cuda->loader.landing, &operations),
        err));
    TRY(cuda_fence(&cuda->base, &fence, err));
    TRY(cuda_wait(&cuda->base, fence, &times, err));
    if (times.compute_seconds > 0 && operations / times.compute_seconds > *rate) {
        *rate = operations / times.compute_seconds;
    }
    return STATUS_OK;
}

// The best of some runs: the first may wait for the clock to rise.
int cuda_peak(struct device *device, enum dtype dtype, double *rate, struct error *err) {
    enum { RUNS = 3 };
    *rate = 0;
    for (int i = 0; i < RUNS; i++) {
        TRY(peak_once(cuda_of(device), dtype, rate, err));
    }
    return STATUS_OK;
}

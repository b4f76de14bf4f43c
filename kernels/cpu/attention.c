// SPDX-License-Identifier: MIT
// Attention within packed texts: a running softmax over blocks of keys.
//
// A work item is one key/value head and one block of a text's positions, for all query heads of that
// key/value head. It walks the text's keys in blocks of KEY_BLOCK, aligned to the text's start: keys and
// values are packed into panels once a block, then every tile of tile_rows queries makes its scores, one step
// of the softmax, and adds probabilities * values to its sums. Nothing is larger than (queries of an item) x
// head_dim and a tile x KEY_BLOCK.
//
// Blocks of keys are counted from the text's start, and a query's scores, softmax and sums are its own: what
// else is in its tile changes none of its bits, and keys that it does not see add exact zeros. So its bits
// depend on its position in its text and on the keys before it alone, in a slice of the text too, and where
// the text goes on from another, whose keys it has in common. Keys of a block that lie in several places are
// put together before they are packed.
//
// Probabilities of keys that a query does not see are 0, and 0 times a value that is not finite is NaN. Texts
// that go on from a text must not fail for what comes behind the tokens that they have from it: an item whose
// sums are not finite is computed again, without such values, and queries that see one become NaN.
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/team.h"
#include "kernels/device_texts.h"

enum {
    // A multiple of every tile_columns; keys and values of 128 dimensions take 128 KB in bfloat16.
    KEY_BLOCK = 256,
    QUERY_ROWS = 768,  // queries times heads of one work item
    ROW_PADDING = 32,  // as in gemm.c
    SCRATCH_PARTS = 9, // pieces of a thread's scratch
};

struct shape {
    const struct micro_kernels *kernels;
    enum dtype dtype;
    size_t heads;
    size_t kv_heads;
    size_t group; // query heads a key/value head
    size_t head_dim;
    size_t queries_apart; // columns from one query head to the next
    size_t depth;         // head_dim in whole depth units
    size_t stride;        // numbers of a row of qkv
    size_t positions;     // of a work item
    size_t query_stride;  // operands of a packed query
    size_t sums_stride;   // numbers of a row of sums: head_dim padded to whole panels
    size_t window;
    size_t chunk;
    float scale;
    float softcap;
    const void *sinks;
    const float *slopes;
};

static struct shape shape_of(const struct cpu_device *cpu, const struct device_attention *attention) {
    const struct micro_kernels *kernels = cpu->kernels;
    struct device_heads heads = attention->heads;
    size_t depth = round_up(heads.head_dim, kernels->depth_unit);
    struct shape shape = {
        .kernels = kernels,
        .dtype = cpu->base.dtype,
        .heads = heads.heads,
        .kv_heads = heads.kv_heads,
        .group = heads.heads / heads.kv_heads,
        .head_dim = heads.head_dim,
        .queries_apart = device_heads_apart(heads),
        .depth = depth,
        .stride = device_heads_width(heads),
        .query_stride = depth + ROW_PADDING,
        .sums_stride = round_up(heads.head_dim, kernels->tile_columns),
        .window = attention->window,
        .chunk = attention->chunk,
        .scale = attention->scale,
        .softcap = attention->softcap,
        .sinks = attention->sinks,
        .slopes = attention->slopes,
    };
    size_t rows = QUERY_ROWS / shape.group / kernels->tile_rows;
    shape.positions = (rows > 0 ? rows : 1) * kernels->tile_rows;
    return shape;
}

// Work items are numbered text by text, a text's last block (the most work) first, key/value heads innermost.
struct cursor {
    size_t text;
    size_t before; // items of the texts before
};

struct scratch {           // of one thread
    struct cursor *cursor; // the item it took last
    void *queries;         // [group * positions, query_stride] operands
    float *sums;           // [group * positions, sums_stride]
    float *maxima;         // [group * positions]
    float *totals;         // [group * positions]
    void *keys;            // panels of keys: [KEY_BLOCK / tile_columns][depth][tile_columns] operands
    void *values;   // panels of dimensions: [sums_stride / tile_columns][KEY_BLOCK][tile_columns] operands
    void *gathered; // [KEY_BLOCK, head_dim] numbers, keys or values
    bool *without;  // [KEY_BLOCK] keys whose values are not finite
};

static void scratch_sizes(const struct shape *shape, size_t bytes[SCRATCH_PARTS]) {
    size_t rows = shape->group * shape->positions;
    size_t operand = dtype_size(shape->kernels->operand);
    size_t plain[SCRATCH_PARTS] = {
        sizeof(struct cursor),
        rows * shape->query_stride * operand,
        rows * shape->sums_stride * sizeof(float),
        rows * sizeof(float),
        rows * sizeof(float),
        KEY_BLOCK * shape->depth * operand,
        KEY_BLOCK * shape->sums_stride * operand,
        KEY_BLOCK * shape->head_dim * dtype_size(shape->dtype),
        KEY_BLOCK * sizeof(bool),
    };
    for (int i = 0; i < SCRATCH_PARTS; i++) {
        bytes[i] = round_up(plain[i], DEVICE_ALIGNMENT);
    }
}

static size_t scratch_total(const struct shape *shape) {
    size_t bytes[SCRATCH_PARTS];
    size_t total = 0;
    scratch_sizes(shape, bytes);
    for (int i = 0; i < SCRATCH_PARTS; i++) {
        total += bytes[i];
    }
    return total;
}

static struct scratch scratch_split(const struct shape *shape, unsigned char *base) {
    size_t bytes[SCRATCH_PARTS];
    void *parts[SCRATCH_PARTS];
    scratch_sizes(shape, bytes);
    for (int i = 0; i < SCRATCH_PARTS; i++) {
        parts[i] = base;
        base += bytes[i];
    }
    return (struct scratch){parts[0], parts[1], parts[2], parts[3], parts[4],
                            parts[5], parts[6], parts[7], parts[8]};
}

enum { LARGEST = 1 << 20 }; // heads, and numbers of a head: products of them stay far from overflow

bool cpu_supports(const struct device *device, const struct device_shape *shape,
                  struct device_refusal *refusal) {
    (void)device;
    const struct {
        size_t size;
        enum device_dimension dimension;
    } sizes[] = {{shape->heads.heads, DEVICE_HEADS},
                 {shape->heads.head_dim, DEVICE_HEAD_DIM},
                 {shape->key_dim, DEVICE_KEY_DIM},
                 {shape->value_dim, DEVICE_VALUE_DIM}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].size > LARGEST) {
            refusal->dimension = sizes[i].dimension;
            snprintf(refusal->can, sizeof refusal->can, "numbers up to %d", LARGEST);
            return false;
        }
    }
    return true;
}

bool cpu_attention_scratch(const struct device *device, const struct device_attention *attention,
                           size_t *bytes) {
    const struct device_shape shape_alone = {.heads = attention->heads};
    struct device_refusal refusal;
    if (!cpu_supports(device, &shape_alone, &refusal)) {
        return false;
    }
    const struct cpu_device *cpu = cpu_of_const(device);
    struct shape shape = shape_of(cpu, attention);
    return size_mul(scratch_total(&shape), (size_t)cpu->threads, bytes);
}

struct keys {           // and values, in rows of numbers: keys of all heads, then their values
    const void *own;    // of the token that starts count from
    size_t stride;      // numbers of a row
    size_t head_stride; // of the head's
    const struct device_texts *texts;
};

struct item {
    const unsigned char *queries; // of the item's first position, all heads
    unsigned char *out;
    const struct keys *keys;
    size_t text;
    size_t kv_head;
    size_t first; // positions [first, first + count) of the text
    size_t count;
    bool careful; // whether values that are not finite are left out
};

struct seen {     // of the keys of a block by a query
    size_t key;   // the block's first
    size_t query; // that sees them
    size_t low;   // keys [low, high) of the block
    size_t high;
    size_t end; // of those that have scores
};

// The first key that position `query` sees.
static size_t first_key(const struct shape *shape, size_t query) {
    size_t in_window = shape->window > 0 && query + 1 > shape->window ? query + 1 - shape->window : 0;
    return shape->chunk > 0 ? size_max(in_window, query / shape->chunk * shape->chunk) : in_window;
}

static void pack_queries(const struct shape *shape, const struct item *item, const struct scratch *scratch) {
    for (size_t g = 0; g < shape->group; g++) {
        size_t column = (item->kv_head * shape->group + g) * shape->queries_apart;
        const void *queries = number_of(item->queries, column, shape->dtype);
        void *out =
            number_in(scratch->queries, g * shape->positions * shape->query_stride, shape->kernels->operand);
        shape->kernels->pack_rows(out, shape->query_stride, queries, shape->stride, item->count,
                                  shape->head_dim, shape->depth);
    }
}

// What a softmax begins with: nothing, or the head's sink, a key of weight e^0 under its own score.
static void begin_softmax(const struct shape *shape, const struct item *item, const struct scratch *scratch) {
    for (size_t g = 0; g < shape->group; g++) {
        size_t head = item->kv_head * shape->group + g;
        float sink = -INFINITY;
        if (shape->sinks != NULL) {
            dtype_convert(&sink, DTYPE_F32, number_of(shape->sinks, head, shape->dtype), shape->dtype, 1);
        }
        size_t first = g * shape->positions;
        // Where a tile is not full, some paths add up its other rows too.
        size_t rows = round_up(item->count, shape->kernels->tile_rows);
        memset(scratch->sums + first * shape->sums_stride, 0, rows * shape->sums_stride * sizeof(float));
        for (size_t r = first; r < first + item->count; r++) {
            scratch->maxima[r] = sink;
            scratch->totals[r] = shape->sinks != NULL ? 1 : 0;
        }
    }
}

struct run { // keys or values of the item's head, of positions that lie one after another
    const void *rows;
    size_t stride;
    size_t count; // at least so many
};

// From a position of the item's text on.
static struct run find_run(const struct shape *shape, const struct item *item, size_t position,
                           bool of_values) {
    const struct keys *keys = item->keys;
    size_t column = (item->kv_head + (of_values ? shape->kv_heads : 0)) * shape->head_dim;
    struct texts_run run = texts_run(keys->texts, item->text, position);
    const void *rows = run.of_head ? keys->texts->head : keys->own;
    size_t stride = run.of_head ? keys->head_stride : keys->stride;
    return (struct run){number_of(rows, run.row * stride + column, shape->dtype), stride, run.count};
}

// Of positions [first, first + count), wherever they lie.
static struct run find_rows(const struct shape *shape, const struct item *item, const struct scratch *scratch,
                            size_t first, size_t count, bool of_values) {
    struct run run = find_run(shape, item, first, of_values);
    if (run.count >= count && !item->careful) {
        return run;
    }
    size_t bytes = shape->head_dim * dtype_size(shape->dtype);
    unsigned char *out = scratch->gathered;
    for (size_t i = 0; i < count; i++, out += bytes) {
        if (run.count == 0) {
            run = find_run(shape, item, first + i, of_values);
        }
        memcpy(out, run.rows, bytes);
        run.rows = number_of(run.rows, run.stride, shape->dtype);
        run.count--;
    }
    return (struct run){scratch->gathered, shape->head_dim, count};
}

static bool is_finite(const struct shape *shape, const void *numbers, size_t count) {
    float number;
    for (size_t i = 0; i < count; i++) {
        dtype_convert(&number, DTYPE_F32, number_of(numbers, i, shape->dtype), shape->dtype, 1);
        if (!isfinite(number)) {
            return false;
        }
    }
    return true;
}

// Of gathered values.
static void leave_out(const struct shape *shape, const struct scratch *scratch, size_t count) {
    for (size_t i = 0; i < count; i++) {
        void *values = number_in(scratch->gathered, i * shape->head_dim, shape->dtype);
        scratch->without[i] = !is_finite(shape, values, shape->head_dim);
        if (scratch->without[i]) {
            memset(values, 0, shape->head_dim * dtype_size(shape->dtype));
        }
    }
}

// Keys [key, key + count) of the text and their values.
static void pack_block(const struct shape *shape, const struct item *item, const struct scratch *scratch,
                       size_t key, size_t count) {
    const struct micro_kernels *kernels = shape->kernels;
    size_t width = kernels->tile_columns;
    struct run keys = find_rows(shape, item, scratch, key, count, false);
    for (size_t k = 0; k < count; k += width) {
        void *panel = number_in(scratch->keys, k * shape->depth, kernels->operand);
        kernels->pack_keys(panel, number_of(keys.rows, k * keys.stride, shape->dtype), keys.stride,
                           size_min(width, count - k), shape->head_dim);
    }
    struct run values = find_rows(shape, item, scratch, key, count, true);
    if (item->careful) {
        leave_out(shape, scratch, count);
    }
    for (size_t d = 0; d < shape->head_dim; d += width) {
        void *panel = number_in(scratch->values, d * KEY_BLOCK, kernels->operand);
        kernels->pack_values(panel, number_of(values.rows, d, shape->dtype), values.stride, count,
                             round_up(count, kernels->depth_unit), size_min(width, shape->head_dim - d));
    }
}

// The probabilities of one query of the item's head g from its scores with a block's keys. Returns what
// softmax does.
static float weigh_keys(const struct shape *shape, const struct item *item, size_t g, void *probabilities,
                        float *scores, const struct seen *seen, float *maximum, float *total) {
    const struct micro_kernels *kernels = shape->kernels;
    float scale = shape->scale;
    if (shape->softcap != 0 || shape->slopes != NULL) {
        size_t head = item->kv_head * shape->group + g;
        float slope = shape->slopes != NULL ? shape->slopes[head] : 0;
        // Without a sink beside them keys may be counted from the query, which keeps the sums small.
        float first = shape->sinks != NULL ? (float)seen->key : (float)seen->key - (float)seen->query;
        kernels->bend(scores, seen->low, seen->high, scale, shape->softcap, slope, first);
        scale = 1;
    }
    return kernels->softmax(probabilities, scores, seen->low, seen->high, seen->end, scale, maximum, total);
}

// One tile of queries against the packed block of keys [key, key + count): rows [row, row + tile_rows) of the
// item's head g, of which `valid` are queries.
static void attend_tile(const struct shape *shape, const struct item *item, const struct scratch *scratch,
                        size_t g, size_t row, size_t key, size_t count) {
    _Alignas(64) float scores[TILE_ROWS_MOST * KEY_BLOCK];
    _Alignas(64) float probabilities[TILE_ROWS_MOST * (KEY_BLOCK + ROW_PADDING)]; // operands
    enum { PROBABILITY_STRIDE = KEY_BLOCK + ROW_PADDING };
    const struct micro_kernels *kernels = shape->kernels;
    size_t width = kernels->tile_columns;
    size_t valid = size_min(kernels->tile_rows, item->count - row);
    size_t query = item->first + row;
    size_t last = size_min(query + valid - 1, key + count - 1); // the last key that any of them sees
    size_t lowest = first_key(shape, query);
    if (last < key || lowest >= key + count) {
        return;
    }
    size_t start = lowest > key ? (lowest - key) / width * width : 0;
    size_t end = round_up(last + 1 - key, kernels->depth_unit);

    size_t at = g * shape->positions + row;
    const void *queries = number_of(scratch->queries, at * shape->query_stride, kernels->operand);
    for (size_t k = start; k < end; k += width) {
        kernels->tile(scores + k, KEY_BLOCK, queries, shape->query_stride,
                      number_of(scratch->keys, k * shape->depth, kernels->operand), valid, shape->depth,
                      false);
    }
    float *sums = scratch->sums + at * shape->sums_stride;
    for (size_t r = 0; r < valid; r++) {
        struct seen seen = {.key = key,
                            .query = query + r,
                            .low = size_max(first_key(shape, query + r), key) - key,
                            .high = query + r >= key ? size_min(query + r + 1, key + count) - key : 0,
                            .end = end};
        void *row_probabilities = number_in(probabilities, r * PROBABILITY_STRIDE, kernels->operand);
        float factor = weigh_keys(shape, item, g, row_probabilities, scores + r * KEY_BLOCK, &seen,
                                  &scratch->maxima[at + r], &scratch->totals[at + r]);
        for (size_t k = seen.low; item->careful && k < seen.high; k++) {
            if (scratch->without[k]) {
                scratch->totals[at + r] = NAN;
            }
        }
        if (factor != 1.0f) {
            kernels->rescale(sums + r * shape->sums_stride, factor, shape->sums_stride);
        }
    }
    for (size_t d = 0; d < shape->head_dim; d += width) {
        kernels->tile(sums + d, shape->sums_stride, number_of(probabilities, start, kernels->operand),
                      PROBABILITY_STRIDE,
                      number_of(scratch->values, d * KEY_BLOCK + start * width, kernels->operand), valid,
                      end - start, true);
    }
}

static void attend_keys(const struct shape *shape, const struct item *item, const struct scratch *scratch) {
    begin_softmax(shape, item, scratch);
    size_t end = item->first + item->count;
    for (size_t key = first_key(shape, item->first) / KEY_BLOCK * KEY_BLOCK; key < end; key += KEY_BLOCK) {
        size_t count = size_min(KEY_BLOCK, end - key);
        pack_block(shape, item, scratch, key, count);
        for (size_t g = 0; g < shape->group; g++) {
            for (size_t row = 0; row < item->count; row += shape->kernels->tile_rows) {
                attend_tile(shape, item, scratch, g, row, key, count);
            }
        }
    }
}

static bool sums_are_finite(const struct shape *shape, const struct item *item,
                            const struct scratch *scratch) {
    bool finite = true;
    for (size_t g = 0; g < shape->group; g++) {
        const float *sums = scratch->sums + g * shape->positions * shape->sums_stride;
        for (size_t i = 0; i < item->count * shape->sums_stride; i++) {
            finite = finite & (fabsf(sums[i]) <= FLT_MAX);
        }
    }
    return finite;
}

static void attend_item(const struct shape *shape, struct item *item, const struct scratch *scratch) {
    pack_queries(shape, item, scratch);
    attend_keys(shape, item, scratch);
    if (!sums_are_finite(shape, item, scratch)) {
        item->careful = true;
        attend_keys(shape, item, scratch);
    }
    for (size_t g = 0; g < shape->group; g++) {
        size_t head = item->kv_head * shape->group + g;
        for (size_t i = 0; i < item->count; i++) {
            size_t at = g * shape->positions + i;
            void *out = number_in(item->out, (i * shape->heads + head) * shape->head_dim, shape->dtype);
            shape->kernels->store_scaled(out, scratch->sums + at * shape->sums_stride,
                                         1.0f / scratch->totals[at], shape->head_dim);
        }
    }
}

struct attention {
    struct shape shape;
    void *out;
    const void *qkv;
    struct keys keys;
    unsigned char *scratch; // of each member of the team
    size_t scratch_bytes;   // of one
};

static struct scratch scratch_of(const struct attention *attention, size_t member) {
    return scratch_split(&attention->shape, attention->scratch + member * attention->scratch_bytes);
}

// Work items of the tokens that the batch has of a text.
static size_t text_items(const struct shape *shape, const int32_t *starts, size_t text) {
    size_t length = (size_t)(starts[text + 1] - starts[text]);
    return (length + shape->positions - 1) / shape->positions * shape->kv_heads;
}

static struct item find_item(const struct attention *attention, struct cursor *cursor, size_t number) {
    const struct shape *shape = &attention->shape;
    const struct device_texts *texts = attention->keys.texts;
    size_t items = text_items(shape, texts->host_starts, cursor->text);
    while (number >= cursor->before + items) { // a thread gets numbers in ascending order
        cursor->before += items;
        cursor->text++;
        items = text_items(shape, texts->host_starts, cursor->text);
    }
    size_t within = number - cursor->before;
    size_t start = (size_t)texts->host_starts[cursor->text];
    size_t length = (size_t)texts->host_starts[cursor->text + 1] - start;
    size_t first = (items - 1 - within) / shape->kv_heads * shape->positions;
    return (struct item){
        .queries = number_of(attention->qkv, (start + first) * shape->stride, shape->dtype),
        .out = number_in(attention->out, (start + first) * shape->heads * shape->head_dim, shape->dtype),
        .keys = &attention->keys,
        .text = cursor->text,
        .kv_head = within % shape->kv_heads,
        .first = texts_first(texts, cursor->text) + first,
        .count = size_min(shape->positions, length - first),
    };
}

static void attend_piece(const void *job, size_t number, size_t member) {
    const struct attention *attention = job;
    const struct shape *shape = &attention->shape;
    struct scratch mine = scratch_of(attention, member);
    struct item item = find_item(attention, mine.cursor, number);
    micro_kernels_begin(shape->kernels);
    attend_item(shape, &item, &mine);
    micro_kernels_end(shape->kernels);
}

static struct keys keys_of(const void *qkv, struct device_heads heads, const struct device_texts *texts,
                           enum dtype dtype) {
    size_t kept_stride = 2 * heads.kv_heads * heads.head_dim;
    bool kept = texts->kept != NULL;
    return (struct keys){
        .own = kept ? texts->kept : number_of(qkv, device_heads_key(heads), dtype),
        .stride = kept ? kept_stride : device_heads_width(heads),
        .head_stride = kept_stride,
        .texts = texts,
    };
}

int cpu_attention(struct device *device, void *out, const void *qkv, const struct device_attention *shape,
                  struct device_texts texts, void *scratch, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    double started = clock_seconds();
    struct attention attention = {.shape = shape_of(cpu, shape),
                                  .out = out,
                                  .qkv = qkv,
                                  .keys = keys_of(qkv, shape->heads, &texts, cpu->base.dtype),
                                  .scratch = scratch};
    size_t items = 0;
    attention.scratch_bytes = scratch_total(&attention.shape);
    for (size_t i = 0; i < texts.count; i++) {
        items += text_items(&attention.shape, texts.host_starts, i);
    }
    for (size_t m = 0; m < (size_t)cpu->threads; m++) {
        *scratch_of(&attention, m).cursor = (struct cursor){0};
    }
    cpu_team_run(cpu->team, CPU_TEAM_QUEUE, items, attend_piece, &attention);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}

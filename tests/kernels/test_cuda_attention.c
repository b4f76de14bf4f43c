// SPDX-License-Identifier: MIT
// The bits of attention in halves on CUDA, number by number, against the same operations in the same order
// written plainly. They are a function of the text alone: keys come in tiles counted from its start, and no
// layout of warps and blocks, of which the size of a multiprocessor's shared memory chooses one, changes any.
//
// The emulation's matrix instructions add in order; a GPU's do as the hardware likes, so this is for the
// emulation alone.
#include <math.h>

#include "base/random.h"
#include "cuda_testing.h"

static const float LOG2_E = 1.44269504f;

enum {
    LANES = 4,  // share a query: lane c has columns 2 c and 2 c + 1 of every 8 keys
    GROUP = 16, // queries of a warp, and keys of a step of the matmul with values
    TILE_MOST = 64,
    HEAD_MOST = 256,
    BYTES = 8 << 20,
    TOKENS = 700,
    TEXTS = 4,
};

struct layout {
    size_t heads;
    size_t kv_heads;
    size_t head_dim;
    size_t window;
    int32_t lengths[TEXTS];
};

// Groups of 1 to 8 and 16 query heads, last packs that are not full, every build's size of heads and those
// below it, texts of 1 token and tiles that end within, at and after a warp's queries.
static const struct layout layouts[] = {
    {1, 1, 128, 0, {1, 64, 65, 200}}, {4, 2, 128, 0, {15, 16, 17, 150}},  {3, 1, 128, 0, {97, 33, 2, 1}},
    {4, 1, 128, 70, {300, 1, 31, 0}}, {5, 1, 64, 0, {130, 49, 80, 64}},   {6, 1, 64, 33, {129, 7, 0, 66}},
    {14, 2, 64, 0, {1, 48, 113, 5}},  {8, 1, 32, 0, {1, 2, 81, 100}},     {16, 1, 8, 0, {90, 32, 63, 1}},
    {16, 1, 32, 20, {1, 160, 3, 47}}, {2, 1, 96, 0, {65, 1, 190, 16}},    {7, 1, 72, 64, {128, 70, 1, 1}},
    {3, 1, 40, 1, {70, 0, 1, 18}},    {6, 2, 104, 0, {50, 140, 11, 128}}, {4, 2, 192, 0, {1, 100, 36, 64}},
    {3, 1, 136, 40, {90, 20, 1, 2}},  {4, 1, 256, 0, {1, 70, 33, 48}},    {2, 2, 256, 100, {150, 1, 0, 5}},
};

// What a query's lanes and its output have so far.
struct row {
    float maximum;
    float sums[LANES];
    float out[HEAD_MOST];
};

static uint16_t half_of(float x, enum dtype dtype) {
    return dtype == DTYPE_F16 ? f32_to_f16(x) : f32_to_bf16(x);
}

static float rounded(float x, enum dtype dtype) {
    return dtype == DTYPE_F16 ? f16_to_f32(f32_to_f16(x)) : bf16_to_f32(f32_to_bf16(x));
}

// A tile: `keys` keys from `first` on, of which the query sees [low, query]. The matmul with values takes
// groups of keys up to that of the last query of the warp.
static void add_tile(struct row *row, const struct layout *c, enum dtype dtype, const float *q,
                     const float *k, const float *v, size_t first, size_t keys, size_t low, size_t query,
                     size_t length) {
    size_t stride = (c->heads + 2 * c->kv_heads) * c->head_dim;
    float scale = 1.0f / sqrtf((float)c->head_dim) * LOG2_E;
    float p[TILE_MOST];
    float most = row->maximum;
    for (size_t j = 0; j < keys; j++) {
        float score = 0;
        for (size_t d = 0; first + j < length && d < c->head_dim; d++) {
            score += q[d] * k[(first + j) * stride + d];
        }
        p[j] = first + j >= low && first + j <= query ? score : -INFINITY;
        most = fmaxf(most, p[j]);
    }
    float base = most == -INFINITY ? 0.0f : most * scale;
    float factor = exp2f(row->maximum * scale - base);
    row->maximum = most;
    for (size_t lane = 0; lane < LANES; lane++) {
        row->sums[lane] *= factor;
    }
    for (size_t j = 0; j < keys; j++) {
        p[j] = exp2f(fmaf(p[j], scale, -base));
        row->sums[j % 8 / 2] += p[j];
    }
    for (size_t d = 0; d < c->head_dim; d++) {
        row->out[d] *= factor;
        for (size_t j = 0; j < keys && first + j < query / GROUP * GROUP + GROUP && first + j < length; j++) {
            row->out[d] += rounded(p[j], dtype) * v[(first + j) * stride + d];
        }
    }
}

static void query_bits(uint16_t *bits, const struct layout *c, enum dtype dtype, const float *text,
                       size_t head, size_t query, size_t length) {
    size_t kv_head = head / (c->heads / c->kv_heads);
    size_t stride = (c->heads + 2 * c->kv_heads) * c->head_dim;
    size_t keys = c->head_dim <= 128 ? TILE_MOST : TILE_MOST / 2;
    size_t low = c->window > 0 && query + 1 > c->window ? query + 1 - c->window : 0;
    const float *q = text + query * stride + head * c->head_dim;
    const float *k = text + (c->heads + kv_head) * c->head_dim;
    const float *v = k + c->kv_heads * c->head_dim;
    struct row row = {.maximum = -INFINITY};
    for (size_t first = low / keys * keys; first <= query; first += keys) {
        add_tile(&row, c, dtype, q, k, v, first, keys, low, query, length);
    }
    float inverse = 1.0f / ((row.sums[0] + row.sums[1]) + (row.sums[2] + row.sums[3]));
    for (size_t d = 0; d < c->head_dim; d++) {
        bits[d] = half_of(row.out[d] * inverse, dtype);
    }
}

static void compare(const struct layout *c, enum dtype dtype, const float *text, const uint16_t *got,
                    size_t number, size_t length) {
    uint16_t want[HEAD_MOST];
    for (size_t t = 0; t < length; t++) {
        for (size_t h = 0; h < c->heads; h++) {
            const uint16_t *row = got + (t * c->heads + h) * c->head_dim;
            query_bits(want, c, dtype, text, h, t, length);
            for (size_t d = 0; d < c->head_dim; d++) {
                if (row[d] != want[d]) {
                    fprintf(stderr,
                            "%s: %zu heads of %zu, %zu numbers, window %zu, text %zu of %zu, query %zu, head "
                            "%zu, "
                            "number %zu: %#x, wanted %#x\n",
                            dtype_name(dtype), c->heads, c->kv_heads, c->head_dim, c->window, number, length,
                            t, h, d, row[d], want[d]);
                    _exit(1);
                }
            }
        }
    }
}

// [-4, 4), such that the sharpest rows have few probabilities that count; a few exact zeros.
static float *take_numbers(size_t count, enum dtype dtype) {
    uint64_t seed = 20 + count;
    float *numbers = malloc(count * sizeof *numbers);
    REQUIRE(numbers != NULL);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = i % 11 == 3 ? 0 : rounded((float)(8 * random_unit(&seed) - 4), dtype);
    }
    return numbers;
}

static void try_layout(struct rig *rig, const struct layout *c, enum dtype dtype) {
    struct device_plan plan = {.tokens = TOKENS};
    struct device_attention shape = {.heads = {c->heads, c->kv_heads, c->head_dim, 0},
                                     .scale = 1.0f / sqrtf((float)c->head_dim),
                                     .window = c->window};
    int32_t starts[TEXTS + 1] = {0};
    for (size_t i = 0; i < TEXTS; i++) {
        starts[i + 1] = starts[i] + c->lengths[i];
        shape.longest = (size_t)c->lengths[i] > shape.longest ? (size_t)c->lengths[i] : shape.longest;
    }
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        plan.bytes[p] = BYTES;
    }
    rig_open(rig, dtype);
    MUST(device_reserve(rig->device, &plan, &rig->error));

    size_t tokens = (size_t)starts[TEXTS];
    size_t stride = (c->heads + 2 * c->kv_heads) * c->head_dim;
    size_t bytes = tokens * c->heads * c->head_dim * sizeof(uint16_t);
    float *numbers = take_numbers(tokens * stride, dtype);
    void *qkv = rig_take(rig, DEVICE_ACTIVATIONS, tokens * stride * sizeof(uint16_t));
    void *out = rig_take(rig, DEVICE_ACTIVATIONS, bytes);
    void *device_starts = rig_take(rig, DEVICE_ACTIVATIONS, sizeof starts);
    unsigned char *staging = rig_take(rig, DEVICE_STAGING, sizeof starts + bytes);
    memcpy(staging, starts, sizeof starts);
    MUST(device_vector_load(rig->device, qkv, 0, tokens * stride, numbers, weight_format_of(DTYPE_F32),
                            &rig->error));
    MUST(device_upload(rig->device, device_starts, staging, sizeof starts, &rig->error));
    MUST(device_attention(
        rig->device, out, qkv, &shape,
        (struct device_texts){.starts = device_starts, .host_starts = starts, .count = TEXTS}, NULL,
        &rig->error));
    MUST(device_download(rig->device, staging + sizeof starts, out, bytes, &rig->error));
    rig_finish(rig);
    uint16_t *got = malloc(bytes);
    REQUIRE(got != NULL);
    memcpy(got, staging + sizeof starts, bytes);
    for (size_t i = 0; i < TEXTS; i++) {
        compare(c, dtype, numbers + (size_t)starts[i] * stride,
                got + (size_t)starts[i] * c->heads * c->head_dim, i, (size_t)c->lengths[i]);
    }
    free(got);
    free(numbers);
}

static void try_layouts(struct rig *rig) {
    const enum dtype halves[] = {DTYPE_BF16, DTYPE_F16};
    for (size_t i = 0; i < 2 * sizeof layouts / sizeof layouts[0]; i++) {
        try_layout(rig, &layouts[i / 2], halves[i % 2]);
        device_close(rig->device);
        rig->device = NULL;
    }
}

// A multiprocessor of compute capability 8.6: a warp has one head.
static void test_one_head_a_warp(void **state) {
    (void)state;
    in_child("MULTIPROCESSOR_SHARED=102400", try_layouts);
}

// Of 8.0: two, where the keys' head has so many.
static void test_two_heads_a_warp(void **state) {
    (void)state;
    in_child("MULTIPROCESSOR_SHARED=167936", try_layouts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_head_a_warp),
        cmocka_unit_test(test_two_heads_a_warp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

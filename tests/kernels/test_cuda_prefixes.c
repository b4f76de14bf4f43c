// SPDX-License-Identifier: MIT
// Texts that go on from others on CUDA: attention's builds for every size of heads, whose keys lie in rows of
// the batch and of the head, against the kernels of whole texts. What holds on every device is tested in
// test_prefixes.c.
#include "base/size.h"
#include "prefix_trees.h"

struct heads_case {
    struct device_heads heads;
    size_t window;
    size_t chunk;
    float softcap;
    bool sinks;
    bool slopes;
    struct prefix_limits tree;
};

// A build's largest head and one below it; windows and chunks that begin in the head, in another text and in
// the text itself; heads that end with a tile of keys, within one, and after several.
static const struct heads_case cases[] = {
    {.heads = {2, 1, 128, 0}, .tree = {7, 75, 80, false}},
    {.heads = {1, 1, 64, 8}, .window = 50, .tree = {8, 128, 70, false}},
    {.heads = {3, 1, 40, 0}, .tree = {9, 0, 60, false}},
    {.heads = {2, 2, 96, 0}, .tree = {6, 70, 40, false}},
    {.heads = {1, 1, 192, 0}, .tree = {6, 65, 40, false}},
    {.heads = {1, 1, 256, 0}, .window = 33, .tree = {5, 31, 50, false}},
    {.heads = {2, 1, 64, 0}, .softcap = 3.0f, .sinks = true, .tree = {8, 64, 70, false}},
    {.heads = {2, 2, 128, 0}, .chunk = 48, .tree = {6, 90, 50, false}},
    {.heads = {1, 1, 256, 0}, .window = 40, .sinks = true, .slopes = true, .tree = {4, 30, 40, false}},
    {.heads = {1, 1, 512, 0}, .tree = {5, 37, 30, false}},
    {.heads = {2, 1, 264, 0}, .chunk = 32, .tree = {4, 20, 30, false}},
};

struct attending {
    const struct prefix_tree *tree;
    struct device_attention shape;
    size_t stride;
    size_t width;
};

static void *attend(struct bed *bed, const struct attending *call, const float *rows, size_t tokens,
                    struct device_texts texts) {
    void *qkv = bed_put(bed, rows, tokens * call->stride);
    size_t bytes = tokens * call->width * dtype_size(bed->dtype);
    void *out = bed_take(bed, bytes);
    must(bed, device_attention(bed->device, out, qkv, &call->shape, texts, NULL, &bed->error));
    return bed_bytes(bed, out, bytes);
}

// Of the batch that has no token twice.
static void *attend_shared(struct bed *bed, const struct attending *call, const float *numbers) {
    const struct prefix_tree *tree = call->tree;
    const struct device_heads heads = call->shape.heads;
    size_t row = 2 * heads.kv_heads * heads.head_dim * dtype_size(bed->dtype);
    struct device_texts texts = {
        .starts = bed_upload(bed, tree->starts, (tree->count + 1) * sizeof *tree->starts),
        .host_starts = tree->starts,
        .count = tree->count,
        .origins = bed_upload(bed, tree->origins, tree->count * sizeof *tree->origins),
        .host_origins = tree->origins,
        .head_tokens = tree->head_tokens};
    if (tree->head_tokens > 0) {
        void *head = bed_take(bed, tree->head_tokens * row);
        must(bed, device_keep(bed->device, head, 0, bed_put(bed, numbers, tree->head_tokens * call->stride),
                              heads, tree->head_tokens, &bed->error));
        texts.head = head;
    }
    return attend(bed, call, numbers + tree->head_tokens * call->stride, tree->tokens, texts);
}

// And of the one that has each text whole.
static void *attend_whole(struct bed *bed, const struct attending *call, const float *numbers) {
    const struct prefix_tree *tree = call->tree;
    struct device_texts texts = {
        .starts = bed_upload(bed, tree->whole_starts, (tree->count + 1) * sizeof *tree->starts),
        .host_starts = tree->whole_starts,
        .count = tree->count};
    float *rows = prefix_whole(tree, numbers, call->stride);
    void *out = attend(bed, call, rows, tree->whole_tokens, texts);
    free(rows);
    return out;
}

static void try_case(struct bed *bed, const struct heads_case *c, uint64_t seed) {
    static const float sinks[2] = {0.5f, -1};
    static const float slopes[2] = {0.25f, 0.0625f};
    char what[96];
    struct prefix_tree tree = prefix_tree(seed, c->tree);
    struct attending call = {.tree = &tree,
                             .shape = {.heads = c->heads,
                                       .scale = 1.0f / sqrtf((float)c->heads.head_dim),
                                       .window = c->window,
                                       .chunk = c->chunk,
                                       .softcap = c->softcap,
                                       .longest = tree.longest},
                             .stride = device_heads_width(c->heads),
                             .width = c->heads.heads * c->heads.head_dim};
    call.shape.sinks = c->sinks ? bed_put(bed, sinks, c->heads.heads) : NULL;
    call.shape.slopes = c->slopes ? bed_upload(bed, slopes, c->heads.heads * sizeof *slopes) : NULL;
    float *numbers = random_numbers(seed, (tree.head_tokens + tree.tokens) * call.stride, 2.0f, bed->dtype);
    snprintf(what, sizeof what, "%zu heads of %zu over %zu, window %zu, chunk %zu", c->heads.heads,
             c->heads.head_dim, c->heads.kv_heads, c->window, c->chunk);
    void *found = attend_shared(bed, &call, numbers);
    void *wanted = attend_whole(bed, &call, numbers);
    prefix_assert_same(bed, &tree, found, wanted, call.width, what);
    free(found);
    free(wanted);
    free(numbers);
}

static void attention(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bed bed = bed_open(path, dtype, 1);
        try_case(&bed, &cases[i], 10 * i + dtype);
        bed_close(&bed);
    }
}

static void test_attention(void **state) {
    (void)state;
    on_every_path(attention);
}

// ---- the list of tiles, which is kept between calls ----

enum { HEAD = 70, OWN = 40, BATCHES = 4, TEXTS = 3 };

static struct prefix_tree tree_of(const struct device_origin *origins) {
    struct prefix_tree tree = {.count = TEXTS, .head_tokens = HEAD, .tokens = (size_t)TEXTS * OWN};
    for (size_t i = 0; i < TEXTS; i++) {
        tree.origins[i] = origins[i];
        tree.starts[i + 1] = tree.starts[i] + OWN;
        tree.whole_starts[i + 1] = tree.whole_starts[i] + origins[i].before + OWN;
        tree.longest = size_max(tree.longest, prefix_length(&tree, i));
    }
    tree.whole_tokens = (size_t)tree.whole_starts[TEXTS];
    return tree;
}

// Three texts of the same lengths in batches that differ in where they go on from, and in nothing else: the
// last has no origins at all.
static void tiles_follow_origins(const char *path, enum dtype dtype) {
    static const struct device_origin origins[BATCHES][TEXTS] = {
        {{DEVICE_HEAD, HEAD}, {DEVICE_HEAD, HEAD}, {DEVICE_HEAD, HEAD}},
        {{DEVICE_HEAD, HEAD}, {0, HEAD + 30}, {1, HEAD + 50}},
        {{DEVICE_HEAD, 65}, {0, 80}, {0, 20}},
        {{DEVICE_HEAD, 0}, {DEVICE_HEAD, 0}, {DEVICE_HEAD, 0}},
    };
    struct bed bed = bed_open(path, dtype, 1);
    struct prefix_tree trees[BATCHES];
    void *wanted[BATCHES];
    struct attending call = {.shape = {.heads = {2, 1, 16, 0}, .scale = 0.25f, .longest = HEAD + 3 * OWN},
                             .stride = 64,
                             .width = 32};
    float *numbers = random_numbers(1, (HEAD + TEXTS * OWN) * call.stride, 2.0f, dtype);
    for (size_t b = 0; b < BATCHES; b++) {
        trees[b] = tree_of(origins[b]);
        call.tree = &trees[b];
        wanted[b] = attend_whole(&bed, &call, numbers);
    }
    for (size_t b = 0; b <= BATCHES; b++) { // in a row: the last tree as texts with origins, then without
        call.tree = &trees[size_min(b, BATCHES - 1)];
        void *found = b < BATCHES ? attend_shared(&bed, &call, numbers) : attend_whole(&bed, &call, numbers);
        prefix_assert_same(&bed, call.tree, found, wanted[size_min(b, BATCHES - 1)], call.width,
                           "the same lengths behind other tokens");
        free(found);
    }
    for (size_t b = 0; b < BATCHES; b++) {
        free(wanted[b]);
    }
    free(numbers);
    bed_close(&bed);
}

static void test_tiles(void **state) {
    (void)state;
    on_every_path(tiles_follow_origins);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention), cmocka_unit_test(test_tiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
    void *scratch = NULL; // of which it needs none
    void *qkv = bed_put(bed, rows, tokens * call->stride);
    size_t bytes = tokens * call->width * dtype_size(bed->dtype);
    void *out = bed_take(bed, bytes);
    must(bed, device_attention(bed->device, out, qkv, &call->shape, texts, scratch, &bed->error));
    return bed_bytes(bed, out, bytes);
}

static void compare(struct bed *bed, const struct attending *call, const float *numbers, const char *what) {
    const struct prefix_tree *tree = call->tree;
    const struct device_heads heads = call->shape.heads;
    size_t row = 2 * heads.kv_heads * heads.head_dim * dtype_size(bed->dtype);
    void *head = NULL;
    if (tree->head_tokens > 0) {
        head = bed_take(bed, tree->head_tokens * row);
        must(bed, device_keep(bed->device, head, 0, bed_put(bed, numbers, tree->head_tokens * call->stride),
                              heads, tree->head_tokens, &bed->error));
    }
    struct device_texts shared = {
        .starts = bed_upload(bed, tree->starts, (tree->count + 1) * sizeof *tree->starts),
        .host_starts = tree->starts,
        .count = tree->count,
        .origins = bed_upload(bed, tree->origins, tree->count * sizeof *tree->origins),
        .host_origins = tree->origins,
        .head = head,
        .head_tokens = tree->head_tokens};
    struct device_texts whole = {
        .starts = bed_upload(bed, tree->whole_starts, (tree->count + 1) * sizeof *tree->starts),
        .host_starts = tree->whole_starts,
        .count = tree->count};
    float *whole_numbers = prefix_whole(tree, numbers, call->stride);
    void *found = attend(bed, call, numbers + tree->head_tokens * call->stride, tree->tokens, shared);
    void *wanted = attend(bed, call, whole_numbers, tree->whole_tokens, whole);
    prefix_assert_same(bed, tree, found, wanted, call->width, what);
    free(whole_numbers);
    free(found);
    free(wanted);
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
    compare(bed, &call, numbers, what);
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// Texts that go on from others or from the head have the bits that they have whole: attention in batches and
// slices, and rows pooled over spans that reach back. On every path, for random trees of texts.
#include "prefix_trees.h"

struct tree_case {
    struct device_heads heads;
    struct prefix_limits limits;
    size_t window;
    size_t chunk;
    float softcap;
    bool sinks;
    bool slopes;
};

// Blocks of keys have 256, tiles of queries up to 32: texts begin and end within both. Heads that end before
// and within the first block and behind it; windows and chunks that begin in the head, at its end and behind
// it. On a GPU heads are multiples of 8; there the other cases are left out.
static const struct tree_case cases[] = {
    {.heads = {2, 1, 16, 0}, .limits = {.texts = 12, .own = 50}},
    {.heads = {4, 2, 32, 0}, .limits = {.texts = 8, .head = 270, .own = 40}},
    {.heads = {3, 1, 10, 0}, .limits = {.texts = 7, .head = 33, .own = 150}},
    {.heads = {2, 1, 64, 0}, .limits = {.texts = 6, .head = 512, .own = 20, .head_alone = true}},
    {.heads = {2, 2, 40, 8}, .limits = {.texts = 9, .head = 100, .own = 70}, .window = 64},
    {.heads = {1, 1, 72, 0}, .limits = {.texts = 9, .head = 300, .own = 30}, .window = 290},
    {.heads = {5, 1, 24, 0}, .limits = {.texts = 12, .head = 31, .own = 60}, .window = 1},
    {.heads = {2, 1, 16, 24}, .limits = {.texts = 8, .head = 250, .own = 90}, .chunk = 100},
    {.heads = {4, 1, 8, 0}, .limits = {.texts = 9, .head = 1, .own = 80}, .softcap = 3.0f, .sinks = true},
    {.heads = {2, 2, 16, 0}, .limits = {.texts = 8, .head = 257, .own = 33}, .slopes = true},
    {.heads = {2, 2, 8, 0},
     .limits = {.texts = 16, .head = 64, .own = 9},
     .window = 50,
     .sinks = true,
     .slopes = true},
    {.heads = {1, 1, 128, 0}, .limits = {.texts = 6, .own = 130}, .window = 130, .chunk = 200},
};

struct layer {
    struct device_attention shape;
    size_t stride;
    size_t width; // of what comes out
    void *scratch;
};

static struct layer put_layer(struct bed *bed, const struct tree_case *c, size_t longest) {
    static const float sinks[5] = {0.5f, -1, 2, 0, 1};
    static const float slopes[5] = {0.25f, 0.0625f, 0.5f, 0.125f, 1};
    struct layer layer = {.stride = device_heads_width(c->heads),
                          .width = c->heads.heads * c->heads.head_dim,
                          .shape = {.heads = c->heads,
                                    .scale = 1.0f / sqrtf((float)c->heads.head_dim),
                                    .window = c->window,
                                    .chunk = c->chunk,
                                    .softcap = c->softcap,
                                    .longest = longest}};
    layer.shape.sinks = c->sinks ? bed_put(bed, sinks, c->heads.heads) : NULL;
    layer.shape.slopes = c->slopes ? bed_upload(bed, slopes, c->heads.heads * sizeof *slopes) : NULL;
    size_t bytes;
    assert_true(device_attention_scratch(bed->device, &layer.shape, &bytes));
    must(bed, device_take(bed->device, DEVICE_SCRATCH, bytes, &layer.scratch, &bed->error));
    return layer;
}

static size_t kept_width(const struct layer *layer) {
    return layer->stride - device_heads_key(layer->shape.heads);
}

// Keys and values of rows of q | k | v, as they are kept.
static void *keep_rows(struct bed *bed, const struct layer *layer, const float *rows, size_t count) {
    void *kept = bed_take(bed, count * kept_width(layer) * dtype_size(bed->dtype));
    void *qkv = bed_put(bed, rows, count * layer->stride);
    must(bed, device_keep(bed->device, kept, 0, qkv, layer->shape.heads, count, &bed->error));
    return kept;
}

static unsigned char *attend(struct bed *bed, const struct layer *layer, const float *rows,
                             struct device_texts texts) {
    size_t tokens = (size_t)texts.host_starts[texts.count];
    size_t bytes = tokens * layer->width * dtype_size(bed->dtype);
    void *qkv = bed_put(bed, rows, tokens * layer->stride);
    void *out = bed_take(bed, bytes);
    texts.starts = bed_upload(bed, texts.host_starts, (texts.count + 1) * sizeof *texts.starts);
    texts.origins = texts.host_origins != NULL
                        ? bed_upload(bed, texts.host_origins, texts.count * sizeof *texts.origins)
                        : NULL;
    must(bed, device_attention(bed->device, out, qkv, &layer->shape, texts, layer->scratch, &bed->error));
    return bed_bytes(bed, out, bytes);
}

// The rows with keys and values that nobody may read.
static float *spoil_keys(const struct layer *layer, const float *rows, size_t count) {
    size_t bytes = count * layer->stride * sizeof *rows;
    float *spoilt = malloc(bytes + 1);
    assert_non_null(spoilt);
    memcpy(spoilt, rows, bytes);
    for (size_t t = 0; t < count; t++) {
        for (size_t i = device_heads_key(layer->shape.heads); i < layer->stride; i++) {
            spoilt[t * layer->stride + i] = NAN;
        }
    }
    return spoilt;
}

static void try_tree(const char *path, enum dtype dtype, const struct tree_case *c, uint64_t seed) {
    struct bed bed = bed_open(path, dtype, 2);
    struct prefix_tree tree = prefix_tree(seed, c->limits);
    struct layer layer = put_layer(&bed, c, tree.longest);
    float *rows = random_numbers(seed, (tree.head_tokens + tree.tokens) * layer.stride, 2.0f, dtype);
    float *whole_rows = prefix_whole(&tree, rows, layer.stride);
    const float *batch = rows + tree.head_tokens * layer.stride;
    struct device_texts texts = {.host_starts = tree.whole_starts, .count = tree.count};
    unsigned char *whole = attend(&bed, &layer, whole_rows, texts);

    texts.host_starts = tree.starts;
    texts.host_origins = tree.origins;
    texts.head = tree.head_tokens > 0 ? keep_rows(&bed, &layer, rows, tree.head_tokens) : NULL;
    texts.head_tokens = tree.head_tokens;
    unsigned char *shared = attend(&bed, &layer, batch, texts);
    prefix_assert_same(&bed, &tree, shared, whole, layer.width, "attention");

    float *spoilt = spoil_keys(&layer, batch, tree.tokens);
    texts.kept = keep_rows(&bed, &layer, batch, tree.tokens);
    unsigned char *from_kept = attend(&bed, &layer, spoilt, texts);
    prefix_assert_same(&bed, &tree, from_kept, whole, layer.width, "attention with another layer's keys");
    free(from_kept);
    free(spoilt);
    free(shared);
    free(whole);
    free(whole_rows);
    free(rows);
    bed_close(&bed);
}

static void trees(const char *path, enum dtype dtype) {
    uint64_t rounds = test_on_cpu() && strcmp(path, "amxbf16-twin") != 0 ? 3 : 1; // that one takes its time
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (test_on_cpu() || cases[i].heads.head_dim % 8 == 0) {
            for (uint64_t round = 0; round < rounds; round++) {
                try_tree(path, dtype, &cases[i], 100 * round + i);
            }
        }
    }
}

static void attention_has_the_bits_of_whole_texts(void **state) {
    (void)state;
    on_every_path(trees);
}

// ---- slices behind a head ----

static void try_slices(const char *path, enum dtype dtype, const struct tree_case *c, size_t head,
                       size_t slice) {
    enum { OWN = 451 };
    struct bed bed = bed_open(path, dtype, 2);
    struct layer layer = put_layer(&bed, c, head + OWN);
    float *rows = random_numbers(head, (head + OWN) * layer.stride, 2.0f, dtype);
    const float *own = rows + head * layer.stride;
    float *spoilt = spoil_keys(&layer, own, OWN);
    size_t row = layer.width * dtype_size(dtype);
    const int32_t all[2] = {0, (int32_t)head + OWN};
    struct device_texts texts = {.host_starts = all, .count = 1};
    unsigned char *whole = attend(&bed, &layer, rows, texts);
    const struct device_origin origin = {DEVICE_HEAD, (int32_t)head};
    texts.host_origins = &origin;
    texts.head = keep_rows(&bed, &layer, rows, head);
    texts.head_tokens = head;
    void *kept = bed_take(&bed, OWN * kept_width(&layer) * dtype_size(dtype));
    texts.kept = kept;
    for (size_t first = 0; first < OWN; first += slice) {
        size_t count = size_min(slice, OWN - first);
        const int32_t starts[2] = {0, (int32_t)count};
        texts.host_starts = starts;
        texts.before = head + first;
        void *qkv = bed_put(&bed, own + first * layer.stride, count * layer.stride);
        must(&bed, device_keep(bed.device, kept, first, qkv, c->heads, count, &bed.error));
        unsigned char *found = attend(&bed, &layer, spoilt + first * layer.stride, texts);
        if (memcmp(found, whole + (head + first) * row, count * row) != 0) {
            fail_msg("path %s, %s: slices of %zu behind a head of %zu differ at token %zu", path,
                     dtype_name(dtype), slice, head, first);
        }
        free(found);
    }
    free(spoilt);
    free(whole);
    free(rows);
    bed_close(&bed);
}

static void slices(const char *path, enum dtype dtype) {
    static const struct tree_case shapes[] = {{.heads = {2, 1, 32, 0}},
                                              {.heads = {2, 1, 16, 0}, .window = 200},
                                              {.heads = {3, 1, 8, 0}, .chunk = 150, .sinks = true}};
    try_slices(path, dtype, &shapes[0], 270, DEVICE_SLICE);
    try_slices(path, dtype, &shapes[1], 100, 2 * DEVICE_SLICE);
    try_slices(path, dtype, &shapes[2], 7, DEVICE_SLICE);
}

static void slices_behind_a_head_have_the_bits_of_the_whole(void **state) {
    (void)state;
    on_every_path(slices);
}

// ---- pooling ----

enum { HIDDEN = 264, SPANS_EACH = 5 };

// Of a text: all of it, its first and its last token, and two spans that begin and end anywhere.
static void span_of(size_t number, size_t length, uint64_t *seed, size_t *first, size_t *end) {
    *first = 0;
    *end = length;
    if (number == 1) {
        *end = 1;
    } else if (number == 2) {
        *first = length - 1;
    } else if (number > 2) {
        *first = random_below(seed, length);
        *end = *first + 1 + random_below(seed, length - *first);
    }
}

static unsigned char *pool(struct bed *bed, const float *x, size_t tokens, const struct device_span *spans,
                           size_t rows, const struct device_texts *texts) {
    void *out = bed_take(bed, rows * HIDDEN * sizeof(float));
    void *checks = bed_take(bed, rows * sizeof(struct device_row_check));
    must(bed, device_pool(bed->device, out, DTYPE_F32, checks, bed_put(bed, x, tokens * HIDDEN),
                          bed_upload(bed, spans, rows * sizeof *spans), texts, rows, HIDDEN, &bed->error));
    return bed_bytes(bed, out, rows * HIDDEN * sizeof(float));
}

static struct device_texts put_texts(struct bed *bed, const struct prefix_tree *tree, const void *head) {
    return (struct device_texts){
        .starts = bed_upload(bed, tree->starts, (tree->count + 1) * sizeof tree->starts[0]),
        .host_starts = tree->starts,
        .count = tree->count,
        .origins = bed_upload(bed, tree->origins, tree->count * sizeof tree->origins[0]),
        .host_origins = tree->origins,
        .head = head,
        .head_tokens = tree->head_tokens,
    };
}

static void pool_tree(const char *path, enum dtype dtype, uint64_t seed, struct prefix_limits limits) {
    struct bed bed = bed_open(path, dtype, 2);
    struct prefix_tree tree = prefix_tree(seed, limits);
    struct device_span spans[PREFIX_TEXTS_MOST * SPANS_EACH];
    struct device_span whole_spans[PREFIX_TEXTS_MOST * SPANS_EACH];
    size_t rows = tree.count * SPANS_EACH;
    for (size_t i = 0; i < rows; i++) {
        size_t first;
        size_t end;
        span_of(i % SPANS_EACH, prefix_length(&tree, i / SPANS_EACH), &seed, &first, &end);
        spans[i] = prefix_span(&tree, i / SPANS_EACH, first, end);
        whole_spans[i] = prefix_whole_span(&tree, i / SPANS_EACH, first, end);
    }
    float *x = random_numbers(seed, (tree.head_tokens + tree.tokens) * HIDDEN, 3.0f, dtype);
    float *whole_x = prefix_whole(&tree, x, HIDDEN);
    void *head = tree.head_tokens > 0 ? bed_put(&bed, x, tree.head_tokens * HIDDEN) : NULL;
    struct device_texts texts = put_texts(&bed, &tree, head);
    unsigned char *wanted = pool(&bed, whole_x, tree.whole_tokens, whole_spans, rows, NULL);
    unsigned char *found = pool(&bed, x + tree.head_tokens * HIDDEN, tree.tokens, spans, rows, &texts);
    for (size_t i = 0; i < rows * HIDDEN; i++) {
        float number;
        memcpy(&number, wanted + i * sizeof number, sizeof number);
        if (!isfinite(number) || memcmp(found + i * sizeof number, &number, sizeof number) != 0) {
            fail_msg("path %s, %s: span [%d, %d) of text %zu differs", path, dtype_name(dtype),
                     spans[i / HIDDEN].start, spans[i / HIDDEN].end, i / HIDDEN / SPANS_EACH);
        }
    }
    free(found);
    free(wanted);
    free(whole_x);
    free(x);
    bed_close(&bed);
}

static void pools(const char *path, enum dtype dtype) {
    pool_tree(path, dtype, 1, (struct prefix_limits){.texts = 12, .head = 40, .own = 9});
    pool_tree(path, dtype, 2, (struct prefix_limits){.texts = 12, .own = 12});
    pool_tree(path, dtype, 3, (struct prefix_limits){.texts = 9, .head = 70, .own = 5, .head_alone = true});
    pool_tree(path, dtype, 4, (struct prefix_limits){.texts = 16, .head = 3, .own = 4});
}

// x has a long text's rows, the starts only those of its last slice.
static void pools_slices(const char *path, enum dtype dtype) {
    enum { HEAD = 5, OWN = 9, SLICE = 2 };
    static const struct device_span spans[] = {{-5, 9}, {-2, 1}, {8, 9}, {-5, 0}, {3, 7}};
    enum { ROWS = sizeof spans / sizeof spans[0] };
    struct device_span whole_spans[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        whole_spans[i] = (struct device_span){spans[i].start + HEAD, spans[i].end + HEAD};
    }
    struct bed bed = bed_open(path, dtype, 1);
    struct prefix_tree tree = {.count = 1,
                               .head_tokens = HEAD,
                               .tokens = SLICE,
                               .starts = {0, SLICE},
                               .origins = {{DEVICE_HEAD, HEAD}}};
    float *x = random_numbers(9, (HEAD + OWN) * HIDDEN, 3.0f, dtype);
    struct device_texts texts = put_texts(&bed, &tree, bed_put(&bed, x, HEAD * HIDDEN));
    unsigned char *wanted = pool(&bed, x, HEAD + OWN, whole_spans, ROWS, NULL);
    unsigned char *found = pool(&bed, x + HEAD * HIDDEN, OWN, spans, ROWS, &texts);
    assert_memory_equal(found, wanted, ROWS * HIDDEN * sizeof(float));
    free(found);
    free(wanted);
    free(x);
    bed_close(&bed);
}

static void spans_that_reach_back_have_the_bits_of_whole_texts(void **state) {
    (void)state;
    on_every_path(pools);
    on_every_path(pools_slices);
}

// ---- refusals ----

enum { HEAD_ROWS = 6 };

struct refusals { // a bed to be refused in
    struct bed bed;
    struct device_attention shape;
    void *buffer;
    void *scratch;
};

// why NULL: the texts are computed.
static void attempt(struct refusals *r, struct device_texts texts, const char *why) {
    int status =
        device_attention(r->bed.device, r->buffer, r->buffer, &r->shape, texts, r->scratch, &r->bed.error);
    if (why == NULL) {
        must(&r->bed, status);
        return;
    }
    assert_int_equal(status, STATUS_INTERNAL);
    if (strstr(r->bed.error.message, why) == NULL) {
        fail_msg("refused for \"%s\", not for \"%s\"", r->bed.error.message, why);
    }
}

static struct refusals take_refusals(void) {
    struct refusals r = {.bed = bed_open("portable", DTYPE_F32, 1),
                         .shape = {.heads = {1, 1, 8}, .scale = 1, .longest = HEAD_ROWS + 14}};
    size_t bytes;
    r.buffer = bed_take(&r.bed, 16384);
    assert_true(device_attention_scratch(r.bed.device, &r.shape, &bytes));
    must(&r.bed, device_take(r.bed.device, DEVICE_SCRATCH, bytes, &r.scratch, &r.bed.error));
    return r;
}

static const int32_t few_starts[] = {0, 4, 8, 10};
enum { FEW = 3 };

static void what_is_no_origin_is_refused(void **state) {
    (void)state;
    struct refusals r = take_refusals();
    const struct {
        struct device_origin origins[FEW];
        const char *why;
    } tries[] = {
        {{{DEVICE_HEAD, HEAD_ROWS}, {0, HEAD_ROWS + 4}, {1, HEAD_ROWS + 8}}, NULL},
        {{{DEVICE_HEAD, 0}, {DEVICE_HEAD, 3}, {0, 4}}, NULL},
        {{{0, 1}, {DEVICE_HEAD, 0}, {DEVICE_HEAD, 0}}, "from none before it"},
        {{{DEVICE_HEAD, 0}, {2, 1}, {DEVICE_HEAD, 0}}, "from none before it"},
        {{{DEVICE_HEAD, 0}, {-2, 1}, {DEVICE_HEAD, 0}}, "from none before it"},
        {{{DEVICE_HEAD, 0}, {0, -1}, {DEVICE_HEAD, 0}}, "from none before it"},
        {{{DEVICE_HEAD, HEAD_ROWS + 1}, {0, 4}, {0, 4}}, "from more than the head has"},
        {{{DEVICE_HEAD, HEAD_ROWS}, {0, HEAD_ROWS + 5}, {0, 4}}, "from more than another one has"},
        {{{DEVICE_HEAD, 0}, {0, 4}, {1, 9}}, "from more than another one has"},
    };
    const struct device_span span = {0, 1};
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        struct device_texts texts = {
            .starts = bed_upload(&r.bed, few_starts, sizeof few_starts),
            .host_starts = few_starts,
            .count = FEW,
            .origins = bed_upload(&r.bed, tries[i].origins, sizeof tries[i].origins),
            .host_origins = tries[i].origins,
            .head = r.buffer,
            .head_tokens = HEAD_ROWS,
        };
        attempt(&r, texts, tries[i].why);
        int pooled = device_pool(r.bed.device, r.buffer, DTYPE_F32, bed_take(&r.bed, 64), r.buffer,
                                 bed_upload(&r.bed, &span, sizeof span), &texts, 1, 8, &r.bed.error);
        assert_int_equal(pooled, tries[i].why == NULL ? STATUS_OK : STATUS_INTERNAL);
        texts.origins = NULL;
        attempt(&r, texts, "origins are in one memory alone");
    }
    const struct device_origin origin = {DEVICE_HEAD, 0};
    const struct device_texts nowhere = {.count = 1, .origins = &origin, .host_origins = &origin};
    int pooled = device_pool(r.bed.device, r.buffer, DTYPE_F32, bed_take(&r.bed, 64), r.buffer, &span,
                             &nowhere, 1, 8, &r.bed.error);
    assert_int_equal(pooled, STATUS_INTERNAL);
    bed_close(&r.bed);
}

static void what_is_no_slice_behind_a_head_is_refused(void **state) {
    (void)state;
    struct refusals r = take_refusals();
    const struct device_origin origin = {DEVICE_HEAD, HEAD_ROWS};
    const int32_t starts[] = {0, 4};
    const struct device_texts right = {
        .starts = bed_upload(&r.bed, starts, sizeof starts),
        .host_starts = starts,
        .count = 1,
        .kept = r.buffer,
        .before = HEAD_ROWS,
        .origins = bed_upload(&r.bed, &origin, sizeof origin),
        .host_origins = &origin,
        .head = r.buffer,
        .head_tokens = HEAD_ROWS,
    };
    attempt(&r, right, NULL);
    struct device_texts texts = right;
    texts.before = HEAD_ROWS - 1;
    attempt(&r, texts, "a slice begins within a tile");
    texts.before = DEVICE_SLICE;
    attempt(&r, texts, "a slice begins within a tile");
    texts.before = HEAD_ROWS + DEVICE_SLICE;
    attempt(&r, texts, "the longest was planned as 20");
    texts = right;
    texts.kept = NULL;
    attempt(&r, texts, "kept keys and values are missing");
    texts = right;
    texts.head = NULL;
    attempt(&r, texts, "from more than the head has");
    texts = right;
    r.shape.longest = HEAD_ROWS + 3;
    attempt(&r, texts, "behind 6 and the longest was planned as 9");
    bed_close(&r.bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_has_the_bits_of_whole_texts),
        cmocka_unit_test(slices_behind_a_head_have_the_bits_of_the_whole),
        cmocka_unit_test(spans_that_reach_back_have_the_bits_of_whole_texts),
        cmocka_unit_test(what_is_no_origin_is_refused),
        cmocka_unit_test(what_is_no_slice_behind_a_head_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

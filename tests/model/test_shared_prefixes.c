// SPDX-License-Identifier: MIT
// Texts that go on from others of their batch, and from the head, have the bits of texts that are computed
// whole: every wanted layer, pooled over spans wherever they lie, for families of every kind, in random
// trees, where blocks stream, where the head or a text runs in slices. Kept in fewer bits the head moves
// numbers, but not far.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "algorithms.h"
#include "base/size.h"
#include "golden.h"
#include "golden_parity.h"
#include "kernels/shapes.h"
#include "model/model.h"

enum { MOST_LAYERS = 8, TEXTS = 7, ROWS = 9, SLOTS = 4, MOST_BATCHES = 2 };

static const size_t every_layer[MOST_LAYERS] = {0, 1, 2, 3, 4, 5, 6, 7};

// ---- trees ----

struct span { // of a text
    size_t text;
    size_t start;
    size_t end;
};

struct tree {
    size_t texts;
    size_t head_tokens;
    int32_t *head;
    int32_t *ids[TEXTS]; // of each text, whole
    size_t lengths[TEXTS];
    struct device_origin origins[TEXTS];
    struct span spans[TEXTS * ROWS];
    size_t rows;
    size_t tokens;       // that are computed
    size_t whole_tokens; // of all texts
    size_t longest;
    size_t longest_own;
};

struct shape { // of a tree
    size_t texts;
    size_t head;
    size_t own;       // most tokens of a text that are its own
    bool head_alone;  // texts go on from the head or from nothing
    size_t long_text; // own tokens of the only text; 0: random ones
};

static size_t vocabulary_of(const struct golden *golden) {
    json_t *config = json_object_get(golden->json, "config");
    json_t *nested = json_object_get(config, "text_config");
    return (size_t)json_integer_value(json_object_get(nested == NULL ? config : nested, "vocab_size"));
}

static struct device_origin make_origin(const struct tree *tree, const struct shape *shape, size_t text,
                                        uint64_t *seed) {
    size_t kind = random_below(seed, 8);
    if (text > 0 && kind < 5 && !shape->head_alone) {
        size_t parent = random_below(seed, text);
        return (struct device_origin){(int32_t)parent,
                                      (int32_t)(1 + random_below(seed, tree->lengths[parent]))};
    }
    bool goes_on = kind != 7 || shape->long_text > 0;
    return (struct device_origin){DEVICE_HEAD, goes_on ? (int32_t)shape->head : 0};
}

static void make_text(struct tree *tree, const struct shape *shape, size_t text, size_t vocabulary,
                      uint64_t *seed) {
    struct device_origin origin = make_origin(tree, shape, text, seed);
    size_t before = (size_t)origin.before;
    size_t own = shape->long_text > 0 ? shape->long_text : 1 + random_below(seed, shape->own);
    const int32_t *from = origin.parent == DEVICE_HEAD ? tree->head : tree->ids[origin.parent];
    int32_t *ids = calloc(before + own, sizeof *ids);
    for (size_t t = 0; t < before + own; t++) {
        ids[t] = t < before ? from[t] : (int32_t)random_below(seed, vocabulary);
    }
    tree->origins[text] = origin;
    tree->ids[text] = ids;
    tree->lengths[text] = before + own;
    tree->tokens += own;
    tree->whole_tokens += before + own;
    tree->longest = size_max(tree->longest, before + own);
    tree->longest_own = size_max(tree->longest_own, own);
}

// The whole text, its last token, what begins where it goes on, what ends there, and spans anywhere.
static void make_spans(struct tree *tree, size_t text, uint64_t *seed) {
    size_t length = tree->lengths[text];
    size_t seam = (size_t)tree->origins[text].before;
    tree->spans[tree->rows++] = (struct span){text, 0, length};
    tree->spans[tree->rows++] = (struct span){text, length - 1, length};
    tree->spans[tree->rows++] = (struct span){text, seam, length};
    if (seam > 0) {
        tree->spans[tree->rows++] = (struct span){text, 0, seam};
        tree->spans[tree->rows++] = (struct span){text, seam - 1, seam + 1};
    }
    for (size_t i = 0; i < 4; i++) {
        size_t start = random_below(seed, length);
        tree->spans[tree->rows++] =
            (struct span){text, start, start + 1 + random_below(seed, length - start)};
    }
}

static void make_tree(struct tree *tree, const struct shape *shape, size_t vocabulary, uint64_t seed) {
    *tree = (struct tree){.texts = shape->texts, .head_tokens = shape->head};
    tree->head = calloc(size_max(shape->head, 1), sizeof *tree->head);
    for (size_t t = 0; t < shape->head; t++) {
        tree->head[t] = (int32_t)random_below(&seed, vocabulary);
    }
    for (size_t i = 0; i < tree->texts; i++) {
        make_text(tree, shape, i, vocabulary, &seed);
        make_spans(tree, i, &seed);
    }
}

static void free_tree(struct tree *tree) {
    free(tree->head);
    for (size_t i = 0; i < tree->texts; i++) {
        free(tree->ids[i]);
    }
}

// ---- batches of them ----

struct packed {
    int32_t *ids;
    int32_t starts[TEXTS + 1];
    struct device_span spans[TEXTS * ROWS];
    struct model_batch batch;
};

// Where a token of a text is in the batch that has no token twice: below 0 in the head.
static int32_t place_of(const struct tree *tree, const int32_t *starts, size_t text, size_t position) {
    int32_t at = (int32_t)text;
    while (at != DEVICE_HEAD && (int32_t)position < tree->origins[at].before) {
        at = tree->origins[at].parent;
    }
    return at == DEVICE_HEAD ? (int32_t)position - (int32_t)tree->head_tokens
                             : starts[at] + (int32_t)position - tree->origins[at].before;
}

static void pack(struct packed *out, const struct tree *tree, bool whole, size_t slot) {
    size_t tokens = 0;
    *out = (struct packed){.ids = calloc(tree->whole_tokens, sizeof *out->ids)};
    for (size_t i = 0; i < tree->texts; i++) {
        size_t before = whole ? 0 : (size_t)tree->origins[i].before;
        size_t own = tree->lengths[i] - before;
        memcpy(out->ids + tokens, tree->ids[i] + before, own * sizeof *out->ids);
        tokens += own;
        out->starts[i + 1] = (int32_t)tokens;
    }
    for (size_t r = 0; r < tree->rows; r++) {
        const struct span *span = &tree->spans[r];
        int32_t end = whole ? out->starts[span->text] + (int32_t)span->end
                            : place_of(tree, out->starts, span->text, span->end - 1) + 1;
        out->spans[r] = (struct device_span){end - (int32_t)(span->end - span->start), end};
    }
    out->batch = (struct model_batch){.ids = out->ids,
                                      .starts = out->starts,
                                      .spans = out->spans,
                                      .origins = whole ? NULL : tree->origins,
                                      .tokens = tokens,
                                      .texts = tree->texts,
                                      .rows = tree->rows,
                                      .slot = slot};
}

static struct model_limits whole_limits(const struct golden *golden, const struct tree *tree) {
    return (struct model_limits){.layers = every_layer,
                                 .layer_count = golden->layers + 2,
                                 .tokens = size_max(tree->whole_tokens, tree->rows),
                                 .texts = TEXTS,
                                 .rows = tree->rows,
                                 .longest = tree->longest,
                                 .stored = DTYPE_F32,
                                 .slots = SLOTS};
}

static struct model_limits shared_limits(const struct golden *golden, const struct tree *tree,
                                         size_t tokens) {
    struct model_limits limits = whole_limits(golden, tree);
    limits.tokens = tokens > 0 ? tokens : tree->tokens;
    limits.tokens = size_max(limits.tokens, size_min(tree->head_tokens, tokens > 0 ? tokens : SIZE_MAX));
    limits.texts = size_min(TEXTS, limits.tokens);
    limits.rows = TEXTS * ROWS;
    limits.longest = size_max(tree->longest, tree->head_tokens + 1);
    limits.longest_own = size_max(tree->longest_own, tree->head_tokens);
    limits.head = tree->head_tokens;
    limits.head_rows = tree->head_tokens > 0;
    return limits;
}

struct way { // that a model is computed
    struct model_placement placement;
    size_t more; // devices beside the first
    enum model_split split;
};

static const struct way plain_way;

struct tuned { // whose matmuls another model computes alike
    const struct model *model;
    size_t tokens; // of its limits
};

// whole: NULL where it is that which is opened.
static struct model *open_for(const struct golden *golden, enum dtype dtype, const struct way *way,
                              const struct model_limits *limits, const struct tree *tree,
                              const struct tuned *whole) {
    struct error err = {0};
    struct model_load_options loading = {.timeout_seconds = 60};
    struct model_resident pieces;
    struct model_plan plan;
    struct model *model = open_on_device(golden->folder, dtype, 2);
    for (size_t i = 0; i < way->more; i++) {
        struct device_options options = {.dtype = dtype, .threads = 1};
        struct device *device;
        must(device_open(&device, test_device(), &options, &err), &err);
        must(model_add_device(model, device, "another", &err), &err);
    }
    model_set_split(model, way->split);
    model_set_placement(model, &way->placement);
    must(model_plan(model, limits, &plan, &err), &err);
    must(model_reserve(model, &plan, &err), &err);
    must(model_load(model, limits, &loading, &err), &err);
    must(model_check_resident(model, &pieces, &err), &err);
    if (whole != NULL) {
        must(take_algorithms(model, limits->tokens, whole->model, whole->tokens, &err), &err);
    }
    must(model_tune(model, NULL, NULL, &err), &err);
    if (limits->head > 0) {
        must(model_set_head(model, tree->head, &err), &err);
    }
    must(model_check(model, &err), &err);
    model_seal(model);
    return model;
}

static void compute(struct model *model, size_t lane, const struct packed *packed, size_t count) {
    struct error err = {0};
    const struct model_batch *batches[MOST_BATCHES] = {NULL};
    for (size_t i = 0; i < count; i++) {
        batches[i] = &packed[i].batch;
    }
    must(model_sweep(model, lane, batches, count, &err), &err);
    for (size_t i = 0; i < count; i++) {
        must(model_wait(model, packed[i].batch.slot, NULL, &err), &err);
    }
}

static void assert_same(const struct golden *golden, const struct model *whole, size_t whole_slot,
                        const struct model *shared, size_t slot, const struct tree *tree, const char *what) {
    struct model_output wanted;
    struct model_output found;
    model_outputs(whole, whole_slot, &wanted);
    model_outputs(shared, slot, &found);
    for (size_t layer = 0; layer < golden->layers + 2; layer++) {
        for (size_t r = 0; r < tree->rows; r++) {
            const float *a = (const float *)found.rows[layer] + r * golden->hidden;
            const float *b = (const float *)wanted.rows[layer] + r * golden->hidden;
            for (size_t i = 0; i < golden->hidden; i++) {
                assert_true(isfinite(a[i]) && isfinite(b[i]));
            }
            if (memcmp(a, b, golden->hidden * sizeof *a) != 0) {
                const struct span *span = &tree->spans[r];
                fail_msg(
                    "%s: layer %zu differs in tokens %zu to %zu of text %zu, which goes on from %d after %d",
                    what, layer, span->start, span->end, span->text, tree->origins[span->text].parent,
                    tree->origins[span->text].before);
            }
        }
    }
}

// ---- the same bits ----

static bool shares_in_batches(const struct golden *golden) {
    struct error err = {0};
    struct model *model;
    must(model_open(&model, golden->folder, &err), &err);
    bool shares = model_shares_in_batches(model);
    model_close(model);
    return shares;
}

// A tree in one batch; with a long text in slices of `tokens`.
static void try_tree(const char *name, enum dtype dtype, struct shape shape, size_t tokens, uint64_t seed) {
    struct golden golden;
    struct tree tree;
    struct packed whole_batch;
    struct packed batch;
    char what[96];
    golden_open(&golden, name);
    shape.head_alone = !shares_in_batches(&golden);
    make_tree(&tree, &shape, vocabulary_of(&golden), seed);
    pack(&whole_batch, &tree, true, 0);
    pack(&batch, &tree, false, 1);
    struct model_limits limits = whole_limits(&golden, &tree);
    struct model *whole = open_for(&golden, dtype, &plain_way, &limits, &tree, NULL);
    const struct tuned tuned = {whole, limits.tokens};
    limits = shared_limits(&golden, &tree, tokens);
    assert_true(model_limits_slice(&limits));
    struct model *shared = open_for(&golden, dtype, &plain_way, &limits, &tree, &tuned);
    compute(whole, 0, &whole_batch, 1);
    compute(shared, 0, &batch, 1);
    snprintf(what, sizeof what, "%s, %s, seed %llu", name, dtype_name(dtype), (unsigned long long)seed);
    assert_same(&golden, whole, 0, shared, 1, &tree, what);
    model_close(shared);
    model_close(whole);
    free(batch.ids);
    free(whole_batch.ids);
    free_tree(&tree);
    golden_close(&golden);
}

// In float32 a product that is not batch-invariant shows it, small as these are, to the model that chooses
// it.
static const struct {
    const char *name;
    enum dtype dtype;
} cases[] = {{"qwen3", DTYPE_BF16},
             {"llama", DTYPE_F32},
             {"qwen3-bias-window", DTYPE_F16},
             {"gpt_oss", DTYPE_BF16},
             {"qwen3_5-text", DTYPE_F32},
             {"nemotron_h", DTYPE_BF16},
             {"lfm2", DTYPE_F32},
             {"gemma3", DTYPE_BF16},
             {"ministral3", DTYPE_F16},
             {"deepseek_v3", DTYPE_F16},
             {"qwen3_next", DTYPE_BF16},
             {"bloom", DTYPE_BF16},
             {"qwen3_moe", DTYPE_F32},
             {"gemma2", DTYPE_F16},
             {"gemma4-shared", DTYPE_BF16},
             {"gemma4-takers", DTYPE_F32},
             {"gemma4-experts", DTYPE_BF16},
             {"llama4", DTYPE_BF16},
             {"gpt2", DTYPE_F32},
             {"granitemoehybrid-dense", DTYPE_F32}};

static void trees_have_the_bits_of_whole_texts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!test_on_cpu() && i >= 7) {
            break; // it may be emulated, and one of each kind of mixer has been seen
        }
        for (uint64_t seed = 1; seed <= (test_on_cpu() ? 3 : 1); seed++) {
            struct shape shape = {.texts = TEXTS, .head = seed % 3 * 9, .own = 24};
            try_tree(cases[i].name, cases[i].dtype, shape, 0, 100 * i + seed);
        }
        print_message("%s: the same bits\n", cases[i].name);
    }
}

// More than a block of keys, and than a tile of queries, on either side of the seam.
static void long_prefixes_have_the_bits_of_whole_texts(void **state) {
    (void)state;
    static const size_t heads[] = {0, 300, 191, 257};
    for (size_t i = 0; i < (test_on_cpu() ? 4 : 1); i++) {
        struct shape shape = {.texts = 4, .head = heads[i], .own = 290};
        try_tree(cases[i].name, cases[i].dtype, shape, 0, 7 + i);
    }
}

// A text in slices behind a head, which runs in slices too.
static void slices_go_on_from_the_head(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum dtype dtype;
        size_t head;
        size_t own;
    } some[] = {{"qwen3", DTYPE_F32, 100, 400},       {"qwen3_5-text", DTYPE_F32, 230, 210},
                {"gemma3", DTYPE_BF16, 250, 300},     {"gemma4-shared", DTYPE_F16, 200, 200},
                {"nemotron_h", DTYPE_BF16, 193, 385}, {"lfm2", DTYPE_F16, 20, 500}};
    for (size_t i = 0; i < (test_on_cpu() ? sizeof some / sizeof some[0] : 2); i++) {
        struct shape shape = {.texts = 1, .head = some[i].head, .long_text = some[i].own};
        try_tree(some[i].name, some[i].dtype, shape, DEVICE_SLICE, 3 + i);
    }
}

// Two trees whose texts begin with one head.
static void make_pair(struct tree trees[2], const struct golden *golden) {
    struct shape shape = {.texts = 5, .head = 40, .own = 24, .head_alone = !shares_in_batches(golden)};
    for (size_t b = 0; b < 2; b++) {
        make_tree(&trees[b], &shape, vocabulary_of(golden), 50 + b);
    }
    const int32_t nowhere[TEXTS + 1] = {0};
    for (size_t t = 0; t < shape.texts; t++) {
        for (size_t k = 0; k < size_min(trees[1].lengths[t], shape.head); k++) {
            bool in_head = place_of(&trees[1], nowhere, t, k) < 0;
            trees[1].ids[t][k] = in_head ? trees[0].head[k] : trees[1].ids[t][k];
        }
    }
}

static struct model_limits pair_limits(const struct golden *golden, const struct tree trees[2], bool whole) {
    struct model_limits limits = whole_limits(golden, &trees[0]);
    size_t head = trees[0].head_tokens;
    limits.longest = size_max(trees[0].longest, trees[1].longest);
    limits.rows = TEXTS * ROWS;
    limits.tokens = size_max(size_max(trees[0].whole_tokens, trees[1].whole_tokens), limits.rows);
    if (!whole) {
        limits.tokens = size_max(size_max(trees[0].tokens, trees[1].tokens), head);
        limits.longest_own = head;
        limits.head = head;
        limits.head_rows = true;
    }
    return limits;
}

static void try_way(const char *name, enum dtype dtype, const struct way *way) {
    struct golden golden;
    struct tree trees[2];
    struct packed whole_batches[2];
    struct packed batches[2];
    golden_open(&golden, name);
    make_pair(trees, &golden);
    struct model_limits limits = pair_limits(&golden, trees, true);
    struct model *whole = open_for(&golden, dtype, &plain_way, &limits, NULL, NULL);
    const struct tuned tuned = {whole, limits.tokens};
    limits = pair_limits(&golden, trees, false);
    bool streams = way->placement.at != MODEL_WEIGHTS_RESIDENT;
    limits.group = streams ? 2 : 1;
    struct model *shared = open_for(&golden, dtype, way, &limits, &trees[0], &tuned);
    for (size_t b = 0; b < 2; b++) {
        pack(&whole_batches[b], &trees[b], true, b);
        pack(&batches[b], &trees[b], false, b);
        compute(whole, 0, &whole_batches[b], 1);
    }
    assert_int_equal(model_sweep_head(shared, &batches[0].batch), streams ? limits.head : 0);
    for (size_t turn = 0; turn < 3; turn++) {
        if (streams) {
            compute(shared, 0, batches, 2);
        } else {
            compute(shared, turn % model_lanes(shared), &batches[0], 1);
            compute(shared, (turn + 1) % model_lanes(shared), &batches[1], 1);
        }
        for (size_t b = 0; b < 2; b++) {
            assert_same(&golden, whole, b, shared, b, &trees[b], name);
        }
    }
    model_close(shared);
    model_close(whole);
    for (size_t b = 0; b < 2; b++) {
        free(batches[b].ids);
        free(whole_batches[b].ids);
        free_tree(&trees[b]);
    }
    golden_close(&golden);
}

// Where weights stream it goes through every sweep; several devices have one each, or each its blocks' part
// of it.
static void the_head_goes_wherever_blocks_are(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum dtype dtype;
        struct way way;
    } some[] = {{"qwen3", DTYPE_BF16, {.placement = {MODEL_WEIGHTS_DISK, 0}}},
                {"qwen3_5-text", DTYPE_BF16, {.placement = {MODEL_WEIGHTS_HOST, 1}}},
                {"gemma4-shared", DTYPE_F32, {.placement = {MODEL_WEIGHTS_DISK, 1}}},
                {"qwen3", DTYPE_BF16, {.placement = {MODEL_WEIGHTS_HOST, 0}, .more = 1}},
                {"llama", DTYPE_F32, {.more = 1}},
                {"gemma4-takers", DTYPE_BF16, {.more = 1, .split = MODEL_SPLIT_LAYERS}},
                {"gemma4-shared", DTYPE_F32, {.more = 2, .split = MODEL_SPLIT_LAYERS}},
                {"nemotron_h", DTYPE_BF16, {.more = 1, .split = MODEL_SPLIT_LAYERS}}};
    for (size_t i = 0; i < (test_on_cpu() ? sizeof some / sizeof some[0] : 2); i++) { // of one device
        try_way(some[i].name, some[i].dtype, &some[i].way);
    }
}

// ---- fewer bits ----

static double relative_rms(const float *found, const float *wanted, size_t count) {
    double error = 0;
    double all = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(isfinite(found[i]) && isfinite(wanted[i]));
        error += ((double)found[i] - wanted[i]) * ((double)found[i] - wanted[i]);
        all += (double)wanted[i] * wanted[i];
    }
    return sqrt(error / all);
}

static void fewer_bits_move_numbers_a_little(void **state) {
    (void)state;
    static const struct {
        enum device_keeping keeping;
        double least;
        double most;
    } ways[] = {{DEVICE_KEEP_Q8_0, 1e-7, 0.02}, {DEVICE_KEEP_Q4_0, 1e-5, 0.3}};
    struct golden golden;
    struct tree tree;
    struct packed whole_batch;
    struct packed batch;
    golden_open(&golden, "qwen3-wide-heads");
    const struct shape shape = {.texts = TEXTS, .head = 70, .own = 24};
    make_tree(&tree, &shape, vocabulary_of(&golden), 11);
    pack(&whole_batch, &tree, true, 0);
    pack(&batch, &tree, false, 1);
    struct model_limits limits = whole_limits(&golden, &tree);
    struct model *whole = open_for(&golden, DTYPE_F32, &plain_way, &limits, &tree, NULL);
    const struct tuned tuned = {whole, limits.tokens};
    compute(whole, 0, &whole_batch, 1);
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        struct model_output wanted;
        struct model_output found;
        limits = shared_limits(&golden, &tree, 0);
        limits.keeping = ways[w].keeping;
        struct model *shared = open_for(&golden, DTYPE_F32, &plain_way, &limits, &tree, &tuned);
        compute(shared, 0, &batch, 1);
        model_outputs(whole, 0, &wanted);
        model_outputs(shared, 1, &found);
        size_t last = golden.layers;
        double moved = relative_rms(found.rows[last], wanted.rows[last], tree.rows * golden.hidden);
        print_message("kept in fewer bits, way %zu: relative RMS %.3g\n", w, moved);
        assert_true(moved > ways[w].least && moved < ways[w].most);
        assert_memory_equal(found.rows[0], wanted.rows[0], tree.rows * golden.hidden * sizeof(float));
        model_close(shared);
    }
    model_close(whole);
    free(batch.ids);
    free(whole_batch.ids);
    free_tree(&tree);
    golden_close(&golden);
}

// ---- refusals ----

static void refused(struct model *model, const struct model_batch *batch, const char *why) {
    struct error err = {0};
    assert_int_equal(model_forward(model, batch, &err), STATUS_INTERNAL);
    if (strstr(err.message, why) == NULL) {
        fail_msg("'%s' does not say '%s'", err.message, why);
    }
}

static void what_cannot_go_on_is_refused(void **state) {
    (void)state;
    struct golden golden;
    struct tree tree;
    struct packed packed;
    struct error err = {0};
    golden_open(&golden, "qwen3");
    const struct shape shape = {.texts = 3, .head = 20, .own = 12};
    make_tree(&tree, &shape, vocabulary_of(&golden), 5);
    pack(&packed, &tree, false, 0);
    struct model_limits limits = shared_limits(&golden, &tree, 0);
    limits.head_rows = false;
    struct model *model = open_for(&golden, DTYPE_F32, &plain_way, &limits, &tree, NULL);
    assert_int_equal(model_set_head(model, tree.head, &err), STATUS_INTERNAL);
    const struct device_origin wrong[] = {{1, 1}, {0, 1000}, {DEVICE_HEAD, 21}, {-2, 1}, {DEVICE_HEAD, -1}};
    struct device_origin origins[3] = {{DEVICE_HEAD, 20}, {DEVICE_HEAD, 20}, {DEVICE_HEAD, 20}};
    packed.batch.origins = origins;
    packed.spans[0] = (struct device_span){0, 1};
    packed.batch.rows = 1;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        origins[1] = wrong[i];
        refused(model, &packed.batch, "cannot go on");
    }
    origins[1] = origins[0];
    packed.spans[0] = (struct device_span){-3, 1}; // hidden states of the head are not kept
    refused(model, &packed.batch, "is outside the batch");
    packed.spans[0] = (struct device_span){-3, 0};
    refused(model, &packed.batch, "is outside the batch");
    packed.spans[0] = (struct device_span){0, 1};
    must(model_forward(model, &packed.batch, &err), &err);
    must(model_wait(model, 0, NULL, &err), &err);
    model_close(model);
    free(packed.ids);
    free_tree(&tree);
    golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_have_the_bits_of_whole_texts),
        cmocka_unit_test(long_prefixes_have_the_bits_of_whole_texts),
        cmocka_unit_test(slices_go_on_from_the_head),
        cmocka_unit_test(the_head_goes_wherever_blocks_are),
        cmocka_unit_test(fewer_bits_move_numbers_a_little),
        cmocka_unit_test(what_cannot_go_on_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

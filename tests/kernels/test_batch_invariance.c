// SPDX-License-Identifier: MIT
// A text's bits do not depend on its company: every operation, on every path, gives the same bytes for a text
// alone, for the same text anywhere in random packed batches, and with 1, 2 or 3 threads.
#include "device_testing.h"

enum {
    HEADS = 6,
    KV_HEADS = 2,
    HIDDEN = 72,
    WINDOW = 300, // more than a block of keys, so that where blocks begin shows in the bits
    TEXTS = 5,
    LONGEST = 600,
    VOCABULARY = 50,
    BATCHES = 6,
    MOST = 8, // texts in a batch
};

static const size_t lengths[TEXTS] = {1, 6, 47, LONGEST, 130};

static size_t head_dim(void) { // odd for vectors of every length; a GPU's heads are multiples of 8
    return test_on_cpu() ? 20 : 24;
}

static size_t intermediate(void) { // and so are all sizes of its matmuls
    return test_on_cpu() ? 100 : 104;
}

static size_t width(void) { // of a row of q | k | v
    return (HEADS + 2 * KV_HEADS) * head_dim();
}

static size_t attended(void) { // and of what attention makes of it
    return HEADS * head_dim();
}

struct variant { // of attention
    size_t window;
    bool special; // chunks, capped scores, sinks and slopes
};

struct layer {
    void *table;
    void *norm;
    void *q_norm;
    void *k_norm;
    void *bias;
    float *cosine;
    float *sine;
    struct device_matrix qkv;
    struct device_matrix o;
    struct device_matrix gate_up;
    struct device_matrix down;
    struct device_attention attention;
    void *scratch;
};

static void *put_random(struct bed *bed, uint64_t seed, size_t count, float scale) {
    float *numbers = random_numbers(seed, count, scale, DTYPE_F32);
    void *out = bed_put(bed, numbers, count);
    free(numbers);
    return out;
}

static struct device_matrix matrix_random(struct bed *bed, uint64_t seed, size_t rows, size_t columns) {
    float *numbers = random_numbers(seed, rows * columns, 0.2f, DTYPE_F32);
    struct device_matrix matrix = bed_matrix(bed, numbers, rows, columns);
    free(numbers);
    return matrix;
}

// Matmuls as the first layer with these algorithms chose them: a run goes on as it began.
static void tune(struct bed *bed, const struct layer *layer, struct buffer *algorithms) {
    bool first = algorithms->size == 0;
    if (!first) {
        must(bed, device_set_algorithms(bed->device, (const char *)algorithms->data, true, &bed->error));
    }
    void *x = bed_take_rows(bed, attended());
    void *out = bed_take_rows(bed, width());
    assert_true(bed_tune(bed, &layer->qkv, layer->bias, DEVICE_STORE, out, x));
    assert_true(bed_tune(bed, &layer->o, NULL, DEVICE_ADD, out, x));
    assert_true(bed_tune(bed, &layer->gate_up, NULL, DEVICE_STORE, out, x));
    assert_true(bed_tune(bed, &layer->down, NULL, DEVICE_ADD, out, x));
    if (first) {
        must(bed, device_algorithms(bed->device, algorithms, &bed->error));
    }
}

static struct layer layer_make(struct bed *bed, struct variant variant, struct buffer *algorithms) {
    size_t angles = LONGEST * head_dim() / 2;
    float *turns = random_numbers(9, angles, 1.0f, DTYPE_F32);
    struct layer layer = {
        .table = put_random(bed, 1, VOCABULARY * HIDDEN, 2.0f),
        .norm = put_random(bed, 2, HIDDEN, 1.5f),
        .q_norm = put_random(bed, 3, head_dim(), 1.5f),
        .k_norm = put_random(bed, 4, head_dim(), 1.5f),
        .bias = put_random(bed, 5, width(), 1.0f),
        .cosine = bed_upload(bed, turns, angles * sizeof *turns),
        .sine = bed_upload(bed, turns, angles * sizeof *turns),
        .qkv = matrix_random(bed, 6, width(), HIDDEN),
        .o = matrix_random(bed, 7, HIDDEN, attended()),
        .gate_up = matrix_random(bed, 8, 2 * intermediate(), HIDDEN),
        .down = matrix_random(bed, 10, HIDDEN, intermediate()),
        .attention = {.heads = {HEADS, KV_HEADS, head_dim(), 0},
                      .scale = 0.3f,
                      .window = variant.window,
                      .longest = LONGEST},
    };
    if (variant.special) {
        static const float slopes[HEADS] = {0.5f, 0.25f, 0.125f, 0.0625f, 0.03125f, 0.015625f};
        layer.attention.chunk = WINDOW / 2 + 31;
        layer.attention.softcap = 4.0f;
        layer.attention.sinks = put_random(bed, 11, HEADS, 3.0f);
        layer.attention.slopes = bed_upload(bed, slopes, sizeof slopes);
    }
    size_t bytes;
    assert_true(device_attention_scratch(bed->device, &layer.attention, &bytes));
    must(bed, device_take(bed->device, DEVICE_SCRATCH, bytes, &layer.scratch, &bed->error));
    free(turns);
    tune(bed, &layer, algorithms);
    return layer;
}

struct batch {
    size_t texts;
    size_t text[MOST]; // which text stands where
    int32_t starts[MOST + 1];
};

struct outputs { // bytes of every operation's result, and bytes a token of each
    unsigned char *bytes[8];
    size_t row[8];
    unsigned char *pooled; // a row a text
};

static void keep(struct bed *bed, struct outputs *out, int which, const void *source, size_t tokens,
                 size_t width) {
    out->row[which] = width * dtype_size(bed->dtype);
    out->bytes[which] = bed_bytes(bed, source, tokens * out->row[which]);
}

static void run_attention(struct bed *bed, const struct layer *layer, const struct batch *batch, void *qkv,
                          const int32_t *positions, void *mixed, struct outputs *out) {
    size_t tokens = (size_t)batch->starts[batch->texts];
    struct error *err = &bed->error;
    keep(bed, out, 2, qkv, tokens, width());
    must(bed, device_qk_norm_rope(bed->device, qkv,
                                  &(struct device_rope){.q_norm = {.epsilon = 1e-6f, .weight = layer->q_norm},
                                                        .k_norm = {.epsilon = 1e-6f, .weight = layer->k_norm},
                                                        .cosine = layer->cosine,
                                                        .sine = layer->sine,
                                                        .row = positions,
                                                        .part = layer->attention.heads.head_dim},
                                  layer->attention.heads, tokens, err));
    keep(bed, out, 3, qkv, tokens, width());
    const struct device_texts texts = {
        .starts = bed_upload(bed, batch->starts, (batch->texts + 1) * sizeof(int32_t)),
        .host_starts = batch->starts,
        .count = batch->texts};
    must(bed, device_attention(bed->device, mixed, qkv, &layer->attention, texts, layer->scratch, err));
    keep(bed, out, 4, mixed, tokens, attended());
}

// One layer of a transformer on a batch, every step kept.
static struct outputs run_layer(struct bed *bed, const struct layer *layer, const struct batch *batch) {
    size_t tokens = (size_t)batch->starts[batch->texts];
    struct device *device = bed->device;
    struct error *err = &bed->error;
    int32_t *ids = malloc(2 * tokens * sizeof *ids);
    assert_non_null(ids);
    int32_t *positions = ids + tokens;
    struct device_span spans[MOST];
    for (size_t i = 0; i < batch->texts; i++) {
        spans[i] = (struct device_span){batch->starts[i], batch->starts[i + 1]};
        for (int32_t t = batch->starts[i]; t < batch->starts[i + 1]; t++) {
            positions[t] = t - batch->starts[i];
            ids[t] = (int32_t)((batch->text[i] * 17 + (size_t)positions[t] * 7) % VOCABULARY);
        }
    }
    struct outputs out;
    void *x = bed_take_rows(bed, HIDDEN);
    void *normed = bed_take_rows(bed, HIDDEN);
    void *wide = bed_take_rows(bed, width());
    void *mixed = bed_take_rows(bed, attended());
    must(bed, device_embed(device, x, layer->table, bed_upload(bed, ids, tokens * sizeof *ids), 1,
                           DEVICE_STORE, tokens, HIDDEN, err));
    keep(bed, &out, 0, x, tokens, HIDDEN);
    must(bed, device_norm(device, normed, x, &(struct device_norm){.epsilon = 1e-5f, .weight = layer->norm},
                          DEVICE_STORE, tokens, HIDDEN, err));
    keep(bed, &out, 1, normed, tokens, HIDDEN);
    must(bed, device_matmul(device, wide, normed, &layer->qkv, layer->bias, tokens, DEVICE_STORE, err));
    run_attention(bed, layer, batch, wide, bed_upload(bed, positions, tokens * sizeof *positions), mixed,
                  &out);
    must(bed, device_matmul(device, x, mixed, &layer->o, NULL, tokens, DEVICE_ADD, err));
    keep(bed, &out, 5, x, tokens, HIDDEN);
    must(bed, device_matmul(device, wide, x, &layer->gate_up, NULL, tokens, DEVICE_STORE, err));
    must(bed, device_activate(device, mixed, wide, DEVICE_SILU, true, tokens, intermediate(), err));
    keep(bed, &out, 6, mixed, tokens, intermediate());
    must(bed, device_matmul(device, x, mixed, &layer->down, NULL, tokens, DEVICE_ADD, err));
    keep(bed, &out, 7, x, tokens, HIDDEN);
    void *pooled = bed_take(bed, batch->texts * HIDDEN * 4);
    void *checks = bed_take(bed, batch->texts * sizeof(struct device_row_check));
    must(bed, device_pool(device, pooled, DTYPE_F32, checks, x, bed_upload(bed, spans, sizeof spans), NULL,
                          batch->texts, HIDDEN, err));
    out.pooled = bed_bytes(bed, pooled, batch->texts * HIDDEN * 4);
    free(ids);
    return out;
}

static void outputs_free(struct outputs *out) {
    for (int i = 0; i < 8; i++) {
        free(out->bytes[i]);
    }
    free(out->pooled);
}

static struct outputs alone(const char *path, enum dtype dtype, struct variant variant, size_t text,
                            struct buffer *algorithms) {
    struct bed bed = bed_open(path, dtype, 1);
    struct layer layer = layer_make(&bed, variant, algorithms);
    struct batch batch = {1, {text}, {0, (int32_t)lengths[text]}};
    struct outputs out = run_layer(&bed, &layer, &batch);
    bed_close(&bed);
    return out;
}

static void compare(const struct bed *bed, const struct batch *batch, const struct outputs *got,
                    const struct outputs *wanted, int threads) {
    static const char *const names[8] = {"embed",     "rms_norm",        "matmul", "qk_norm_rope",
                                         "attention", "residual matmul", "swiglu", "layer"};
    for (size_t i = 0; i < batch->texts; i++) {
        const struct outputs *want = &wanted[batch->text[i]];
        for (int k = 0; k < 8; k++) {
            const unsigned char *mine = got->bytes[k] + (size_t)batch->starts[i] * got->row[k];
            if (memcmp(mine, want->bytes[k], lengths[batch->text[i]] * got->row[k]) != 0) {
                fail_msg("%s, path %s, %s, %d threads: text %zu has other bits as number %zu of %zu",
                         names[k], bed->path, dtype_name(bed->dtype), threads, batch->text[i], i,
                         batch->texts);
            }
        }
        assert_memory_equal(got->pooled + i * HIDDEN * 4, want->pooled, HIDDEN * 4);
    }
}

static void company_of(const char *path, enum dtype dtype, struct variant variant) {
    struct outputs wanted[TEXTS];
    struct buffer algorithms = {0};
    uint64_t seed = 77 + variant.window;
    for (size_t text = 0; text < TEXTS; text++) {
        wanted[text] = alone(path, dtype, variant, text, &algorithms);
    }
    for (int i = 0; i < (test_on_cpu() ? BATCHES : BATCHES / 2); i++) { // emulated GPUs are slow
        int threads = i % 3 + 1;
        struct bed bed = bed_open(path, dtype, threads);
        struct layer layer = layer_make(&bed, variant, &algorithms);
        struct batch batch = {.texts = TEXTS + (size_t)random_below(&seed, MOST - TEXTS + 1)};
        size_t first = (size_t)random_below(&seed, TEXTS);
        for (size_t k = 0; k < batch.texts; k++) { // every text once, in changing order, then some again
            batch.text[k] =
                k < TEXTS ? (first + k * (1 + (size_t)i % 4)) % TEXTS : (size_t)random_below(&seed, TEXTS);
            batch.starts[k + 1] = batch.starts[k] + (int32_t)lengths[batch.text[k]];
        }
        print_message("path %s, %s, window %zu%s: batch %d of %zu texts\n", path, dtype_name(dtype),
                      variant.window, variant.special ? ", special scores" : "", i,
                      batch.texts); // a word while it works: silence means that it hangs
        struct outputs got = run_layer(&bed, &layer, &batch);
        compare(&bed, &batch, &got, wanted, threads);
        outputs_free(&got);
        bed_close(&bed);
    }
    for (size_t text = 0; text < TEXTS; text++) {
        outputs_free(&wanted[text]);
    }
    buffer_destroy(&algorithms);
}

static void company(const char *path, enum dtype dtype) {
    company_of(path, dtype, (struct variant){0, false});
    company_of(path, dtype, (struct variant){WINDOW, false});
    if (test_on_cpu() || dtype == DTYPE_BF16) { // emulated GPUs are slow
        company_of(path, dtype, (struct variant){WINDOW, true});
    }
}

static void test_batch_invariance(void **state) {
    (void)state;
    on_every_path(company);
}

// ---- operations on rows that the layer has not ----

enum { ROWS = 67, ROW_HEADS = 3, ROW_HEAD = 24, ROW = 8 * ROW_HEAD }; // a row: heads with gaps, key and value

// Every operation in turn on `rows` rows alike, whose numbers are those of one row; all results, a row after
// another.
static unsigned char *other_rows(struct bed *bed, size_t rows, size_t *row_bytes) {
    enum { OUTPUTS = 9 }; // then an input of as many numbers a row, and one of twice as many
    float *one = random_numbers(21, 2 * ROW, 2.0f, bed->dtype);
    float *turns = random_numbers(22, ROW_HEAD, 1.0f, DTYPE_F32);
    int32_t zeros[ROWS] = {0};
    void *buffers[OUTPUTS + 2];
    for (size_t k = 0; k < OUTPUTS + 2; k++) {
        buffers[k] = bed_take(bed, ROWS * ROW * sizeof(float) * 2);
        for (size_t t = 0; t < rows; t++) {
            size_t width = k > OUTPUTS ? 2 * ROW : ROW;
            must(bed, device_vector_load(bed->device, buffers[k], t * width, width, one,
                                         weight_format_of(DTYPE_F32), &bed->error));
        }
    }
    struct device *device = bed->device;
    struct error *err = &bed->error;
    const void *narrow = buffers[OUTPUTS];
    const void *wide = buffers[OUTPUTS + 1];
    struct device_norm layer = {DEVICE_NORM_LAYER, 1e-5f, put_random(bed, 23, ROW, 1.5f),
                                put_random(bed, 24, ROW, 1.5f)};
    struct device_norm once = {DEVICE_NORM_RMS_ONCE, 1e-5f, put_random(bed, 25, ROW, 1.5f), NULL};
    struct device_groups groups = {ROW, 8, 8, 2, 40, true};
    struct device_heads heads = {ROW_HEADS, 1, ROW_HEAD, ROW_HEAD};
    const float *angles = bed_upload(bed, turns, ROW_HEAD * sizeof *turns);
    struct device_rope rope = {.q_norm = once,
                               .k_norm = once,
                               .cosine = angles,
                               .sine = angles + ROW_HEAD / 2,
                               .row = bed_upload(bed, zeros, sizeof zeros),
                               .first = 8,
                               .part = 16,
                               .pairing = DEVICE_PAIR_NEIGHBOURS,
                               .query_scale = angles};
    must(bed, device_norm(device, buffers[0], narrow, &layer, DEVICE_ADD, rows, ROW, err));
    must(bed, device_norm(device, buffers[1], buffers[1], &once, DEVICE_STORE, rows, ROW, err));
    must(bed, device_norm_groups(device, buffers[2], &groups, &once, rows, err));
    must(bed, device_qk_norm_rope(device, buffers[3], &rope, heads, rows, err));
    must(bed, device_activate(device, buffers[4], wide, DEVICE_GELU, true, rows, ROW, err));
    must(bed,
         device_gate(device, buffers[5], wide,
                     &(struct device_gates){.stride = 2 * ROW, .apart = ROW, .groups = 2, .width = ROW / 2},
                     rows, err));
    must(bed, device_add(device, buffers[6], narrow, 0.3f, rows, ROW, err));
    must(bed, device_xielu(device, buffers[7], narrow, once.weight, rows, ROW, err));
    must(bed, device_clamp(device, buffers[8], 0.7f, rows, ROW, err));
    size_t bytes = ROW * dtype_size(bed->dtype);
    unsigned char *all = malloc(rows * OUTPUTS * bytes);
    assert_non_null(all);
    for (size_t k = 0; k < OUTPUTS; k++) {
        unsigned char *got = bed_bytes(bed, buffers[k], rows * bytes);
        for (size_t t = 0; t < rows; t++) {
            memcpy(all + (t * OUTPUTS + k) * bytes, got + t * bytes, bytes);
        }
        free(got);
    }
    *row_bytes = OUTPUTS * bytes;
    free(turns);
    free(one);
    return all;
}

static void other_operations(const char *path, enum dtype dtype) {
    size_t bytes;
    struct bed bed = bed_open(path, dtype, 1);
    unsigned char *wanted = other_rows(&bed, 1, &bytes);
    bed_close(&bed);
    for (int threads = 1; threads <= (test_on_cpu() ? 3 : 1); threads++) {
        bed = bed_open(path, dtype, threads);
        unsigned char *got = other_rows(&bed, ROWS, &bytes);
        for (size_t t = 0; t < ROWS; t++) {
            assert_memory_equal(got + t * bytes, wanted, bytes);
        }
        free(got);
        bed_close(&bed);
    }
    free(wanted);
}

static void test_other_operations(void **state) {
    (void)state;
    on_every_path(other_operations);
}

enum { MATMUL_TOKENS = 200 };

// Weights whose second half repeats the first (the last of an odd depth is 0). With a row whose second half
// is the first one's negative every matmul is 0 but for the roundings on the way: another order of sums
// shows even where results are rounded to bfloat16.
static struct device_matrix matrix_of_halves(struct bed *bed, size_t rows, size_t columns) {
    float *numbers = random_numbers(1, rows * columns, 1.0f, bed->dtype);
    for (size_t i = 0; i < rows * columns; i++) {
        size_t k = i % columns;
        size_t half = columns / 2;
        numbers[i] = k == 2 * half ? 0 : k < half ? numbers[i] : numbers[i - half];
    }
    struct device_matrix matrix = bed_matrix(bed, numbers, rows, columns);
    free(numbers);
    return matrix;
}

static void check_rows(const struct bed *bed, const struct device_matrix *matrix, const unsigned char *got,
                       const unsigned char *first, size_t tokens) {
    size_t row = matrix->rows * dtype_size(bed->dtype);
    for (size_t t = 0; t < tokens; t++) {
        if (memcmp(got + t * row, first, row) != 0) {
            fail_msg("path %s, %s: row %zu of %zu tokens has other bits, depth %zu", bed->path,
                     dtype_name(bed->dtype), t, tokens, matrix->columns);
        }
    }
}

// That row at every place of batches of every size in `sizes`: its matmul must be the first batch's.
static void same_rows(struct bed *bed, const struct device_matrix *matrix, unsigned char **first) {
    static const size_t sizes[] = {1, 2, 3, 5, 6, 7, 8, 12, 13, 16, 24, 25, 49, 200};
    size_t columns = matrix->columns;
    void *x = bed_take_rows(bed, columns);
    void *out = bed_take_rows(bed, matrix->rows);
    if (!bed_tune(bed, matrix, NULL, DEVICE_STORE, out, x)) {
        return;
    }
    float *numbers = random_numbers(2, columns, 1.0f, bed->dtype);
    for (size_t k = columns / 2; k < columns; k++) {
        numbers[k] = -numbers[k - columns / 2];
    }
    for (size_t t = 0; t < MATMUL_TOKENS; t++) {
        must(bed, device_vector_load(bed->device, x, t * columns, columns, numbers,
                                     weight_format_of(DTYPE_F32), &bed->error));
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        must(bed, device_matmul(bed->device, out, x, matrix, NULL, sizes[i], DEVICE_STORE, &bed->error));
        unsigned char *got = bed_bytes(bed, out, sizes[i] * matrix->rows * dtype_size(bed->dtype));
        check_rows(bed, matrix, got, *first != NULL ? *first : got, sizes[i]);
        if (*first == NULL) {
            *first = got;
        } else {
            free(got);
        }
    }
    free(numbers);
}

static void rows_of_depth(const char *path, enum dtype dtype, size_t rows, size_t depth) {
    unsigned char *first = NULL;
    for (int threads = 1; threads <= (test_on_cpu() ? 3 : 1); threads++) {
        struct bed bed = bed_open_rows(path, dtype, threads, MATMUL_TOKENS);
        struct device_matrix matrix = matrix_of_halves(&bed, rows, depth);
        same_rows(&bed, &matrix, &first);
        bed_close(&bed);
    }
    free(first);
}

// Matmuls deep enough for several depth blocks, and of few columns, in small batches and large.
static void deep_rows(const char *path, enum dtype dtype) {
    rows_of_depth(path, dtype, 72, 4200);
    rows_of_depth(path, dtype, 72, 40);
}

static void test_deep_rows(void **state) {
    (void)state;
    on_every_path(deep_rows);
}

static void odd_deep_rows(const char *path, enum dtype dtype) {
    rows_of_depth(path, dtype, 70, 4201);
    rows_of_depth(path, dtype, 70, 37);
}

static void test_odd_deep_rows(void **state) {
    (void)state;
    on_every_path(odd_deep_rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_invariance),
        cmocka_unit_test(test_other_operations),
        cmocka_unit_test(test_deep_rows),
        cmocka_unit_test(test_odd_deep_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

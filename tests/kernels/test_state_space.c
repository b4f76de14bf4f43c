// SPDX-License-Identifier: MIT
// The state space against double precision; a text's bits in company, in another place, with other numbers of
// threads and in slices.
#include "base/size.h"
#include "state_space_reference.h"

static const struct sizes cases[] = {
    {1, 8, 1, 8, 2, 1, false, 0, INFINITY, false},   {2, 16, 1, 16, 4, 2, true, 0.001f, INFINITY, true},
    {4, 24, 2, 40, 4, 4, true, 0, INFINITY, false},  {3, 8, 3, 5, 1, 1, false, 0.01f, 0.1f, true},
    {1, 40, 1, 128, 4, 1, true, 0.001f, 10, false},  {3, 5, 3, 3, 16, 5, true, 0, INFINITY, false},
    {2, 4, 2, 272, 3, 2, false, 0, INFINITY, false},
};
enum { CASES = sizeof cases / sizeof cases[0], TEXTS = 5, TOKENS = 274 };

static const size_t lengths[TEXTS] = {3, 0, 70, 1, 200};

static size_t first_of(size_t text) { // of the case's tokens
    size_t first = 0;
    for (size_t i = 0; i < text; i++) {
        first += lengths[i];
    }
    return first;
}

// ---- on a device ----

struct layer {
    struct device_state_space space;
    void *scratch;
};

static struct layer put_layer(struct bed *bed, const struct numbers *n, size_t tokens) {
    struct layer layer = {.space = n->space};
    size_t mixed = device_state_space_mixed(&n->space);
    size_t bytes;
    layer.space.convolution = bed_put(bed, n->convolution, mixed * n->space.taps);
    layer.space.bias = n->has_bias ? bed_put(bed, n->bias, mixed) : NULL;
    layer.space.decay = bed_put(bed, n->decay, n->space.heads);
    layer.space.step_bias = bed_put(bed, n->step_bias, n->space.heads);
    layer.space.skip = bed_put(bed, n->skip, n->space.heads);
    layer.space.norm = bed_put(bed, n->norm, n->out_width);
    assert_true(device_state_space_scratch(bed->device, &layer.space, tokens, &bytes));
    if (bytes > 0) {
        must(bed, device_take(bed->device, DEVICE_SCRATCH, bytes, &layer.scratch, &bed->error));
    }
    return layer;
}

// The bytes of out for these texts of the case, one after another.
static unsigned char *run_texts(struct bed *bed, const struct numbers *n, const struct layer *layer,
                                const size_t *which, size_t count) {
    int32_t starts[TEXTS + 1] = {0};
    float *rows = malloc(TOKENS * n->width * sizeof *rows);
    assert_non_null(rows);
    for (size_t i = 0; i < count; i++) {
        size_t length = lengths[which[i]];
        memcpy(rows + (size_t)starts[i] * n->width, n->in + first_of(which[i]) * n->width,
               length * n->width * sizeof *rows);
        starts[i + 1] = starts[i] + (int32_t)length;
    }
    size_t tokens = (size_t)starts[count];
    void *in = bed_put(bed, rows, tokens * n->width);
    void *out = bed_take(bed, tokens * n->out_width * dtype_size(bed->dtype));
    struct device_texts texts = {.starts = bed_upload(bed, starts, (count + 1) * sizeof *starts),
                                 .host_starts = starts,
                                 .count = count};
    must(bed,
         device_state_space(bed->device, out, in, &layer->space, texts, NULL, layer->scratch, &bed->error));
    free(rows);
    return bed_bytes(bed, out, tokens * n->out_width * dtype_size(bed->dtype));
}

// Returns how many numbers are not the reference's, rounding apart.
static size_t check_text(const struct bed *bed, const struct numbers *n, const float *got, const float *in,
                         size_t tokens) {
    struct wanted wanted = wanted_text(bed, n, in, tokens);
    size_t differing = 0;
    for (size_t i = 0; i < tokens * n->out_width; i++) {
        assert_close(bed, "state space", i, got[i], wanted.out[i], wanted.off[i] + 1e-30);
        differing += got[i] != (float)wanted.out[i];
    }
    wanted_free(&wanted);
    return differing;
}

static void check_case(const char *path, enum dtype dtype, const struct sizes *sizes, size_t *differing,
                       size_t *numbers) {
    static const size_t all[TEXTS] = {0, 1, 2, 3, 4};
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    struct numbers n = take_numbers(sizes, TOKENS, dtype);
    struct layer layer = put_layer(&bed, &n, TOKENS);
    float *got = numbers_widen(run_texts(&bed, &n, &layer, all, TEXTS), dtype, TOKENS * n.out_width);
    for (size_t i = 0; i < TEXTS; i++) {
        size_t first = first_of(i);
        *differing += check_text(&bed, &n, got + first * n.out_width, n.in + first * n.width, lengths[i]);
    }
    *numbers += TOKENS * n.out_width;
    free(got);
    numbers_free(&n);
    bed_close(&bed);
}

static void check_cases(const char *path, enum dtype dtype) {
    size_t differing = 0;
    size_t numbers = 0;
    for (size_t c = 0; c < CASES; c++) {
        check_case(path, dtype, &cases[c], &differing, &numbers);
    }
    // Few roundings go the other way where sums differ in their last bits: more were not made, or elsewhere.
    // A GPU leaves some out.
    if (test_on_cpu() && dtype != DTYPE_F32 && differing > numbers / 200) {
        fail_msg("path %s, %s: %zu of %zu numbers are rounded otherwise", path, dtype_name(dtype), differing,
                 numbers);
    }
}

static void test_against_double(void **state) {
    (void)state;
    on_every_path(check_cases);
}

// Of sizes that nobody chose.
static void check_random_sizes(const char *path, enum dtype dtype) {
    const int shapes = test_on_cpu() ? 6 : 2; // an emulated GPU takes its time
    uint64_t seed = 11;
    size_t counted[2] = {0};
    for (int i = 0; i < shapes; i++) {
        size_t groups = 1 + random_next(&seed) % 3;
        struct sizes sizes = {
            .heads = groups * (1 + random_next(&seed) % 3),
            .head_dim = 1 + random_next(&seed) % 40,
            .groups = groups,
            .state = 1 + random_next(&seed) % 40,
            .taps = 1 + random_next(&seed) % DEVICE_TAPS_MOST,
            .bias = random_next(&seed) % 2 == 0,
            .most = INFINITY,
        };
        size_t out = sizes.heads * sizes.head_dim;
        do {
            sizes.norm_groups = 1 + random_next(&seed) % out;
        } while (out % sizes.norm_groups != 0);
        check_case(path, dtype, &sizes, &counted[0], &counted[1]);
    }
}

static void test_random_sizes(void **state) {
    (void)state;
    on_every_path(check_random_sizes);
}

// ---- company ----

static void same_text(const struct bed *bed, const struct numbers *n, const unsigned char *got,
                      const unsigned char *all, size_t text) {
    size_t row = n->out_width * dtype_size(bed->dtype);
    if (memcmp(got, all + first_of(text) * row, lengths[text] * row) != 0) {
        fail_msg("path %s, %s: the text of %zu tokens differs", bed->path, dtype_name(bed->dtype),
                 lengths[text]);
    }
}

static void check_company(const char *path, enum dtype dtype) {
    static const size_t all[TEXTS] = {0, 1, 2, 3, 4};
    static const size_t turned[TEXTS] = {4, 3, 2, 0, 1};
    static const int threads[] = {2, 1, 5};
    const struct sizes *some[] = {&cases[2], &cases[5]};
    for (size_t c = 0; c < 2; c++) {
        struct numbers n = take_numbers(some[c], TOKENS, dtype);
        size_t row = n.out_width * dtype_size(dtype);
        unsigned char *first = NULL;
        for (size_t i = 0; i < (test_on_cpu() ? 3 : 1); i++) {
            struct bed bed = bed_open_rows(path, dtype, threads[i], TOKENS);
            struct layer layer = put_layer(&bed, &n, TOKENS);
            unsigned char *got = run_texts(&bed, &n, &layer, all, TEXTS);
            if (first == NULL) {
                first = got;
            } else {
                assert_memory_equal(got, first, TOKENS * row);
                free(got);
            }
            got = run_texts(&bed, &n, &layer, turned, TEXTS);
            for (size_t t = 0, at = 0; t < TEXTS; at += lengths[turned[t++]]) {
                same_text(&bed, &n, got + at * row, first, turned[t]);
            }
            free(got);
            for (size_t t = 0; i == 0 && t < TEXTS; t++) {
                if (lengths[t] > 0) {
                    got = run_texts(&bed, &n, &layer, &t, 1);
                    same_text(&bed, &n, got, first, t);
                    free(got);
                }
            }
            bed_close(&bed);
        }
        free(first);
        numbers_free(&n);
    }
}

static void test_company(void **state) {
    (void)state;
    on_every_path(check_company);
}

// What is no number reaches the tokens after it, where its column is read, and no other text.
static void check_not_finite(const char *path, enum dtype dtype) {
    static const size_t all[TEXTS] = {0, 1, 2, 3, 4};
    enum { TEXT = 2, TOKEN = 9, HEAD = 1 };
    const struct sizes *sizes = &cases[2]; // a norm a head
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    struct numbers n = take_numbers(sizes, TOKENS, dtype);
    struct layer layer = put_layer(&bed, &n, TOKENS);
    size_t row = n.out_width * dtype_size(dtype);
    size_t spoilt = first_of(TEXT) + TOKEN;
    size_t x = n.out_width + HEAD * n.space.head_dim;
    size_t b = 2 * n.out_width;
    const size_t columns[] = {x + 3, n.width - n.space.heads + HEAD, b + 2};
    unsigned char *clean = run_texts(&bed, &n, &layer, all, TEXTS);
    for (size_t c = 0; c < 3; c++) {
        float *number = &n.in[spoilt * n.width + columns[c]];
        float before = *number;
        *number = NAN;
        unsigned char *bytes = run_texts(&bed, &n, &layer, all, TEXTS);
        *number = before;
        assert_memory_equal(bytes, clean, spoilt * row);
        same_text(&bed, &n, bytes + first_of(3) * row, clean, 3);
        same_text(&bed, &n, bytes + first_of(4) * row, clean, 4);
        float *got = numbers_widen(bytes, dtype, TOKENS * n.out_width);
        for (size_t t = spoilt; t < first_of(TEXT + 1); t++) {
            for (size_t j = 0; j < n.out_width; j++) {
                // NaN in B reaches both heads of its group; nothing reaches the others.
                size_t head = j / n.space.head_dim;
                bool reached = c == 2 ? head < 2 : head == HEAD;
                assert_true(isnan(got[t * n.out_width + j]) == reached);
            }
        }
        free(got);
    }
    free(clean);
    numbers_free(&n);
    bed_close(&bed);
}

static void test_not_finite(void **state) {
    (void)state;
    on_every_path(check_not_finite);
}

// ---- slices ----

static unsigned char *run_slice(struct bed *bed, const struct numbers *n, const struct layer *layer,
                                size_t before, size_t tokens, void *state) {
    int32_t starts[2] = {0, (int32_t)tokens};
    size_t bytes = tokens * n->out_width * dtype_size(bed->dtype);
    void *in = bed_put(bed, n->in + before * n->width, tokens * n->width);
    void *out = bed_take(bed, bytes);
    struct device_texts texts = {.starts = bed_upload(bed, starts, sizeof starts),
                                 .host_starts = starts,
                                 .count = 1,
                                 .before = before};
    must(bed,
         device_state_space(bed->device, out, in, &layer->space, texts, state, layer->scratch, &bed->error));
    return bed_bytes(bed, out, bytes);
}

static void *take_state(struct bed *bed, size_t bytes) { // of NaN, which nothing may read
    void *spoilt = malloc(bytes);
    assert_non_null(spoilt);
    memset(spoilt, 0xff, bytes);
    void *state = bed_upload(bed, spoilt, bytes);
    free(spoilt);
    return state;
}

// What a text of so many tokens leaves.
static void check_state(const struct bed *bed, const struct numbers *n, const unsigned char *state,
                        size_t tokens) {
    size_t count = n->out_width * n->space.state;
    size_t columns = device_state_space_mixed(&n->space);
    struct wanted wanted = wanted_text(bed, n, n->in, tokens);
    for (size_t i = 0; i < count; i++) {
        float number;
        memcpy(&number, state + i * sizeof number, sizeof number);
        assert_close(bed, "state", i, number, wanted.state[i], wanted.state_off[i] + 1e-30);
    }
    for (size_t i = 0; i < n->space.taps - 1; i++) {
        for (size_t c = 0; c < columns; c++) {
            float number;
            size_t back = n->space.taps - 1 - i;
            dtype_convert(&number, DTYPE_F32,
                          state + count * sizeof(float) + (i * columns + c) * dtype_size(bed->dtype),
                          bed->dtype, 1);
            float want = back > tokens ? 0 : n->in[(tokens - back) * n->width + n->out_width + c];
            assert_true(number == want);
        }
    }
    wanted_free(&wanted);
}

// The case's tokens as one text, of which the first `tokens` are computed, whole and in slices.
static void check_slices_of(struct bed *bed, const struct numbers *n, size_t tokens, size_t slice) {
    struct layer layer = put_layer(bed, n, tokens);
    size_t row = n->out_width * dtype_size(bed->dtype);
    size_t bytes = device_state_space_state(&n->space, dtype_size(bed->dtype));
    void *state = take_state(bed, bytes);
    unsigned char *whole = run_slice(bed, n, &layer, 0, tokens, NULL);
    unsigned char *one = run_slice(bed, n, &layer, 0, tokens, state);
    unsigned char *left = bed_bytes(bed, state, bytes);
    assert_memory_equal(one, whole, tokens * row);
    check_state(bed, n, left, tokens);
    state = take_state(bed, bytes);
    for (size_t before = 0; before < tokens; before += slice) {
        size_t count = size_min(slice, tokens - before);
        unsigned char *got = run_slice(bed, n, &layer, before, count, state);
        assert_memory_equal(got, whole + before * row, count * row);
        free(got);
    }
    unsigned char *in_slices = bed_bytes(bed, state, bytes);
    assert_memory_equal(in_slices, left, bytes);
    free(in_slices);
    free(left);
    free(one);
    free(whole);
}

static void check_slices(const char *path, enum dtype dtype) {
    // Shorter than the convolution; ends at a slice, soon after it, and well within the next.
    static const size_t tokens[] = {1, DEVICE_SLICE, DEVICE_SLICE + 1, 271};
    const struct sizes *some[] = {&cases[2], &cases[5]};
    for (size_t c = 0; c < 2; c++) {
        struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
        struct numbers n = take_numbers(some[c], TOKENS, dtype);
        for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
            check_slices_of(&bed, &n, tokens[i], DEVICE_SLICE);
        }
        numbers_free(&n);
        bed_close(&bed);
    }
}

static void test_slices(void **state) {
    (void)state;
    on_every_path(check_slices);
}

// ---- refusals ----

static void test_refusals(void **state) {
    (void)state;
    struct bed bed = bed_open_rows(NULL, DTYPE_F32, 1, 8);
    struct numbers n = take_numbers(&cases[2], TOKENS, DTYPE_F32);
    struct layer layer = put_layer(&bed, &n, 8);
    int32_t starts[2] = {0, 4};
    void *in = bed_put(&bed, n.in, 4 * n.width);
    void *out = bed_take(&bed, 4 * n.out_width * sizeof(float));
    void *carried = take_state(&bed, device_state_space_state(&n.space, sizeof(float)));
    struct device_texts texts = {
        .starts = bed_upload(&bed, starts, sizeof starts), .host_starts = starts, .count = 1};
    struct device_texts later = texts;
    struct device_state_space odd[8];
    size_t bytes;
    for (size_t i = 0; i < 8; i++) {
        odd[i] = layer.space;
    }
    odd[0].groups = 3;
    odd[1].norm_groups = 5;
    odd[2].norm_groups = 0;
    odd[3].taps = DEVICE_TAPS_MOST + 1;
    odd[4].state = 0;
    odd[5].step_least = NAN;
    odd[6].step_most = -1;
    odd[7].head_dim = 0;
    for (size_t i = 0; i < 8; i++) {
        assert_false(device_state_space_scratch(bed.device, &odd[i], 4, &bytes));
        assert_int_equal(
            device_state_space(bed.device, out, in, &odd[i], texts, NULL, layer.scratch, &bed.error),
            STATUS_INTERNAL);
    }
    later.before = 5;
    assert_int_equal(
        device_state_space(bed.device, out, in, &layer.space, later, carried, layer.scratch, &bed.error),
        STATUS_INTERNAL);
    later.before = DEVICE_SLICE;
    assert_int_equal(
        device_state_space(bed.device, out, in, &layer.space, later, NULL, layer.scratch, &bed.error),
        STATUS_INTERNAL);
    odd[0] = layer.space;
    odd[0].skip = NULL;
    assert_int_equal(device_state_space(bed.device, out, in, &odd[0], texts, NULL, layer.scratch, &bed.error),
                     STATUS_INTERNAL);
    odd[0] = layer.space;
    odd[0].state = SIZE_MAX / 8;
    assert_false(device_state_space_scratch(bed.device, &odd[0], 1024, &bytes));
    numbers_free(&n);
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double), cmocka_unit_test(test_random_sizes),
        cmocka_unit_test(test_company),        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_slices),         cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

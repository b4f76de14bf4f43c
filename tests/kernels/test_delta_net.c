// SPDX-License-Identifier: MIT
// The gated delta net against double precision; a text's bits in company, in another place, with other
// numbers of threads and in slices.
#include "base/size.h"
#include "device_testing.h"

struct sizes {
    size_t key_heads;
    size_t value_heads;
    size_t key_dim;
    size_t value_dim;
    size_t taps;
    bool extreme; // gates that are shut or wide open, decays that forget all or nothing
};

static const struct sizes cases[] = {
    {1, 1, 8, 8, 2, false},   {2, 2, 16, 8, 3, true},   {1, 3, 8, 24, 4, true},
    {2, 4, 32, 16, 4, false}, {1, 1, 64, 128, 4, true}, {2, 6, 24, 40, 4, false},
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

// ---- what a case computes with ----

struct numbers {                 // in host memory
    struct device_delta_net net; // sizes
    size_t width;
    size_t out_width;
    float *in; // [TOKENS, width]
    float *convolution;
    float *decay;
    float *step_bias;
    float *norm;
};

static struct numbers take_numbers(const struct sizes *sizes, enum dtype dtype) {
    struct device_delta_net net = {.key_heads = sizes->key_heads,
                                   .value_heads = sizes->value_heads,
                                   .key_dim = sizes->key_dim,
                                   .value_dim = sizes->value_dim,
                                   .taps = sizes->taps,
                                   .epsilon = 1e-6f};
    size_t width = device_delta_net_width(&net);
    size_t heads = net.value_heads;
    struct numbers n = {
        .net = net,
        .width = width,
        .out_width = device_delta_net_out(&net),
        .in = random_numbers(1, TOKENS * width, 2.0f, dtype),
        .convolution = random_numbers(2, device_delta_net_mixed(&net) * net.taps, 0.7f, dtype),
        .decay = random_numbers(3, heads, sizes->extreme ? 6.0f : 1.5f, dtype),
        .step_bias = random_numbers(4, heads, 1.0f, dtype),
        .norm = random_numbers(5, net.value_dim, 1.5f, dtype),
    };
    uint64_t seed = 6;
    for (size_t t = 0; sizes->extreme && t < TOKENS; t++) {
        for (size_t i = width - 2 * heads; i < width; i++) { // b | a
            double at = random_unit(&seed);
            float size = i < width - heads ? 100.0f : 90.0f;
            n.in[t * width + i] = at < 0.15  ? -size
                                  : at > 0.9 ? size
                                  : at > 0.8 ? -14.0f
                                             : n.in[t * width + i];
        }
    }
    return n;
}

static void numbers_free(struct numbers *n) {
    free(n->in);
    free(n->convolution);
    free(n->decay);
    free(n->step_bias);
    free(n->norm);
}

// ---- on a device ----

struct layer {
    struct device_delta_net net;
    void *scratch;
};

static struct layer put_layer(struct bed *bed, const struct numbers *n, size_t tokens) {
    struct layer layer = {.net = n->net};
    size_t heads = n->net.value_heads;
    size_t bytes;
    layer.net.convolution = bed_put(bed, n->convolution, device_delta_net_mixed(&n->net) * n->net.taps);
    layer.net.decay = bed_put(bed, n->decay, heads);
    layer.net.step_bias = bed_put(bed, n->step_bias, heads);
    layer.net.norm = bed_put(bed, n->norm, n->net.value_dim);
    assert_true(device_delta_net_scratch(bed->device, &layer.net, tokens, &bytes));
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
    must(bed, device_delta_net(bed->device, out, in, &layer->net, texts, NULL, layer->scratch, &bed->error));
    free(rows);
    return bed_bytes(bed, out, tokens * n->out_width * dtype_size(bed->dtype));
}

// ---- in double precision ----

static double at_rounding(double value, enum dtype dtype) {
    return dtype == DTYPE_F32 ? value : (double)round_to((float)value, dtype);
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static double softplus(double x) {
    return x > 20 ? x : log1p(exp(x));
}

struct wanted {     // of one text
    double *mixed;  // [tokens, mixed]
    double *out;    // [tokens, out_width]
    double *off;    // the same: how far a device's may be off
    double *state;  // [value_heads, key_dim, value_dim] after it
    double *errors; // [out_width] of its columns
};

static void wanted_free(struct wanted *wanted) {
    free(wanted->mixed);
    free(wanted->out);
    free(wanted->off);
    free(wanted->state);
    free(wanted->errors);
}

static void wanted_mixed(const struct numbers *n, enum dtype dtype, const float *in, size_t tokens,
                         double *mixed) {
    size_t columns = device_delta_net_mixed(&n->net);
    size_t taps = n->net.taps;
    for (size_t t = 0; t < tokens; t++) {
        for (size_t c = 0; c < columns; c++) {
            double sum = 0;
            for (size_t i = 0; i < taps && i <= t; i++) {
                sum += (double)n->convolution[c * taps + taps - 1 - i] * (double)in[(t - i) * n->width + c];
            }
            sum = at_rounding(sum, dtype);
            mixed[t * columns + c] = at_rounding(sum * sigmoid(sum), dtype);
        }
    }
    size_t heads = 2 * n->net.key_heads;
    for (size_t t = 0; t < tokens; t++) {
        for (size_t h = 0; h < heads; h++) {
            double *head = mixed + t * columns + h * n->net.key_dim;
            double sum = 1e-6;
            for (size_t i = 0; i < n->net.key_dim; i++) {
                sum += head[i] * head[i];
            }
            double factor = 1 / sqrt(sum) / (h < n->net.key_heads ? sqrt((double)n->net.key_dim) : 1);
            for (size_t i = 0; i < n->net.key_dim; i++) {
                head[i] *= factor;
            }
        }
    }
}

// How far the terms of a sum may be off, relative to their sizes: in float32, and in halves, of which q, k, v
// and beta may have been rounded the other way, or not at all.
static double tolerance(const struct bed *bed) {
    return 16 * F32_EPSILON + (bed->dtype == DTYPE_F32 ? 0 : 8 * bed_epsilon(bed));
}

struct step { // of a head's state
    const double *q;
    const double *k;
    double beta;
    double g;
    double factor; // e^g
};

// Of column j. Returns o. *error: how far the column may be off, which no later step makes more of; roundings
// of different steps have nothing to do with each other. *off: the same of o.
static double step_column(const struct bed *bed, const struct device_delta_net *net, double *state,
                          const struct step *step, double v, size_t j, double *error, double *off) {
    double squares = 0;
    double seen = 0;
    for (size_t i = 0; i < net->key_dim; i++) {
        double *number = &state[i * net->value_dim + j];
        *number *= step->factor;
        squares += *number * *number;
        seen += *number * step->k[i];
    }
    double size = sqrt(squares);
    double fresh = tolerance(bed) * (size + step->beta * (fabs(v) + size));
    // Of g, an error relative to it is one of e^g times g; of v, one of a convolution, whose terms may
    // cancel.
    fresh += 4 * F32_EPSILON * (fabs(step->g) * size + step->beta * 2 * (double)net->taps);
    *error = sqrt(*error * step->factor * *error * step->factor + fresh * fresh);
    double o = 0;
    double terms = 0;
    squares = 0;
    for (size_t i = 0; i < net->key_dim; i++) {
        double *number = &state[i * net->value_dim + j];
        *number += step->k[i] * step->beta * (v - seen);
        o += *number * step->q[i];
        terms += fabs(*number * step->q[i]);
        squares += step->q[i] * step->q[i];
    }
    *off = *error * sqrt(squares) + tolerance(bed) * terms;
    return o;
}

// One token of value head h.
static void wanted_token(const struct bed *bed, const struct numbers *n, const float *in, const double *mixed,
                         size_t h, double *state, double *errors, double *out, double *off) {
    const struct device_delta_net *net = &n->net;
    size_t key_columns = net->key_heads * net->key_dim;
    const double *q = mixed + h / (net->value_heads / net->key_heads) * net->key_dim;
    const double *v = mixed + 2 * key_columns + h * net->value_dim;
    const float *z = in + device_delta_net_mixed(net) + h * net->value_dim;
    const float *b = in + n->width - 2 * net->value_heads;
    double size = softplus((double)b[net->value_heads + h] + (double)n->step_bias[h]);
    struct step step = {.q = q,
                        .k = q + key_columns,
                        .beta = at_rounding(sigmoid((double)b[h]), bed->dtype),
                        .g = -exp((double)n->decay[h]) * size};
    step.factor = exp(step.g);
    double least = 2 * bed_least(bed);
    double squares = 0;
    double all_off = 0;
    for (size_t j = 0; j < net->value_dim; j++) {
        double o = step_column(bed, net, state, &step, v[j], j, &errors[j], &off[j]);
        out[j] = at_rounding(o, bed->dtype);
        off[j] += least;
        squares += out[j] * out[j];
        all_off += off[j] * off[j];
    }
    double inverse = 1 / sqrt(squares / (double)net->value_dim + (double)net->epsilon);
    all_off = sqrt(all_off / (double)net->value_dim) * inverse; // of the norm's divisor
    for (size_t j = 0; j < net->value_dim; j++) {
        double normed = at_rounding(out[j] * inverse, bed->dtype);
        double gate = (double)z[j] * sigmoid((double)z[j]);
        double weighted = at_rounding(normed * (double)n->norm[j], bed->dtype);
        out[j] = at_rounding(weighted * gate, bed->dtype);
        off[j] = (off[j] * inverse + all_off * fabs(normed) + least) * fabs((double)n->norm[j] * gate);
        off[j] += least * fabs(gate) + least + 6 * (bed_epsilon(bed) + 2 * F32_EPSILON) * fabs(out[j]);
    }
}

static struct wanted wanted_text(const struct bed *bed, const struct numbers *n, const float *in,
                                 size_t tokens) {
    const struct device_delta_net *net = &n->net;
    size_t columns = device_delta_net_mixed(net);
    size_t area = net->key_dim * net->value_dim;
    struct wanted wanted = {
        .mixed = calloc(tokens * columns + 1, sizeof(double)),
        .out = calloc(tokens * n->out_width + 1, sizeof(double)),
        .off = calloc(tokens * n->out_width + 1, sizeof(double)),
        .state = calloc(net->value_heads * area, sizeof(double)),
        .errors = calloc(n->out_width, sizeof(double)),
    };
    assert_true(wanted.mixed != NULL && wanted.out != NULL && wanted.off != NULL && wanted.state != NULL &&
                wanted.errors != NULL);
    wanted_mixed(n, bed->dtype, in, tokens, wanted.mixed);
    for (size_t t = 0; t < tokens; t++) {
        for (size_t h = 0; h < net->value_heads; h++) {
            size_t at = t * n->out_width + h * net->value_dim;
            wanted_token(bed, n, in + t * n->width, wanted.mixed + t * columns, h, wanted.state + h * area,
                         wanted.errors + h * net->value_dim, wanted.out + at, wanted.off + at);
        }
    }
    return wanted;
}

// Returns how many numbers are not the reference's, rounding apart.
static size_t check_text(const struct bed *bed, const struct numbers *n, const float *got, const float *in,
                         size_t tokens) {
    struct wanted wanted = wanted_text(bed, n, in, tokens);
    size_t differing = 0;
    for (size_t i = 0; i < tokens * n->out_width; i++) {
        assert_close(bed, "delta net", i, got[i], wanted.out[i], wanted.off[i] + 1e-30);
        differing += got[i] != (float)wanted.out[i];
    }
    wanted_free(&wanted);
    return differing;
}

static void check_cases(const char *path, enum dtype dtype) {
    static const size_t all[TEXTS] = {0, 1, 2, 3, 4};
    size_t differing = 0;
    size_t numbers = 0;
    for (size_t c = 0; c < CASES; c++) {
        struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
        struct numbers n = take_numbers(&cases[c], dtype);
        struct layer layer = put_layer(&bed, &n, TOKENS);
        float *got = numbers_widen(run_texts(&bed, &n, &layer, all, TEXTS), dtype, TOKENS * n.out_width);
        for (size_t i = 0; i < TEXTS; i++) {
            size_t first = first_of(i);
            differing += check_text(&bed, &n, got + first * n.out_width, n.in + first * n.width, lengths[i]);
        }
        numbers += TOKENS * n.out_width;
        free(got);
        numbers_free(&n);
        bed_close(&bed);
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
        struct numbers n = take_numbers(some[c], dtype);
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
    const struct sizes *sizes = &cases[3];
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    struct numbers n = take_numbers(sizes, dtype);
    struct layer layer = put_layer(&bed, &n, TOKENS);
    size_t row = n.out_width * dtype_size(dtype);
    size_t spoilt = first_of(TEXT) + TOKEN;
    size_t v = 2 * n.net.key_heads * n.net.key_dim + HEAD * n.net.value_dim;
    const size_t columns[] = {v + 3, n.width - n.net.value_heads + HEAD, n.net.key_heads * n.net.key_dim + 2};
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
                // NaN keys reach both heads that go with them; nothing reaches the others.
                size_t head = j / n.net.value_dim;
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
    must(bed, device_delta_net(bed->device, out, in, &layer->net, texts, state, layer->scratch, &bed->error));
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
    size_t count = n->net.value_heads * n->net.key_dim * n->net.value_dim;
    size_t columns = device_delta_net_mixed(&n->net);
    struct wanted wanted = wanted_text(bed, n, n->in, tokens);
    for (size_t i = 0; i < count; i++) {
        float number;
        size_t area = n->net.key_dim * n->net.value_dim;
        double error = wanted.errors[i / area * n->net.value_dim + i % n->net.value_dim];
        memcpy(&number, state + i * sizeof number, sizeof number);
        assert_close(bed, "state", i, number, wanted.state[i], error + 1e-30);
    }
    for (size_t i = 0; i < n->net.taps - 1; i++) {
        for (size_t c = 0; c < columns; c++) {
            float number;
            size_t back = n->net.taps - 1 - i;
            dtype_convert(&number, DTYPE_F32,
                          state + count * sizeof(float) + (i * columns + c) * dtype_size(bed->dtype),
                          bed->dtype, 1);
            float want = back > tokens ? 0 : n->in[(tokens - back) * n->width + c];
            assert_true(number == want);
        }
    }
    wanted_free(&wanted);
}

// The case's tokens as one text, of which the first `tokens` are computed, whole and in slices.
static void check_slices_of(struct bed *bed, const struct numbers *n, size_t tokens, size_t slice) {
    struct layer layer = put_layer(bed, n, tokens);
    size_t row = n->out_width * dtype_size(bed->dtype);
    size_t bytes = device_delta_net_state(&n->net, dtype_size(bed->dtype));
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
    const struct sizes *some[] = {&cases[2], &cases[3]};
    for (size_t c = 0; c < 2; c++) {
        struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
        struct numbers n = take_numbers(some[c], dtype);
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
    struct numbers n = take_numbers(&cases[0], DTYPE_F32);
    struct layer layer = put_layer(&bed, &n, 8);
    int32_t starts[2] = {0, 4};
    void *in = bed_put(&bed, n.in, 4 * n.width);
    void *out = bed_take(&bed, 4 * n.out_width * sizeof(float));
    void *carried = take_state(&bed, device_delta_net_state(&n.net, sizeof(float)));
    struct device_texts texts = {
        .starts = bed_upload(&bed, starts, sizeof starts), .host_starts = starts, .count = 1};
    struct device_texts later = texts;
    later.before = 5;
    struct device_delta_net odd = layer.net;
    odd.value_heads = 3;
    odd.key_heads = 2;
    size_t bytes;
    assert_false(device_delta_net_scratch(bed.device, &odd, 4, &bytes));
    assert_int_equal(device_delta_net(bed.device, out, in, &odd, texts, NULL, layer.scratch, &bed.error),
                     STATUS_INTERNAL);
    assert_int_equal(
        device_delta_net(bed.device, out, in, &layer.net, later, carried, layer.scratch, &bed.error),
        STATUS_INTERNAL);
    later.before = DEVICE_SLICE;
    assert_int_equal(
        device_delta_net(bed.device, out, in, &layer.net, later, NULL, layer.scratch, &bed.error),
        STATUS_INTERNAL);
    odd = layer.net;
    odd.value_dim = SIZE_MAX / 8;
    assert_false(device_delta_net_scratch(bed.device, &odd, 1024, &bytes));
    numbers_free(&n);
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double), cmocka_unit_test(test_company),
        cmocka_unit_test(test_not_finite),     cmocka_unit_test(test_slices),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

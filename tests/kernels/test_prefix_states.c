// SPDX-License-Identifier: MIT
// Texts that go on from the state that a head leaves have the bits that they have whole: delta nets, state
// spaces and short convolutions, in batches and in slices, on every path.
#include "prefix_trees.h"

struct mixer { // one of the three
    enum { DELTA_NET, STATE_SPACE, SHORT_CONVOLUTION, MIXERS } kind;
    size_t width;     // of a row that goes in
    size_t out_width; // and of one that comes out
    size_t state_bytes;
    struct device_delta_net net;
    struct device_state_space space;
    struct device_short_convolution convolution;
    void *scratch;
};

static const char *const names[MIXERS] = {"delta net", "state space", "short convolution"};

static void *put_random(struct bed *bed, uint64_t seed, size_t count, float scale) {
    float *numbers = random_numbers(seed, count, scale, bed->dtype);
    void *out = bed_put(bed, numbers, count);
    free(numbers);
    return out;
}

static void *take_scratch(struct bed *bed, size_t bytes) {
    void *out = NULL;
    if (bytes > 0) {
        must(bed, device_take(bed->device, DEVICE_SCRATCH, bytes, &out, &bed->error));
    }
    return out;
}

static void put_delta_net(struct bed *bed, struct mixer *mixer, size_t taps, size_t tokens) {
    struct device_delta_net *net = &mixer->net;
    size_t bytes;
    *net = (struct device_delta_net){
        .key_heads = 2, .value_heads = 4, .key_dim = 16, .value_dim = 40, .taps = taps, .epsilon = 1e-6f};
    net->convolution = put_random(bed, 1, device_delta_net_mixed(net) * taps, 0.7f);
    net->decay = put_random(bed, 2, net->value_heads, 1.5f);
    net->step_bias = put_random(bed, 3, net->value_heads, 1.0f);
    net->norm = put_random(bed, 4, net->value_dim, 1.5f);
    mixer->width = device_delta_net_width(net);
    mixer->out_width = device_delta_net_out(net);
    mixer->state_bytes = device_delta_net_state(net, dtype_size(bed->dtype));
    assert_true(device_delta_net_scratch(bed->device, net, tokens, &bytes));
    mixer->scratch = take_scratch(bed, bytes);
}

static void put_state_space(struct bed *bed, struct mixer *mixer, size_t taps, size_t tokens) {
    struct device_state_space *space = &mixer->space;
    size_t bytes;
    *space = (struct device_state_space){.heads = 4,
                                         .head_dim = 24,
                                         .groups = 2,
                                         .state = 40,
                                         .taps = taps,
                                         .norm_groups = 2,
                                         .epsilon = 1e-5f,
                                         .step_most = INFINITY};
    size_t mixed = device_state_space_mixed(space);
    mixer->out_width = device_state_space_out(space);
    space->convolution = put_random(bed, 1, mixed * taps, 0.7f);
    space->bias = put_random(bed, 5, mixed, 0.5f);
    space->decay = put_random(bed, 2, space->heads, 1.5f);
    space->step_bias = put_random(bed, 3, space->heads, 1.0f);
    space->skip = put_random(bed, 6, space->heads, 1.0f);
    space->norm = put_random(bed, 4, mixer->out_width, 1.5f);
    mixer->width = device_state_space_width(space);
    mixer->state_bytes = device_state_space_state(space, dtype_size(bed->dtype));
    assert_true(device_state_space_scratch(bed->device, space, tokens, &bytes));
    mixer->scratch = take_scratch(bed, bytes);
}

static struct mixer put_mixer(struct bed *bed, int kind, size_t taps, size_t tokens) {
    struct mixer mixer = {.kind = kind};
    if (kind == DELTA_NET) {
        put_delta_net(bed, &mixer, taps, tokens);
    } else if (kind == STATE_SPACE) {
        put_state_space(bed, &mixer, taps, tokens);
    } else {
        mixer.convolution = (struct device_short_convolution){
            .width = 72, .taps = taps, .weight = put_random(bed, 1, 72 * taps, 1.0f)};
        mixer.width = 3 * 72;
        mixer.out_width = 72;
        mixer.state_bytes = device_short_convolution_state(&mixer.convolution, dtype_size(bed->dtype));
    }
    return mixer;
}

static int mix(struct bed *bed, const struct mixer *mixer, void *out, const void *in,
               struct device_texts texts, void *state) {
    switch (mixer->kind) {
    case DELTA_NET:
        return device_delta_net(bed->device, out, in, &mixer->net, texts, state, mixer->scratch, &bed->error);
    case STATE_SPACE:
        return device_state_space(bed->device, out, in, &mixer->space, texts, state, mixer->scratch,
                                  &bed->error);
    default:
        return device_short_convolution(bed->device, out, in, &mixer->convolution, texts, state, &bed->error);
    }
}

static void *run(struct bed *bed, const struct mixer *mixer, const float *rows, struct device_texts texts,
                 void *state) {
    size_t tokens = (size_t)texts.host_starts[texts.count];
    size_t bytes = tokens * mixer->out_width * dtype_size(bed->dtype);
    void *out = bed_take(bed, bytes);
    texts.starts = bed_upload(bed, texts.host_starts, (texts.count + 1) * sizeof *texts.starts);
    texts.origins = texts.host_origins != NULL
                        ? bed_upload(bed, texts.host_origins, texts.count * sizeof *texts.origins)
                        : NULL;
    must(bed, mix(bed, mixer, out, bed_put(bed, rows, tokens * mixer->width), texts, state));
    return bed_bytes(bed, out, bytes);
}

// Of NaN, which nothing may read; a byte more where a convolution of one tap leaves nothing.
static void *take_state(struct bed *bed, const struct mixer *mixer) {
    unsigned char *spoilt = malloc(mixer->state_bytes + 1);
    assert_non_null(spoilt);
    memset(spoilt, 0xff, mixer->state_bytes + 1);
    void *state = bed_upload(bed, spoilt, mixer->state_bytes + 1);
    free(spoilt);
    return state;
}

// The state that the first `tokens` rows leave.
static void *state_after(struct bed *bed, const struct mixer *mixer, const float *rows, size_t tokens) {
    const int32_t starts[] = {0, (int32_t)tokens};
    void *state = take_state(bed, mixer);
    free(run(bed, mixer, rows, (struct device_texts){.host_starts = starts, .count = 1}, state));
    return state;
}

// ---- batches ----

static void try_tree(struct bed *bed, int kind, size_t taps, uint64_t seed, struct prefix_limits limits) {
    struct prefix_tree tree = prefix_tree(seed, limits);
    struct mixer mixer = put_mixer(bed, kind, taps, tree.whole_tokens);
    float *rows = random_numbers(seed, (tree.head_tokens + tree.tokens) * mixer.width, 2.0f, bed->dtype);
    float *whole_rows = prefix_whole(&tree, rows, mixer.width);
    void *head = state_after(bed, &mixer, rows, tree.head_tokens);
    unsigned char *before = bed_bytes(bed, head, mixer.state_bytes);
    struct device_texts texts = {.host_starts = tree.whole_starts, .count = tree.count};
    unsigned char *whole = run(bed, &mixer, whole_rows, texts, NULL);
    texts.host_starts = tree.starts;
    texts.host_origins = tree.origins;
    texts.head = head;
    texts.head_tokens = tree.head_tokens;
    unsigned char *shared = run(bed, &mixer, rows + tree.head_tokens * mixer.width, texts, NULL);
    prefix_assert_same(bed, &tree, shared, whole, mixer.out_width, names[kind]);
    unsigned char *after = bed_bytes(bed, head, mixer.state_bytes);
    assert_memory_equal(after, before, mixer.state_bytes);
    free(after);
    free(shared);
    free(whole);
    free(before);
    free(whole_rows);
    free(rows);
}

// Heads shorter than the convolution, and longer than the pieces that back ends take of a batch.
static void trees(const char *path, enum dtype dtype) {
    static const struct {
        size_t taps;
        struct prefix_limits limits;
    } cases[] = {
        {4, {.texts = 9, .head = 1, .own = 6, .head_alone = true}},
        {3, {.texts = 12, .head = 70, .own = 5, .head_alone = true}},
        {1, {.texts = 5, .head = 3, .own = 20, .head_alone = true}},
        {4, {.texts = 5, .head = 290, .own = 200, .head_alone = true}},
    };
    for (int kind = 0; kind < MIXERS; kind++) {
        struct bed bed = bed_open(path, dtype, 2);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            try_tree(&bed, kind, cases[i].taps, i, cases[i].limits);
        }
        bed_close(&bed);
    }
}

static void texts_behind_a_head_have_the_bits_of_whole_ones(void **state) {
    (void)state;
    on_every_path(trees);
}

// ---- slices ----

static void try_slices(struct bed *bed, int kind, size_t head_tokens, size_t own) {
    struct mixer mixer = put_mixer(bed, kind, 4, head_tokens + own);
    float *rows = random_numbers(own, (head_tokens + own) * mixer.width, 2.0f, bed->dtype);
    size_t row = mixer.out_width * dtype_size(bed->dtype);
    const int32_t all[] = {0, (int32_t)(head_tokens + own)};
    struct device_texts texts = {.host_starts = all, .count = 1};
    unsigned char *whole = run(bed, &mixer, rows, texts, NULL);
    unsigned char *wanted =
        bed_bytes(bed, state_after(bed, &mixer, rows, head_tokens + own), mixer.state_bytes);
    const struct device_origin origin = {DEVICE_HEAD, (int32_t)head_tokens};
    texts.host_origins = &origin;
    texts.head = state_after(bed, &mixer, rows, head_tokens);
    texts.head_tokens = head_tokens;
    void *carried = take_state(bed, &mixer);
    for (size_t first = 0; first < own; first += DEVICE_SLICE) {
        size_t count = size_min(DEVICE_SLICE, own - first);
        const int32_t starts[] = {0, (int32_t)count};
        texts.host_starts = starts;
        texts.before = head_tokens + first;
        unsigned char *found = run(bed, &mixer, rows + (head_tokens + first) * mixer.width, texts, carried);
        if (memcmp(found, whole + (head_tokens + first) * row, count * row) != 0) {
            fail_msg("%s, path %s, %s: the slice from token %zu on behind a head of %zu differs", names[kind],
                     bed->path, dtype_name(bed->dtype), first, head_tokens);
        }
        free(found);
    }
    unsigned char *left = bed_bytes(bed, carried, mixer.state_bytes);
    assert_memory_equal(left, wanted, mixer.state_bytes);
    free(left);
    free(wanted);
    free(whole);
    free(rows);
}

static void slices(const char *path, enum dtype dtype) {
    for (int kind = 0; kind < MIXERS; kind++) {
        struct bed bed = bed_open(path, dtype, 2);
        try_slices(&bed, kind, 65, 2 * DEVICE_SLICE + 1);
        try_slices(&bed, kind, 7, 1); // what is left is of the head and the slice
        try_slices(&bed, kind, 1, 1); // and of nothing before
        bed_close(&bed);
    }
}

static void slices_behind_a_head_have_the_bits_of_the_whole(void **state) {
    (void)state;
    on_every_path(slices);
}

// ---- refusals ----

static void refused(struct bed *bed, const struct mixer *mixer, struct device_texts texts, void *state,
                    const char *why) {
    void *out = bed_take(bed, 8 * mixer->out_width * sizeof(float));
    float *rows = random_numbers(1, 8 * mixer->width, 1.0f, bed->dtype);
    int status = mix(bed, mixer, out, bed_put(bed, rows, 8 * mixer->width), texts, state);
    free(rows);
    if (why == NULL) {
        must(bed, status);
    } else if (status != STATUS_INTERNAL || strstr(bed->error.message, why) == NULL) {
        fail_msg("%s: %d, \"%s\" where \"%s\" was wanted", names[mixer->kind], status, bed->error.message,
                 why);
    }
}

static void what_no_state_can_go_on_from_is_refused(void **state) {
    (void)state;
    enum { HEAD = 5, TEXTS = 2 };
    static const int32_t starts[] = {0, 4, 8};
    static const struct {
        struct device_origin origins[TEXTS];
        const char *why;
    } tries[] = {
        {{{DEVICE_HEAD, HEAD}, {DEVICE_HEAD, 0}}, NULL},
        {{{DEVICE_HEAD, HEAD}, {0, 3}}, "something else than all of the head"},
        {{{DEVICE_HEAD, 0}, {DEVICE_HEAD, HEAD - 1}}, "something else than all of the head"},
        {{{DEVICE_HEAD, HEAD + 1}, {DEVICE_HEAD, 0}}, "more than the head has"},
        {{{1, 1}, {DEVICE_HEAD, 0}}, "from none before it"},
    };
    struct bed bed = bed_open("portable", DTYPE_F32, 1);
    for (int kind = 0; kind < MIXERS; kind++) {
        struct mixer mixer = put_mixer(&bed, kind, 4, 8);
        float *rows = random_numbers(1, HEAD * mixer.width, 1.0f, DTYPE_F32);
        struct device_texts texts = {.starts = bed_upload(&bed, starts, sizeof starts),
                                     .host_starts = starts,
                                     .count = TEXTS,
                                     .head = state_after(&bed, &mixer, rows, HEAD),
                                     .head_tokens = HEAD};
        free(rows);
        for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
            texts.host_origins = tries[i].origins;
            texts.origins = bed_upload(&bed, tries[i].origins, sizeof tries[i].origins);
            refused(&bed, &mixer, texts, NULL, tries[i].why);
        }
        void *carried = take_state(&bed, &mixer);
        texts.host_origins = tries[0].origins;
        texts.origins = bed_upload(&bed, tries[0].origins, sizeof tries[0].origins);
        texts.count = 1;
        texts.before = HEAD;
        refused(&bed, &mixer, texts, carried, NULL);
        refused(&bed, &mixer, texts, NULL, "the state is missing");
        texts.before = 0;
        refused(&bed, &mixer, texts, carried, "begins at a multiple of a slice");
        texts.before = DEVICE_SLICE;
        refused(&bed, &mixer, texts, carried, "begins at a multiple of a slice");
        texts.before = HEAD;
        texts.host_origins = NULL;
        refused(&bed, &mixer, texts, carried, "origins are in one memory alone");
    }
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_behind_a_head_have_the_bits_of_whole_ones),
        cmocka_unit_test(slices_behind_a_head_have_the_bits_of_the_whole),
        cmocka_unit_test(what_no_state_can_go_on_from_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

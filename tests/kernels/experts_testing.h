// SPDX-License-Identifier: MIT
// What tests of experts share: a layer of random numbers on a device, and its tokens.
#ifndef STRATA_TESTS_KERNELS_EXPERTS_TESTING_H
#define STRATA_TESTS_KERNELS_EXPERTS_TESTING_H

#include "device_testing.h"

struct sizes {
    size_t tokens;
    size_t experts;
    size_t chosen;
    size_t hidden;
    size_t width;
    float limit;
    bool biased;
    enum device_store store;
    size_t favoured; // the first so many experts get most tokens; 0: all the same
    enum device_activation activation;
    bool plain;
    bool scales_input;
};

struct numbers { // what a case computes with, in host memory
    float *x;
    float *gate_up;
    float *gate_up_bias;
    float *down;
    float *down_bias;
    float *before; // what out holds
    int32_t *experts;
    float *weights;
};

// Ascending experts and weights of each token.
static inline void random_routes(const struct sizes *sizes, struct numbers *in) {
    uint64_t seed = sizes->tokens + 3 * sizes->experts;
    for (size_t t = 0; t < sizes->tokens; t++) {
        bool taken[DEVICE_EXPERTS_MOST] = {false};
        for (size_t i = 0; i < sizes->chosen;) {
            bool some = sizes->favoured > 0 && random_unit(&seed) < 0.9;
            size_t range = some ? sizes->favoured : sizes->experts;
            size_t expert = (size_t)(random_unit(&seed) * (double)range);
            i += !taken[expert];
            taken[expert] = true;
        }
        size_t filled = t * sizes->chosen;
        for (size_t e = 0; e < sizes->experts; e++) {
            if (taken[e]) {
                in->weights[filled] = (float)random_unit(&seed);
                in->experts[filled++] = (int32_t)e;
            }
        }
    }
}

static inline struct numbers take_numbers(const struct sizes *sizes, enum dtype dtype) {
    size_t matrix = sizes->experts * sizes->width * sizes->hidden;
    size_t pairs = sizes->tokens * sizes->chosen;
    struct numbers in = {
        .x = random_numbers(1, sizes->tokens * sizes->hidden, 1.0f, dtype),
        .gate_up = random_numbers(2, 2 * matrix, 0.5f, dtype),
        .gate_up_bias = random_numbers(3, 2 * sizes->experts * sizes->width, 1.0f, dtype),
        .down = random_numbers(4, matrix, 0.5f, dtype),
        .down_bias = random_numbers(5, sizes->experts * sizes->hidden, 1.0f, dtype),
        .before = random_numbers(6, sizes->tokens * sizes->hidden, 1.0f, dtype),
        .experts = malloc(pairs * sizeof *in.experts),
        .weights = malloc(pairs * sizeof *in.weights),
    };
    assert_true(in.experts != NULL && in.weights != NULL);
    random_routes(sizes, &in);
    return in;
}

static inline void numbers_free(struct numbers *in) {
    free(in->x);
    free(in->gate_up);
    free(in->gate_up_bias);
    free(in->down);
    free(in->down_bias);
    free(in->before);
    free(in->experts);
    free(in->weights);
}

static inline size_t rows_of(const struct sizes *sizes) { // of gate_up, of an expert
    return sizes->plain ? sizes->width : 2 * sizes->width;
}

struct layer { // weights on a device
    struct device_matrix gate_up;
    struct device_matrix down;
    struct device_experts experts;
};

static inline struct device_experts layer_of(struct bed *bed, const struct sizes *sizes,
                                             const struct numbers *in, const struct device_matrix *gate_up,
                                             const struct device_matrix *down) {
    size_t experts = sizes->experts;
    return (struct device_experts){
        .experts = experts,
        .chosen = sizes->chosen,
        .hidden = sizes->hidden,
        .width = sizes->width,
        .gate_up = gate_up,
        .gate_up_bias = sizes->biased ? bed_put(bed, in->gate_up_bias, experts * rows_of(sizes)) : NULL,
        .down = down,
        .down_bias = sizes->biased ? bed_put(bed, in->down_bias, experts * sizes->hidden) : NULL,
        .activation = sizes->activation,
        .limit = sizes->limit,
        .plain = sizes->plain,
        .scales_input = sizes->scales_input,
    };
}

static inline void put_layer(struct bed *bed, const struct sizes *sizes, const struct numbers *in,
                             struct layer *layer) {
    layer->gate_up = bed_matrix(bed, in->gate_up, sizes->experts * rows_of(sizes), sizes->hidden);
    layer->down = bed_matrix(bed, in->down, sizes->experts * sizes->hidden, sizes->width);
    layer->experts = layer_of(bed, sizes, in, &layer->gate_up, &layer->down);
}

// The bytes of out for `tokens` tokens, number order[i] of the case being token i; NULL: as they come.
static inline void *run_tokens(struct bed *bed, const struct sizes *sizes, const struct numbers *in,
                               const struct layer *layer, const size_t *order, size_t tokens, void *scratch) {
    size_t hidden = sizes->hidden;
    size_t chosen = sizes->chosen;
    struct numbers some = {
        .x = malloc(tokens * hidden * sizeof(float)),
        .before = malloc(tokens * hidden * sizeof(float)),
        .experts = malloc(tokens * chosen * sizeof(int32_t)),
        .weights = malloc(tokens * chosen * sizeof(float)),
    };
    assert_true(some.x != NULL && some.before != NULL && some.experts != NULL && some.weights != NULL);
    for (size_t i = 0; i < tokens; i++) {
        size_t t = order == NULL ? i : order[i];
        memcpy(some.x + i * hidden, in->x + t * hidden, hidden * sizeof(float));
        memcpy(some.before + i * hidden, in->before + t * hidden, hidden * sizeof(float));
        memcpy(some.experts + i * chosen, in->experts + t * chosen, chosen * sizeof(int32_t));
        memcpy(some.weights + i * chosen, in->weights + t * chosen, chosen * sizeof(float));
    }
    void *x = bed_put_rows(bed, some.x, tokens, hidden);
    void *out = bed_put_rows(bed, some.before, tokens, hidden);
    struct device_routes routes = {bed_upload(bed, some.experts, tokens * chosen * sizeof(int32_t)),
                                   bed_upload(bed, some.weights, tokens * chosen * sizeof(float))};
    must(bed, device_experts(bed->device, out, x, &routes, &layer->experts, sizes->store, tokens, scratch,
                             &bed->error));
    numbers_free(&some);
    return bed_bytes(bed, out, tokens * hidden * dtype_size(bed->dtype));
}

static inline void *take_scratch(struct bed *bed, const struct layer *layer, size_t tokens) {
    size_t bytes;
    void *scratch = NULL;
    assert_true(device_experts_scratch(bed->device, &layer->experts, tokens, &bytes));
    if (bytes > 0) {
        must(bed, device_take(bed->device, DEVICE_SCRATCH, bytes, &scratch, &bed->error));
    }
    return scratch;
}

#endif

// SPDX-License-Identifier: MIT
// Random trees of texts, for tests of texts that go on from others (struct device_origin): the same texts in
// a batch that has each of them whole, and in one that has no token twice.
//
// What tokens have (rows of q | k | v, hidden states) is made of rows of numbers, one a token that is there
// once: first the head's, then those of the batch in its order. With `numbers` of tree.head_tokens +
// tree.tokens rows, of one width:
//
//     the head's    numbers                               [head_tokens, width]
//     the batch     numbers + tree.head_tokens * width    [tokens, width]        starts, origins
//     each whole    prefix_whole(&tree, numbers, width)   [whole_tokens, width]  whole_starts
//
// prefix_row says where a text's token is. prefix_assert_same compares all that comes out of both batches,
// prefix_span has a span of a text in each.
#ifndef STRATA_TESTS_KERNELS_PREFIX_TREES_H
#define STRATA_TESTS_KERNELS_PREFIX_TREES_H

#include "device_testing.h"

enum { PREFIX_TEXTS_MOST = 16 };

struct prefix_limits {
    size_t texts;    // up to PREFIX_TEXTS_MOST
    size_t head;     // tokens of the head; 0: there is none
    size_t own;      // most tokens that a text adds to what it goes on from
    bool head_alone; // texts go on from all of the head, or from nothing, never from each other
};

struct prefix_tree {
    size_t count;
    size_t head_tokens;
    size_t tokens; // of the batch without the head
    size_t whole_tokens;
    size_t longest; // text, whole
    int32_t starts[PREFIX_TEXTS_MOST + 1];
    int32_t whole_starts[PREFIX_TEXTS_MOST + 1];
    struct device_origin origins[PREFIX_TEXTS_MOST];
};

static inline size_t prefix_length(const struct prefix_tree *tree, size_t text) {
    return (size_t)(tree->whole_starts[text + 1] - tree->whole_starts[text]);
}

// Half of the texts go on from an earlier one (from all of it, or from any of its tokens), most others from
// the head or a part of it.
static inline struct device_origin prefix_origin(const struct prefix_tree *tree, size_t text,
                                                 const struct prefix_limits *limits, uint64_t *seed) {
    size_t kind = random_below(seed, 8);
    if (!limits->head_alone && text > 0 && kind < 4) {
        size_t parent = random_below(seed, text);
        size_t length = prefix_length(tree, parent);
        size_t before = kind == 0 ? length : random_below(seed, length + 1);
        return (struct device_origin){(int32_t)parent, (int32_t)before};
    }
    size_t before = kind == 7 ? 0 : limits->head;
    if (!limits->head_alone && kind == 6) {
        before = random_below(seed, limits->head + 1);
    }
    return (struct device_origin){DEVICE_HEAD, (int32_t)before};
}

// A tree is a function of its seed and limits. One text in eight has no token of its own, where it goes on
// from some.
static inline struct prefix_tree prefix_tree(uint64_t seed, struct prefix_limits limits) {
    struct prefix_tree tree = {.count = limits.texts, .head_tokens = limits.head};
    assert_true(limits.texts <= PREFIX_TEXTS_MOST && limits.own > 0);
    for (size_t i = 0; i < tree.count; i++) {
        tree.origins[i] = prefix_origin(&tree, i, &limits, &seed);
        size_t before = (size_t)tree.origins[i].before;
        size_t own = before > 0 && random_below(&seed, 8) == 0 ? 0 : 1 + random_below(&seed, limits.own);
        tree.tokens += own;
        tree.whole_tokens += before + own;
        tree.longest = size_max(tree.longest, before + own);
        tree.starts[i + 1] = (int32_t)tree.tokens;
        tree.whole_starts[i + 1] = (int32_t)tree.whole_tokens;
    }
    return tree;
}

// Where token `position` of a text is: a row of the numbers, those of the head first.
static inline size_t prefix_row(const struct prefix_tree *tree, size_t text, size_t position) {
    int32_t at = (int32_t)text;
    while (at != DEVICE_HEAD && (int32_t)position < tree->origins[at].before) {
        at = tree->origins[at].parent;
    }
    return at == DEVICE_HEAD
               ? position
               : tree->head_tokens + (size_t)tree->starts[at] + position - (size_t)tree->origins[at].before;
}

// Rows of the batch that has each text whole. The caller frees them.
static inline float *prefix_whole(const struct prefix_tree *tree, const float *numbers, size_t width) {
    float *whole = malloc((tree->whole_tokens * width + 1) * sizeof *whole);
    assert_non_null(whole);
    for (size_t i = 0; i < tree->count; i++) {
        for (size_t k = 0; k < prefix_length(tree, i); k++) {
            memcpy(whole + ((size_t)tree->whole_starts[i] + k) * width,
                   numbers + prefix_row(tree, i, k) * width, width * sizeof *whole);
        }
    }
    return whole;
}

// Tokens [first, end) of a text, where the batch has them, and where the batch that has each text whole does.
static inline struct device_span prefix_span(const struct prefix_tree *tree, size_t text, size_t first,
                                             size_t end) {
    int32_t last = (int32_t)prefix_row(tree, text, end - 1) - (int32_t)tree->head_tokens;
    return (struct device_span){last + 1 - (int32_t)(end - first), last + 1};
}

static inline struct device_span prefix_whole_span(const struct prefix_tree *tree, size_t text, size_t first,
                                                   size_t end) {
    return (struct device_span){tree->whole_starts[text] + (int32_t)first,
                                tree->whole_starts[text] + (int32_t)end};
}

// shared [tokens], whole [whole_tokens]: rows of what came out, in the bed's dtype. Every token of every text
// has to be the same in both, but those of the head, which the batch does not have.
static inline void prefix_assert_same(const struct bed *bed, const struct prefix_tree *tree,
                                      const void *shared, const void *whole, size_t width, const char *what) {
    size_t bytes = width * dtype_size(bed->dtype);
    for (size_t i = 0; i < tree->count; i++) {
        for (size_t k = 0; k < prefix_length(tree, i); k++) {
            size_t row = prefix_row(tree, i, k);
            const char *wanted = (const char *)whole + ((size_t)tree->whole_starts[i] + k) * bytes;
            for (size_t n = 0; n < width; n++) {
                float number;
                dtype_convert(&number, DTYPE_F32, wanted + n * dtype_size(bed->dtype), bed->dtype, 1);
                if (!isfinite(number)) {
                    fail_msg("%s, path %s, %s: token %zu of text %zu has the number %g", what, bed->path,
                             dtype_name(bed->dtype), k, i, (double)number);
                }
            }
            if (row >= tree->head_tokens &&
                memcmp((const char *)shared + (row - tree->head_tokens) * bytes, wanted, bytes) != 0) {
                fail_msg(
                    "%s, path %s, %s: token %zu of text %zu of %zu (from text %d, behind %d tokens; head "
                    "of %zu) differs from the whole text's",
                    what, bed->path, dtype_name(bed->dtype), k, i, tree->count, tree->origins[i].parent,
                    tree->origins[i].before, tree->head_tokens);
            }
        }
    }
}

#endif

// SPDX-License-Identifier: MIT
#include "text/ggml_merges.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/tokenizer_internal.h"

// Ways to put one token together, on average: files have about 2, and a hostile one must not take memory by
// the square of its length.
enum { MERGES_PER_TOKEN = 32 };

struct derived_merge {
    float score;
    uint32_t left_length; // characters
    uint32_t right_length;
    int32_t left;
    int32_t right;
    int32_t merged;
};

struct derived_merges {
    struct derived_merge *list;
    size_t count;
    size_t capacity;
};

// The order in which transformers lists the merges that it derives (generate_merges).
static int compare(const void *first, const void *second) {
    const struct derived_merge *a = first;
    const struct derived_merge *b = second;
    if (a->score != b->score) {
        return a->score > b->score ? -1 : 1;
    }
    if (a->left_length != b->left_length) {
        return a->left_length > b->left_length ? -1 : 1;
    }
    if (a->right_length != b->right_length) {
        return a->right_length > b->right_length ? -1 : 1;
    }
    return (a->merged > b->merged) - (a->merged < b->merged);
}

static int add(struct derived_merges *merges, struct derived_merge merge, size_t limit, struct error *err) {
    if (merges->count == limit) {
        return error_set(err, STATUS_DATA,
                         "tokenizer.ggml.tokens: more than %zu pairs of tokens make a third", limit);
    }
    if (merges->count == merges->capacity) {
        size_t wanted = size_max(1024, merges->capacity * 2);
        void *list = merges->list;
        TRY(memory_resize(&list, wanted, sizeof merge, err));
        merges->list = list;
        merges->capacity = wanted;
    }
    merges->list[merges->count++] = merge;
    return STATUS_OK;
}

// Bytes, control tokens and the like are never made of text.
static bool is_made_of_text(const struct ggml_vocabulary *vocabulary, int32_t id) {
    return id != TOKEN_NONE && (vocabulary->token_types[id] == GGML_TOKEN_NORMAL ||
                                vocabulary->token_types[id] == GGML_TOKEN_USER_DEFINED);
}

// Every way to cut the token in two.
static int add_cuts(struct derived_merges *merges, const struct vocabulary *texts,
                    const struct ggml_vocabulary *vocabulary, int32_t id, struct error *err) {
    const struct ggml_text *text = &vocabulary->tokens[id];
    uint32_t length = 0;
    uint32_t code;
    for (size_t at = 0; at < text->size; at += utf8_decode(text->bytes + at, text->size - at, &code)) {
        length++;
    }
    uint32_t before = 0;
    for (size_t at = 0; at < text->size; before++) {
        int32_t left = at == 0 ? TOKEN_NONE : vocabulary_find(texts, text->bytes, at);
        int32_t right =
            left == TOKEN_NONE ? TOKEN_NONE : vocabulary_find(texts, text->bytes + at, text->size - at);
        if (is_made_of_text(vocabulary, left) && is_made_of_text(vocabulary, right)) {
            TRY(add(merges,
                    (struct derived_merge){vocabulary->scores[id], before, length - before, left, right, id},
                    vocabulary->token_count * MERGES_PER_TOKEN, err));
        }
        at += utf8_decode(text->bytes + at, text->size - at, &code);
    }
    return STATUS_OK;
}

static int check_scores(const struct ggml_vocabulary *vocabulary, struct error *err) {
    if (vocabulary->scores == NULL) {
        return error_set(err, STATUS_DATA,
                         "tokenizer.ggml.scores is missing, and there are no merges; " GGML_ADVICE);
    }
    for (size_t i = 0; i < vocabulary->score_count; i++) {
        if (!isfinite(vocabulary->scores[i])) {
            return error_set(err, STATUS_DATA, "tokenizer.ggml.scores: number %zu is not finite", i);
        }
    }
    return STATUS_OK;
}

// Some converters know no scores and write one number for all.
static int check_order(const struct derived_merges *merges, struct error *err) {
    const struct derived_merge *list = merges->list;
    bool tokens = false; // there are several
    bool ordered = false;
    for (size_t i = 1; i < merges->count; i++) {
        tokens = tokens || list[i].merged != list[0].merged;
        ordered = ordered || list[i].score != list[0].score;
    }
    return ordered || !tokens
               ? STATUS_OK
               : error_set(err, STATUS_DATA,
                           "tokenizer.ggml.scores are all %g, so that the order of merges is not "
                           "known; " GGML_ADVICE,
                           (double)list[0].score);
}

int ggml_derive_merges(struct bpe *bpe, const struct ggml_vocabulary *vocabulary, struct error *err) {
    struct derived_merges merges = {0};
    TRY(check_scores(vocabulary, err));
    int status = STATUS_OK;
    for (size_t id = 0; id < vocabulary->token_count; id++) {
        if (is_made_of_text(vocabulary, (int32_t)id)) {
            TRY_TO(done, status = add_cuts(&merges, &bpe->vocabulary, vocabulary, (int32_t)id, err));
        }
    }
    TRY_TO(done, status = check_order(&merges, err));
    if (merges.count > 0) {
        qsort(merges.list, merges.count, sizeof merges.list[0], compare);
    }
    TRY_TO(done, status = bpe_create_merges(bpe, merges.count, err));
    for (size_t rank = 0; rank < merges.count; rank++) {
        const struct derived_merge *merge = &merges.list[rank];
        bpe_add_merge(bpe, merge->left, merge->right, (uint32_t)rank, merge->merged);
    }
done:
    free(merges.list);
    return status;
}

// SPDX-License-Identifier: MIT
// What the texts of a window begin with in common. Texts that have the same tokens up to limits.least behind
// the head form a class; sorted by their tokens, each has with the one before it the most in common. What a
// set of them takes is the sum of their tokens less what neighbours have in common, in whatever order they
// are computed: each token of the tree that they form once. The last token of a text is nobody else's: it is
// computed for each of them.
#ifndef STRATA_STAGES_PREFIXES_H
#define STRATA_STAGES_PREFIXES_H

#include "stages/batch_plan.h"

struct prefixes {
    uint32_t *before; // [texts] tokens that a text has of the head: all of it or 0
    uint32_t *order;  // [count] the texts that may go on from another, sorted by their tokens
    uint32_t *common; // [count] tokens of a text and the one before it in `order`; 0: of two classes
    size_t count;
    uint32_t *kept;   // [kept_count] of `order` what was cut into pieces last
    uint32_t *shared; // [kept_count] as `common`; 0 where a piece begins
    size_t kept_count;
    uint32_t *at;     // [texts] place in `order`, then in `kept`; UINT32_MAX: it goes on from no text
    uint32_t *most;   // [texts] tokens that a text has in common with one before it in the query; 0: none
    uint32_t *near;   // [texts] one with which that is so, then the text it goes on from
    uint32_t *number; // [texts] of a text in its batch
    uint32_t *links;  // [3][window + 2] working memory
    size_t window;
};

int prefixes_create(struct prefixes *prefixes, size_t window, struct error *err);
void prefixes_destroy(struct prefixes *prefixes); // accepts zeros; leaves zeros

// Tokens that two texts begin with in common, `most` at most.
size_t prefixes_common(const int32_t *a, const int32_t *b, size_t most);

// Sorts texts of tokens[i] ids each, at most `window`. What follows is of these.
void prefixes_find(struct prefixes *prefixes, const struct plan_limits *limits, const uint32_t *tokens,
                   const int32_t *const *ids, size_t texts);

// Fills `most` and `near`: with all texts before it, a text need compute its tokens but most[i].
void prefixes_follow(struct prefixes *prefixes, size_t texts);

// Cuts the first of these texts into items that are computed together, each within limits.tokens (but a text
// that is longer by itself) and limits.problems. Returns how many.
size_t prefixes_cut(struct prefixes *prefixes, const struct plan_limits *limits, const uint32_t *tokens,
                    size_t texts, struct plan_item *items);

// Cuts an item of several texts in two: the first ones, as many as compute at most `tokens_most` tokens and
// are no more than `texts_most`, and the rest, which computes anew what it has in common with them. False
// when there are none.
bool prefixes_split(struct prefixes *prefixes, const uint32_t *tokens, struct plan_item *first,
                    struct plan_item *rest, size_t tokens_most, size_t texts_most);

// What each text of a plan whose order is made goes on from: fills plan->origins. After prefixes_cut.
void prefixes_resolve(struct prefixes *prefixes, struct plan *plan, size_t texts);

#endif

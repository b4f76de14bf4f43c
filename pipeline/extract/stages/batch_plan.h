// SPDX-License-Identifier: MIT
// The batch plan: how the texts of one window of the query are packed into batches. A pure function of the
// texts' token counts and the job's limits, where texts go on from each other also of their tokens, so that a
// resumed run, a run with other threads and `strata plan` see the same batches.
//
// Best fit decreasing: texts from the longest to the shortest (ties: query order), each into the fullest
// batch that still has room for its tokens and a place. Within a batch texts stand in query order. A text
// longer than a batch is one by itself, which is computed in slices.
//
// Where limits.reuses is set, tokens are those that are computed. Texts that begin with the head go on from
// it; texts that have more in common (stages/prefixes.h) are packed as one, or in pieces as large as a batch,
// and go on from each other. Where that leaves too much room, some are cut to fill it. A batch needs no other
// batch.
//
// The last batch of a window seldom comes out full, and a GPU computes every batch as if it were. So a window
// that others follow ends where its batches are full, and the next one begins with the rest: of the 21,456
// problems of the real set 99.8 % of 8,192 tokens a batch is then text, in windows of 512 as in windows of
// 4,096; in windows that end at their 1,024th row 98.5 %, in those of 4,096 rows 99.5 % (computed).
#ifndef STRATA_STAGES_BATCH_PLAN_H
#define STRATA_STAGES_BATCH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/shapes.h"

struct plan_limits {
    size_t problems; // most texts in a batch
    size_t tokens;   // most tokens in a batch of several texts
    size_t window;   // most problems planned together
    bool full;       // windows end where their batches are full, not by rows
    // What texts have in common is computed once where `reuses` is set: a batch's texts go on from each
    // other, and from the head.
    bool reuses;
    size_t least;        // tokens that texts have in common behind the head at least
    size_t shared_most;  // texts of more tokens go on from nothing; 0: there is no bound
    bool head_only;      // texts of a batch do not go on from each other
    const int32_t *head; // [head_tokens]; the caller's
    size_t head_tokens;  // 0: there is none
};

// A window that ends where its batches are full need not be larger than this many of them: it bounds the
// memory of long texts, of which one that is longer than a batch counts as several. One text more or less in
// a last batch is little then.
enum { PLAN_WINDOW_BATCHES = 256 };

struct plan_item {   // what is packed: one text, or several of which all but one go on from another
    uint32_t tokens; // that are computed
    uint32_t texts;
    uint32_t first; // of the texts in query order
    uint32_t from;  // where they begin in prefixes->kept, if there are several
};

struct prefixes;

struct plan {
    uint32_t *order; // [texts] indices of texts, batch after batch
    size_t *offset;  // [batches + 1] into order
    size_t batches;
    size_t tokens;                 // that are computed; of a text longer than a batch, those of a batch
    struct device_origin *origins; // [texts] beside order: what a text goes on from, with its parent's number
                                   // in their batch; NULL where limits.reuses is not set
    struct plan_item *items;       // working memory [window]
    size_t *room;                  // [window] tokens left in a batch
    uint32_t *place;               // [window] batch of a text
    struct prefixes *prefixes;     // NULL as origins
};

int plan_create(struct plan *plan, const struct plan_limits *limits, struct error *err);
void plan_destroy(struct plan *plan); // accepts zeros; leaves zeros

// Whether a window that has so many problems, with so many tokens in all, takes no more.
bool plan_window_ends(const struct plan_limits *limits, size_t problems, size_t tokens);

// Plans `texts` (at most limits.window) texts of tokens[i] tokens each, at least 1. ids [texts][tokens[i]]
// are read, during the call, where limits.reuses is set; else they may be NULL.
void plan_window(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                 const int32_t *const *ids, size_t texts);

// Plans the first of `texts` texts, as many as fill one batch less than all of them take, and returns how
// many: all of them when leaving some out does not save a batch. At least one unless texts is 0.
size_t plan_full_window(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                        const int32_t *const *ids, size_t texts);

#endif

// The batch plan: how the texts of one window of the query are packed into batches. A pure function of the
// texts' token counts and the job's limits, so that a resumed run, a run with other threads and `strata plan`
// see the same batches.
//
// Best fit decreasing: texts from the longest to the shortest (ties: query order), each into the fullest
// batch that still has room for its tokens and a place. Within a batch texts stand in query order.
#ifndef STRATA_EXTRACT_PLAN_H
#define STRATA_EXTRACT_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct plan_limits {
    size_t problems; // most texts in a batch
    size_t tokens;   // most tokens in a batch; no text is longer
    size_t window;   // most texts planned together
};

struct plan {
    uint32_t *order; // [texts] indices of texts, batch after batch
    size_t *offset;  // [batches + 1] into order
    size_t batches;
    uint32_t *sorted; // working memory [window]
    size_t *room;     // [window] tokens left in a batch
    uint32_t *place;  // [window] batch of a text
};

int plan_create(struct plan *plan, const struct plan_limits *limits, struct error *err);
void plan_destroy(struct plan *plan); // accepts zeros; leaves zeros

// Plans `texts` (at most limits.window) texts of tokens[i] tokens each (1 to limits.tokens).
void plan_window(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens, size_t texts);

#endif

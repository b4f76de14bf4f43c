// SPDX-License-Identifier: MIT
// What the texts of a job begin with in common, followed while they are counted as if each were computed
// whole: the head, which most of them begin with, and about how many tokens need not be computed again.
// Whether they go on from what they have in common is decided by it, and by a second count.
#ifndef STRATA_START_PREFIX_SURVEY_H
#define STRATA_START_PREFIX_SURVEY_H

#include "base/memory.h"
#include "stages/prefixes.h"
#include "stages/window.h"

#define PREFIX_WORTHWHILE 0.05 // of all tokens: what must be saved

struct prefix_wish {
    bool allowed; // that texts go on from what they have in common, where it is worth it
    size_t least; // these as in struct plan_limits
    size_t shared_most;
    bool head_only;
    size_t head_most; // tokens of the head that the memory allows; 0: no head
    uint64_t
        rows_most; // of a batch: texts that go on from others bring rows beyond the tokens that they compute
};

// A text but its last token, in which what most begin with is looked for.
struct prefix_sample {
    struct buffer ids; // int32
    uint64_t
        *having; // [tokens of it + 1] texts, from its window on, that have so many of them in common with it
};

enum { PREFIX_SAMPLES = 8 }; // of windows 1, 2, 4, 8 ...: the first ones may begin as few do

struct prefix_survey {
    struct plan_limits limits; // with the wish, without a head
    bool head_only;
    size_t head_most;
    struct prefixes prefixes; // of a window
    const int32_t **ids;      // [limits.window]
    struct prefix_sample samples[PREFIX_SAMPLES];
    size_t sample_count;
    uint64_t windows;
    uint64_t texts;
    uint64_t tokens;
    uint64_t saved; // by texts of a window that go on from each other, were it one batch
};

int prefix_survey_open(struct prefix_survey *survey, const struct plan_limits *limits,
                       const struct prefix_wish *wish, struct error *err);
void prefix_survey_close(struct prefix_survey *survey); // accepts zeros; leaves zeros

// Takes in the texts of a window.
int prefix_survey_look(struct prefix_survey *survey, const struct window *window, struct error *err);

// After the last window. Whether a second count is worth its time; *head then has the tokens (int32) that are
// saved most by: at least half of the texts begin with them. Empty: there is no head.
int prefix_survey_end(struct prefix_survey *survey, struct buffer *head, bool *worthwhile, struct error *err);

#endif

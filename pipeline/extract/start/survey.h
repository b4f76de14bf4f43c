// SPDX-License-Identifier: MIT
// The survey: one pass over the whole query before the first batch. It names the problem set (a hash over all
// rows), and counts texts, tokens, rows and batches, for the disk plan, the sizes of buffers and the time
// left.
#ifndef STRATA_START_SURVEY_H
#define STRATA_START_SURVEY_H

#include "base/memory.h"
#include "checkpoints/ledger.h"
#include "stages/batch_plan.h"
#include "stages/markup.h"
#include "stages/prepare.h"
#include "start/prefix_survey.h"

// Tokens, squares and batches in the totals are what is computed: where texts go on from each other and from
// the head, that is less than the texts have. A text of n tokens behind `before` that it goes on from counts
// with n^2 + 2 n before squares.
struct survey {
    struct ledger_survey totals;
    bool reuses;          // texts go on from what they have in common
    uint64_t text_tokens; // of all texts
    uint64_t longest_own; // most tokens of one text that are computed, or of the head
    bool head_rows;       // some pooled rows lie in the head, or begin there
    uint64_t rows_beyond; // of the largest batch that there would be, where so many kept texts from it; 0:
                          // they did not
    struct buffer head;   // int32: its tokens, where the survey found it
    uint64_t failed;      // of the problems, before any batch
    uint64_t skipped;
    uint64_t largest_tokens; // of one batch; of a text longer than a batch, what a batch may have
    uint64_t largest_rows;
    uint64_t long_texts; // longer than a batch
    uint64_t long_tokens;
    uint64_t shapes;         // that a GPU computes: one a batch, or a slice of a long text (fill_shapes)
    uint64_t metadata_bytes; // ids and metadata, for the disk plan
    // Of this launch's own reading, empty where an earlier launch's survey is used again; buffers of
    // uint32_t.
    struct markup markup;
    struct buffer lengths;      // of the first SURVEY_LENGTHS texts, tokens: for start/fill.h
    struct buffer batch_tokens; // of every batch, or slice of a long text
};

// Packing them into batches takes up to its square of steps.
enum { SURVEY_LENGTHS = 1 << 15 };

// Reads the query from its first row to its last and rewinds it; counts only the problems that `only` lists
// (NULL: all). Where the wish allows that texts go on from what they have in common, and more than
// PREFIX_WORTHWHILE of the tokens have someone else's, the query is read twice, and the survey says whether
// they do (`reuses`, with the head): limits say nothing of it. Without a wish (NULL) they do as the limits
// say. progress (may be NULL) gets the problems counted so far, of each reading, and returns false to stop
// (STATUS_STOPPED). What *survey held before is forgotten, not given back; survey_destroy also after an
// error.
int survey_make(struct survey *survey, struct source *source, struct preparer *preparer,
                const struct plan_limits *limits, const struct prefix_wish *wish,
                const struct ledger_retry *only, bool (*progress)(void *context, uint64_t problems),
                void *context, struct error *err);

// Lets a plan's texts go on from what they have in common as the survey found, by the wish it was made with;
// the head stays the survey's.
void survey_limit(const struct survey *survey, const struct prefix_wish *wish, struct plan_limits *limits);

void survey_destroy(struct survey *survey); // accepts zeros; leaves zeros

// Only the hash of the rows: what a resumed run compares.
int survey_digest(struct source *source, uint64_t *problems, char hex[DIGEST_HEX], struct error *err);

// The hash of what must stay as it was when failed problems are tried again: every row but those that
// `failed` lists, of which only the ids count. `id` is a column of the query.
int survey_digest_kept(struct source *source, const char *id, const struct ledger_retry *failed,
                       char hex[DIGEST_HEX], struct error *err);

// Notes that carry the rest of a survey across launches.
int survey_store(struct ledger *ledger, const struct survey *survey, struct error *err);
int survey_load(struct ledger *ledger, struct survey *survey, bool *found, struct error *err);

#endif

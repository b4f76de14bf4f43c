// SPDX-License-Identifier: MIT
// From a row of the query to what the forward pass needs: rendered text, tokens, steps, the pooled rows'
// spans. What is wrong with one problem fails or skips that problem alone, with a reason.
#ifndef STRATA_STAGES_PREPARE_H
#define STRATA_STAGES_PREPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "checkpoints/ledger.h"
#include "checkpoints/shard.h"
#include "job/job.h"
#include "problems/source.h"
#include "text/steps.h"
#include "text/tokenizer.h"

// One prepared problem. Everything is owned by the preparer and valid until its next use.
struct prepared {
    uint64_t ordinal;
    const char *id;
    size_t id_size;
    enum problem_state state; // PROBLEM_DONE: ready to run
    char reason[256];         // otherwise
    const char *metadata;     // JSON object
    size_t metadata_size;
    const char *text; // rendered
    size_t text_size;
    const int32_t *tokens;
    size_t token_count;
    bool truncated;
    int32_t doubled_token; // that the text begins with and the tokenizer's template puts before it; -1: none
    const struct byte_span *steps; // of the text
    size_t step_count;
    const char *roles;            // of the steps, each ended by a 0; NULL where steps are no spans
    const uint8_t *loss_mask;     // [token_count] 1: a step owns it; NULL where the job keeps none
    const struct shard_row *rows; // pooled rows, in order; a step without tokens has none
    size_t row_count;
};

struct preparer;

// Binds a job's template, steps, id and metadata to the columns of a query. `source` and `tokenizer` outlive
// it. STATUS_JOB or STATUS_DATA naming what does not fit (a column of the template that the query lacks ...).
// vocabulary: ids must be below.
int preparer_create(struct preparer **out, const struct job *job, const struct source *source,
                    const struct tokenizer *tokenizer, size_t vocabulary, struct error *err);
void preparer_destroy(struct preparer *preparer); // accepts NULL

// Errors are for what ends a run (memory, a broken tokenizer); a bad problem is in out->state and
// out->reason.
int prepare_row(struct preparer *preparer, const struct row *row, struct prepared *out, struct error *err);

#endif

// The rendered text of one problem of a run, made again from the database its job names.
#ifndef STRATA_COMMANDS_PROBLEM_TEXT_H
#define STRATA_COMMANDS_PROBLEM_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "checkpoints/ledger.h"
#include "checkpoints/shard.h"

// Appends the text to *text. The row of the query at `ordinal` must still have this id and, when rows are
// given, render to these spans; STATUS_DATA otherwise, and when the job, the database or the tokenizer is not
// there any more.
int problem_text(struct buffer *text, const char *folder, struct ledger *ledger, uint64_t ordinal,
                 const char *id, size_t id_size, const struct shard_row *rows, size_t row_count,
                 struct error *err);

#endif

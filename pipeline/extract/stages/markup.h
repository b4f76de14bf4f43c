// SPDX-License-Identifier: MIT
// What rendered texts show of a chat template that does not suit the tokenizer: a BOS that would stand there
// twice, and markup that the tokenizer has no token for. Both give hidden states of other tokens than was
// meant, and no error.
#ifndef STRATA_STAGES_MARKUP_H
#define STRATA_STAGES_MARKUP_H

#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "stages/prepare.h"
#include "text/tokenizer.h"

enum { MARKUP_PIECES = 16, MARKUP_SAMPLE = 256, MARKUP_PIECE = 48, MARKUP_ID = 100 };

struct markup_piece {
    char text[MARKUP_PIECE]; // "<|im_start|>"
    uint32_t texts;          // of the sample that have it
    uint32_t last;           // number of the last one, from 1
};

struct markup {
    uint64_t texts;   // that were looked at: for a doubled BOS all, for markup the first MARKUP_SAMPLE
    uint64_t doubled; // that begin with the token which the post-processor puts before them
    int32_t doubled_token;
    char doubled_id[MARKUP_ID + 1]; // of the first of these problems
    struct markup_piece pieces[MARKUP_PIECES];
    size_t count;
};

// Counts a problem that can run; others are passed by. Begins with zeros.
void markup_look(struct markup *markup, const struct prepared *prepared);

// STATUS_JOB when a text has its BOS twice.
int markup_refuse_doubled(const struct markup *markup, const struct tokenizer *tokenizer, struct error *err);

// Appends a line when markup in a tenth of the sample is no token of the tokenizer. What `said` (warnings
// about the template; may be `lines`) has named already is left out.
int markup_warn(const struct markup *markup, const struct tokenizer *tokenizer, const struct buffer *said,
                struct buffer *lines, struct error *err);

#endif

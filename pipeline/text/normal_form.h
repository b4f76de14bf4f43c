// SPDX-License-Identifier: MIT
// Unicode normalization forms with alignment, as the library's unicode-normalization-alignments (Unicode 9.0)
// does them.
#ifndef STRATA_TEXT_NORMAL_FORM_H
#define STRATA_TEXT_NORMAL_FORM_H

#include <stdbool.h>

#include "text/aligned.h"

enum normal_form { NORMAL_FORM_C, NORMAL_FORM_D, NORMAL_FORM_KC, NORMAL_FORM_KD };

struct normal_mark; // one code point on its way through decomposition, ordering and composition

struct normal_scratch {
    struct normal_mark *marks;
    struct normal_mark *sorted; // for ordering long runs
    size_t capacity;            // of marks
    size_t sorted_capacity;
};

// Appends the normalized piece to `out`; *changed is false, and `out` untouched, when the piece is in that
// form already. Spans follow the library: each output takes the span of the next unread input character and
// reads as many as went into it; what one input character yields more takes the same span.
int normal_form_apply(enum normal_form form, struct normal_scratch *scratch, const struct piece *piece,
                      struct aligned_text *out, bool *changed, struct error *err);

void normal_scratch_destroy(struct normal_scratch *scratch); // leaves zeros

#endif

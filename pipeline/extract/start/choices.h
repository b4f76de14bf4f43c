// SPDX-License-Identifier: MIT
// What would run in place of a job that does not fit on its device, and how fast: the table behind a refusal.
#ifndef STRATA_START_CHOICES_H
#define STRATA_START_CHOICES_H

#include "start/inputs.h"

// Appends a line each, with a line feed before it; nothing where nothing would run. `tokens`: the largest
// batch.tokens that would fit; 0: none. After the survey. Where a processor computes, its rate is measured on
// a block, which takes about a second; a GPU has the one that is assumed of its card. The model's placement
// is another one afterwards.
int choices_describe(struct buffer *out, const struct inputs *inputs, const struct model_limits *limits,
                     size_t tokens, struct error *err);

#endif

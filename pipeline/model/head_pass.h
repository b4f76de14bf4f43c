// SPDX-License-Identifier: MIT
// The head goes through the model: before the first batch, or where weights stream in every sweep (private to
// this room).
#ifndef STRATA_MODEL_HEAD_PASS_H
#define STRATA_MODEL_HEAD_PASS_H

#include "model/forward.h"

// Adds the passes of the head that a sweep of these batches needs to model->passes, of which *passes are
// filled.
int head_begin(struct model *model, const struct lane *lane, const struct model_batch *const *batches,
               size_t count, size_t *passes, struct error *err);

#endif

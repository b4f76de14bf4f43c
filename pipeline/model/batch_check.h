// SPDX-License-Identifier: MIT
// What a batch must be before it is computed (private to this room).
#ifndef STRATA_MODEL_BATCH_CHECK_H
#define STRATA_MODEL_BATCH_CHECK_H

#include "model/stage.h"

// STATUS_INTERNAL for what is outside the limits, STATUS_DATA for what the model cannot compute.
int batch_check(const struct model *model, const struct model_batch *batch, struct error *err);

// Tokens of a text before those that the batch has of it; whether some text goes on from the head.
size_t batch_before(const struct model_batch *batch, size_t text);
bool batch_takes_head(const struct model_batch *batch);

int batch_check_ids(const struct model_config *config, const int32_t *ids, size_t count, struct error *err);

#endif

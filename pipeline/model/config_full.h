// SPDX-License-Identifier: MIT
// Blocks without a window that differ in more than that from those with one (Gemma 4).
#ifndef STRATA_MODEL_CONFIG_FULL_H
#define STRATA_MODEL_CONFIG_FULL_H

#include "model/config.h"
#include "model/values.h"

// Once it is known which blocks have a window. STATUS_DATA naming the key that is wrong or not supported.
int config_read_full(const struct values *values, struct model_config *config, struct error *err);

#endif

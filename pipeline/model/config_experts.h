// SPDX-License-Identifier: MIT
// What a configuration says of mixtures of experts.
#ifndef STRATA_MODEL_CONFIG_EXPERTS_H
#define STRATA_MODEL_CONFIG_EXPERTS_H

#include "model/config.h"
#include "model/values.h"

// Once the blocks' number is known: config->experts, and which blocks have them.
int config_read_experts(const struct values *values, struct model_config *config, struct error *err);

#endif

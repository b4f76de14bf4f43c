// SPDX-License-Identifier: MIT
// State spaces, and blocks that are one branch each: how a configuration lists its blocks and the sizes of
// their mixers.
#ifndef STRATA_MODEL_CONFIG_SPACE_H
#define STRATA_MODEL_CONFIG_SPACE_H

#include "model/config.h"
#include "model/values.h"

// How many blocks the list of a family with one branch a block has; num_hidden_layers is not read.
int config_count_branches(const struct values *values, const struct model_config *config, size_t *out,
                          struct error *err);

// What mixes the tokens of each block, and the sizes of state spaces. After config_read_computation.
int config_read_spaces(const struct values *values, struct model_config *config, struct error *err);

// Which blocks of a family with one branch a block have experts, of which the sizes are read; where none has,
// there are no experts.
int config_mark_experts(const struct values *values, struct model_config *config, struct error *err);

#endif

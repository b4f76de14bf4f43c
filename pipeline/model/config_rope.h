// SPDX-License-Identifier: MIT
// The rotary part of config.json: `rope_scaling` of old files, `rope_parameters` of new ones, `rope_theta`
// beside them.
#ifndef STRATA_MODEL_CONFIG_ROPE_H
#define STRATA_MODEL_CONFIG_ROPE_H

#include "model/config.h"
#include "model/values.h"

// Fills config->rope and local_rope; max_positions and head_dim must be set. STATUS_DATA naming the key when
// it is wrong or not supported.
int config_read_rope(const struct values *values, struct model_config *config, struct error *err);

#endif

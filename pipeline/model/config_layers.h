// SPDX-License-Identifier: MIT
// What differs from block to block: windows, rotation, experts.
#ifndef STRATA_MODEL_CONFIG_LAYERS_H
#define STRATA_MODEL_CONFIG_LAYERS_H

#include "model/config.h"
#include "model/values.h"

// After config_read_shape. STATUS_DATA naming the key that is wrong, contradictory or not supported.
int config_read_layers(const struct values *values, struct model_config *config, struct error *err);

#endif

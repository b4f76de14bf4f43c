// The rotary part of config.json: `rope_scaling` of old files, `rope_parameters` of new ones, `rope_theta`
// beside them.
#ifndef STRATA_MODEL_CONFIG_ROPE_H
#define STRATA_MODEL_CONFIG_ROPE_H

#include "base/json.h"
#include "model/config.h"

// Fills config->rope; max_positions must be set. STATUS_DATA naming the key when it is wrong or not
// supported.
int config_read_rope(const json_t *json, struct model_config *config, struct error *err);

#endif

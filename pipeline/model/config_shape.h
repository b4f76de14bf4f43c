// SPDX-License-Identifier: MIT
// Sizes and flags of a configuration, read by the row of its family.
#ifndef STRATA_MODEL_CONFIG_SHAPE_H
#define STRATA_MODEL_CONFIG_SHAPE_H

#include <stdint.h>

#include "model/config.h"
#include "model/values.h"

enum {
    LARGEST_DIMENSION = 1 << 24,
    LARGEST_HEADS = 1 << 16,
    LARGEST_LAYERS = 4096,
    LARGEST_POSITIONS = 1 << 30
};

// config->family is set. STATUS_DATA naming the key that is wrong or not supported.
int config_read_shape(const struct values *values, struct model_config *config, struct error *err);

// What blocks compute: biases, norms, activation, scalars; refuses keys that would change it and that the
// family does not have. After config_read_shape.
int config_read_computation(const struct values *values, struct model_config *config, struct error *err);

// A number of at least 1, `otherwise` where the key is absent.
int config_read_count(const struct values *values, const char *key, int64_t otherwise, size_t *out,
                      int64_t most, struct error *err);

#endif

// SPDX-License-Identifier: MIT
// adapter_config.json as peft writes it: what becomes of the adapter's tensors. What would make the merged
// model another one than W + scale * B A is refused by key.
#ifndef STRATA_MODEL_ADAPTER_CONFIG_H
#define STRATA_MODEL_ADAPTER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "model/values.h"

struct adapter_config {
    struct buffer text; // as the file has it
    struct values values;
    bool is_open; // the values are
};

enum adapter_target { // whether the adapter is for a module, as far as its configuration tells
    ADAPTER_NO,
    ADAPTER_YES,
    ADAPTER_MAYBE, // it says so by a regular expression, or not at all
};

// STATUS_DATA naming the key that is wrong, missing, or asks for what is not done.
int adapter_config_read(struct adapter_config *config, const char *path, struct error *err);

// The same from a text; `name` stands for it in messages.
int adapter_config_parse(struct adapter_config *config, const char *text, size_t size, const char *name,
                         struct error *err);

// Of a module, named as peft names it ("model.layers.0.self_attn.q_proj"): r, and what B A is multiplied by,
// in float32 as torch multiplies.
int adapter_config_scale(const struct adapter_config *config, const char *module, size_t *rank, float *scale,
                         struct error *err);

// Of a matrix in block number `block`.
enum adapter_target adapter_config_target(const struct adapter_config *config, const char *module,
                                          size_t block);

// Names of target_modules and modules_to_save, where these are lists: number `index`, or NULL behind the
// last.
const char *adapter_config_target_name(const struct adapter_config *config, size_t index);
const char *adapter_config_saved_name(const struct adapter_config *config, size_t index);

// Whether `module` is, or ends with, a dot and `name`.
bool adapter_config_names(const char *name, const char *module);

void adapter_config_destroy(struct adapter_config *config); // accepts zeros; leaves zeros

#endif

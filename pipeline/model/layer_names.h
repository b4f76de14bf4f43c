// SPDX-License-Identifier: MIT
// Hidden states by name: as transformers names the modules whose output they are, and as TransformerLens
// names its hooks. The modules' names come from the family's table of weights.
//
// A module's output is the residual stream: that of the last block is config_pre_norm, for transformers'
// tuple has the normed one in its place.
#ifndef STRATA_MODEL_LAYER_NAMES_H
#define STRATA_MODEL_LAYER_NAMES_H

#include <stddef.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/config.h"

enum { MODEL_LAYER_NAME = 160, MODEL_LAYER_LABEL = 32 };

// The hidden states of indices (negative ones count from the end) and names: ascending, each once.
// wanted[count] -> out[*out_count], room for count. STATUS_JOB where one does not exist, with those that do.
int model_resolve_layers(const struct model_config *config, const char *const *wanted, size_t count,
                         size_t *out, size_t *out_count, struct error *err);

// STATUS_JOB where that hidden state has another width than the others, of which no run has any.
int model_check_layer(const struct model_config *config, size_t layer, struct error *err);

// "model.layers.34": the module whose output it is, "" where there is none.
void model_layer_module(const struct model_config *config, size_t layer, char out[MODEL_LAYER_NAME]);

// "hidden_states[35]" or "pre_norm". Returns `out`.
const char *model_layer_label(const struct model_config *config, size_t layer, char out[MODEL_LAYER_LABEL]);

// Appends "hidden_states[35] of 0..36 = output of block 35 of 36 (model.layers.34)".
int model_layer_text(const struct model_config *config, size_t layer, struct buffer *out, struct error *err);

// Names that the model has, of the block whose number stands in `name`: for a message to choose from. Some
// may be "".
enum { MODEL_LAYER_CANDIDATES = 5 };
void model_layer_candidates(const struct model_config *config, const char *name,
                            char out[MODEL_LAYER_CANDIDATES][MODEL_LAYER_NAME]);

#endif

// SPDX-License-Identifier: MIT
// The shape of a model from its GGUF metadata: translated into the keys of config.json, so that one parser
// judges both (config.h).
#ifndef STRATA_MODEL_GGUF_CONFIG_H
#define STRATA_MODEL_GGUF_CONFIG_H

#include "base/memory.h"
#include "model/config.h"
#include "model/gguf_open.h"

// Appends the config.json to `out`. Architectures: llama (with a sliding window: mistral), qwen2, qwen3.
// STATUS_DATA naming the key that is missing, wrong or changes the computation in a way that is not known.
int gguf_config_text(struct buffer *out, const struct gguf_model *model, struct error *err);

// Reads the shape of the model in this file; STATUS_DATA with the file and the key.
int gguf_config_read(struct model_config *config, const char *path, struct error *err);

#endif

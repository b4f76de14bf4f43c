// SPDX-License-Identifier: MIT
// Tensors that lie beside the blocks of a checkpoint: heads, further predictors, buffers that old files carry
// along. No hidden state depends on them, so that they may be absent, differ from the index or have any
// shape.
#ifndef STRATA_MODEL_BESIDE_H
#define STRATA_MODEL_BESIDE_H

#include <stdbool.h>

#include "model/config.h"

// By the whole name, known roles only: what is not known may be a part of the model under another name.
bool beside_tensor(const char *name, const struct model_config *config);

// Of them those of blocks behind the ones that config.json counts: blocks that predict further tokens, or the
// rest of a model of which config.json has the first blocks only. transformers passes them over too. A GGUF
// file counts its own blocks, so that others are a fault of it.
bool beside_later_block(const char *name, const struct model_config *config);

#endif

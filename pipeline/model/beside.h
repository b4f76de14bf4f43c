// Tensors that lie beside the blocks of a checkpoint: heads, further predictors, buffers that old files carry
// along. No hidden state depends on them, so that they may be absent, differ from the index or have any
// shape.
#ifndef STRATA_MODEL_BESIDE_H
#define STRATA_MODEL_BESIDE_H

#include <stdbool.h>

#include "model/config.h"

// By the whole name, known roles only: what is not known may be a part of the model under another name.
// Blocks that predict further tokens count where config.json speaks of them.
bool beside_tensor(const char *name, const struct model_config *config);

#endif

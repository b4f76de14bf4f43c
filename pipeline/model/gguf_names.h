// SPDX-License-Identifier: MIT
// The tensors of a GGUF file under the names that transformers gives them, which is what a family's table of
// weights knows (weight_table.h), and what llama.cpp's converter does to some of them.
#ifndef STRATA_MODEL_GGUF_NAMES_H
#define STRATA_MODEL_GGUF_NAMES_H

#include "model/config.h"
#include "model/tensors.h"

#define GGUF_ROPE_FACTORS "rope_freqs.weight"

// Renames the entries from `first` on; what has no such name keeps its own. Before tensors_order.
int gguf_names_translate(struct tensors *tensors, size_t first, struct error *err);

// Sets head_rows of the queries' and keys' tensors where the family's are interleaved: those of files of the
// architecture llama, whatever transformers calls the model.
void gguf_names_interleave(struct tensors *tensors, const struct model_config *config);

#endif

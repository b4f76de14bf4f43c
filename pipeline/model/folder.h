// SPDX-License-Identifier: MIT
// A model folder or GGUF file before it is read: whether it is one, what it is instead, what lies in it that
// is not read. The messages say what to do, as these are the first mistakes that anybody makes.
#ifndef STRATA_MODEL_FOLDER_H
#define STRATA_MODEL_FOLDER_H

#include "base/error.h"
#include "base/memory.h"
#include "model/config.h"

// STATUS_DATA when `path` is no folder of a model and no GGUF file: not there (a name on the Hub?), another
// file, the top of the Hub's cache. job_folder: where a relative model.path of the job began; taken off again
// in messages.
int model_folder_find(const char *path, const char *job_folder, struct error *err);

// STATUS_DATA when the folder has no config.json or safetensors, naming what it has instead, and when it
// holds an adapter, which transformers applies to the model by itself (where peft is installed), unless
// `adapter` (NULL: none) is that folder too. A GGUF file is left to its reader.
int model_folder_check(const char *path, const char *adapter, struct error *err);

// STATUS_DATA when `tokenizer` (a tokenizer.json) is not there, naming the tokenizer's files that are.
int model_folder_check_tokenizer(const char *tokenizer, struct error *err);

// Appends a line for each thing that may make transformers' hidden states others: the folder's own code,
// remains of an adapter.
int model_folder_warnings(const char *path, const struct model_config *config, struct buffer *out,
                          struct error *err);

#endif

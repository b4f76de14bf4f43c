// SPDX-License-Identifier: MIT
// Where a model's parts lie. A model is what `model.path` names: a folder as transformers saves it, or a GGUF
// file (of a split one the first part), which holds its config and weights itself. Who wants a part of a
// folder asks here for its path, who names it in a message asks for its name.
#ifndef STRATA_MODEL_PLACE_H
#define STRATA_MODEL_PLACE_H

#include <stdbool.h>

#include "base/error.h"
#include "base/file.h"

enum model_form {
    MODEL_FORM_NONE, // nothing is there
    MODEL_FORM_FOLDER,
    MODEL_FORM_GGUF,  // a file that begins as GGUF files do, whatever its name
    MODEL_FORM_FILE,  // another one
    MODEL_FORM_OTHER, // a pipe, a device
};

enum model_part { MODEL_CONFIG, MODEL_TOKENIZER, MODEL_WEIGHTS, MODEL_WEIGHTS_INDEX };

// STATUS_DATA when it cannot be looked at.
int model_form(const char *model, enum model_form *out, struct error *err);

// "config.json"
const char *model_part_name(enum model_part part);

int model_part_path(char out[PATH_SIZE], const char *model, enum model_part part, struct error *err);
bool model_has_part(const char *model, enum model_part part);

// A file of the model that another part names, a shard of its weights.
int model_file_path(char out[PATH_SIZE], const char *model, const char *name, struct error *err);
bool model_has_file(const char *model, const char *name);

// The tokenizer that the user chose, or the model's own where `chosen` is NULL: of a GGUF file a
// tokenizer.json beside it, or where there is none the file itself.
int model_tokenizer_path(char out[PATH_SIZE], const char *model, const char *chosen, struct error *err);

#endif

// SPDX-License-Identifier: MIT
// The files of an adapter's folder.
#ifndef STRATA_MODEL_ADAPTER_FIND_H
#define STRATA_MODEL_ADAPTER_FIND_H

#include "base/error.h"
#include "base/file.h"

#define ADAPTER_CONFIG "adapter_config.json"
#define ADAPTER_WEIGHTS "adapter_model.safetensors"

// STATUS_DATA where `folder` holds no adapter in safetensors, saying what is there instead and what to do.
int adapter_find(char config[PATH_SIZE], char weights[PATH_SIZE], const char *folder, struct error *err);

#endif

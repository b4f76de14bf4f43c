// SPDX-License-Identifier: MIT
// The layers that `strata export --layers` names.
#ifndef STRATA_COMMANDS_EXPORT_LAYERS_H
#define STRATA_COMMANDS_EXPORT_LAYERS_H

#include <stddef.h>

#include "base/error.h"
#include "export/export.h"

enum { EXPORT_LAYERS_MOST = 4096 };

// "-2,35,pre_norm,model.layers.3,blocks.3.hook_resid_pre", or "all" and NULL, of which the count is 0. Names
// of modules are those of any family: what stands before the last words is not looked at. STATUS_USAGE for
// anything else.
int export_layers_parse(const char *text, struct export_layer layers[EXPORT_LAYERS_MOST], size_t *count,
                        struct error *err);

#endif

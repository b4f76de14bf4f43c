// SPDX-License-Identifier: MIT
// What people are told of a model that was opened: what its files hold and no hidden state needs, and where
// they are not what config.json says. Appended to the checkpoint's notes, a line each.
#ifndef STRATA_MODEL_NOTES_H
#define STRATA_MODEL_NOTES_H

#include "model/stage.h"

int notes_write(struct model *model, struct error *err);

#endif

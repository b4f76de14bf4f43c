// SPDX-License-Identifier: MIT
// Whether a job fits on its device, and what to change when it does not.
#ifndef STRATA_START_FIT_H
#define STRATA_START_FIT_H

#include "start/inputs.h"

// Settles where the weights lie (placement.h) and adds up what the run takes. STATUS_DEVICE when that is more
// than is free: the table of device_reserve, the largest batch.tokens that would fit, what to change where
// that is not the batch alone, model.quantize where that would be enough, what model.expand: matmul needs in
// place of load, with which model.weights it would run, and behind that the table of choices.h; and when the
// device lacks a matmul of the model's sizes. Takes no memory.
int fit_on_device(const struct inputs *inputs, struct model_limits *limits, struct model_plan *plan,
                  struct error *err);

#endif

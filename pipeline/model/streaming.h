// SPDX-License-Identifier: MIT
// Blocks that are not resident (private to this room): they come into slots on the devices, again in every
// sweep, read from the model's files in the order of their use, or copied from host memory where the first
// sweep left them (MODEL_WEIGHTS_HOST). What is read again has the bytes that were read at the start, or the
// run ends. Several devices take part in a sweep together: their slots hold the same blocks, and each block
// is read once for all of them.
//
// On a device that queues there are two slots: while one block computes, the next is loaded. The host's own
// processors have one: they load when they have computed, and what is read ahead lies in a ring that has room
// for a block.
#ifndef STRATA_MODEL_STREAMING_H
#define STRATA_MODEL_STREAMING_H

#include "model/stage.h"

// Slots for so many blocks, at least one.
size_t streaming_slots(const struct device *device, size_t streamed);

// Adds what reading these weights again, or keeping them there, takes of the host's memory: once for all
// devices, to the plan of the first.
int streaming_plan(const struct model *model, const struct model_weights *weights, struct device_plan *plan,
                   struct error *err);

// For a model whose weights were laid out and whose files were read once. Does nothing where all blocks are
// resident.
int streaming_open(struct model *model, const struct model_load_options *options, struct error *err);
void streaming_close(struct streaming *streaming); // accepts NULL

// The weights of block number `block` are there, or on their way to devices that order loads. Does nothing
// for a resident block.
int streaming_bring(struct model *model, size_t block, struct error *err);

// The computation of block number `block` is queued: what comes next may be loaded meanwhile.
int streaming_ahead(struct model *model, size_t block, struct error *err);

#endif

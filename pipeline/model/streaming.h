// Blocks that are not resident (private to this room): they come into slots on their stage's device, again in
// every sweep, read from the model's files in the order of their use, or copied from host memory where the
// first sweep left them (MODEL_WEIGHTS_HOST). What is read again has the bytes that were read at the start,
// or the run ends.
//
// On a device that queues there are two slots: while one block computes, the next is loaded. The host's own
// processors have one: they load when they have computed, and what is read ahead lies in a ring that has room
// for a block.
#ifndef STRATA_MODEL_STREAMING_H
#define STRATA_MODEL_STREAMING_H

#include "model/stage.h"

// Slots for so many blocks, at least one.
size_t streaming_slots(const struct device *device, size_t streamed);

// Adds what reading these weights again, or keeping them there, takes of the host's memory.
int streaming_plan(const struct model *model, const struct model_weights *weights,
                   const struct device *device, struct device_plan *plan, struct error *err);

// For a stage whose weights were laid out and whose files were read once. Does nothing where all blocks are
// resident.
int streaming_open(struct model *model, struct stage *stage, const struct model_load_options *options,
                   struct error *err);
void streaming_close(struct streaming *streaming); // accepts NULL

// The weights of the stage's block number `i` (of its own) are there, or on their way to a device that orders
// loads. Does nothing for a resident block.
int streaming_bring(struct stage *stage, size_t i, struct error *err);

// The computation of block number `i` is queued: what comes next may be loaded meanwhile.
int streaming_ahead(struct stage *stage, size_t i, struct error *err);

#endif

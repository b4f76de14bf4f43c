// One pass over a packed batch (private to this room).
#ifndef STRATA_MODEL_FORWARD_H
#define STRATA_MODEL_FORWARD_H

#include "model/state.h"

// A batch whose inputs were checked and queued for upload.
struct pass {
    struct model *model;
    struct device_texts texts; // host_starts is staging memory
    size_t tokens;
    size_t rows;
    size_t slot;
};

// Takes hidden state `layer` (transformers index) of the pass: x [tokens, hidden] on the device.
typedef int (*hidden_state_taker)(const struct pass *pass, size_t layer, const void *x, void *context,
                                  struct error *err);

// Checks a batch against the limits, stages its inputs and queues their upload.
int forward_begin(struct pass *pass, struct model *model, const struct model_batch *batch, struct error *err);

// Queues all blocks up to the last wanted one and gives every hidden state to `take`.
int forward_run(const struct pass *pass, hidden_state_taker take, void *context, struct error *err);

#endif

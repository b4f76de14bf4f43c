// One pass over a packed batch (private to this room).
#ifndef STRATA_MODEL_FORWARD_H
#define STRATA_MODEL_FORWARD_H

#include "model/stage.h"

// A batch whose inputs were checked and queued for upload, or a slice of one that is one text.
struct pass {
    struct model *model;
    size_t tokens;
    size_t texts;
    size_t rows; // of the batch, which can be pooled after this pass; 0: slices follow
    size_t slot;
    size_t member; // of the sweep: which inputs and residual stream on the device are its own
    size_t first;  // the batch's first member
    bool is_slice;
    size_t before; // tokens of the text before the slice
};

// Takes hidden state `layer` (transformers index) of the batch that the pass completes: x [tokens, hidden] on
// the stage's device.
typedef int (*hidden_state_taker)(const struct pass *pass, const struct stage *stage, size_t layer,
                                  const void *x, void *context, struct error *err);

// Checks a batch against the limits, stages its inputs and queues their upload, on every stage. passes: of
// the sweep's members from `member` on, as many as model_batch_members says.
int forward_begin(struct pass *passes, struct model *model, const struct model_batch *batch, size_t member,
                  struct error *err);

// Queues all blocks up to the last wanted one, each with all passes of the sweep before the next, and gives
// every hidden state to `take`.
int forward_sweep(const struct pass *passes, size_t count, hidden_state_taker take, void *context,
                  struct error *err);

#endif

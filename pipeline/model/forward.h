// SPDX-License-Identifier: MIT
// One pass over a packed batch (private to this room).
#ifndef STRATA_MODEL_FORWARD_H
#define STRATA_MODEL_FORWARD_H

#include "model/stage.h"

// Where a pass is computed.
struct pass_place {
    size_t stage;  // its first
    size_t stages; // that it goes through, one after another
    size_t member; // of the sweep: which inputs and residual streams on the devices are its own
    size_t turn;   // of the residual streams
};

// A batch whose inputs were checked and queued for upload, or a slice of one that is one text.
struct pass {
    struct model *model;
    size_t tokens;
    size_t texts;
    size_t rows;  // of the batch, which can be pooled after this pass; 0: slices follow, or it is of the head
    bool is_last; // no slice follows
    size_t slot;
    struct pass_place place;
    size_t first; // the batch's first member
    bool is_slice;
    size_t before; // own tokens of the text before the slice
    bool is_head;  // over the head
    bool goes_on;  // some text goes on from another, or from the head
    bool has_head; // some text goes on from the head
};

// Takes hidden state `layer` (transformers index) of the batch that the pass completes: x [tokens, hidden] on
// the stage's device.
typedef int (*hidden_state_taker)(const struct pass *pass, const struct stage *stage, size_t layer,
                                  const void *x, void *context, struct error *err);

// The texts of a pass as operations take them, with what is of the head for them.
struct device_texts forward_texts(const struct pass *pass, const struct stage *stage, const void *head);

// Ids that stand for what is seen or heard become the pad token's, as their family has it.
void forward_stage_ids(const struct model_config *config, int32_t *out, const int32_t *ids, size_t tokens);

// The residual stream of a member on a stage.
void *forward_residual(const struct pass *pass, const struct stage *stage, size_t member);

// Places the head's rotary rows and ids in staging, and queues their upload for the members of the place on
// every stage of its own. passes: as many as model_batch_members says of the head.
int forward_begin_head(struct pass *passes, struct model *model, const struct pass_place *place,
                       struct error *err);

// Checks a batch against the limits, stages its inputs and queues their upload, on every stage of its own.
// passes: of the members from the place's on, as many as model_batch_members says.
int forward_begin(struct pass *passes, struct model *model, const struct model_batch *batch,
                  const struct pass_place *place, struct error *err);

// Queues all blocks up to the last wanted one, each with all passes of the sweep before the next, and gives
// every hidden state to `take`. The passes go through as many stages each.
int forward_sweep(const struct pass *passes, size_t count, hidden_state_taker take, void *context,
                  struct error *err);

#endif

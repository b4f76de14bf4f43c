// SPDX-License-Identifier: MIT
// The parts of a model (private to this room): what was read, and the stages that compute it.
//
// A stage is one device with the blocks that lie on it, one after another. With MODEL_SPLIT_LAYERS the stages
// take the model's blocks in order, the first the embedding too and the last the final norm, and hand the
// residual stream on (begin_stage of forward.c); otherwise each has all of them. What batches bring from the
// host and leave there is the model's, in the first device's staging, for all stages.
#ifndef STRATA_MODEL_STAGE_H
#define STRATA_MODEL_STAGE_H

#include "base/digest.h"
#include "base/memory.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/model.h"
#include "model/state.h"
#include "model/weights.h"

struct adapter;   // adapter.h
struct streaming; // streaming.h

enum { STAGE_NAME = 32 };

struct stage {
    struct device *device; // the model's
    char name[STAGE_NAME];
    struct model_weights weights; // say which blocks they are of
    struct model_state state;
};

// The stages that compute a sweep: a chain, of which each has its own blocks, or side by side, each with
// batches of its own.
struct lane {
    size_t first;
    size_t count;
    bool is_chain;
};

struct sweep_end { // of the sweep that a slot's batch was in
    size_t lane;
    struct device_fence fences[MODEL_DEVICES]; // of the lane's stages
};

struct model {
    struct model_config config;
    struct checkpoint checkpoint;
    struct weight_match match; // of the checkpoint's tensors
    struct adapter *adapter;   // merged into the weights when they are loaded; NULL: none
    struct buffer config_text; // config.json as parsed; of a GGUF file nothing
    char fingerprint[DIGEST_HEX];
    unsigned char (**hashes)[DIGEST_BYTES]; // [files] -> of each piece of it (reader.h), once they were read
    struct model_placement placement;
    enum model_split split;

    struct stage stages[MODEL_DEVICES];
    size_t stage_count;
    char all_names[2 * STAGE_NAME + 8];    // "cuda:0 to cuda:3"
    bool is_shared;                        // memory was made for these shares
    size_t first_block[MODEL_DEVICES + 1]; // as in struct model_plan
    bool is_begun;                         // its load, which is tried once
    bool is_loaded;                        // its weights, and nothing failed
    struct model_limits limits;
    size_t *layers; // [limits.layer_count] the model's own copy
    size_t last;    // the last wanted transformers index: blocks that are resident
    struct model_staging staging;
    struct streaming *streaming; // of the blocks that are not resident; NULL: all are
    struct sweep_end *ends;      // [limits.slots]
    struct pass *passes;         // of the sweep that is being queued, all members of its devices (forward.h)
    size_t turn;                 // of the residual streams of a chain
    bool has_head;               // model_set_head gave its tokens
};

// Whether each stage has blocks of its own. One device has all.
bool stages_chain(const struct model *model);

struct lane lane_of(const struct model *model, size_t lane);

// Names the stage's device where the model has several. Returns `status`.
int stage_named(const struct model *model, const struct stage *stage, int status, struct error *err);

// The weights of stage `index`, not loaded yet: its share of the blocks before hidden state `last`, resident
// or not as the model's placement says. `first_block` as in struct model_plan. stage_close or
// free(weights->blocks) gives the list back.
int stage_share(struct model_weights *weights, const struct model *model, size_t last,
                const size_t *first_block, size_t index, struct error *err);

// Takes device memory for the weights of stage_share, and for what batches use. The second fills the rotary
// tables.
int stage_take_weights(struct stage *stage, const struct model_config *config, struct error *err);
int stage_take_state(struct stage *stage, const struct model *model, struct error *err);

// Asks the device where each piece lies, and adds them up.
int stage_check_resident(const struct stage *stage, const struct model *model, struct model_resident *sum,
                         struct error *err);

void stage_close(struct stage *stage); // the device too; accepts zeros

// What stage `index` takes of its device: of the weights before hidden state `last`, and of batches.
int stage_plan_weights(const struct model *model, size_t index, size_t last, const size_t *first_block,
                       struct device_plan *plan, struct error *err);
int stage_plan_state(const struct model *model, size_t index, const struct model_limits *limits,
                     const size_t *first_block, struct device_plan *plan, struct error *err);

// Shares the blocks before hidden state `last` between the stages of a chain, into `first_block`; those of
// the memory that was made, once it is. `limits` NULL: for weights alone.
int shares_choose(const struct model *model, size_t last, const struct model_limits *limits,
                  size_t *first_block, struct error *err);

// Reads files through a reader: weights into their places on the stages, where there are any, and the
// fingerprint of all of them.
int load_files(struct model *model, bool with_weights, const struct model_load_options *options,
               struct error *err);

#endif

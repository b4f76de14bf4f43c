// The parts of a model (private to this room): what was read, and the stages that compute it.
//
// A stage is one device with the blocks that lie on it, one after another; the stages of a model take its
// blocks in order, the first the embedding too and the last the final norm. A model has one
// today: what is done with all of them is a loop, and what a second one needs beside is that the residual
// stream is handed over (begin_stage of forward.c).
#ifndef STRATA_MODEL_STAGE_H
#define STRATA_MODEL_STAGE_H

#include "base/digest.h"
#include "base/memory.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/model.h"
#include "model/state.h"
#include "model/weights.h"

struct streaming; // streaming.h

struct stage {
    struct device *device;        // the model's
    struct model_weights weights; // say which blocks they are of
    struct model_state state;
    struct streaming *streaming; // of the blocks that are not resident; NULL: all are
};

struct model {
    struct model_config config;
    struct checkpoint checkpoint;
    struct weight_match match; // of the checkpoint's tensors
    struct buffer config_text; // config.json as parsed; of a GGUF file nothing
    char fingerprint[DIGEST_HEX];
    unsigned char (**hashes)[DIGEST_BYTES]; // [files] -> of each piece of it (reader.h), once they were read
    struct model_placement placement;

    struct stage stages[MODEL_DEVICES];
    size_t stage_count;
    bool is_begun;  // its load, which is tried once
    bool is_loaded; // its weights, and nothing failed
    struct model_limits limits;
    size_t *layers;               // [limits.layer_count] the model's own copy
    size_t last;                  // the last wanted transformers index: blocks that are resident
    struct model_output *outputs; // [limits.slots]
    struct pass *passes;          // [state_members] of a sweep (forward.h)
};

// The weights of stage `index` of `count`, not loaded yet: its share of the blocks before hidden state
// `last`, resident or not as the model's placement says. stage_close or free(weights->blocks) gives the list
// back.
int stage_share(struct model_weights *weights, const struct model *model, size_t last, size_t index,
                size_t count, struct error *err);

// Takes device memory for the weights of stage_share, and for what batches use. The second fills the rotary
// tables, and the places of outputs.
int stage_take_weights(struct stage *stage, const struct model_config *config, struct error *err);
int stage_take_state(struct stage *stage, const struct model_config *config,
                     const struct model_limits *limits, struct model_output *outputs, struct error *err);

// Asks the device where each piece lies, and adds them up.
int stage_check_resident(const struct stage *stage, const struct model *model, struct model_resident *sum,
                         struct error *err);

void stage_close(struct stage *stage); // the device too; accepts zeros

// Reads all files through a reader: weights into their places on the stages, where there are any, and the
// fingerprint.
int load_files(struct model *model, bool with_weights, const struct model_load_options *options,
               struct error *err);

#endif

// The parts of a model on a device (private to this room): what was read, what is resident, what a batch
// uses.
#ifndef STRATA_MODEL_STATE_H
#define STRATA_MODEL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/memory.h"
#include "kernels/operations.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/model.h"
#include "model/weights.h"

enum { POOL_BUFFERS = 2 }; // one is filled while the other is copied to the host

// What a batch tells the device; the staging copies of a slot and the device's own have the same shape.
struct batch_inputs {
    int32_t *ids;              // [limits.tokens]
    int32_t *rope_row;         // [limits.tokens] rows of the rotary tables
    int32_t *starts;           // [limits.texts + 1]
    struct device_span *spans; // [limits.rows]
    float *own_cosine;         // [own_rows, head_dim / 2] of texts with their own frequencies; NULL without
    float *own_sine;
};

struct slot_outputs {
    const void **rows;                      // [layer_count] -> [limits.rows, hidden]
    const struct device_row_check **checks; // [layer_count] -> [limits.rows]
};

// Everything that is taken at load. While a plan is made the pointers stay NULL.
struct model_state {
    // Rotary tables, float32 [table_rows + own_rows, head_dim / 2]: positions of ordinary texts, then rows
    // that each batch brings along for texts whose length changes the frequencies (dynamic scaling).
    float *cosine;
    float *sine;
    float *table_staging; // [table_chunk, head_dim / 2], to fill the tables at load
    size_t table_rows;
    size_t table_chunk;
    size_t own_rows;

    struct batch_inputs inputs; // device
    void *x;                    // [tokens, hidden] the residual stream
    void *normed;               // [tokens, hidden]
    void *wide;                 // [tokens, max(qkv, gate_up)] these two are never alive together
    void *inner;                // [tokens, max(heads * head_dim, intermediate)] nor are their results
    void *attention_scratch;
    void *pooled[POOL_BUFFERS];                         // [rows, hidden] of out_dtype
    struct device_row_check *pool_checks[POOL_BUFFERS]; // [rows]

    float *frequencies;           // [head_dim / 2] host: of the text whose rows are being made
    struct batch_inputs *staged;  // [slots] host
    struct slot_outputs *outputs; // [slots] host
};

struct model {
    struct model_config config;
    struct checkpoint checkpoint;
    struct weight_use *uses;   // [checkpoint.entry_count]
    struct buffer config_text; // config.json as parsed
    char fingerprint[DIGEST_HEX];

    struct device *device; // set by model_load_weights
    bool is_loaded;        // its weights, and nothing failed
    struct model_limits limits;
    size_t *layers; // [limits.layer_count] the model's own copy
    size_t last;    // the last wanted transformers index: blocks that are resident
    struct model_weights weights;
    struct model_state state;
};

// Checks limits and lists what a loaded model holds beside its weights (weights_lay_out), into a plan or from
// the device. blocks: those that are resident.
int state_check_limits(const struct model_config *config, const struct model_limits *limits,
                       struct error *err);
int state_lay_out(struct layout *layout, struct model_state *state, size_t blocks,
                  const struct model_config *config, const struct model_limits *limits, struct error *err);

// Host memory of the lists and of the frequencies; freed by state_destroy. last: the last wanted
// transformers index.
int state_prepare_weights(struct model_weights *weights, const struct model_config *config, size_t last,
                          struct error *err);
int state_prepare(struct model_state *state, const struct model_config *config,
                  const struct model_limits *limits, struct error *err);
void state_destroy(struct model_state *state, struct model_weights *weights);

// The attention of one block.
struct device_attention state_attention(const struct model_config *config, size_t block, size_t longest);

// Reads all files through a reader: weights into their places where the device is there, and the fingerprint.
int load_files(struct model *model, bool with_weights, const struct model_load_options *options,
               struct error *err);

// Fills the rotary tables.
int load_rope_tables(struct model *model, struct error *err);

#endif

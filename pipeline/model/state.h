// What a stage of a model uses for its batches (private to this room): activations, rotary tables, and the
// staging copies of what goes to its device and comes back.
#ifndef STRATA_MODEL_STATE_H
#define STRATA_MODEL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "model/block.h"
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

// Everything that is taken at load. While a plan is made the pointers stay NULL.
struct model_state {
    // Rotary tables, float32 [table_rows + group * own_rows, head_dim / 2]: positions of ordinary texts, then
    // rows that each batch brings along for texts whose length changes the frequencies (dynamic scaling).
    float *cosine;
    float *sine;
    size_t table_rows;
    size_t table_chunk; // rows that are filled at a time
    size_t own_rows;

    struct batch_inputs *inputs; // [group] device
    void **residuals;            // [group] the residual streams of a sweep's batches; the first is buffers.x
    struct block_buffers buffers;
    void *attention_scratch;
    void *pooled[POOL_BUFFERS];                         // [rows, hidden] of limits.stored
    struct device_row_check *pool_checks[POOL_BUFFERS]; // [rows]
    void *staging; // before the first batch: rows of a table [table_chunk, head_dim / 2], a row's check

    float *frequencies;          // [head_dim / 2] host: of the text whose rows are being made
    struct batch_inputs *staged; // [slots] host
    struct device_fence *fences; // [slots] host: the end of the sweep of a slot's batch
};

size_t state_group(const struct model_limits *limits); // batches of a sweep

int state_check_limits(const struct model_config *config, const struct model_limits *limits,
                       struct error *err);

// Host memory of the lists and of the frequencies; freed by state_destroy.
int state_prepare(struct model_state *state, const struct model_config *config,
                  const struct model_limits *limits, struct error *err);
void state_destroy(struct model_state *state);

// The lists of all slots' outputs, empty: one piece of memory, which the caller frees.
int state_list_outputs(struct model_output **out, const struct model_limits *limits, struct error *err);

// Lists what a stage with these weights holds beside them (weights_lay_out), into a plan or from the device.
// outputs: of all stages; those of the hidden states that this one has are its own.
int state_lay_out(struct layout *layout, struct model_state *state, const struct model_weights *weights,
                  const struct model_config *config, const struct model_limits *limits,
                  struct model_output *outputs, struct error *err);

// Fills the rotary tables.
int state_fill_tables(struct model_state *state, struct device *device, const struct model_config *config,
                      struct error *err);

#endif

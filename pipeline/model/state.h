// SPDX-License-Identifier: MIT
// What the stages of a model use for their batches (private to this room): each activations and rotary
// tables, all of them together the staging copies of what goes to their devices and comes back.
#ifndef STRATA_MODEL_STATE_H
#define STRATA_MODEL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "model/block.h"
#include "model/config.h"
#include "model/head.h"
#include "model/layout.h"
#include "model/model.h"
#include "model/weights.h"

enum {
    POOL_BUFFERS = 2,   // one is filled while the other is copied to the host
    RESIDUAL_TURNS = 2, // of a chain of stages: one is computed while the other goes to the next stage
};

// What a batch tells the device: the staging copies of a slot, and on the device what a member of the sweep
// has of them. Of a text in slices each member has the tokens of its slice; its spans are spread over the
// members from the first on.
struct batch_inputs {
    int32_t *ids;              // [tokens]
    int32_t *rope_row;         // [tokens] rows of the rotary tables
    int32_t *starts;           // [texts + 1]; staged of a text in slices: of a whole slice, and of the last
    struct device_span *spans; // [rows], of a member state_pool_rows
    struct device_origin *origins; // [texts]; NULL: no text goes on from another
    float *own_cosine; // [own rows, rotated / 2] of texts with their own frequencies; NULL without
    float *own_sine;
};

// Everything that is taken of a device at load. While a plan is made the pointers stay NULL.
struct model_state {
    // Rotary tables, float32 [table_rows + members * own_rows, rotated / 2]: positions of ordinary texts,
    // then rows that each batch brings along for texts whose length changes the frequencies (dynamic
    // scaling).
    float *cosine;
    float *sine;
    float *local_cosine; // [table_rows, ..] of blocks that rotate by tables of their own; NULL: none
    float *local_sine;
    float *query_scale; // [table_rows] what queries are multiplied with; NULL: nothing
    float *slopes;      // [heads]; NULL: none
    size_t table_rows;
    size_t own_rows; // of a member

    // Of a sweep: those of batches, and where weights stream those of the head behind them.
    size_t members;
    struct batch_inputs *inputs; // [members] device
    size_t turns;                // 1, or RESIDUAL_TURNS
    // [turns * members] the residual streams of a sweep, and of the next sweep; the first is buffers.x. Where
    // texts run in slices they are one piece, [turns * members * limits.tokens, hidden].
    void **residuals;
    // [turns * members * limits.tokens, config_shared_keys] keys and values of a sweep that later blocks
    // take, of blocks without a window and with one; NULL: none are.
    void *shared[2];
    void *layer_inputs; // [turns * members * limits.tokens, config_layer_inputs]; NULL: blocks have none
    void *kept; // block_kept_bytes where texts run in slices: the block's keys and values, or its state
    struct head_store head;
    struct block_buffers buffers;
    void *scratch;                                      // of attention and of experts
    void *pooled[POOL_BUFFERS];                         // [state_pool_rows, hidden] of limits.stored
    struct device_row_check *pool_checks[POOL_BUFFERS]; // [state_pool_rows]
    struct device_fence turned[RESIDUAL_TURNS]; // the end of the last sweep of each turn; number 0: none
};

// Host memory that devices copy from and to, for all stages: staging, and lists of its pieces.
struct model_staging {
    struct batch_inputs *inputs;  // [slots]
    struct batch_inputs head;     // of the head, without spans
    struct model_output *outputs; // [slots]
    void *rows;         // before the first batch: rows of a table [table_chunk, rotated / 2], a row's check
    size_t table_chunk; // rows that are filled at a time
    float *frequencies; // [rotated / 2] of the text whose rows are being made
};

size_t state_group(const struct model_limits *limits);     // batches of a sweep
size_t state_members(const struct model_limits *limits);   // of a sweep
bool state_has_slices(const struct model_limits *limits);  // whether some text runs in slices
size_t state_pool_rows(const struct model_limits *limits); // that are pooled at a time

int state_check_limits(const struct model_config *config, const struct model_limits *limits,
                       struct error *err);

// Host memory of the lists and of the frequencies; freed by state_destroy and staging_destroy.
int state_prepare(struct model_state *state, const struct model_weights *weights,
                  const struct model_limits *limits, bool is_chain, struct error *err);
int staging_prepare(struct model_staging *staging, const struct model_config *config,
                    const struct model_limits *limits, struct error *err);
void state_destroy(struct model_state *state);
void staging_destroy(struct model_staging *staging);

// Lists what a stage with these weights holds beside them (weights_lay_out), and what is there once, into a
// plan or from a device.
int state_lay_out(struct layout *layout, struct model_state *state, const struct model_weights *weights,
                  const struct model_config *config, const struct model_limits *limits, struct error *err);
int staging_lay_out(struct layout *layout, struct model_staging *staging, const struct model_config *config,
                    const struct model_limits *limits, struct error *err);

// Fills the rotary tables.
int state_fill_tables(const struct model_state *state, const struct model_staging *staging,
                      struct device *device, const struct model_config *config, struct error *err);

#endif

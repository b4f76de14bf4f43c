// SPDX-License-Identifier: MIT
#include "model/footprint.h"

#include <stdlib.h>

#include "base/size.h"
#include "kernels/weight_format.h"
#include "model/block.h"
#include "model/quantise.h"
#include "model/rope.h"
#include "model/stage.h"
#include "model/state.h"

// ---- sums that stay at the top ----

static uint64_t plus(uint64_t a, uint64_t b) {
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t times(uint64_t a, uint64_t b) {
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t most(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

// ---- weights ----

// How weights come to be held: as a checkpoint has them, or as they would be quantised.
struct holding {
    const struct model_config *config;
    const struct weight_match *match; // NULL: numbers of the type that config.json gives
    enum model_quantize quantize;     // of matrices of blocks
    enum dtype dtype;
};

static uint64_t file_bytes(const struct holding *holding, const struct weight_row *row, size_t block,
                           uint64_t numbers) {
    if (row->file == FILE_NOWHERE) {
        return 0;
    }
    if (holding->match == NULL) {
        return times(numbers, dtype_size(holding->config->checkpoint_dtype));
    }
    uint64_t bytes = 0;
    for (size_t copy = 0; copy < weight_copies(row, holding->config, block); copy++) {
        const struct weight_source *source = weights_source(holding->match, row, block, copy);
        for (size_t i = 0; i < source->component_count; i++) {
            const struct weight_component *component = &source->components[i];
            bytes = plus(bytes, component->is_read ? component->tensor->end - component->tensor->begin : 0);
        }
    }
    return bytes;
}

// The format that a matrix is kept in; false where it is stored as computed.
static bool kept_format(const struct holding *holding, const struct weight_row *row, size_t block,
                        struct weight_format *format) {
    if (row->form != FORM_MATRIX || !weight_in_block(row) || row->file == FILE_NOWHERE) {
        return false;
    }
    if (holding->quantize != MODEL_QUANTIZE_NONE) {
        if (row->file != FILE_ROWS) {
            return false;
        }
        *format = quantise_format(holding->quantize);
        return true;
    }
    if (holding->match == NULL || !weights_keep(holding->match, holding->config, row, block)) {
        return false;
    }
    *format = weights_source(holding->match, row, block, 0)->format;
    return true;
}

static void add_row(struct footprint_block *sum, const struct holding *holding, const struct weight_row *row,
                    size_t block) {
    const struct model_config *config = holding->config;
    size_t rows = weight_dimension(config, block, row->rows);
    size_t columns = weight_dimension(config, block, row->columns);
    uint64_t numbers = times(times(rows, columns), weight_copies(row, config, block));
    uint64_t computed = times(numbers, dtype_size(weight_is_float(row) ? DTYPE_F32 : holding->dtype));
    struct weight_format format;
    struct weight_layout layout;
    size_t all;
    size_t across;
    sum->file = plus(sum->file, file_bytes(holding, row, block, numbers));
    if (!kept_format(holding, row, block, &format) || !weight_layout(&format, rows, columns, &layout)) {
        sum->held = plus(sum->held, computed);
        return;
    }
    sum->held = plus(sum->held, times(layout.bytes, weight_copies(row, config, block)));
    sum->expanded = plus(sum->expanded, computed);
    if (weights_shape(config, block, row->place, &all, &across)) {
        size_t row_bytes = across * dtype_size(holding->dtype); // dimensions are bounded (config.c)
        sum->largest = most(sum->largest, weights_at_once(config, row, block, all, row_bytes));
    }
}

static struct footprint_block count_block(const struct holding *holding, size_t block) {
    const struct weight_table *table = holding->config->weights;
    struct footprint_block sum = {0};
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        if (weight_in_block(row) && weight_present(row, holding->config, block)) {
            add_row(&sum, holding, row, block);
        }
    }
    return sum;
}

static int count_weights(struct footprint *out, const struct holding *holding, size_t last,
                         struct error *err) {
    const struct model_config *config = holding->config;
    void *blocks;
    *out = (struct footprint){.config = config, .dtype = holding->dtype, .blocks = last};
    TRY(memory_zeroed(&blocks, last > 0 ? last : 1, sizeof out->block[0], err));
    out->block = blocks;
    uint64_t rows = plus(plus(config->embedding_width, config->position_rows),
                         config->embedding_norm && !config->bare_norms ? 2 : 0);
    uint64_t table = times(config->vocabulary, weight_dimension(config, 0, DIM_EMBEDDING));
    uint64_t inputs = times(plus(config->layer_vocabulary, config->hidden), config_layer_inputs(config));
    out->embedding = times(plus(plus(table, times(rows, config->hidden)), plus(inputs, config->layer_input)),
                           dtype_size(holding->dtype));
    out->final_norm = last == config->layers && !config->bare_norms && !config->no_final_norm
                          ? (config->norm_bias ? 2 : 1) * config->hidden * dtype_size(holding->dtype)
                          : 0;
    for (size_t i = 0; i < last; i++) {
        struct footprint_block block = count_block(holding, i);
        out->block[i] = block;
        out->all_blocks = plus(out->all_blocks, block.held);
        out->most = (struct footprint_block){.held = most(out->most.held, block.held),
                                             .file = most(out->most.file, block.file),
                                             .expanded = most(out->most.expanded, block.expanded),
                                             .largest = most(out->most.largest, block.largest)};
    }
    out->expansion = out->most.largest;
    return STATUS_OK;
}

int footprint_of_model(struct footprint *out, const struct model *model, size_t last, enum dtype dtype,
                       enum model_quantize quantize, struct error *err) {
    *out = (struct footprint){0};
    if (quantize != MODEL_QUANTIZE_NONE && model_is_packed(model)) {
        return error_set(err, STATUS_JOB, "packed weights are not quantised again");
    }
    struct holding holding = {&model->config, &model->match, quantize, dtype};
    return count_weights(out, &holding, last, err);
}

int footprint_of_config(struct footprint *out, const struct model_config *config, size_t last,
                        enum dtype dtype, enum model_quantize quantize, struct error *err) {
    struct holding holding = {config, NULL, quantize, dtype};
    return count_weights(out, &holding, last, err);
}

void footprint_destroy(struct footprint *footprint) {
    free(footprint->block);
    *footprint = (struct footprint){0};
}

// ---- batches ----

// What a GPU's back end takes for itself: the matmuls' workspace and the landing of loads (32 and 8 MiB), and
// on the host the ring of loads.
enum { GPU_SCRATCH = 40 << 20, GPU_STAGING = 32 << 20 };

// Of a batch or slice of so many tokens and rows.
static uint64_t inputs_bytes(const struct model_limits *limits, uint64_t tokens, uint64_t rows) {
    uint64_t origins = limits->longest_own > 0 ? times(limits->texts, sizeof(struct device_origin)) : 0;
    uint64_t starts = times(plus(limits->texts, 1), sizeof(int32_t));
    return plus(plus(times(tokens, 2 * sizeof(int32_t)), origins),
                plus(starts, times(rows, sizeof(struct device_span))));
}

static uint64_t pooled_bytes(const struct model_config *config, const struct model_limits *limits,
                             uint64_t rows) {
    return times(rows, config->hidden * dtype_size(limits->stored) + sizeof(struct device_row_check));
}

// A position of the rotary tables: half a head's cosines and sines.
static uint64_t table_row(const struct model_config *config, const struct rope_config *rope) {
    return config_rope_rotated(config, rope) * sizeof(float);
}

// Numbers of a token beside the residual stream: those for later blocks, and blocks' own inputs.
static size_t beside(const struct model_config *config) {
    return config_shared_keys(config, false) + config_shared_keys(config, true) + config_layer_inputs(config);
}

// On the device, where a text in slices has inputs for each of them; its rows are pooled as many at a time as
// a batch has.
static uint64_t activation_bytes(const struct model_config *config, enum dtype dtype,
                                 const struct model_limits *limits, size_t slices) {
    bool own = rope_is_own(config, limits->longest);
    uint64_t rows = state_pool_rows(limits);
    uint64_t own_rows = own ? times(slices, limits->tokens) : 0;
    uint64_t common = size_min(rope_common_positions(config), limits->longest);
    uint64_t table = times(plus(common, own_rows), table_row(config, &config->rope));
    uint64_t local = config->has_local_rope ? times(common, table_row(config, &config->local_rope)) : 0;
    table = plus(table, local);
    uint64_t buffers =
        times(limits->tokens, plus(times(block_buffer_numbers(config) + beside(config), dtype_size(dtype)),
                                   block_route_bytes(config)));
    uint64_t inputs = times(slices, inputs_bytes(limits, limits->tokens, rows));
    return plus(plus(buffers, table), plus(inputs, times(POOL_BUFFERS, pooled_bytes(config, limits, rows))));
}

// In host memory, for every slot.
static uint64_t slot_bytes(const struct model_config *config, const struct model_limits *limits) {
    uint64_t tokens = size_max(limits->tokens, model_longest_own(limits));
    uint64_t own = rope_is_own(config, limits->longest) ? times(tokens, table_row(config, &config->rope)) : 0;
    return plus(plus(inputs_bytes(limits, tokens, limits->rows), own),
                times(pooled_bytes(config, limits, limits->rows), limits->layer_count));
}

static uint64_t space_scratch(const struct device_state_space *space, size_t tokens, bool has_own_memory) {
    size_t bytes;
    if (has_own_memory) {
        return device_state_space_gpu_scratch(space, tokens, &bytes) ? bytes : UINT64_MAX;
    }
    return times(tokens, times(plus(device_state_space_mixed(space), 4 * space->heads), sizeof(float)));
}

// What the blocks before the last wanted hidden state keep of the head; where its keys and values are
// expanded, and its hidden states, where spans lie in it.
static void count_head(struct footprint_batch *out, const struct model_config *config, enum dtype dtype,
                       const struct model_limits *limits) {
    size_t width = dtype_size(dtype);
    uint64_t rows = limits->head_rows ? times(limits->layer_count, config->hidden * width) : 0;
    uint64_t expanded = limits->keeping != DEVICE_KEEP_COMPUTED ? config_keys_values(config) * width : 0;
    uint64_t beside_them = times(limits->head, plus(rows, expanded));
    uint64_t largest = 0;
    uint64_t givers = 0;
    for (size_t block = 0; block < model_blocks_wanted(config, limits); block++) {
        bool shared =
            config_mixer(config, block) == MIXER_ATTENTION && config_keys(config, block) == KEYS_SHARED;
        bool gives =
            config_mixer(config, block) == MIXER_ATTENTION && config_keys(config, block) == KEYS_KEPT;
        size_t bytes = 0;
        if (!shared && !block_head_bytes(config, block, limits->head, limits->keeping, width, &bytes)) {
            bytes = SIZE_MAX;
        }
        out->head = plus(out->head, bytes);
        givers = plus(givers, gives ? bytes : 0);
        largest = most(largest, gives ? 0 : bytes);
    }
    uint64_t members = model_batch_members(limits, limits->head);
    uint64_t streams = times(times(members, limits->tokens), footprint_residual(config, dtype));
    out->head = plus(out->head, beside_them);
    out->staging = plus(out->staging, times(limits->head, 2 * sizeof(int32_t)));
    out->head_streamed = plus(plus(largest, givers), plus(streams, beside_them));
}

void footprint_of_batch(struct footprint_batch *out, const struct model_config *config, enum dtype dtype,
                        const struct model_limits *limits, bool has_own_memory) {
    size_t slices = model_batch_members(limits, model_longest_own(limits));
    size_t kept;
    if (!block_kept_bytes(config, size_max(limits->tokens, model_longest_own(limits)), dtype_size(dtype),
                          &kept)) {
        kept = SIZE_MAX;
    }
    *out = (struct footprint_batch){.activations = activation_bytes(config, dtype, limits, slices),
                                    .keys_values = kept,
                                    .staging = times(slot_bytes(config, limits), limits->slots)};
    if (slices > 1) { // beside those of the slice that is computed
        out->activations = plus(out->activations, out->keys_values);
        out->residuals = times(times(slices - 1, limits->tokens), footprint_residual(config, dtype));
    }
    if (limits->head > 0) {
        count_head(out, config, dtype, limits);
    }
    if (config->experts.count > 0) { // inner activations and products of every pair of token and expert
        uint64_t pairs = times(limits->tokens, config->experts.chosen);
        out->scratch =
            times(pairs, plus(config->experts.width, config_expert_hidden(config)) * dtype_size(dtype));
    }
    if (config->delta_net.taps > 0) { // its convolution's numbers in float32
        uint64_t mixed = times(device_delta_net_mixed(&config->delta_net), sizeof(float));
        out->scratch = most(out->scratch, times(limits->tokens, mixed));
    }
    if (config->state_space.taps > 0) { // the same, and four of each head
        out->scratch =
            most(out->scratch, space_scratch(&config->state_space, limits->tokens, has_own_memory));
    }
    if (has_own_memory) {
        out->scratch = plus(out->scratch, GPU_SCRATCH);
        out->staging = plus(out->staging, GPU_STAGING);
    }
}

uint64_t footprint_residual(const struct model_config *config, enum dtype dtype) {
    return (config->hidden + beside(config)) * dtype_size(dtype);
}

// ---- the whole model, as people speak of it ----

uint64_t footprint_parameters(const struct model_config *config) {
    return weights_count(config, !config->tied_embeddings);
}

uint64_t footprint_of_all(const struct model_config *config, enum model_quantize quantize) {
    struct holding plain = {config, NULL, MODEL_QUANTIZE_NONE, DTYPE_BF16};
    struct holding held = {config, NULL, quantize, DTYPE_BF16};
    uint64_t bytes = times(footprint_parameters(config), dtype_size(DTYPE_BF16));
    for (size_t i = 0; i < config->layers; i++) {
        bytes = plus(bytes - count_block(&plain, i).held, count_block(&held, i).held);
    }
    return bytes;
}

uint64_t footprint_active_parameters(const struct model_config *config) {
    const struct expert_config *experts = &config->experts;
    uint64_t each = times(times(experts->plain ? 2 : 3, experts->width), config_expert_hidden(config));
    uint64_t biases = experts->has_bias ? plus(times(2, experts->width), config->hidden) : 0;
    uint64_t idle = 0;
    for (size_t block = 0; block < config->layers; block++) {
        if (config_has_experts(config, block)) {
            idle = plus(idle, times(experts->count - experts->chosen, plus(each, biases)));
        }
    }
    return footprint_parameters(config) - idle;
}

static bool some_block_has(const struct model_config *config, const struct weight_row *row) {
    for (size_t block = 0; block < config->layers; block++) {
        if (weight_present(row, config, block)) {
            return true;
        }
    }
    return false;
}

bool footprint_can_quantise(const struct model_config *config) {
    for (size_t i = 0; i < config->weights->count; i++) {
        const struct weight_row *row = &config->weights->rows[i];
        if (row->form == FORM_MATRIX && weight_in_block(row) && some_block_has(config, row) &&
            row->file != FILE_ROWS && row->file != FILE_NOWHERE) {
            return false;
        }
    }
    return true;
}

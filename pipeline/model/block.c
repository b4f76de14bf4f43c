#include "model/block.h"

#include "base/size.h"
#include "kernels/operations.h"

enum block_kind block_step_kind(enum block_step step) {
    switch (step) {
    case BLOCK_QKV:
    case BLOCK_OUTPUT:
    case BLOCK_GATE_UP:
    case BLOCK_DOWN:
        return BLOCK_KIND_MATMUL;
    case BLOCK_ATTENTION_NORM:
    case BLOCK_MLP_NORM:
        return BLOCK_KIND_NORM;
    case BLOCK_ROPE:
    case BLOCK_ATTENTION:
    case BLOCK_ATTENTION_ADD:
    case BLOCK_ACTIVATION:
    case BLOCK_EXPERTS:
    case BLOCK_MLP_ADD:
    case BLOCK_STEPS:
        break;
    }
    return BLOCK_KIND_OTHER;
}

// ---- the list of matmuls ----

#define WEIGHT(member) offsetof(struct block_weights, member)
#define BUFFER(member) offsetof(struct block_buffers, member)

// Whether a branch's last matmul adds to x itself.
static bool adds_at_once(const struct model_config *config) {
    return config->branches == BRANCHES_SERIAL && config->norms == NORMS_BEFORE &&
           config->residual_scale == 0;
}

// What the first matmul of a branch reads.
static size_t branch_in(const struct model_config *config) {
    return config->norms == NORMS_AFTER ? BUFFER(x) : BUFFER(normed);
}

// What the last one writes. Serial branches that are not added at once have no more need of what they read;
// experts read it to the end.
static size_t branch_out(const struct model_config *config) {
    if (adds_at_once(config)) {
        return BUFFER(x);
    }
    return config->branches == BRANCHES_SERIAL && config->experts.count == 0 ? BUFFER(normed)
                                                                             : BUFFER(branch);
}

// Sizes are those of the table of weights.
static size_t list_matmul(const struct model_config *config, size_t block, const struct block_matmul *matmul,
                          struct block_matmul *out) {
    size_t rows;
    size_t columns;
    *out = *matmul;
    if (!weights_shape(config, block, matmul->matrix, &out->rows, &out->columns)) {
        return 0;
    }
    out->has_bias = weights_shape(config, block, matmul->bias, &rows, &columns);
    return 1;
}

size_t block_matmuls(const struct model_config *config, size_t block,
                     struct block_matmul out[BLOCK_MATMULS_MOST]) {
    const bool serial = config->branches == BRANCHES_SERIAL;
    const struct block_matmul all[] = {
        {.step = BLOCK_QKV,
         .keys = "'hidden_size' and heads of 'head_dim' times their numbers",
         .store = DEVICE_STORE,
         .matrix = WEIGHT(qkv),
         .bias = WEIGHT(qkv_bias),
         .in = branch_in(config),
         .out = BUFFER(wide)},
        {.step = BLOCK_OUTPUT,
         .keys = "'hidden_size' and 'num_attention_heads' times 'head_dim'",
         .store = adds_at_once(config) ? DEVICE_ADD : DEVICE_STORE,
         .matrix = WEIGHT(output),
         .bias = WEIGHT(output_bias),
         .in = BUFFER(inner),
         .out = branch_out(config)},
        {.step = BLOCK_GATE_UP,
         .keys = config->plain_mlp ? "'hidden_size' and 'intermediate_size'"
                                   : "'hidden_size' and twice 'intermediate_size'",
         .store = DEVICE_STORE,
         .matrix = WEIGHT(gate_up),
         .bias = WEIGHT(gate_up_bias),
         .in = branch_in(config),
         .out = BUFFER(wide)},
        {.step = BLOCK_DOWN,
         .keys = "'hidden_size' and 'intermediate_size'",
         .store = adds_at_once(config) || !serial ? DEVICE_ADD : DEVICE_STORE,
         .matrix = WEIGHT(down),
         .bias = WEIGHT(down_bias),
         .in = BUFFER(inner),
         .out = branch_out(config)},
    };
    _Static_assert(sizeof all / sizeof all[0] <= BLOCK_MATMULS_MOST, "more matmuls than a list holds");
    size_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        count += list_matmul(config, block, &all[i], &out[count]);
    }
    return count;
}

struct block_operands block_operands(const struct block_matmul *matmul, const struct block_buffers *buffers,
                                     const struct block_weights *weights) {
    const char *buffer = (const char *)buffers;
    const char *weight = (const char *)weights;
    return (struct block_operands){
        .out = *(void *const *)(const void *)(buffer + matmul->out),
        .in = *(void *const *)(const void *)(buffer + matmul->in),
        .matrix = (const void *)(weight + matmul->matrix),
        .bias = *(void *const *)(const void *)(weight + matmul->bias),
    };
}

double block_flops(const struct model_config *config, size_t block, size_t tokens, double squared_lengths) {
    struct block_matmul list[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(config, block, list);
    double multiply_adds = 0; // of a token
    for (size_t i = 0; i < count; i++) {
        multiply_adds += (double)list[i].rows * (double)list[i].columns;
    }
    if (config_has_experts(config, block)) {
        const struct expert_config *experts = &config->experts;
        multiply_adds +=
            (double)config->hidden * (double)(experts->count + 3 * experts->chosen * experts->width);
    }
    double attention =
        2 * (double)config->heads * (double)config->head_dim * (squared_lengths + (double)tokens);
    return 2 * multiply_adds * (double)tokens + attention;
}

// ---- running ----

static void *buffer_at(const struct block_buffers *buffers, size_t offset) {
    return *(void *const *)(const void *)((const char *)buffers + offset);
}

static int run_matmul(const struct block_pass *pass, const struct block_weights *weights, size_t block,
                      enum block_step step, struct error *err) {
    struct block_matmul list[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(pass->config, block, list);
    for (size_t i = 0; i < count; i++) {
        if (list[i].step == step) {
            struct block_operands o = block_operands(&list[i], &pass->buffers, weights);
            return device_matmul(pass->device, o.out, o.in, o.matrix, o.bias, pass->tokens, list[i].store,
                                 err);
        }
    }
    return STATUS_OK;
}

static struct device_norm norm_of(const struct model_config *config, const void *weight, const void *bias) {
    return (struct device_norm){
        .kind = config->norm, .epsilon = (float)config->norm_epsilon, .weight = weight, .bias = bias};
}

int block_norm(const struct block_pass *pass, void *out, const void *weight, const void *bias,
               struct error *err) {
    struct device_norm norm = norm_of(pass->config, weight, bias);
    if (weight == NULL) { // which the device would take for ones
        return error_set(err, STATUS_INTERNAL, "a norm has no weight");
    }
    return device_norm(pass->device, out, pass->buffers.x, &norm, DEVICE_STORE, pass->tokens,
                       pass->config->hidden, err);
}

// The norm before a branch, where the family has one.
static int run_norm(const struct block_pass *pass, bool has, const void *weight, const void *bias,
                    struct error *err) {
    return has && pass->config->norms != NORMS_AFTER
               ? block_norm(pass, pass->buffers.normed, weight, bias, err)
               : STATUS_OK;
}

// x += what a branch has come to, normalised or scaled where the family does so.
static int run_add(const struct block_pass *pass, const void *weight, struct error *err) {
    const struct model_config *config = pass->config;
    const void *branch = buffer_at(&pass->buffers, branch_out(config));
    if (config->norms != NORMS_BEFORE) {
        struct device_norm norm = norm_of(config, weight, NULL);
        return weight == NULL ? error_set(err, STATUS_INTERNAL, "a norm has no weight")
                              : device_norm(pass->device, pass->buffers.x, branch, &norm, DEVICE_ADD,
                                            pass->tokens, config->hidden, err);
    }
    float scale = config->residual_scale == 0 ? 1 : (float)config->residual_scale;
    return device_add(pass->device, pass->buffers.x, branch, scale, pass->tokens, config->hidden, err);
}

static int add_attention(const struct block_pass *pass, const struct block_weights *w, struct error *err) {
    const struct model_config *config = pass->config;
    return config->branches != BRANCHES_SERIAL || adds_at_once(config)
               ? STATUS_OK
               : run_add(pass, w->attention_norm, err);
}

static int add_mlp(const struct block_pass *pass, const struct block_weights *w, struct error *err) {
    return adds_at_once(pass->config) ? STATUS_OK : run_add(pass, w->branch_norm, err);
}

// Norms of queries and keys, each of `count` groups of columns side by side.
static int norm_qk(const struct block_pass *pass, const struct block_weights *w, bool whole,
                   struct device_heads heads, struct error *err) {
    size_t width = device_heads_width(heads);
    const struct {
        const void *weight;
        size_t first;
        size_t heads;
    } parts[] = {{w->q_norm, 0, heads.heads}, {w->k_norm, device_heads_key(heads), heads.kv_heads}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct device_norm norm = norm_of(pass->config, parts[i].weight, NULL);
        struct device_groups groups = {.stride = width,
                                       .from = parts[i].first,
                                       .first = parts[i].first,
                                       .count = whole ? 1 : parts[i].heads,
                                       .width = (whole ? parts[i].heads : 1) * heads.head_dim};
        TRY(device_norm_groups(pass->device, pass->buffers.wide, &groups, &norm, pass->tokens, err));
    }
    return STATUS_OK;
}

// qkv: q | k | v of each token.
static int run_rope(const struct block_pass *pass, const struct block_weights *w, size_t block,
                    struct device_heads heads, struct error *err) {
    const struct model_config *config = pass->config;
    enum block_rope which = config_block_rope(config, block);
    bool normed = config->qk_norm == QK_NORM_HEADS;
    struct device_rope rope = {.q_norm = norm_of(config, normed ? w->q_norm : NULL, NULL),
                               .k_norm = norm_of(config, normed ? w->k_norm : NULL, NULL),
                               .cosine = which == BLOCK_ROPE_LOCAL ? pass->local_cosine : pass->cosine,
                               .sine = which == BLOCK_ROPE_LOCAL ? pass->local_sine : pass->sine,
                               .row = pass->rope_row,
                               .part = which == BLOCK_ROPE_NONE ? 0 : config_rotated(config),
                               .query_scale = pass->query_scale,
                               .pairing = config->pairing,
                               .rounding = config->rope_rounding};
    if (config->qk_norm == QK_NORM_WHOLE) {
        TRY(norm_qk(pass, w, true, heads, err));
    }
    if (rope.part > 0 || normed || rope.query_scale != NULL) {
        TRY(device_qk_norm_rope(pass->device, pass->buffers.wide, &rope, heads, pass->tokens, err));
    }
    return config->qk_norm == QK_NORM_AFTER ? norm_qk(pass, w, false, heads, err) : STATUS_OK;
}

// Of a slice over the keys and values of the text so far.
static int run_attention(const struct block_pass *pass, const struct block_weights *w,
                         struct device_attention *shape, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    shape->sinks = w->sinks;
    shape->slopes = pass->slopes;
    if (pass->texts.kept != NULL) {
        TRY(device_keep(pass->device, pass->kept, pass->texts.before, b->wide, shape->heads, pass->tokens,
                        err));
    }
    return device_attention(pass->device, b->inner, b->wide, shape, pass->texts, pass->scratch, err);
}

static int run_activation(const struct block_pass *pass, size_t block, struct error *err) {
    const struct model_config *config = pass->config;
    return config_has_experts(config, block)
               ? STATUS_OK
               : device_activate(pass->device, pass->buffers.inner, pass->buffers.wide, config->activation,
                                 !config->plain_mlp, pass->tokens, config->intermediate, err);
}

static int run_experts(const struct block_pass *pass, const struct block_weights *w, size_t block,
                       struct error *err) {
    const struct model_config *config = pass->config;
    const struct block_buffers *b = &pass->buffers;
    const struct expert_config *sizes = &config->experts;
    struct device_routing routing = {.experts = sizes->count,
                                     .chosen = sizes->chosen,
                                     .scores = sizes->scores,
                                     .normalised = sizes->normalised,
                                     .rounds_logits = true,
                                     .rounds_weights = sizes->rounds_weights,
                                     .scaling = 1};
    struct device_experts experts = block_experts(config);
    bool adds = adds_at_once(config) || config->branches != BRANCHES_SERIAL;
    const void *in = buffer_at(b, branch_in(config));
    if (!config_has_experts(config, block)) {
        return STATUS_OK;
    }
    experts.gate_up = &w->experts_gate_up;
    experts.gate_up_bias = w->experts_gate_up_bias;
    experts.down = &w->experts_down;
    experts.down_bias = w->experts_down_bias;
    TRY(device_route(pass->device, &b->routes, in, w->router, w->router_bias, &routing, pass->tokens,
                     config->hidden, err));
    return device_experts(pass->device, buffer_at(b, branch_out(config)), in, &b->routes, &experts,
                          adds ? DEVICE_ADD : DEVICE_STORE, pass->tokens, pass->scratch, err);
}

int block_run_step(const struct block_pass *pass, const struct block_weights *weights, size_t block,
                   enum block_step step, struct error *err) {
    struct device_attention shape = block_attention(pass->config, block, pass->longest);
    switch (step) {
    // x += output(attention(rope(qkv(norm(x)))))
    case BLOCK_ATTENTION_NORM:
        return run_norm(pass, true, weights->input_norm, weights->input_norm_bias, err);
    case BLOCK_ROPE:
        return run_rope(pass, weights, block, shape.heads, err);
    case BLOCK_ATTENTION:
        return run_attention(pass, weights, &shape, err);
    case BLOCK_ATTENTION_ADD:
        return add_attention(pass, weights, err);
    // x += down(activation(gate(norm(x))) * up(norm(x))), or the sum of some experts that are alike
    case BLOCK_MLP_NORM:
        return run_norm(pass, pass->config->branches != BRANCHES_ONE_NORM, weights->mlp_norm,
                        weights->mlp_norm_bias, err);
    case BLOCK_ACTIVATION:
        return run_activation(pass, block, err);
    case BLOCK_EXPERTS:
        return run_experts(pass, weights, block, err);
    case BLOCK_MLP_ADD:
        return add_mlp(pass, weights, err);
    case BLOCK_QKV:
    case BLOCK_OUTPUT:
    case BLOCK_GATE_UP:
    case BLOCK_DOWN:
        return run_matmul(pass, weights, block, step, err);
    case BLOCK_STEPS:
        break;
    }
    return error_set(err, STATUS_INTERNAL, "a block has no step %d", (int)step);
}

int block_run(const struct block_pass *pass, const struct block_weights *weights, size_t block,
              struct error *err) {
    for (int step = 0; step < BLOCK_STEPS; step++) {
        if (block_run_step(pass, weights, block, (enum block_step)step, err) != STATUS_OK) {
            return error_wrap(err, "block %zu", block);
        }
    }
    return STATUS_OK;
}

// ---- memory ----

struct device_attention block_attention(const struct model_config *config, size_t block, size_t longest) {
    double scale =
        config->score_scale == 0 ? 1 / __builtin_sqrt((double)config->head_dim) : config->score_scale;
    return (struct device_attention){
        .heads = config_heads(config, block),
        .scale = (float)(config->scale_falls ? scale / (double)(block + 1) : scale),
        .window = config->layer_slides[block] ? config->window : 0,
        .softcap = (float)config->softcap,
        .longest = longest,
    };
}

struct device_experts block_experts(const struct model_config *config) {
    return (struct device_experts){.experts = config->experts.count,
                                   .chosen = config->experts.chosen,
                                   .hidden = config->hidden,
                                   .width = config->experts.width,
                                   .activation = config->activation,
                                   .limit = config->experts.limit};
}

size_t block_route_bytes(const struct model_config *config) {
    return config->experts.count == 0 ? 0 : config->experts.chosen * (sizeof(int32_t) + sizeof(float));
}

// Numbers of a token that some matmul writes to the buffer at this offset, or reads there.
static size_t buffer_columns(const struct model_config *config, size_t buffer) {
    size_t columns = buffer == BUFFER(normed) ? config->hidden : 0; // the final norm's too
    for (size_t block = 0; block < config->layers; block++) {
        struct block_matmul list[BLOCK_MATMULS_MOST];
        size_t count = block_matmuls(config, block, list);
        for (size_t i = 0; i < count; i++) {
            columns = list[i].out == buffer ? size_max(columns, list[i].rows) : columns;
            columns = list[i].in == buffer ? size_max(columns, list[i].columns) : columns;
        }
    }
    return columns;
}

size_t block_buffer_numbers(const struct model_config *config) {
    return size_max(buffer_columns(config, BUFFER(x)), config->hidden) +
           buffer_columns(config, BUFFER(normed)) + buffer_columns(config, BUFFER(wide)) +
           buffer_columns(config, BUFFER(inner)) + buffer_columns(config, BUFFER(branch));
}

static int lay_out_routes(struct layout *layout, struct device_routes *routes,
                          const struct model_config *config, size_t tokens, struct error *err) {
    if (config->experts.count == 0) {
        return STATUS_OK;
    }
    TRY(layout_take(layout, DEVICE_ACTIVATIONS, tokens, config->experts.chosen, sizeof(int32_t),
                    &routes->experts, err));
    return layout_take(layout, DEVICE_ACTIVATIONS, tokens, config->experts.chosen, sizeof(float),
                       &routes->weights, err);
}

int block_lay_out_buffers(struct layout *layout, struct block_buffers *buffers,
                          const struct model_config *config, size_t tokens, size_t streams,
                          struct error *err) {
    size_t all; // tokens of the residual streams
    const struct {
        size_t offset;
        void **out;
    } pieces[] = {{BUFFER(normed), &buffers->normed},
                  {BUFFER(wide), &buffers->wide},
                  {BUFFER(inner), &buffers->inner},
                  {BUFFER(branch), &buffers->branch}};
    size_t width = dtype_size(device_dtype(layout->shapes_for));
    if (!size_mul(tokens, streams, &all)) {
        return error_set(err, STATUS_INTERNAL, "%zu residual streams of %zu tokens are too many", streams,
                         tokens);
    }
    TRY(layout_take(layout, DEVICE_ACTIVATIONS, all, config->hidden, width, &buffers->x, err));
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t columns = buffer_columns(config, pieces[i].offset);
        if (columns > 0) {
            TRY(layout_take(layout, DEVICE_ACTIVATIONS, tokens, columns, width, pieces[i].out, err));
        }
    }
    return lay_out_routes(layout, &buffers->routes, config, tokens, err);
}

static bool scratch_bytes(const struct device *device, const struct model_config *config, size_t block,
                          size_t tokens, size_t longest, size_t *bytes) {
    struct device_attention shape = block_attention(config, block, longest);
    struct device_experts experts = block_experts(config);
    size_t of_experts = 0;
    bool fits =
        device_attention_scratch(device, &shape, bytes) &&
        (!config_has_experts(config, block) || device_experts_scratch(device, &experts, tokens, &of_experts));
    *bytes = size_max(*bytes, of_experts);
    return fits;
}

int block_lay_out_scratch(struct layout *layout, void **scratch, const struct model_config *config,
                          size_t first, size_t count, size_t tokens, size_t longest, struct error *err) {
    size_t largest = 0;
    for (size_t block = first; block < first + count; block++) {
        size_t bytes;
        if (!scratch_bytes(layout->shapes_for, config, block, tokens, longest, &bytes)) {
            return error_set(err, STATUS_INTERNAL,
                             "attention over %zu tokens, or experts over %zu, need too much memory", longest,
                             tokens);
        }
        largest = size_max(largest, bytes);
    }
    return layout_take(layout, DEVICE_SCRATCH, largest, 1, 1, scratch, err);
}

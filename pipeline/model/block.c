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
    case BLOCK_SWIGLU:
    case BLOCK_STEPS:
        break;
    }
    return BLOCK_KIND_OTHER;
}

// ---- the list of matmuls ----

#define WEIGHT(member) offsetof(struct block_weights, member)
#define BUFFER(member) offsetof(struct block_buffers, member)

// In the order in which they run. Sizes are those of the table of weights.
static const struct block_matmul matmuls[] = {
    {.step = BLOCK_QKV,
     .keys = "'hidden_size' and heads of 'head_dim' times their numbers",
     .store = DEVICE_STORE,
     .matrix = WEIGHT(qkv),
     .bias = WEIGHT(qkv_bias),
     .in = BUFFER(normed),
     .out = BUFFER(wide)},
    {.step = BLOCK_OUTPUT,
     .keys = "'hidden_size' and 'num_attention_heads' times 'head_dim'",
     .store = DEVICE_ADD,
     .matrix = WEIGHT(output),
     .bias = WEIGHT(output_bias),
     .in = BUFFER(inner),
     .out = BUFFER(x)},
    {.step = BLOCK_GATE_UP,
     .keys = "'hidden_size' and twice 'intermediate_size'",
     .store = DEVICE_STORE,
     .matrix = WEIGHT(gate_up),
     .bias = WEIGHT(gate_up_bias),
     .in = BUFFER(normed),
     .out = BUFFER(wide)},
    {.step = BLOCK_DOWN,
     .keys = "'hidden_size' and 'intermediate_size'",
     .store = DEVICE_ADD,
     .matrix = WEIGHT(down),
     .bias = WEIGHT(down_bias),
     .in = BUFFER(inner),
     .out = BUFFER(x)},
};

static const size_t matmul_count = sizeof matmuls / sizeof matmuls[0];
_Static_assert(sizeof matmuls / sizeof matmuls[0] <= BLOCK_MATMULS_MOST, "more matmuls than a list holds");

size_t block_matmuls(const struct model_config *config, size_t block,
                     struct block_matmul out[BLOCK_MATMULS_MOST]) {
    for (size_t i = 0; i < matmul_count; i++) {
        size_t rows;
        size_t columns;
        out[i] = matmuls[i];
        (void)weights_shape(config, block, matmuls[i].matrix, &out[i].rows, &out[i].columns);
        out[i].has_bias = weights_shape(config, block, matmuls[i].bias, &rows, &columns);
    }
    return matmul_count;
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
    double attention =
        2 * (double)config->heads * (double)config->head_dim * (squared_lengths + (double)tokens);
    return 2 * multiply_adds * (double)tokens + attention;
}

// ---- running ----

static int run_matmul(const struct block_pass *pass, const struct block_weights *weights,
                      enum block_step step, struct error *err) {
    for (size_t i = 0; i < matmul_count; i++) {
        if (matmuls[i].step == step) {
            struct block_operands o = block_operands(&matmuls[i], &pass->buffers, weights);
            return device_matmul(pass->device, o.out, o.in, o.matrix, o.bias, pass->tokens, matmuls[i].store,
                                 err);
        }
    }
    return error_set(err, STATUS_INTERNAL, "step %d of a block is not a matmul", (int)step);
}

static int run_norm(const struct block_pass *pass, const void *weight, struct error *err) {
    const struct model_config *config = pass->config;
    return device_norm(pass->device, pass->buffers.normed, pass->buffers.x,
                       &(struct device_norm){.epsilon = (float)config->norm_epsilon, .weight = weight},
                       DEVICE_STORE, pass->tokens, config->hidden, err);
}

// qkv: q | k | v of each token.
static int run_rope(const struct block_pass *pass, const struct block_weights *w, void *qkv,
                    struct device_heads heads, struct error *err) {
    return device_qk_norm_rope(
        pass->device, qkv,
        &(struct device_rope){.q_norm = {.epsilon = (float)pass->config->norm_epsilon, .weight = w->q_norm},
                              .k_norm = {.epsilon = (float)pass->config->norm_epsilon, .weight = w->k_norm},
                              .cosine = pass->cosine,
                              .sine = pass->sine,
                              .row = pass->rope_row,
                              .part = heads.head_dim},
        heads, pass->tokens, err);
}

// Of a slice over the keys and values of the text so far.
static int run_attention(const struct block_pass *pass, const struct device_attention *shape,
                         struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    if (pass->texts.kept != NULL) {
        TRY(device_keep(pass->device, pass->kept, pass->texts.before, b->wide, shape->heads, pass->tokens,
                        err));
    }
    return device_attention(pass->device, b->inner, b->wide, shape, pass->texts, pass->attention_scratch,
                            err);
}

int block_run_step(const struct block_pass *pass, const struct block_weights *weights, size_t block,
                   enum block_step step, struct error *err) {
    const struct block_buffers *b = &pass->buffers;
    struct device_attention shape = block_attention(pass->config, block, pass->longest);
    switch (step) {
    // x += output(attention(rope(qkv(norm(x)))))
    case BLOCK_ATTENTION_NORM:
        return run_norm(pass, weights->input_norm, err);
    case BLOCK_QKV:
        return run_matmul(pass, weights, step, err);
    case BLOCK_ROPE:
        return run_rope(pass, weights, b->wide, shape.heads, err);
    case BLOCK_ATTENTION:
        return run_attention(pass, &shape, err);
    case BLOCK_OUTPUT:
        return run_matmul(pass, weights, step, err);
    // x += down(silu(gate(norm(x))) * up(norm(x)))
    case BLOCK_MLP_NORM:
        return run_norm(pass, weights->post_norm, err);
    case BLOCK_GATE_UP:
        return run_matmul(pass, weights, step, err);
    case BLOCK_SWIGLU:
        return device_activate(pass->device, b->inner, b->wide, DEVICE_SILU, true, pass->tokens,
                               pass->config->intermediate, err);
    case BLOCK_DOWN:
        return run_matmul(pass, weights, step, err);
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
    return (struct device_attention){
        .heads = {config->heads, config->kv_heads, config->head_dim},
        .scale = (float)(1 / __builtin_sqrt((double)config->head_dim)),
        .window = config->layer_slides[block] ? config->window : 0,
        .longest = longest,
    };
}

// Numbers of a token that some matmul writes to the buffer at this offset, or reads there.
static size_t buffer_columns(const struct model_config *config, size_t buffer) {
    size_t columns = 0;
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
    return buffer_columns(config, BUFFER(x)) + buffer_columns(config, BUFFER(normed)) +
           buffer_columns(config, BUFFER(wide)) + buffer_columns(config, BUFFER(inner));
}

int block_lay_out_buffers(struct layout *layout, struct block_buffers *buffers,
                          const struct model_config *config, size_t tokens, size_t streams,
                          struct error *err) {
    size_t all; // tokens of the residual streams
    const struct {
        size_t offset;
        void **out;
    } pieces[] = {{BUFFER(x), &buffers->x},
                  {BUFFER(normed), &buffers->normed},
                  {BUFFER(wide), &buffers->wide},
                  {BUFFER(inner), &buffers->inner}};
    size_t width = dtype_size(device_dtype(layout->shapes_for));
    if (!size_mul(tokens, streams, &all)) {
        return error_set(err, STATUS_INTERNAL, "%zu residual streams of %zu tokens are too many", streams,
                         tokens);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        TRY(layout_take(layout, DEVICE_ACTIVATIONS, pieces[i].out == &buffers->x ? all : tokens,
                        buffer_columns(config, pieces[i].offset), width, pieces[i].out, err));
    }
    return STATUS_OK;
}

int block_lay_out_scratch(struct layout *layout, void **scratch, const struct model_config *config,
                          size_t first, size_t count, size_t longest, struct error *err) {
    size_t largest = 0;
    for (size_t block = first; block < first + count; block++) {
        struct device_attention shape = block_attention(config, block, longest);
        size_t bytes;
        if (!device_attention_scratch(layout->shapes_for, &shape, &bytes)) {
            return error_set(err, STATUS_INTERNAL, "attention over %zu tokens needs too much memory",
                             longest);
        }
        largest = size_max(largest, bytes);
    }
    return layout_take(layout, DEVICE_SCRATCH, largest, 1, 1, scratch, err);
}

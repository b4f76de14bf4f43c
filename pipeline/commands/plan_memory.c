// SPDX-License-Identifier: MIT
#include "commands/plan_memory.h"

#include <inttypes.h>

#include "base/amount.h"
#include "base/size.h"

struct memory {
    struct model_weight_bytes weights;
    uint64_t activations;
    uint64_t keys_and_values; // of the activations: those of one block
};

// Buffers have the same shapes on every device: a processor's are counted.
static int count_activations(struct inputs *inputs, uint64_t *bytes, struct error *err) {
    const struct device_options options = {.dtype = inputs->job.dtype, .threads = 1};
    struct device *device = NULL;
    struct model_limits limits;
    struct model_plan plan;
    TRY(device_open(&device, "cpu", &options, err));
    int status = model_add_device(inputs->model, device, "cpu", err);
    if (status != STATUS_OK) {
        device_close(device);
        return status;
    }
    inputs_model_limits(inputs, &limits);
    limits.tokens = inputs_shape_tokens(1, (size_t)inputs->job.batch_tokens, model_longest_own(&limits));
    limits.texts = size_min(inputs->limits.problems, limits.tokens);
    inputs_set_group(inputs, &limits, 1);
    TRY(model_plan(inputs->model, &limits, &plan, err));
    *bytes = model_plan_bytes(&plan, DEVICE_ACTIVATIONS);
    return STATUS_OK;
}

static int count_memory(struct inputs *inputs, struct memory *memory, struct error *err) {
    const struct model_config *config = model_config_of(inputs->model);
    enum dtype dtype = inputs->job.dtype;
    model_weight_bytes(inputs->model, inputs_blocks(inputs), dtype, &memory->weights);
    // Dimensions, batch.tokens and texts are bounded.
    uint64_t tokens = size_max((size_t)inputs->job.batch_tokens, (size_t)inputs->survey.totals.longest);
    memory->keys_and_values = tokens * config_keys_values(config) * dtype_size(dtype);
    return count_activations(inputs, &memory->activations, err);
}

static void write_row(FILE *out, const char *what, uint64_t held, bool both, uint64_t computed) {
    char text[AMOUNT_TEXT];
    fprintf(out, "  %-21s%12s", what, amount_text((double)held, text));
    if (both) {
        fprintf(out, "%14s", amount_text((double)computed, text));
    }
    fputc('\n', out);
}

int plan_memory_write(FILE *out, struct inputs *inputs, struct error *err) {
    struct memory memory;
    char text[AMOUNT_TEXT];
    TRY(count_memory(inputs, &memory, err));
    const struct model_weight_bytes *weights = &memory.weights;
    bool packed = weights->packed > 0;
    uint64_t rest = weights->computed + memory.activations;
    fprintf(out, "memory        at %" PRId64 " tokens a batch, %s%s%s%s\n", inputs->job.batch_tokens,
            dtype_name(inputs->job.dtype), packed ? "; weights " : "", packed ? inputs->weights.data : "",
            packed ? "; in the last column stored as computed" : "");
    if (packed) {
        write_row(out, "packed weights", weights->packed, true, weights->expanded);
    }
    write_row(out, packed ? "other weights" : "weights", weights->computed, packed, weights->computed);
    if (packed) {
        write_row(out, "room to expand into", weights->largest, true, 0);
    }
    write_row(out, "activations", memory.activations, packed, memory.activations);
    write_row(out, "together", rest + weights->packed + weights->largest, packed, rest + weights->expanded);
    fprintf(out,
            "  keys and values: %s of the activations; only those of one layer live at a time%s, so that "
            "quantising them would save nothing%s\n",
            amount_text((double)memory.keys_and_values, text),
            model_config_of(inputs->model)->key_sharers > 0 ? ", beside the two that later layers share" : "",
            inputs->limits.head_tokens > 0 ? "; those of the head stay (batch.prefix.keep)" : "");
    return STATUS_OK;
}

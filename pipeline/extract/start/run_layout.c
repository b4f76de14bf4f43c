// SPDX-License-Identifier: MIT
#include "start/run_layout.h"

#include <string.h>

#include "start/reuse.h"

static void add(struct run_layout *layout, const char *name, const char *value) {
    layout->attributes[layout->shard.attribute_count++] = (struct shard_attribute){name, value};
}

void run_layout_make(struct run_layout *layout, const struct inputs *inputs, const struct recorded *recorded,
                     const char identity_hash[DIGEST_HEX]) {
    const struct job *job = &inputs->job;
    const struct model_config *config = model_config_of(inputs->model);
    *layout = (struct run_layout){.shard = {.layers = inputs->layers,
                                            .layer_count = inputs->layer_count,
                                            .model_layers = config->layers,
                                            .hidden = config->hidden,
                                            .dtype = job->latents_dtype,
                                            .token_ids = job->token_ids,
                                            .loss_mask = job->loss_mask}};
    memcpy(layout->identity, identity_hash, DIGEST_HEX);
    layout->shard.attributes = layout->attributes;
    add(layout, "model", recorded->model);
    add(layout, "model_type", config->model_type);
    add(layout, "model_fingerprint", model_fingerprint(inputs->model));
    if (inputs->adapter.size > 0) {
        add(layout, "adapter", inputs->adapter.data);
        add(layout, "adapter_fingerprint", model_adapter_fingerprint(inputs->model));
    }
    add(layout, "tokenizer_fingerprint", tokenizer_fingerprint(inputs->tokenizer));
    if (tokenizer_changes_fingerprint(inputs->tokenizer)[0] != 0) {
        add(layout, "tokenizer_changes", tokenizer_changes_fingerprint(inputs->tokenizer));
    }
    add(layout, "problems_sha256", inputs->survey.totals.problems_sha256);
    add(layout, "template", job->text);
    add(layout, "steps",
        job->steps_column != NULL  ? job->steps_column
        : job->steps_spans != NULL ? job->steps_spans
                                   : job->steps_pattern);
    add(layout, "steps_kind",
        job->steps_column != NULL  ? "column"
        : job->steps_spans != NULL ? "spans"
                                   : "pattern");
    add(layout, "pooling", pooling_name(job->pooling));
    add(layout, "compute_dtype", dtype_name(job->dtype));
    if (inputs->weights.size > 0) {
        add(layout, "weights", inputs->weights.data);
    }
    if (job->weights_rounding == JOB_ROUNDING_FLOAT16) {
        add(layout, "weights_rounding", dtype_name(DTYPE_F16));
    }
    if (inputs->limits.head_tokens > 0 && reuse_keeping(inputs) != DEVICE_KEEP_COMPUTED) {
        add(layout, "head_kept_as", reuse_keeping_name(inputs));
    }
    add(layout, "identity", layout->identity);
    if (recorded->warnings.size > 0) {
        add(layout, "warnings", recorded->warnings.data);
    }
}

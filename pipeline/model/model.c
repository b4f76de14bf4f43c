// SPDX-License-Identifier: MIT
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "model/adapter.h"
#include "model/block.h"
#include "model/notes.h"
#include "model/stage.h"
#include "model/streaming.h"

static int read_model(struct model *model, const char *folder, struct error *err) {
    TRY(model_config_read(&model->config, &model->config_text, folder, err));
    TRY(checkpoint_open(&model->checkpoint, folder, &model->config, err));
    int status;
    TRY_TO(named, status = packing_settle(&model->config.quantization, &model->checkpoint, err));
    model->config.weights = weights_table_of(&model->config, &model->checkpoint);
    TRY_TO(named, status = weights_match(&model->match, &model->config, &model->checkpoint, err));
    return notes_write(model, err);
named:
    (void)status;
    return error_wrap(err, "%s", folder);
}

int model_open(struct model **out, const char *folder, struct error *err) {
    void *block;
    *out = NULL;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    int status = read_model(block, folder, err);
    if (status != STATUS_OK) {
        model_close(block);
        return status;
    }
    *out = block;
    return STATUS_OK;
}

int model_set_adapter(struct model *model, const char *folder, struct error *err) {
    TRY(adapter_open(&model->adapter, folder, &model->config, &model->match, err));
    const struct buffer *notes = &model->adapter->notes;
    return buffer_append(&model->checkpoint.notes, notes->data, notes->size, err);
}

const char *model_adapter_fingerprint(const struct model *model) {
    return model->adapter == NULL ? "" : model->adapter->fingerprint;
}

int model_adapter_text(const struct model *model, struct buffer *out, struct error *err) {
    return model->adapter == NULL ? STATUS_OK : adapter_describe(model->adapter, out, err);
}

void model_close(struct model *model) {
    if (model == NULL) {
        return;
    }
    streaming_close(model->streaming);
    for (size_t i = 0; i < model->stage_count; i++) {
        stage_close(&model->stages[i]);
    }
    staging_destroy(&model->staging);
    for (size_t i = 0; model->hashes != NULL && i < model->checkpoint.count; i++) {
        free(model->hashes[i]);
    }
    free(model->hashes);
    free(model->passes);
    free(model->ends);
    free(model->layers);
    adapter_close(model->adapter);
    weights_match_destroy(&model->match);
    buffer_destroy(&model->config_text);
    model_config_destroy(&model->config);
    checkpoint_close(&model->checkpoint);
    free(model);
}

const struct model_config *model_config_of(const struct model *model) {
    return &model->config;
}

uint64_t model_parameters(const struct model *model) {
    static const char *const names[] = {"lm_head.weight", "embed_out.weight",
                                        "language_model.lm_head.weight"};
    bool has_head = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        has_head = has_head || tensors_find(&model->checkpoint.tensors, names[i]) != NULL;
    }
    return weights_count(&model->config, has_head && !model->config.tied_embeddings);
}

uint64_t model_file_bytes(const struct model *model) {
    return checkpoint_bytes(&model->checkpoint);
}

const char *model_notes(const struct model *model) {
    return model->checkpoint.notes.data == NULL ? "" : model->checkpoint.notes.data;
}

const char *model_fingerprint(const struct model *model) {
    return model->fingerprint;
}

int model_fingerprint_files(struct model *model, const struct model_load_options *options,
                            struct error *err) {
    static const struct model_load_options none;
    return load_files(model, false, options == NULL ? &none : options, err);
}

double model_flops(const struct model *model, size_t blocks, size_t tokens, double squared_lengths) {
    double sum = 0;
    for (size_t block = 0; block < blocks; block++) {
        sum += block_flops(&model->config, block, tokens, squared_lengths);
    }
    return sum;
}

// SPDX-License-Identifier: MIT
// Fuzz target: a GGUF header. What is accepted must fill the file's data but for the padding, and answer
// every question about its metadata; a shorter window must be refused alike or ask for more.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "model/gguf_config.h"
#include "model/gguf_names.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

static void demand(bool holds) {
    if (!holds) {
        abort();
    }
}

static void check_tensors(const struct tensors *tensors, size_t size) {
    size_t at = tensors->count == 0 ? size : tensors->entries[0].begin;
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = &tensors->entries[i];
        demand(tensor->name != NULL && tensor->type != NULL && tensor->rank > 0);
        demand(tensor->begin >= at && tensor->end > tensor->begin && tensor->end <= size);
        at = tensor->end;
    }
}

static size_t ask(const struct gguf_metadata *metadata) {
    size_t sum = 0;
    for (size_t i = 0; i < metadata->count; i++) {
        const struct gguf_value *value = &metadata->values[i];
        for (size_t k = 0; k <= value->count; k++) {
            const char *text = NULL;
            size_t length = 0;
            double number = 0;
            int64_t whole = 0;
            bool known = gguf_value_text(value, k, &text, &length) || gguf_value_number(value, k, &number) ||
                         gguf_value_integer(value, k, &whole);
            demand(known == (k < value->count));
            for (size_t c = 0; c < length; c++) {
                demand(text[c] != 0);
            }
            sum += length + (size_t)(number != 0) + (size_t)whole;
        }
        demand(i == 0 || value[-1].key_length > 0);
    }
    return sum;
}

// Tensors and metadata go into the model and come out of it.
static void translate(struct tensors *tensors, struct gguf_metadata *metadata) {
    struct error err = {0};
    struct buffer text = {0};
    struct model_config config;
    const struct tensor *twice;
    struct gguf_model model = {.metadata = *metadata};
    demand(gguf_names_translate(tensors, 0, &err) == STATUS_OK);
    demand(tensors_order(tensors, &twice, &err) == STATUS_OK);
    model.checkpoint.tensors = *tensors;
    if (gguf_config_text(&text, &model, &err) == STATUS_OK) {
        if (model_config_parse(&config, text.data, text.size, "config.json", &err) == STATUS_OK) {
            gguf_names_interleave(tensors, &config);
            model_config_destroy(&config);
        } else {
            demand(err.status == STATUS_DATA && strstr(err.message, "config.json: line") == NULL);
        }
    } else {
        demand(err.status == STATUS_DATA);
    }
    buffer_destroy(&text);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    struct error err = {0};
    struct tensors tensors = {0};
    struct gguf_metadata metadata;
    struct gguf_window window = {data, size, size, "fuzz", 0};
    struct gguf_window half = {data, size / 2, size, "fuzz", 0};
    if (gguf_parse(&metadata, &tensors, 0, &window, &err) == STATUS_OK) {
        fuzz_accepted++;
        check_tensors(&tensors, size);
        (void)ask(&metadata);
        translate(&tensors, &metadata);
    } else {
        demand(err.status == STATUS_DATA && tensors.count == 0 && metadata.count == 0 && window.wanted == 0);
    }
    bool accepted = err.status == STATUS_OK;
    gguf_metadata_destroy(&metadata);
    tensors_truncate(&tensors, 0);
    int status = gguf_parse(&metadata, &tensors, 0, &half, &err);
    demand(status == STATUS_OK ? accepted : half.wanted > half.size || !accepted);
    demand(half.wanted <= size);
    gguf_metadata_destroy(&metadata);
    tensors_destroy(&tensors);
    return 0;
}

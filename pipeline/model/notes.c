// SPDX-License-Identifier: MIT
#include "model/notes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/beside.h"

static bool is_later(const struct model *model, size_t tensor) {
    return beside_later_block(model->checkpoint.tensors.entries[tensor].name, &model->config);
}

// Names what lies beside the blocks, the first few of it.
static int note_beside(struct model *model, struct error *err) {
    enum { SHOWN = 6 };
    struct checkpoint *checkpoint = &model->checkpoint;
    size_t count = 0;
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        if (model->match.uses[i].row == NULL && !is_later(model, i) && count++ < SHOWN) {
            TRY(buffer_printf(&checkpoint->notes, err, "%s%.200s",
                              count == 1 ? "tensors that no hidden state needs are not loaded: " : ", ",
                              checkpoint->tensors.entries[i].name));
        }
    }
    if (count > SHOWN) {
        TRY(buffer_printf(&checkpoint->notes, err, " and %zu more", count - SHOWN));
    }
    return count > 0 ? buffer_printf(&checkpoint->notes, err, "\n") : STATUS_OK;
}

// The number in a name of beside_later_block.
static size_t block_of(const char *name) {
    return (size_t)strtoull(strpbrk(name, "0123456789"), NULL, 10);
}

// Said once for all of them: a wrong number in config.json looks the same.
static int note_later_blocks(struct model *model, struct error *err) {
    struct checkpoint *checkpoint = &model->checkpoint;
    size_t count = 0;
    size_t first = SIZE_MAX;
    size_t last = 0;
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        if (model->match.uses[i].row == NULL && is_later(model, i)) {
            size_t block = block_of(checkpoint->tensors.entries[i].name);
            first = block < first ? block : first;
            last = block > last ? block : last;
            count++;
        }
    }
    if (count == 0) {
        return STATUS_OK;
    }
    char range[64];
    snprintf(range, sizeof range, first == last ? "layer %zu" : "layers %zu to %zu", first, last);
    return buffer_printf(&checkpoint->notes, err,
                         "the weights hold %s (tensors: %zu) behind the %zu blocks that %s counts: they are "
                         "not loaded, as transformers does not load them\n",
                         range, count, model->config.layers, model_config_holder(&model->config));
}

static int note_embedding(struct model *model, struct error *err) {
    const struct tensors *tensors = &model->checkpoint.tensors;
    const struct tensor *head = tensors_find(tensors, MATCH_HEAD);
    return head == NULL || model->match.uses[head - tensors->entries].row == NULL
               ? STATUS_OK
               : buffer_printf(&model->checkpoint.notes, err,
                               "the embedding is read from %s, which it is tied to: the weights hold no "
                               "embed_tokens.weight\n",
                               MATCH_HEAD);
}

// What contradicts the tensors changes nothing: they say how weights are held.
static int note_unpacked(struct model *model, struct error *err) {
    const struct quantization *quantization = &model->config.quantization;
    if (quantization->method == QUANTIZATION_NONE || model_is_packed(model)) {
        return STATUS_OK;
    }
    return buffer_printf(
        &model->checkpoint.notes, err,
        "'quantization_config' says %s, but every weight is there as numbers, which are read\n",
        quantization->name);
}

int notes_write(struct model *model, struct error *err) {
    TRY(note_unpacked(model, err));
    TRY(note_later_blocks(model, err));
    TRY(note_embedding(model, err));
    return note_beside(model, err);
}

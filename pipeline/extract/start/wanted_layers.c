// SPDX-License-Identifier: MIT
#include "start/wanted_layers.h"

#include <stdlib.h>
#include <string.h>

#include "model/layer_names.h"

static const char key[] = "latents.layers";

// wanted NULL: all of transformers' tuple. The caller frees *layers.
static int resolve(const struct model_config *config, char *const *wanted, size_t wanted_count,
                   size_t **layers, size_t *count, struct error *err) {
    size_t room = wanted == NULL ? config->layers + 1 : wanted_count;
    void *block;
    TRY(memory_zeroed(&block, room, sizeof **layers, err));
    *layers = block;
    if (wanted != NULL) {
        return model_resolve_layers(config, (const char *const *)wanted, room, *layers, count, err);
    }
    for (size_t i = 0; i < room; i++) {
        (*layers)[i] = i;
    }
    *count = room;
    return model_check_layer(config, config->layers, err);
}

// What may have been meant by the word that the message is about.
static int add_nearest(const struct inputs *inputs, struct error *err) {
    const struct model_config *config = model_config_of(inputs->model);
    char names[MODEL_LAYER_CANDIDATES][MODEL_LAYER_NAME];
    const char *list[MODEL_LAYER_CANDIDATES];
    size_t layer;
    size_t count;
    struct error ignored;
    for (size_t i = 0; i < inputs->job.layer_count; i++) {
        const char *word = inputs->job.layers[i];
        if (model_resolve_layers(config, &word, 1, &layer, &count, &ignored) == STATUS_OK) {
            continue;
        }
        model_layer_candidates(config, word, names);
        for (size_t k = 0; k < MODEL_LAYER_CANDIDATES; k++) {
            list[k] = names[k];
        }
        const char *nearest = job_nearest(word, list, MODEL_LAYER_CANDIDATES);
        return nearest == NULL ? error_wrap(err, "%s", key)
                               : error_wrap(err, "%s (did you mean '%s'?)", key, nearest);
    }
    return error_wrap(err, "%s", key);
}

// The last block's output under another name: people take hidden_states[-1] for it.
static int note_pre_norm(struct inputs *inputs, struct error *err) {
    const struct model_config *config = model_config_of(inputs->model);
    bool is_last_state = config->no_final_norm && config->embedding_width == 0;
    for (size_t i = 0; i < inputs->job.layer_count; i++) {
        const char *word = inputs->job.layers[i];
        size_t layer;
        size_t count;
        TRY(model_resolve_layers(config, &word, 1, &layer, &count, err));
        bool says_so = strcmp(word, "pre_norm") == 0 && !is_last_state;
        if (layer != config_pre_norm(config) || says_so) {
            continue;
        }
        TRY(buffer_printf(&inputs->notes, err,
                          "%s: %s is the output of block %zu of %zu (pre_norm), which %s\n", key, word,
                          config->layers, config->layers,
                          is_last_state ? "in this model is hidden_states[-1] too: no final norm follows"
                                        : "transformers' hidden_states do not have: the last one (-1) comes "
                                          "after the final norm or projection"));
    }
    return STATUS_OK;
}

int wanted_layers_resolve(struct inputs *inputs, struct error *err) {
    const struct job *job = &inputs->job;
    int status = resolve(model_config_of(inputs->model), job->layers, job->layer_count, &inputs->layers,
                         &inputs->layer_count, err);
    return status == STATUS_OK ? note_pre_norm(inputs, err) : add_nearest(inputs, err);
}

int wanted_layers_text(const struct inputs *inputs, size_t most, const char *between, struct buffer *out,
                       struct error *err) {
    for (size_t i = 0; i < inputs->layer_count && i < most; i++) {
        TRY(buffer_printf(out, err, "%s", i == 0 ? "" : between));
        TRY(model_layer_text(model_config_of(inputs->model), inputs->layers[i], out, err));
    }
    return inputs->layer_count <= most
               ? STATUS_OK
               : buffer_printf(out, err, "%sand %zu more", between, inputs->layer_count - most);
}

// Of "[-2, pre_norm]" or "all", as a job's key is printed. Cuts the text up; *count 0: it is none.
static int resolve_text(const struct model_config *config, char *text, size_t **layers, size_t *count,
                        struct error *err) {
    bool is_all = strcmp(text, "all") == 0;
    size_t words = 0;
    void *block;
    TRY(memory_zeroed(&block, strlen(text) + 1, sizeof(char *), err));
    char **list = block;
    char *rest = text;
    for (char *word; (word = strtok_r(rest, "[], ", &rest)) != NULL;) {
        list[words++] = word;
    }
    int status = words == 0 ? STATUS_JOB : resolve(config, is_all ? NULL : list, words, layers, count, err);
    free(list);
    return status;
}

int wanted_layers_adopt(const struct inputs *inputs, const struct identity *stored, struct identity *now,
                        struct error *err) {
    const char *before = identity_get(stored, key);
    const char *after = identity_get(now, key);
    if (before == NULL || after == NULL || strcmp(before, after) == 0 || inputs->model == NULL) {
        return STATUS_OK;
    }
    size_t *layers = NULL;
    size_t count = 0;
    char *text;
    struct error ignored = {0};
    TRY(memory_text(&text, before, err));
    int status = resolve_text(model_config_of(inputs->model), text, &layers, &count, &ignored);
    bool same = status == STATUS_OK && count == inputs->layer_count &&
                memcmp(layers, inputs->layers, count * sizeof *layers) == 0;
    free(layers);
    free(text);
    return same ? identity_replace(now, key, before, err) : STATUS_OK;
}

// SPDX-License-Identifier: MIT
#include "commands/export_layers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_MOST = 160, DIGITS_MOST = 9 };

// A whole number from 0 on without signs; where it ends, NULL: it is none.
static const char *read_block(const char *text, int64_t *number) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > DIGITS_MOST) {
        return NULL;
    }
    *number = strtoll(text, NULL, 10);
    return text + digits;
}

static bool parse_index(const char *word, struct export_layer *out) {
    char *end;
    errno = 0;
    long long number = strtoll(word, &end, 10);
    *out = (struct export_layer){EXPORT_LAYER_INDEX, number};
    return errno == 0 && end != word && *end == 0 && strchr(" \t+", word[0]) == NULL;
}

// Whether the first `length` of `word` are `name`, or end with it behind a dot.
static bool ends_with(const char *word, size_t length, const char *name) {
    size_t size = strlen(name);
    return length >= size && strncmp(word + length - size, name, size) == 0 &&
           (length == size || word[length - size - 1] == '.');
}

static bool parse_hook(const char *word, struct export_layer *out) {
    static const char blocks[] = "blocks.";
    if (strncmp(word, blocks, sizeof blocks - 1) != 0) {
        return false;
    }
    const char *hook = read_block(word + sizeof blocks - 1, &out->number);
    bool before = hook != NULL && strcmp(hook, ".hook_resid_pre") == 0;
    out->kind = before ? EXPORT_LAYER_BEFORE_BLOCK : EXPORT_LAYER_BEHIND_BLOCK;
    return before || (hook != NULL && strcmp(hook, ".hook_resid_post") == 0);
}

// "model.layers.3", "transformer.h.3", "model.norm": what transformers' families call blocks and the final
// norm.
static bool parse_module(const char *word, struct export_layer *out) {
    static const char *const blocks[] = {"layers.", "h.", "blocks."};
    static const char *const norms[] = {"norm", "ln_f", "final_layer_norm", "norm_f"};
    size_t stem = strcspn(word, "0123456789");
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        if (ends_with(word, stem, blocks[i])) {
            out->kind = EXPORT_LAYER_BEHIND_BLOCK;
            const char *end = read_block(word + stem, &out->number);
            return end != NULL && *end == 0;
        }
    }
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        if (stem == strlen(word) && ends_with(word, stem, norms[i])) {
            *out = (struct export_layer){EXPORT_LAYER_INDEX, -1};
            return true;
        }
    }
    return false;
}

static bool parse_word(const char *word, struct export_layer *out) {
    *out = (struct export_layer){EXPORT_LAYER_PRE_NORM, 0};
    return strcmp(word, "pre_norm") == 0 || parse_index(word, out) || parse_hook(word, out) ||
           parse_module(word, out);
}

int export_layers_parse(const char *text, struct export_layer layers[EXPORT_LAYERS_MOST], size_t *count,
                        struct error *err) {
    *count = 0;
    if (text == NULL || strcmp(text, "all") == 0) {
        return STATUS_OK;
    }
    for (const char *next = text;; next++) {
        char word[WORD_MOST];
        size_t length = strcspn(next, ",");
        bool fits = length < sizeof word && *count < EXPORT_LAYERS_MOST;
        memcpy(word, next, fits ? length : 0);
        word[fits ? length : 0] = 0;
        if (!fits || !parse_word(word, &layers[*count])) {
            return error_set(
                err, STATUS_USAGE,
                "--layers: '%.*s' is no layer: they are whole numbers, pre_norm, or names such as "
                "model.layers.3 and blocks.3.hook_resid_post, with commas between, or 'all'",
                (int)(length < WORD_MOST ? length : WORD_MOST), next);
        }
        ++*count;
        next += length;
        if (*next == 0) {
            return STATUS_OK;
        }
    }
}

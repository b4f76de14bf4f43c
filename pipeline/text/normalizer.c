// SPDX-License-Identifier: MIT
#include "text/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "text/component.h"
#include "text/unicode_tables.h"

static int load_steps(struct normalizer *normalizer, const json_t *json, int depth, struct error *err);

static int load_sequence(struct normalizer *normalizer, const json_t *json, int depth, struct error *err) {
    const json_t *list = NULL;
    TRY(component_list(&list, json, "normalizers", err));
    for (size_t i = 0; i < json_array_size(list); i++) {
        TRY(load_steps(normalizer, json_array_get(list, i), depth + 1, err));
    }
    return STATUS_OK;
}

static int load_replace(struct normalizer_step *step, const json_t *json, struct error *err) {
    step->kind = NORMALIZE_REPLACE;
    TRY(component_keys(json, err, "type", "pattern", "content", NULL));
    TRY(component_text(&step->text, &step->text_size, json, "content", err));
    return component_pattern(&step->pattern, json, err);
}

static int load_prepend(struct normalizer_step *step, const json_t *json, struct error *err) {
    step->kind = NORMALIZE_PREPEND;
    TRY(component_keys(json, err, "type", "prepend", NULL));
    TRY(component_text(&step->text, &step->text_size, json, "prepend", err));
    if (step->text_size == 0) {
        return error_set(err, STATUS_DATA, "prepend: an empty text");
    }
    return STATUS_OK;
}

static int load_step(struct normalizer_step *step, const char *type, const json_t *json, struct error *err) {
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"}; // in the order of enum normal_form
    for (size_t i = 0; i < 4; i++) {
        if (strcmp(type, forms[i]) == 0) {
            step->kind = NORMALIZE_FORM;
            step->form = (enum normal_form)i;
            return component_keys(json, err, "type", NULL);
        }
    }
    if (strcmp(type, "Lowercase") == 0) {
        step->kind = NORMALIZE_LOWERCASE;
        return component_keys(json, err, "type", NULL);
    }
    if (strcmp(type, "Replace") == 0) {
        return load_replace(step, json, err);
    }
    if (strcmp(type, "Prepend") == 0) {
        return load_prepend(step, json, err);
    }
    if (strcmp(type, "Strip") == 0) {
        step->kind = NORMALIZE_STRIP;
        TRY(component_keys(json, err, "type", "strip_left", "strip_right", NULL));
        TRY(json_get_boolean(json, "strip_left", &step->strip_left, err));
        return json_get_boolean(json, "strip_right", &step->strip_right, err);
    }
    return error_set(err, STATUS_DATA, "type '%.100s' is not supported", type);
}

static int load_steps(struct normalizer *normalizer, const json_t *json, int depth, struct error *err) {
    const char *type = NULL;
    TRY(component_type(&type, json, depth, err));
    if (strcmp(type, "Sequence") == 0) {
        return load_sequence(normalizer, json, depth, err);
    }
    if (normalizer->count == NORMALIZER_STEPS) {
        return error_set(err, STATUS_DATA, "more than %d steps", (int)NORMALIZER_STEPS);
    }
    struct normalizer_step *step = &normalizer->steps[normalizer->count++];
    int status = load_step(step, type, json, err);
    return status == STATUS_OK ? status : error_wrap(err, "%.100s", type);
}

int normalizer_load(struct normalizer *normalizer, const json_t *json, struct error *err) {
    *normalizer = (struct normalizer){0};
    int status = json == NULL ? STATUS_OK : load_steps(normalizer, json, 0, err);
    if (status != STATUS_OK) {
        normalizer_destroy(normalizer);
        return error_wrap(err, "normalizer");
    }
    return STATUS_OK;
}

static bool same_step(const struct normalizer_step *a, const struct normalizer_step *b) {
    return a->kind == b->kind && a->form == b->form && a->text_size == b->text_size &&
           (a->text_size == 0 || memcmp(a->text, b->text, a->text_size) == 0) &&
           pattern_same(a->pattern, b->pattern) && a->strip_left == b->strip_left &&
           a->strip_right == b->strip_right;
}

bool normalizer_same(const struct normalizer *a, const struct normalizer *b) {
    bool same = a->count == b->count;
    for (size_t i = 0; i < a->count && same; i++) {
        same = same_step(&a->steps[i], &b->steps[i]);
    }
    return same;
}

void normalizer_destroy(struct normalizer *normalizer) {
    for (size_t i = 0; i < normalizer->count; i++) {
        free(normalizer->steps[i].text);
        pattern_destroy(normalizer->steps[i].pattern);
    }
    *normalizer = (struct normalizer){0};
}

static int apply_prepend(const struct normalizer_step *step, const struct piece *piece,
                         struct aligned_text *out, struct error *err) {
    TRY(aligned_append(out, step->text, step->text_size, piece_span(piece, 0, 1), err));
    return aligned_copy(out, piece, 0, piece->size, err);
}

static int apply_replace(const struct normalizer_step *step, struct normalizer_scratch *scratch,
                         const struct piece *piece, struct aligned_text *out, bool *changed,
                         struct error *err) {
    const char *subject = NULL;
    TRY(pattern_subject(step->pattern, &subject, piece->bytes, piece->size, &scratch->subject, err));
    size_t copied = 0;
    for (;;) {
        bool found = false;
        size_t start = 0;
        size_t end = 0;
        TRY(pattern_find(step->pattern, scratch->patterns, subject, piece->size, copied, &found, &start, &end,
                         err));
        if (!found) {
            break;
        }
        *changed = true;
        TRY(aligned_copy(out, piece, copied, start, err));
        // What is put in takes the span of the last character that it replaces.
        TRY(aligned_append(out, step->text, step->text_size, piece_span(piece, end - 1, end), err));
        copied = end;
    }
    return *changed ? aligned_copy(out, piece, copied, piece->size, err) : STATUS_OK;
}

static int apply_lowercase(const struct piece *piece, struct aligned_text *out, struct error *err) {
    for (size_t at = 0; at < piece->size;) {
        uint32_t code = 0;
        size_t step = utf8_decode(piece->bytes + at, piece->size - at, &code);
        uint32_t lower[2];
        size_t count = unicode_lower(code, lower);
        for (size_t i = 0; i < count; i++) {
            char bytes[4];
            size_t size = utf8_write(lower[i], bytes);
            TRY(aligned_append(out, bytes, size, piece_span(piece, at, at + step), err));
        }
        at += step;
    }
    return STATUS_OK;
}

static int apply_strip(const struct normalizer_step *step, const struct piece *piece,
                       struct aligned_text *out, struct error *err) {
    size_t from = 0;
    size_t to = piece->size;
    uint32_t code = 0;
    while (step->strip_left && from < to) {
        size_t size = utf8_decode(piece->bytes + from, to - from, &code);
        if (!unicode_is_space(code)) {
            break;
        }
        from += size;
    }
    while (step->strip_right && to > from) {
        size_t last = to - 1;
        while (utf8_is_continuation(piece->bytes[last])) {
            last--;
        }
        utf8_decode(piece->bytes + last, to - last, &code);
        if (!unicode_is_space(code)) {
            break;
        }
        to = last;
    }
    return aligned_copy(out, piece, from, to, err);
}

static int apply_step(const struct normalizer_step *step, struct normalizer_scratch *scratch,
                      const struct piece *piece, struct aligned_text *out, bool *changed, struct error *err) {
    *changed = step->kind != NORMALIZE_FORM && step->kind != NORMALIZE_REPLACE;
    switch (step->kind) {
    case NORMALIZE_FORM:
        return normal_form_apply(step->form, &scratch->forms, piece, out, changed, err);
    case NORMALIZE_PREPEND:
        return apply_prepend(step, piece, out, err);
    case NORMALIZE_REPLACE:
        return apply_replace(step, scratch, piece, out, changed, err);
    case NORMALIZE_LOWERCASE:
        return apply_lowercase(piece, out, err);
    case NORMALIZE_STRIP:
        return apply_strip(step, piece, out, err);
    }
    return error_set(err, STATUS_INTERNAL, "a normalizer of no kind");
}

int normalizer_apply(const struct normalizer *normalizer, struct normalizer_scratch *scratch, struct piece in,
                     struct piece *out, struct error *err) {
    *out = in;
    size_t turn = 0;
    for (size_t i = 0; i < normalizer->count && out->size > 0; i++) {
        struct aligned_text *text = &scratch->texts[turn];
        bool changed = false;
        text->size = 0;
        int status = apply_step(&normalizer->steps[i], scratch, out, text, &changed, err);
        if (status != STATUS_OK) {
            return status;
        }
        if (changed) {
            *out = aligned_piece(text);
            turn = 1 - turn;
        }
    }
    return STATUS_OK;
}

void normalizer_scratch_destroy(struct normalizer_scratch *scratch) {
    aligned_destroy(&scratch->texts[0]);
    aligned_destroy(&scratch->texts[1]);
    normal_scratch_destroy(&scratch->forms);
    buffer_destroy(&scratch->subject);
    *scratch = (struct normalizer_scratch){0};
}

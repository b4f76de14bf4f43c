// SPDX-License-Identifier: MIT
#include "text/template.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int add_part(struct template *template, const char *text, size_t size, bool is_column,
                    struct error *err) {
    void *parts = template->parts;
    TRY(memory_resize(&parts, template->count + 1, sizeof *template->parts, err));
    template->parts = parts;
    struct template_part *part = &template->parts[template->count];
    *part = (struct template_part){.size = size, .is_column = is_column};
    void *copy;
    TRY(memory_zeroed(&copy, size + 1, 1, err));
    part->text = copy;
    memcpy(part->text, text, size);
    template->count += 1;
    return STATUS_OK;
}

// Place of a byte in characters, from 1, as an editor counts them.
static size_t place(const char *text, const char *at) {
    size_t characters = 1;
    for (; text < at; text++) {
        characters += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return characters;
}

static int parse_column(struct template *template, const char *text, const char *open, const char **next,
                        struct error *err) {
    size_t length = strcspn(open + 1, "{}");
    if (open[1 + length] != '}') {
        return error_set(err, STATUS_JOB,
                         "template, character %zu: this brace is not closed ('{{' is a brace as text)",
                         place(text, open));
    }
    if (length == 0) {
        return error_set(err, STATUS_JOB, "template, character %zu: {} names no column", place(text, open));
    }
    *next = open + length + 2;
    return add_part(template, open + 1, length, true, err);
}

// A literal up to the next column or the end, with doubled braces made single.
static int parse_literal(struct template *template, const char *text, const char *at, const char **next,
                         struct error *err) {
    struct buffer literal = {0};
    int status;
    while (*at != 0 && (*at != '{' || at[1] == '{')) {
        if (*at == '}' && at[1] != '}') {
            status = error_set(err, STATUS_JOB,
                               "template, character %zu: this brace was not opened ('}}' is a brace as text)",
                               place(text, at));
            goto done;
        }
        TRY_TO(done, status = buffer_append(&literal, at, 1, err));
        at += *at == '{' || *at == '}' ? 2 : 1;
    }
    TRY_TO(done, status = add_part(template, literal.data, literal.size, false, err));
done:
    buffer_destroy(&literal);
    *next = at;
    return status;
}

int template_parse(struct template *template, const char *text, struct error *err) {
    *template = (struct template){0};
    for (const char *at = text; *at != 0;) {
        bool is_column = at[0] == '{' && at[1] != '{';
        int status = (is_column ? parse_column : parse_literal)(template, text, at, &at, err);
        if (status != STATUS_OK) {
            template_destroy(template);
            return status;
        }
    }
    return STATUS_OK;
}

void template_destroy(struct template *template) {
    for (size_t i = 0; i < template->count; i++) {
        free(template->parts[i].text);
    }
    free(template->parts);
    *template = (struct template){0};
}

size_t template_count(const struct template *template, const char *column) {
    size_t count = 0;
    for (size_t i = 0; i < template->count; i++) {
        count += template->parts[i].is_column && strcmp(template->parts[i].text, column) == 0;
    }
    return count;
}

bool template_uses(const struct template *template, const char *column) {
    return template_count(template, column) > 0;
}

int template_render(const struct template *template, struct buffer *out, const char *marked,
                    size_t *marked_at,
                    int (*value)(void *context, const char *name, struct template_value *out,
                                 struct error *err),
                    void *context, struct error *err) {
    bool seen = false;
    if (marked_at != NULL) {
        *marked_at = SIZE_MAX;
    }
    for (size_t i = 0; i < template->count; i++) {
        const struct template_part *part = &template->parts[i];
        struct template_value piece = {.bytes = part->text, .size = part->size};
        if (part->is_column) {
            if (!seen && marked != NULL && strcmp(part->text, marked) == 0) {
                seen = true;
                *marked_at = out->size;
            }
            TRY(value(context, part->text, &piece, err));
        }
        TRY(buffer_append(out, piece.bytes, piece.size, err));
    }
    return STATUS_OK;
}

// SPDX-License-Identifier: MIT
#include "text/pattern.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "text/library.h"
#include "text/pattern_syntax.h"
#include "text/unicode_tables.h"

enum {
    STACK_START = 64 * 1024,
    STACK_LIMIT = 64 * 1024 * 1024,
    MATCH_LIMIT = 100 * 1000 * 1000, // a pattern that backtracks without end is an error, not a hang
    NESTING_LIMIT = 100,
    PATTERN_LIMIT = 64 * 1024, // bytes; those of SentencePiece files list their own words
};

struct pattern {
    pcre2_code *code; // NULL for a literal
    bool compiled;    // to machine code
    bool substitutes; // is matched with stand-ins for some characters
    char *literal;    // or the pattern as it was given
    size_t literal_size;
};

struct pattern_scratch {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static int pattern_create(struct pattern **out, struct error *err) {
    void *block = NULL;
    int status = memory_zeroed(&block, 1, sizeof(struct pattern), err);
    *out = block;
    return status;
}

static int compile_code(struct pattern *pattern, const char *regex, pcre2_compile_context *context,
                        struct error *err) {
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, NESTING_LIMIT);
    pattern->code =
        pcre2_compile((PCRE2_SPTR)regex, strlen(regex), PCRE2_UTF | PCRE2_UCP, &code, &offset, context);
    if (pattern->code == NULL && code == PCRE2_ERROR_HEAP_FAILED) {
        return error_set(err, STATUS_INTERNAL, "out of memory for a pattern");
    }
    if (pattern->code == NULL) {
        PCRE2_UCHAR reason[256] = {0};
        pcre2_get_error_message(code, reason, sizeof(reason));
        return error_set(err, STATUS_DATA, "the pattern is broken: %s", (const char *)reason);
    }
    uint32_t empty = 0;
    pcre2_pattern_info(pattern->code, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty != 0) {
        return error_set(err, STATUS_DATA, "the pattern can match an empty text");
    }
    return library_compile(pattern->code, &pattern->compiled, err);
}

int pattern_compile(struct pattern **out, const char *regex, struct error *err) {
    *out = NULL;
    if (strlen(regex) > PATTERN_LIMIT) {
        return error_set(err, STATUS_DATA, "the pattern is longer than %d bytes", (int)PATTERN_LIMIT);
    }
    struct pattern *pattern = NULL;
    struct buffer translated = {0};
    pcre2_compile_context *context = NULL;
    TRY(pattern_create(&pattern, err));
    int status;
    TRY_TO(done, status = memory_text(&pattern->literal, regex, err));
    pattern->literal_size = strlen(regex);
    TRY_TO(done, status = pattern_translate(&translated, &pattern->substitutes, regex, err));
    context = pcre2_compile_context_create(NULL);
    status = context == NULL
                 ? error_set(err, STATUS_INTERNAL, "no memory for a pattern")
                 : compile_code(pattern, translated.data == NULL ? "" : translated.data, context, err);
done:
    pcre2_compile_context_free(context);
    buffer_destroy(&translated);
    if (status != STATUS_OK) {
        pattern_destroy(pattern);
        return error_wrap(err, "pattern '%.300s'", regex);
    }
    *out = pattern;
    return STATUS_OK;
}

int pattern_literal(struct pattern **out, const char *text, size_t size, struct error *err) {
    *out = NULL;
    if (size == 0) {
        return error_set(err, STATUS_DATA, "an empty text to split on or to replace");
    }
    struct pattern *pattern = NULL;
    void *literal = NULL;
    TRY(pattern_create(&pattern, err));
    int status = memory_zeroed(&literal, size + 1, 1, err);
    if (status != STATUS_OK) {
        free(pattern);
        return status;
    }
    memcpy(literal, text, size);
    pattern->literal = literal;
    pattern->literal_size = size;
    *out = pattern;
    return STATUS_OK;
}

bool pattern_is(const struct pattern *pattern, const char *regex) {
    return pattern != NULL && pattern->code != NULL && strcmp(pattern->literal, regex) == 0;
}

bool pattern_same(const struct pattern *a, const struct pattern *b) {
    if (a == NULL || b == NULL) {
        return a == b;
    }
    return (a->code == NULL) == (b->code == NULL) && a->literal_size == b->literal_size &&
           memcmp(a->literal, b->literal, a->literal_size) == 0;
}

void pattern_destroy(struct pattern *pattern) {
    if (pattern != NULL) {
        pcre2_code_free(pattern->code);
        free(pattern->literal);
        free(pattern);
    }
}

int pattern_scratch_create(struct pattern_scratch **out, struct error *err) {
    void *block = NULL;
    TRY(memory_zeroed(&block, 1, sizeof(struct pattern_scratch), err));
    struct pattern_scratch *scratch = block;
    scratch->data = pcre2_match_data_create(1, NULL);
    scratch->context = pcre2_match_context_create(NULL);
    scratch->stack = pcre2_jit_stack_create(STACK_START, STACK_LIMIT, NULL);
    if (scratch->data == NULL || scratch->context == NULL || scratch->stack == NULL) {
        pattern_scratch_destroy(scratch);
        return error_set(err, STATUS_INTERNAL, "no memory for matching patterns");
    }
    pcre2_set_match_limit(scratch->context, MATCH_LIMIT);
    pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
    *out = scratch;
    return STATUS_OK;
}

void pattern_scratch_destroy(struct pattern_scratch *scratch) {
    if (scratch != NULL) {
        pcre2_match_data_free(scratch->data);
        pcre2_match_context_free(scratch->context);
        pcre2_jit_stack_free(scratch->stack);
        free(scratch);
    }
}

int pattern_subject(const struct pattern *pattern, const char **subject, const char *text, size_t size,
                    struct buffer *copy, struct error *err) {
    *subject = text;
    size_t at = !pattern->substitutes ? size : unicode_find_substitute(text, size, 0);
    if (at == size) {
        return STATUS_OK;
    }
    buffer_clear(copy);
    TRY(buffer_append(copy, text, size, err));
    while (at < size) {
        at += unicode_substitute(copy->data + at, size - at);
        at = unicode_find_substitute(text, size, at);
    }
    *subject = copy->data;
    return STATUS_OK;
}

static bool find_literal(const struct pattern *pattern, const char *subject, size_t size, size_t from,
                         size_t *start, size_t *end) {
    const char *at =
        from > size ? NULL : memmem(subject + from, size - from, pattern->literal, pattern->literal_size);
    if (at == NULL) {
        return false;
    }
    *start = (size_t)(at - subject);
    *end = *start + pattern->literal_size;
    return true;
}

int pattern_find(const struct pattern *pattern, struct pattern_scratch *scratch, const char *subject,
                 size_t size, size_t from, bool *found, size_t *start, size_t *end, struct error *err) {
    if (pattern->code == NULL) {
        *found = find_literal(pattern, subject, size, from, start, end);
        return STATUS_OK;
    }
    // The text was checked to be UTF-8 before it came here.
    int count = pattern->compiled ? pcre2_jit_match(pattern->code, (PCRE2_SPTR)subject, size, from, 0,
                                                    scratch->data, scratch->context)
                                  : pcre2_match(pattern->code, (PCRE2_SPTR)subject, size, from,
                                                PCRE2_NO_UTF_CHECK, scratch->data, scratch->context);
    *found = count >= 0;
    if (count < 0 && count != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR reason[256] = {0};
        pcre2_get_error_message(count, reason, sizeof(reason));
        return error_set(err, count == PCRE2_ERROR_NOMEMORY ? STATUS_INTERNAL : STATUS_DATA,
                         "splitting the text failed at byte %zu: %s", from, (const char *)reason);
    }
    if (*found) {
        const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(scratch->data);
        *start = bounds[0];
        *end = bounds[1];
        if (*end <= *start) {
            return error_set(err, STATUS_DATA, "a pattern matched an empty text at byte %zu", from);
        }
    }
    return STATUS_OK;
}

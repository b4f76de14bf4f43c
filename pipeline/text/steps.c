// SPDX-License-Identifier: MIT
#include "text/steps.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "text/library.h"

int span_list_add(struct span_list *list, size_t start, size_t end, struct error *err) {
    if (end > UINT32_MAX) {
        return error_set(err, STATUS_DATA, "the text is longer than 4 GiB");
    }
    if (list->count == list->capacity) {
        size_t capacity = size_max(list->capacity * 2, 16);
        void *spans = list->spans;
        TRY(memory_resize(&spans, capacity, sizeof *list->spans, err));
        list->spans = spans;
        list->capacity = capacity;
    }
    list->spans[list->count++] = (struct byte_span){.start = (uint32_t)start, .end = (uint32_t)end};
    return STATUS_OK;
}

void span_list_destroy(struct span_list *list) {
    free(list->spans);
    *list = (struct span_list){0};
}

// ---- steps of a column ----

static int append_step(const json_t *step, size_t index, const char *separator, size_t base,
                       struct buffer *joined, struct span_list *spans, struct error *err) {
    if (!json_is_string(step)) {
        return error_set(err, STATUS_DATA, "steps: item %zu of the array is not a text", index + 1);
    }
    TRY(index == 0 ? STATUS_OK : buffer_append(joined, separator, strlen(separator), err));
    size_t start = joined->size - base;
    TRY(buffer_append(joined, json_string_value(step), json_string_length(step), err));
    return span_list_add(spans, start, joined->size - base, err);
}

int steps_from_array(const char *json, size_t size, const char *separator, struct buffer *joined,
                     struct span_list *spans, struct error *err) {
    json_t *array = NULL;
    size_t base = joined->size;
    int status;
    TRY_TO(done, status = json_parse(&array, json, size, "steps", err));
    if (!json_is_array(array)) {
        status = error_set(err, STATUS_DATA, "steps: not a JSON array of texts");
        goto done;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        TRY_TO(done, status = append_step(json_array_get(array, i), i, separator, base, joined, spans, err));
    }
done:
    json_decref(array);
    return status;
}

// ---- steps of a pattern ----

struct step_pattern {
    pcre2_code *code;
};

int step_pattern_compile(struct step_pattern **out, const char *pattern, struct error *err) {
    *out = NULL;
    void *block;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct step_pattern *compiled = block;
    int number;
    PCRE2_SIZE offset;
    // UCP: \s and \d mean Unicode's spaces and digits, as they do in Python's re.
    compiled->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &number,
                                   &offset, NULL);
    if (compiled->code == NULL) {
        PCRE2_UCHAR words[256];
        pcre2_get_error_message(number, words, sizeof words);
        free(compiled);
        return error_set(err, number == PCRE2_ERROR_HEAP_FAILED ? STATUS_INTERNAL : STATUS_JOB,
                         "step pattern, byte %zu: %s", (size_t)offset + 1, (const char *)words);
    }
    bool machine_code;
    int status = library_compile(compiled->code, &machine_code, err);
    if (status != STATUS_OK) {
        step_pattern_destroy(compiled);
        return status;
    }
    *out = compiled;
    return STATUS_OK;
}

void step_pattern_destroy(struct step_pattern *pattern) {
    if (pattern != NULL) {
        pcre2_code_free(pattern->code);
        free(pattern);
    }
}

static size_t next_character(const char *text, size_t size, size_t at) {
    do {
        at++;
    } while (at < size && ((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

// The next match from *from on; *found false when there is none. Moves *from behind the match.
static int find_step(const struct step_pattern *pattern, pcre2_match_data *match, const char *text,
                     size_t size, size_t *from, uint32_t options, size_t *start, bool *found,
                     struct error *err) {
    *found = false;
    if (*from > size) {
        return STATUS_OK;
    }
    int code = pcre2_match(pattern->code, (PCRE2_SPTR)text, size, *from, options, match, NULL);
    if (code == PCRE2_ERROR_NOMATCH) {
        return STATUS_OK;
    }
    if (code < 0) {
        PCRE2_UCHAR words[256];
        pcre2_get_error_message(code, words, sizeof words);
        return error_set(err, code == PCRE2_ERROR_NOMEMORY ? STATUS_INTERNAL : STATUS_DATA,
                         "step pattern: %s", (const char *)words);
    }
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(match);
    *found = true;
    *start = bounds[0];
    // An empty match (a look-ahead, say) would be found again and again.
    *from = size_max(bounds[1], next_character(text, size, bounds[0]));
    return STATUS_OK;
}

int steps_from_pattern(const struct step_pattern *pattern, const char *text, size_t size,
                       struct span_list *spans, struct error *err) {
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (match == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory for a pattern's match");
    }
    size_t before = spans->count;
    size_t from = 0;
    bool found = true;
    int status = STATUS_OK;
    uint32_t options = 0;
    while (found) {
        size_t start = size;
        TRY_TO(done, status = find_step(pattern, match, text, size, &from, options, &start, &found, err));
        options = PCRE2_NO_UTF_CHECK; // the first call has checked the whole text
        // At the end of the text nothing is left to be a step.
        if (found && start < size) {
            if (spans->count > before) {
                spans->spans[spans->count - 1].end = (uint32_t)start;
            }
            TRY_TO(done, status = span_list_add(spans, start, size, err));
        }
    }
    if (spans->count == before) {
        status = span_list_add(spans, 0, size, err);
    }
done:
    pcre2_match_data_free(match);
    return status;
}

// ---- tokens of steps ----

void steps_own_tokens(const struct byte_span *steps, size_t step_count, const int64_t *first,
                      size_t token_count, struct token_span *out) {
    size_t token = 0;
    for (size_t i = 0; i < step_count; i++) {
        while (token < token_count &&
               first[token] < (int64_t)steps[i].start) { // -1, added by the template, too
            token++;
        }
        size_t start = token;
        size_t end = token;
        for (; token < token_count && first[token] < (int64_t)steps[i].end; token++) {
            end = first[token] >= 0 ? token + 1 : end;
        }
        token = end;
        out[i] = (struct token_span){.start = (uint32_t)start, .end = (uint32_t)end};
    }
}

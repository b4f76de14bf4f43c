// SPDX-License-Identifier: MIT
#include "stages/prepare.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/template.h"

static const char STEPS[] = "steps"; // the template's name for the joined steps

struct preparer {
    const struct job *job;
    const struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    struct template template;
    struct step_pattern *pattern; // NULL when steps come from a column or spans
    size_t vocabulary;
    size_t id_column;
    size_t steps_column;  // of texts or spans
    size_t *part_columns; // [template.count] index in the row, for parts that name a column
    size_t *metadata_columns;
    size_t metadata_count;
    struct buffer joined; // steps joined by the separator
    struct buffer text;
    struct buffer metadata;
    struct span_list spans;
    struct buffer roles;      // of spans
    struct token_span *owned; // [owned_capacity]
    size_t owned_capacity;
    struct shard_row *rows; // [row_capacity]
    uint8_t *mask;          // [row_capacity] of tokens, of which there are no more
    size_t row_capacity;
};

// ---- binding ----

static bool uses_step_column(const struct preparer *p) {
    return p->job->steps_column != NULL;
}

static int bind_template(struct preparer *p, const struct source *source, struct error *err) {
    const struct job *job = p->job;
    if (template_parse(&p->template, job->text, err) != STATUS_OK) {
        return error_wrap(err, "problems.text");
    }
    if (uses_step_column(p) && template_count(&p->template, STEPS) != 1) {
        return error_set(
            err, STATUS_JOB,
            "problems.text must hold {steps} exactly once when problems.steps names a column; it is \"%s\"",
            job->text);
    }
    TRY(memory_zeroed(&p->part_columns, p->template.count, sizeof *p->part_columns, err));
    for (size_t i = 0; i < p->template.count; i++) {
        struct template_part *part = &p->template.parts[i];
        bool joined = part->is_column && uses_step_column(p) && strcmp(part->text, STEPS) == 0;
        if (part->is_column && !joined &&
            source_column(source, part->text, &p->part_columns[i], err) != STATUS_OK) {
            return error_wrap(err, "problems.text");
        }
    }
    return STATUS_OK;
}

// Metadata: the columns the job names, or every one that id, text and the texts of steps do not use (spans
// stay: nothing else in a shard has their roles).
static int bind_metadata(struct preparer *p, const struct source *source, struct error *err) {
    const struct job *job = p->job;
    size_t columns = source_column_count(source);
    size_t most = size_max(columns, job->metadata_count);
    TRY(memory_zeroed(&p->metadata_columns, most, sizeof *p->metadata_columns, err));
    if (job->metadata != NULL) {
        for (size_t i = 0; i < job->metadata_count; i++) {
            if (source_column(source, job->metadata[i], &p->metadata_columns[i], err) != STATUS_OK) {
                return error_wrap(err, "problems.metadata");
            }
        }
        p->metadata_count = job->metadata_count;
        return STATUS_OK;
    }
    for (size_t i = 0; i < columns; i++) {
        const char *name = source_column_name(source, i);
        bool used = i == p->id_column || template_uses(&p->template, name) ||
                    (uses_step_column(p) && i == p->steps_column);
        if (!used) {
            p->metadata_columns[p->metadata_count++] = i;
        }
    }
    return STATUS_OK;
}

static int bind(struct preparer *p, const struct source *source, struct error *err) {
    const struct job *job = p->job;
    if (source_column(source, job->id, &p->id_column, err) != STATUS_OK) {
        return error_wrap(err, "problems.id");
    }
    if (uses_step_column(p)) {
        if (source_column(source, job->steps_column, &p->steps_column, err) != STATUS_OK) {
            return error_wrap(err, "problems.steps.column");
        }
    } else if (job->steps_spans != NULL) {
        if (source_column(source, job->steps_spans, &p->steps_column, err) != STATUS_OK) {
            return error_wrap(err, "problems.steps.spans");
        }
    } else if (step_pattern_compile(&p->pattern, job->steps_pattern, err) != STATUS_OK) {
        return error_wrap(err, "problems.steps.pattern");
    }
    TRY(bind_template(p, source, err));
    return bind_metadata(p, source, err);
}

int preparer_create(struct preparer **out, const struct job *job, const struct source *source,
                    const struct tokenizer *tokenizer, size_t vocabulary, struct error *err) {
    struct preparer *p;
    int status;
    *out = NULL;
    TRY(memory_zeroed(&p, 1, sizeof *p, err));
    p->job = job;
    p->tokenizer = tokenizer;
    p->vocabulary = vocabulary;
    TRY_TO(done, status = tokenizer_scratch_create(&p->scratch, tokenizer, err));
    TRY_TO(done, status = bind(p, source, err));
    *out = p;
done:
    if (status != STATUS_OK) {
        preparer_destroy(p);
    }
    return status;
}

void preparer_destroy(struct preparer *p) {
    if (p == NULL) {
        return;
    }
    tokenizer_scratch_destroy(p->scratch);
    template_destroy(&p->template);
    if (p->pattern != NULL) {
        step_pattern_destroy(p->pattern);
    }
    free(p->part_columns);
    free(p->metadata_columns);
    buffer_destroy(&p->joined);
    buffer_destroy(&p->text);
    buffer_destroy(&p->metadata);
    span_list_destroy(&p->spans);
    buffer_destroy(&p->roles);
    free(p->owned);
    free(p->rows);
    free(p->mask);
    free(p);
}

// ---- one problem ----

// Marks the problem as failed; the run goes on.
__attribute__((format(printf, 2, 3))) static int fail(struct prepared *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out->reason, sizeof out->reason, format, arguments);
    va_end(arguments);
    out->state = PROBLEM_FAILED;
    return STATUS_OK;
}

// A status that is one problem's own fault becomes its failure; others rise.
static int absorb(struct prepared *out, int status, const struct error *err) {
    return status == STATUS_DATA ? fail(out, "%.*s", (int)sizeof out->reason - 1, err->message) : status;
}

// NULL when memory ran out; a text was checked to be UTF-8.
static json_t *column_json(const struct source_column *column) {
    json_error_t problem;
    switch (column->type) {
    case COLUMN_INTEGER:
    case COLUMN_REAL: {
        json_t *number = json_loadb(column->bytes, column->size, JSON_DECODE_ANY, &problem);
        bool is_text = number == NULL && !json_lacked_memory(&problem); // "Inf" is no JSON number
        return is_text ? json_stringn(column->bytes, column->size) : number;
    }
    case COLUMN_TEXT:
        return json_stringn(column->bytes, column->size);
    case COLUMN_NULL:
    case COLUMN_BLOB:
        break;
    }
    return json_null();
}

static int append_json(const char *bytes, size_t size, void *context) {
    struct error ignored;
    return buffer_append(context, bytes, size, &ignored) == STATUS_OK ? 0 : -1;
}

static int write_metadata(struct preparer *p, const struct row *row, struct prepared *out,
                          struct error *err) {
    json_t *object = json_object();
    int status = object == NULL ? error_set(err, STATUS_INTERNAL, "out of memory for metadata") : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < p->metadata_count; i++) {
        const struct source_column *column = &row->columns[p->metadata_columns[i]];
        size_t bad;
        if (column->type == COLUMN_TEXT && !utf8_valid(column->bytes, column->size, &bad)) {
            fail(out, "column '%s' is not valid UTF-8", column->name);
            break;
        }
        if (json_object_set_new(object, column->name, column_json(column)) != 0) {
            status = error_set(err, STATUS_INTERNAL, "out of memory for metadata");
        }
    }
    buffer_clear(&p->metadata);
    if (status == STATUS_OK && out->state == PROBLEM_DONE &&
        json_dump_callback(object, append_json, &p->metadata, JSON_COMPACT) != 0) {
        status = error_set(err, STATUS_INTERNAL, "out of memory for metadata");
    }
    json_decref(object);
    out->metadata = p->metadata.data;
    out->metadata_size = p->metadata.size;
    return status;
}

struct render_context {
    struct preparer *preparer;
    const struct row *row;
    size_t part; // parts are asked for in order
};

static int render_value(void *context, const char *name, struct template_value *out, struct error *err) {
    struct render_context *render = context;
    struct preparer *p = render->preparer;
    if (uses_step_column(p) && strcmp(name, STEPS) == 0) {
        *out = (struct template_value){p->joined.data == NULL ? "" : p->joined.data, p->joined.size};
        return STATUS_OK;
    }
    while (!p->template.parts[render->part].is_column ||
           strcmp(p->template.parts[render->part].text, name) != 0) {
        render->part = (render->part + 1) % p->template.count;
    }
    const struct source_column *column = &render->row->columns[p->part_columns[render->part]];
    if (column->type == COLUMN_NULL) {
        return error_set(err, STATUS_DATA, "column '%s' is NULL", name);
    }
    if (column->type == COLUMN_BLOB) {
        return error_set(err, STATUS_DATA, "column '%s' is a blob, not text", name);
    }
    *out = (struct template_value){column->bytes, column->size};
    return STATUS_OK;
}

// Text, and for steps of a column their spans, in p->text and p->spans.
static int render(struct preparer *p, const struct row *row, struct prepared *out, struct error *err) {
    int status = STATUS_OK;
    buffer_clear(&p->joined);
    buffer_clear(&p->text);
    buffer_clear(&p->roles);
    p->spans.count = 0;
    if (uses_step_column(p)) {
        const struct source_column *steps = &row->columns[p->steps_column];
        if (steps->type != COLUMN_TEXT) {
            return fail(out, "column '%s' is not a JSON array of strings", steps->name);
        }
        status =
            steps_from_array(steps->bytes, steps->size, p->job->steps_separator, &p->joined, &p->spans, err);
        if (status != STATUS_OK) {
            return absorb(out, status, err);
        }
    }
    struct render_context context = {p, row, 0};
    size_t marked = SIZE_MAX;
    status = template_render(&p->template, &p->text, STEPS, &marked, render_value, &context, err);
    if (status != STATUS_OK) {
        return absorb(out, status, err);
    }
    if (p->text.size > (size_t)p->job->max_text_bytes) {
        return fail(out, "the text has %zu bytes, more than problems.max_text_bytes %lld", p->text.size,
                    (long long)p->job->max_text_bytes);
    }
    for (size_t i = 0; uses_step_column(p) && i < p->spans.count; i++) {
        p->spans.spans[i].start += (uint32_t)marked;
        p->spans.spans[i].end += (uint32_t)marked;
    }
    return STATUS_OK;
}

static int check_text(struct preparer *p, struct prepared *out) {
    size_t offset;
    if (p->text.size == 0) {
        return fail(out, "the text is empty");
    }
    const char *nul = memchr(p->text.data, 0, p->text.size);
    if (nul != NULL) {
        return fail(out, "byte %zu of the text is NUL", (size_t)(nul - p->text.data));
    }
    if (!utf8_valid(p->text.data, p->text.size, &offset)) {
        return fail(out, "byte %zu of the text is not valid UTF-8", offset);
    }
    return STATUS_OK;
}

// Where the steps of a text are that does not have them from a column.
static int find_steps(struct preparer *p, const struct row *row, struct prepared *out, struct error *err) {
    const struct job *job = p->job;
    int status = STATUS_OK;
    if (job->steps_spans != NULL) {
        const struct source_column *spans = &row->columns[p->steps_column];
        if (spans->type != COLUMN_TEXT) {
            return fail(out, "column '%s' is not a JSON array of spans", spans->name);
        }
        status = steps_from_spans(spans->bytes, spans->size, p->text.data, p->text.size, job->steps_roles,
                                  job->steps_role_count, &p->spans, &p->roles, err);
    } else if (!uses_step_column(p)) {
        status = steps_from_pattern(p->pattern, p->text.data, p->text.size, &p->spans, err);
    }
    return status == STATUS_OK ? STATUS_OK : absorb(out, status, err);
}

static int reserve_rows(struct preparer *p, size_t rows, size_t steps, struct error *err) {
    if (rows > p->row_capacity) {
        void *block = p->rows;
        TRY(memory_resize(&block, rows * 2, sizeof *p->rows, err));
        p->rows = block;
        block = p->mask;
        TRY(memory_resize(&block, rows * 2, sizeof *p->mask, err));
        p->mask = block;
        p->row_capacity = rows * 2;
    }
    if (steps > p->owned_capacity) {
        void *block = p->owned;
        TRY(memory_resize(&block, steps * 2, sizeof *p->owned, err));
        p->owned = block;
        p->owned_capacity = steps * 2;
    }
    return STATUS_OK;
}

static size_t step_rows(struct preparer *p, const struct encoding *encoding) {
    size_t rows = 0;
    for (size_t i = 0; i < p->spans.count; i++) {
        const struct token_span *owned = &p->owned[i];
        if (owned->start == owned->end) {
            continue;
        }
        uint32_t last = owned->end - 1;
        p->rows[rows++] =
            p->job->pooling == POOLING_STEP_MEAN
                ? (struct shard_row){(uint32_t)i, owned->start, owned->end, p->spans.spans[i].start,
                                     p->spans.spans[i].end}
                : (struct shard_row){(uint32_t)i, last, last + 1, encoding->start[last], encoding->end[last]};
    }
    return rows;
}

static void write_mask(struct preparer *p, size_t token_count) {
    memset(p->mask, 0, token_count);
    for (size_t i = 0; i < p->spans.count; i++) {
        memset(p->mask + p->owned[i].start, 1, p->owned[i].end - p->owned[i].start);
    }
}

// The tokens of the text itself, without those that the tokenizer's template puts before and after it.
static struct token_span content_tokens(const struct encoding *encoding) {
    struct token_span span = {0, (uint32_t)encoding->count};
    while (span.start < span.end && encoding->first[span.start] < 0) {
        span.start++;
    }
    while (span.end > span.start && encoding->first[span.end - 1] < 0) {
        span.end--;
    }
    return span;
}

static int32_t doubled_token(const struct encoding *encoding) {
    struct token_span content = content_tokens(encoding);
    bool both = content.start > 0 && content.start < content.end;
    return both && encoding->ids[content.start - 1] == encoding->ids[content.start]
               ? encoding->ids[content.start]
               : -1;
}

static size_t pooled_rows(struct preparer *p, const struct encoding *encoding) {
    struct token_span content = content_tokens(encoding);
    switch (p->job->pooling) {
    case POOLING_STEP_MEAN:
    case POOLING_LAST_OF_STEP:
        return step_rows(p, encoding);
    case POOLING_MEAN:
        p->rows[0] = (struct shard_row){0, content.start, content.end, 0, (uint32_t)p->text.size};
        return content.start < content.end ? 1 : 0;
    case POOLING_LAST:
        if (content.start == content.end) {
            return 0;
        }
        p->rows[0] = (struct shard_row){0, content.end - 1, content.end, encoding->start[content.end - 1],
                                        encoding->end[content.end - 1]};
        return 1;
    case POOLING_TOKENS:
        for (uint32_t t = 0; t < encoding->count; t++) {
            p->rows[t] = (struct shard_row){t, t, t + 1, encoding->start[t], encoding->end[t]};
        }
        return encoding->count;
    }
    return 0;
}

static int encode(struct preparer *p, struct prepared *out, struct error *err) {
    struct encoding encoding;
    int status = tokenizer_encode_truncated(p->tokenizer, p->scratch, p->text.data, p->text.size,
                                            p->job->special_tokens, (size_t)p->job->max_tokens,
                                            &out->truncated, &encoding, err);
    if (status != STATUS_OK) {
        return absorb(out, status, err);
    }
    for (size_t i = 0; i < encoding.count; i++) {
        if (encoding.ids[i] < 0 || (size_t)encoding.ids[i] >= p->vocabulary) {
            return fail(out, "token %zu has id %d, outside the model's vocabulary of %zu", i, encoding.ids[i],
                        p->vocabulary);
        }
    }
    TRY(reserve_rows(p, size_max(size_max(encoding.count, p->spans.count), 1), size_max(p->spans.count, 1),
                     err));
    steps_own_tokens(p->spans.spans, p->spans.count, encoding.first, encoding.count, p->owned);
    if (p->job->loss_mask) {
        write_mask(p, encoding.count);
        out->loss_mask = p->mask;
    }
    out->tokens = encoding.ids;
    out->doubled_token = doubled_token(&encoding);
    out->token_count = encoding.count;
    out->step_count = p->spans.count;
    out->row_count = pooled_rows(p, &encoding);
    if (out->row_count == 0) {
        out->state = PROBLEM_SKIPPED;
        snprintf(out->reason, sizeof out->reason, "%s",
                 out->step_count == 0 ? "the problem has no steps"
                 : out->truncated     ? "no step is left after cutting to problems.max_tokens"
                                      : "no step owns a token");
    }
    return STATUS_OK;
}

int prepare_row(struct preparer *p, const struct row *row, struct prepared *out, struct error *err) {
    const struct source_column *id = &row->columns[p->id_column];
    *out = (struct prepared){
        .ordinal = row->ordinal, .id = id->bytes, .id_size = id->size, .state = PROBLEM_DONE};
    int status;
    TRY_TO(done, status = write_metadata(p, row, out, err));
    if (out->state == PROBLEM_DONE) {
        TRY_TO(done, status = render(p, row, out, err));
    }
    if (out->state == PROBLEM_DONE) {
        TRY_TO(done, status = check_text(p, out));
    }
    if (out->state == PROBLEM_DONE) {
        TRY_TO(done, status = find_steps(p, row, out, err));
    }
    if (out->state == PROBLEM_DONE) {
        TRY_TO(done, status = encode(p, out, err));
    }
done:
    out->text = p->text.data;
    out->text_size = p->text.size;
    out->steps = p->spans.spans;
    out->roles = p->job->steps_spans != NULL ? p->roles.data : NULL;
    out->rows = p->rows;
    return status == STATUS_OK ? STATUS_OK
                               : error_wrap(err, "problem %.*s", (int)size_min(id->size, 100), id->bytes);
}

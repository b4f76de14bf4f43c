// SPDX-License-Identifier: MIT
#include "start/survey.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "stages/window.h"
#include "start/fill.h"

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static void count_problem(struct survey *survey, const struct window_problem *problem) {
    struct ledger_survey *totals = &survey->totals;
    totals->problems++;
    survey->metadata_bytes += problem->id_size + problem->metadata_size;
    if (problem->state != PROBLEM_DONE) {
        survey->failed += problem->state == PROBLEM_FAILED;
        survey->skipped += problem->state == PROBLEM_SKIPPED;
        return;
    }
    double tokens = problem->token_count;
    totals->texts++;
    totals->tokens += problem->token_count;
    totals->rows += problem->row_count;
    totals->squared_lengths += tokens * tokens;
    totals->longest = larger(totals->longest, problem->token_count);
    totals->truncated += problem->truncated;
}

static int keep_number(struct buffer *numbers, uint32_t number, struct error *err) {
    return buffer_append(numbers, &number, sizeof number, err);
}

// A text longer than a batch is computed in slices, each as large as a batch.
static int count_tokens(struct survey *survey, uint64_t tokens, const struct plan_limits *limits,
                        struct error *err) {
    uint64_t shape = fill_shape(limits->tokens, tokens);
    uint64_t shapes = fill_shapes(tokens, shape);
    survey->long_texts += tokens > limits->tokens;
    survey->long_tokens += tokens > limits->tokens ? tokens : 0;
    survey->shapes += shapes;
    survey->largest_tokens =
        larger(survey->largest_tokens, tokens > limits->tokens ? limits->tokens : tokens);
    for (; shapes > 1; shapes--) {
        TRY(keep_number(&survey->batch_tokens, (uint32_t)shape, err));
        tokens -= shape;
    }
    return keep_number(&survey->batch_tokens, (uint32_t)tokens, err);
}

static int count_window(struct survey *survey, const struct window *window, const struct plan_limits *limits,
                        struct error *err) {
    for (size_t i = 0; i < window->count; i++) {
        count_problem(survey, &window->problems[i]);
    }
    for (size_t i = 0; i < window->ready_count && survey->lengths.size < SURVEY_LENGTHS * sizeof(uint32_t);
         i++) {
        TRY(keep_number(&survey->lengths, window->ready_tokens[i], err));
    }
    for (size_t b = 0; b < window->plan.batches; b++) {
        uint64_t tokens = 0;
        uint64_t rows = 0;
        for (size_t i = 0; i < window_batch_size(window, b); i++) {
            const struct window_problem *problem = window_batch_problem(window, b, i);
            tokens += problem->token_count;
            rows += problem->row_count;
        }
        survey->largest_rows = larger(survey->largest_rows, rows);
        TRY(count_tokens(survey, tokens, limits, err));
    }
    survey->totals.batches += window->plan.batches;
    return STATUS_OK;
}

void survey_destroy(struct survey *survey) {
    buffer_destroy(&survey->lengths);
    buffer_destroy(&survey->batch_tokens);
    *survey = (struct survey){0};
}

int survey_make(struct survey *survey, struct source *source, struct preparer *preparer,
                const struct plan_limits *limits, const struct ledger_retry *only,
                bool (*progress)(void *context, uint64_t problems), void *context, struct error *err) {
    struct window_reader reader = {
        .limits = limits, .source = source, .preparer = preparer, .only = only, .markup = &survey->markup};
    struct window window;
    bool end = false;
    int status;
    *survey = (struct survey){0};
    TRY_TO(done, status = window_create(&window, limits, err));
    TRY_TO(done, status = window_reader_open(&reader, err));
    TRY_TO(done, status = digest_create(&reader.digest, err));
    while (!end) {
        TRY_TO(done, status = window_fill(&window, &reader, &end, err));
        TRY_TO(done, status = count_window(survey, &window, limits, err));
        if (progress != NULL && !progress(context, survey->totals.problems)) {
            status = error_set(err, STATUS_STOPPED,
                               "stopped while surveying the problems; run the same command to resume");
            goto done;
        }
    }
    TRY_TO(done, status = digest_finish(reader.digest, survey->totals.problems_sha256, err));
    status = source_rewind(source, err);
done:
    digest_destroy(reader.digest);
    window_reader_close(&reader);
    window_destroy(&window);
    return status;
}

int survey_digest(struct source *source, uint64_t *problems, char hex[DIGEST_HEX], struct error *err) {
    struct digest *digest = NULL;
    struct row row;
    bool found = true;
    int status;
    *problems = 0;
    TRY_TO(done, status = digest_create(&digest, err));
    TRY_TO(done, status = source_next(source, &row, &found, err));
    while (found) {
        (*problems)++;
        TRY_TO(done, status = source_digest_row(digest, &row, err));
        TRY_TO(done, status = source_next(source, &row, &found, err));
    }
    TRY_TO(done, status = digest_finish(digest, hex, err));
    status = source_rewind(source, err);
done:
    digest_destroy(digest);
    return status;
}

static int digest_names(struct digest *digest, const struct source *source, struct error *err) {
    for (size_t i = 0; i < source_column_count(source); i++) {
        const char *name = source_column_name(source, i);
        TRY(digest_field(digest, name, strlen(name), err));
    }
    return STATUS_OK;
}

static int digest_kept(struct digest *digest, const struct row *row, size_t id, bool failed,
                       struct error *err) {
    const struct source_column *name = &row->columns[id];
    TRY(digest_number(digest, row->ordinal, err));
    return failed ? digest_field(digest, name->bytes, name->size, err) : source_digest_row(digest, row, err);
}

int survey_digest_kept(struct source *source, const char *id, const struct ledger_retry *failed,
                       char hex[DIGEST_HEX], struct error *err) {
    struct digest *digest = NULL;
    struct row row;
    size_t column = 0;
    bool found = true;
    int status;
    TRY(source_column(source, id, &column, err));
    TRY(source_rewind(source, err));
    TRY_TO(done, status = digest_create(&digest, err));
    TRY_TO(done, status = digest_names(digest, source, err));
    TRY_TO(done, status = source_next(source, &row, &found, err));
    while (found) {
        bool has_failed = ledger_retry_has(failed, row.ordinal);
        TRY_TO(done, status = digest_kept(digest, &row, column, has_failed, err));
        TRY_TO(done, status = source_next(source, &row, &found, err));
    }
    TRY_TO(done, status = digest_finish(digest, hex, err));
    status = source_rewind(source, err);
done:
    digest_destroy(digest);
    return status;
}

static const char NOTE[] = "survey.rest";

// The last three numbers only where there are long texts: earlier versions had none.
int survey_store(struct ledger *ledger, const struct survey *survey, struct error *err) {
    char text[256];
    int length = snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
                          survey->failed, survey->skipped, survey->largest_tokens, survey->largest_rows,
                          survey->metadata_bytes);
    if (survey->long_texts > 0) {
        snprintf(text + length, sizeof text - (size_t)length, " %" PRIu64 " %" PRIu64 " %" PRIu64,
                 survey->long_texts, survey->long_tokens, survey->shapes);
    }
    return ledger_set_note(ledger, NOTE, text, err);
}

static bool read_rest(struct survey *survey, const char *text) {
    int numbers = sscanf(
        text, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
        &survey->failed, &survey->skipped, &survey->largest_tokens, &survey->largest_rows,
        &survey->metadata_bytes, &survey->long_texts, &survey->long_tokens, &survey->shapes);
    if (numbers == 5) {
        survey->shapes = survey->totals.batches;
    }
    return numbers == 5 || numbers == 8;
}

int survey_load(struct ledger *ledger, struct survey *survey, bool *found, struct error *err) {
    struct buffer text = {0};
    *survey = (struct survey){0};
    int status;
    TRY_TO(done, status = ledger_survey(ledger, &survey->totals, found, err));
    if (*found) {
        TRY_TO(done, status = ledger_note(ledger, NOTE, &text, found, err));
    }
    if (*found && !read_rest(survey, text.data)) {
        status = error_set(err, STATUS_DATA, "the ledger's note '%s' is damaged: \"%s\"", NOTE, text.data);
    }
done:
    buffer_destroy(&text);
    return status;
}

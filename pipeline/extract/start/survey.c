// SPDX-License-Identifier: MIT
#include "start/survey.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
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
    totals->texts++;
    totals->rows += problem->row_count;
    totals->longest = larger(totals->longest, problem->token_count);
    totals->truncated += problem->truncated;
    survey->text_tokens += problem->token_count;
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

static bool reaches_into_head(const struct window *window, const struct window_problem *problem,
                              size_t head_tokens) {
    const struct shard_row *rows = window_rows(window, problem);
    for (size_t i = 0; i < problem->row_count; i++) {
        if (rows[i].token_start < head_tokens) {
            return true;
        }
    }
    return false;
}

static int count_batch(struct survey *survey, const struct window *window, size_t batch,
                       const struct plan_limits *limits, struct error *err) {
    const struct device_origin *origins = window_batch_origins(window, batch);
    uint64_t tokens = 0;
    uint64_t rows = 0;
    for (size_t i = 0; i < window_batch_size(window, batch); i++) {
        const struct window_problem *problem = window_batch_problem(window, batch, i);
        size_t before = origins != NULL ? (size_t)origins[i].before : 0;
        size_t own = problem->token_count - before;
        size_t root = i;
        while (before > 0 && origins[root].parent != DEVICE_HEAD) {
            root = (size_t)origins[root].parent;
        }
        survey->head_rows |=
            before > 0 && origins[root].before > 0 && reaches_into_head(window, problem, limits->head_tokens);
        survey->totals.squared_lengths += (double)own * (double)(own + 2 * before);
        survey->longest_own = larger(survey->longest_own, own);
        tokens += own;
        rows += problem->row_count;
    }
    survey->totals.tokens += tokens;
    survey->largest_rows = larger(survey->largest_rows, rows);
    return count_tokens(survey, tokens, limits, err);
}

// Lengths in the query's order, of what is computed.
static int keep_lengths(struct survey *survey, const struct window *window, struct error *err) {
    size_t kept = survey->lengths.size / sizeof(uint32_t);
    size_t count = size_min(window->ready_count, SURVEY_LENGTHS - kept);
    TRY(buffer_append(&survey->lengths, window->ready_tokens, count * sizeof(uint32_t), err));
    uint32_t *lengths = (uint32_t *)(void *)survey->lengths.data;
    for (size_t i = 0; window->plan.origins != NULL && i < window->ready_count; i++) {
        if (window->plan.order[i] < count) {
            lengths[kept + window->plan.order[i]] -= (uint32_t)window->plan.origins[i].before;
        }
    }
    return STATUS_OK;
}

static int count_window(struct survey *survey, const struct window *window, const struct plan_limits *limits,
                        struct error *err) {
    for (size_t i = 0; i < window->count; i++) {
        count_problem(survey, &window->problems[i]);
    }
    TRY(keep_lengths(survey, window, err));
    for (size_t b = 0; b < window->plan.batches; b++) {
        TRY(count_batch(survey, window, b, limits, err));
    }
    survey->totals.batches += window->plan.batches;
    return STATUS_OK;
}

void survey_destroy(struct survey *survey) {
    buffer_destroy(&survey->head);
    buffer_destroy(&survey->lengths);
    buffer_destroy(&survey->batch_tokens);
    *survey = (struct survey){0};
}

void survey_limit(const struct survey *survey, const struct prefix_wish *wish, struct plan_limits *limits) {
    limits->reuses = survey->reuses;
    limits->least = wish->least;
    limits->shared_most = wish->shared_most;
    limits->head_only = wish->head_only;
    limits->head = (const int32_t *)(const void *)survey->head.data;
    limits->head_tokens = survey->head.size / sizeof *limits->head;
}

// One way through the query.
struct reading {
    struct window_reader reader; // of which `digest` and `markup` are of the first alone
    bool (*progress)(void *context, uint64_t problems);
    void *context;
    struct prefix_survey *prefixes; // NULL, or what follows the texts
};

static int read_windows(struct survey *survey, struct reading *reading, struct error *err) {
    struct window_reader *reader = &reading->reader;
    struct window window = {0};
    bool end = false;
    int status;
    survey->reuses = reader->limits->reuses;
    survey->longest_own = reader->limits->reuses ? reader->limits->head_tokens : 0;
    TRY_TO(done, status = window_create(&window, reader->limits, err));
    TRY_TO(done, status = window_reader_open(reader, err));
    while (!end) {
        TRY_TO(done, status = window_fill(&window, reader, &end, err));
        TRY_TO(done, status = count_window(survey, &window, reader->limits, err));
        if (reading->prefixes != NULL) {
            TRY_TO(done, status = prefix_survey_look(reading->prefixes, &window, err));
        }
        if (reading->progress != NULL && !reading->progress(reading->context, survey->totals.problems)) {
            status = error_set(err, STATUS_STOPPED,
                               "stopped while surveying the problems; run the same command to resume");
            goto done;
        }
    }
    status = source_rewind(reader->source, err);
done:
    window_reader_close(reader);
    window_destroy(&window);
    return status;
}

static int read_first(struct survey *survey, struct reading *reading, struct error *err) {
    struct window_reader *reader = &reading->reader;
    int status;
    reader->markup = &survey->markup;
    TRY_TO(done, status = digest_create(&reader->digest, err));
    TRY_TO(done, status = read_windows(survey, reading, err));
    status = digest_finish(reader->digest, survey->totals.problems_sha256, err);
done:
    digest_destroy(reader->digest);
    reader->digest = NULL;
    reader->markup = NULL;
    return status;
}

static bool saves_enough(const struct survey *survey) {
    uint64_t computed = survey->totals.tokens + survey->head.size / sizeof(int32_t);
    return (double)computed < (1 - PREFIX_WORTHWHILE) * (double)survey->text_tokens;
}

// The survey of texts that go on from what they have in common takes the place of that of whole texts, where
// it saves enough, and its batches do not bring too many rows.
static int count_again(struct survey *survey, struct reading *reading, struct plan_limits *limits,
                       const struct prefix_wish *wish, struct error *err) {
    struct survey whole = *survey;
    bool worthwhile;
    *survey = (struct survey){.reuses = true};
    int status = prefix_survey_end(reading->prefixes, &survey->head, &worthwhile, err);
    reading->prefixes = NULL;
    if (status == STATUS_OK && worthwhile) {
        survey_limit(survey, wish, limits);
        status = read_windows(survey, reading, err);
    }
    bool saves = status == STATUS_OK && worthwhile && saves_enough(survey);
    if (saves && survey->largest_rows > wish->rows_most) {
        whole.rows_beyond = survey->largest_rows;
    }
    if (saves && whole.rows_beyond == 0) {
        memcpy(survey->totals.problems_sha256, whole.totals.problems_sha256, DIGEST_HEX);
        survey->markup = whole.markup;
        survey_destroy(&whole);
    } else {
        survey_destroy(survey);
        *survey = whole;
    }
    return status;
}

int survey_make(struct survey *survey, struct source *source, struct preparer *preparer,
                const struct plan_limits *limits, const struct prefix_wish *wish,
                const struct ledger_retry *only, bool (*progress)(void *context, uint64_t problems),
                void *context, struct error *err) {
    struct plan_limits own = *limits;
    struct prefix_survey prefixes = {0};
    struct reading reading = {.reader = {.source = source, .preparer = preparer, .only = only},
                              .progress = progress,
                              .context = context};
    int status;
    *survey = (struct survey){0};
    reading.reader.limits = &own;
    if (wish == NULL) {
        return read_first(survey, &reading, err);
    }
    own.reuses = false;
    if (!wish->allowed) {
        return read_first(survey, &reading, err);
    }
    reading.prefixes = &prefixes;
    TRY_TO(done, status = prefix_survey_open(&prefixes, &own, wish, err));
    TRY_TO(done, status = read_first(survey, &reading, err));
    status = count_again(survey, &reading, &own, wish, err);
done:
    prefix_survey_close(&prefixes);
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

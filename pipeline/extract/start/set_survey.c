#include "start/set_survey.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

#define LOOK_SECONDS 0.2 // between two looks at a survey that another part makes

enum { BLOCKS_MOST = 65536 };

// ---- reading all rows ----

struct surveying {
    const struct set_survey_options *options;
    struct inputs inputs;
    struct survey_file *out;
    struct digest *block; // the rows of the block at hand
    struct digest *ids;
    bool follows;  // the source tells rowids
    bool ascends;  // they grow from row to row
    int64_t rowid; // of the row before
};

static bool goes_on(void *context, uint64_t problems) {
    const struct surveying *surveying = context;
    const struct set_survey_options *options = surveying->options;
    return options->progress == NULL ||
           options->progress(options->context, problems, source_rows(surveying->inputs.source));
}

static void note_rowid(struct surveying *surveying, const struct row *row, struct row_block *block,
                       bool begins) {
    if (!surveying->follows) {
        return;
    }
    int64_t rowid = source_rowid(surveying->inputs.source);
    surveying->ascends = surveying->ascends && (row->is_first || rowid > surveying->rowid);
    surveying->rowid = rowid;
    if (begins) {
        block->rowid = rowid;
    }
}

static int add_row(void *context, const struct row *row, struct error *err) {
    struct surveying *surveying = context;
    const struct row_blocks *blocks = &surveying->out->blocks;
    uint64_t number = row->ordinal / blocks->per_block;
    bool begins = row->ordinal % blocks->per_block == 0;
    if (number >= blocks->count) {
        return error_set(err, STATUS_DATA, "the query has more rows now than a moment ago");
    }
    note_rowid(surveying, row, &blocks->blocks[number], begins);
    if (begins) {
        TRY(source_digest_names(surveying->block, row, err));
    }
    TRY(source_digest_values(surveying->block, row, err));
    bool ends = row->ordinal + 1 == blocks->rows || (row->ordinal + 1) % blocks->per_block == 0;
    return ends ? digest_finish(surveying->block, blocks->blocks[number].sha256, err) : STATUS_OK;
}

static int add_problem(void *context, const struct window *window, const struct window_problem *problem,
                       struct error *err) {
    struct surveying *surveying = context;
    const struct row_blocks *blocks = &surveying->out->blocks;
    if (problem->state == PROBLEM_DONE) {
        blocks->blocks[problem->ordinal / blocks->per_block].tokens += problem->token_count;
    }
    return digest_field(surveying->ids, window_text(window, problem->id_at), problem->id_size, err);
}

// Through a source of its own, as a part reads them: the rows of one block, or with `blocks` NULL all, whose
// hash is compared.
static bool reads_same(const struct surveying *surveying, const struct row_blocks *blocks, size_t number) {
    const struct job *job = &surveying->inputs.job;
    struct source *source = NULL;
    char hex[DIGEST_HEX] = "";
    uint64_t rows;
    struct error err;
    int status;
    TRY_TO(done, status = source_open(&source, job->database, job->query, surveying->inputs.limit,
                                      &surveying->inputs.watch, &err));
    if (blocks != NULL) {
        uint64_t first = number * blocks->per_block;
        uint64_t end = first + blocks->per_block;
        TRY_TO(done,
               status = source_confine(source, blocks, first, end < blocks->rows ? end : blocks->rows, &err));
    }
    status = survey_digest(source, &rows, hex, &err);
done:
    source_close(source);
    return status == STATUS_OK &&
           (blocks != NULL || strcmp(hex, surveying->inputs.survey.totals.problems_sha256) == 0);
}

// A LIMIT or OFFSET of the query's own does not show in its plan, but in what it gives.
static void settle_entering(struct surveying *surveying) {
    struct row_blocks *blocks = &surveying->out->blocks;
    blocks->enters = surveying->follows && surveying->ascends && blocks->count > 0;
    blocks->enters = blocks->enters && reads_same(surveying, blocks, blocks->count / 2) &&
                     reads_same(surveying, blocks, blocks->count - 1);
    for (size_t i = 0; !blocks->enters && i < blocks->count; i++) {
        blocks->blocks[i].rowid = 0;
    }
}

static int make_blocks(struct row_blocks *blocks, uint64_t rows, struct error *err) {
    free(blocks->blocks);
    *blocks = (struct row_blocks){.rows = rows};
    blocks->per_block = rows <= BLOCKS_MOST ? 1 : (rows + BLOCKS_MOST - 1) / BLOCKS_MOST;
    blocks->count = (size_t)((rows + blocks->per_block - 1) / blocks->per_block);
    return memory_zeroed(&blocks->blocks, blocks->count, sizeof *blocks->blocks, err);
}

static int read_rows(struct surveying *surveying, struct error *err) {
    struct inputs *inputs = &surveying->inputs;
    const struct survey_reading reading = {.source = inputs->source,
                                           .preparer = inputs->preparer,
                                           .limits = &inputs->limits,
                                           .progress = goes_on,
                                           .each_row = add_row,
                                           .each_problem = add_problem,
                                           .context = surveying};
    TRY(make_blocks(&surveying->out->blocks, source_rows(inputs->source), err));
    TRY(digest_create(&surveying->block, err));
    TRY(digest_create(&surveying->ids, err));
    TRY(survey_read(&inputs->survey, &reading, err));
    return digest_finish(surveying->ids, surveying->out->ids_sha256, err);
}

static void forget(struct surveying *surveying) {
    digest_destroy(surveying->block);
    digest_destroy(surveying->ids);
    surveying->block = NULL;
    surveying->ids = NULL;
    inputs_close(&surveying->inputs);
}

static int open_inputs(struct surveying *surveying, struct error *err) {
    const unsigned parts = INPUTS_PROBLEMS | INPUTS_TOKENIZER | INPUTS_MODEL | INPUTS_TEMPLATE;
    TRY(inputs_read_job(&surveying->inputs, &surveying->options->inputs, err));
    return inputs_open(&surveying->inputs, parts, NULL, err);
}

// A query that asks for rowids itself finds none in the view by which it is followed: its rows are then
// others, and it is read as it stands.
static int read_query(struct surveying *surveying, struct error *err) {
    TRY(open_inputs(surveying, err));
    TRY(source_follow(surveying->inputs.source, &surveying->follows, err));
    TRY(read_rows(surveying, err));
    if (surveying->follows && !reads_same(surveying, NULL, 0)) {
        forget(surveying);
        surveying->follows = false;
        TRY(open_inputs(surveying, err));
        TRY(read_rows(surveying, err));
    }
    return surveying->inputs.survey.totals.problems == surveying->out->blocks.rows
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "the query has fewer rows now than a moment ago");
}

static int make(struct surveying *surveying, struct error *err) {
    struct inputs *inputs = &surveying->inputs;
    TRY(read_query(surveying, err));
    TRY(inputs_refuse_nothing(inputs, err));
    settle_entering(surveying);
    surveying->out->totals = inputs->survey.totals;
    survey_write_rest(surveying->out->rest, &inputs->survey);
    return inputs_survey_identity(inputs, &surveying->out->identity, err);
}

static int make_and_write(struct survey_file *survey, const struct set_survey_options *options,
                          const char *path, struct error *err) {
    struct surveying surveying = {.options = options, .out = survey, .ascends = true};
    int status;
    TRY_TO(done, status = make(&surveying, err));
    status = survey_file_write(survey, path, err);
done:
    forget(&surveying);
    return status;
}

// ---- one of many parts makes it ----

static int heed_stop(const struct set_survey_options *options, struct error *err) {
    const struct watch *watch = &options->inputs.watch;
    return watch->stopped != NULL && watch->stopped(watch->context)
               ? error_set(err, STATUS_STOPPED,
                           "stopped while another part surveys the problems; run the same command to resume")
               : STATUS_OK;
}

// Where locks do not work, each part makes it, which costs time alone.
static int take_turn(const struct set_survey_options *options, int *lock, bool *held, struct error *err) {
    char path[PATH_SIZE];
    struct error ignored;
    TRY(path_join(path, sizeof path, options->folder, "survey.lock", err));
    *held = file_lock(path, lock, held, &ignored) != STATUS_OK || *held;
    return STATUS_OK;
}

int set_survey_ensure(struct survey_file *survey, const struct set_survey_options *options, bool *made,
                      struct error *err) {
    char path[PATH_SIZE];
    bool found = false;
    bool held = false;
    int lock = -1;
    int status;
    *survey = (struct survey_file){0};
    TRY(path_join(path, sizeof path, options->folder, RUN_SET_SURVEY, err));
    for (;;) {
        TRY_TO(done, status = survey_file_read(survey, path, &found, err));
        if (found || held) {
            break;
        }
        TRY_TO(done, status = take_turn(options, &lock, &held, err));
        if (!held) {
            TRY_TO(done, status = heed_stop(options, err));
            clock_sleep(LOOK_SECONDS);
        }
    }
    if (!found) {
        status = make_and_write(survey, options, path, err);
    }
done:
    if (made != NULL) {
        *made = status == STATUS_OK && !found;
    }
    if (lock >= 0) {
        close(lock);
    }
    return status;
}

// ---- the survey's job ----

int set_survey_compare(const struct survey_file *survey, const struct inputs *inputs, const char *folder,
                       struct error *err) {
    struct identity now = {0};
    struct buffer lines = {0};
    size_t differences = 0;
    int status;
    TRY_TO(done, status = inputs_survey_identity(inputs, &now, err));
    TRY_TO(done, status = identity_compare(&survey->identity, &now, &lines, &differences, err));
    if (differences > 0) {
        lines.data[lines.size - 1] = 0;
        status =
            error_set_lines(err, STATUS_JOB,
                            "the survey in %s is of another job\n%s\nRestore the job as it was, or choose "
                            "another run.output",
                            folder, lines.data);
    }
done:
    buffer_destroy(&lines);
    identity_destroy(&now);
    return status;
}

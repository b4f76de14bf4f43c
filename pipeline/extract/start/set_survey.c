// SPDX-License-Identifier: MIT
#include "start/set_survey.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "text/template.h"

#define LOOK_SECONDS 0.2 // between two looks at a survey that another part makes

enum { BLOCKS_MOST = 65536, ROWS_BETWEEN_WORDS = 1024 };

// ---- reading all rows ----

struct surveying {
    const struct set_survey_options *options;
    struct inputs inputs; // the job, and its problems
    struct survey_file *out;
    struct template template;
    struct digest *rows; // all
    struct digest *block;
    struct digest *ids;
    size_t id;     // its column
    bool follows;  // the source tells rowids
    bool ascends;  // they grow from row to row
    int64_t rowid; // of the row before
};

static int goes_on(const struct surveying *surveying, uint64_t rows, struct error *err) {
    const struct set_survey_options *options = surveying->options;
    bool asks = options->progress != NULL && rows % ROWS_BETWEEN_WORDS == 0;
    return !asks || options->progress(options->context, rows, surveying->out->blocks.rows)
               ? STATUS_OK
               : error_set(err, STATUS_STOPPED,
                           "stopped while surveying the problems; run the same command to resume");
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

// Of what becomes the text: about as many bytes as there are, which a part has to compute.
static uint64_t count_bytes(const struct surveying *surveying, const struct row *row) {
    const struct job *job = &surveying->inputs.job;
    uint64_t bytes = 0;
    for (size_t i = 0; i < row->column_count; i++) {
        const char *name = row->columns[i].name;
        bool steps = job->steps_column != NULL && strcmp(name, job->steps_column) == 0;
        bytes += steps || template_uses(&surveying->template, name) ? row->columns[i].size : 0;
    }
    return bytes;
}

static int add_row(struct surveying *surveying, const struct row *row, struct error *err) {
    const struct row_blocks *blocks = &surveying->out->blocks;
    const struct source_column *id = &row->columns[surveying->id];
    struct row_block *block = &blocks->blocks[row->ordinal / blocks->per_block];
    bool begins = row->ordinal % blocks->per_block == 0;
    note_rowid(surveying, row, block, begins);
    block->bytes += count_bytes(surveying, row);
    TRY(source_digest_row(surveying->rows, row, err));
    TRY(digest_field(surveying->ids, id->bytes, id->size, err));
    if (begins) {
        TRY(source_digest_names(surveying->block, row, err));
    }
    TRY(source_digest_values(surveying->block, row, err));
    bool ends = row->ordinal + 1 == blocks->rows || (row->ordinal + 1) % blocks->per_block == 0;
    return ends ? digest_finish(surveying->block, block->sha256, err) : STATUS_OK;
}

static int make_blocks(struct surveying *surveying, struct error *err) {
    struct row_blocks *blocks = &surveying->out->blocks;
    uint64_t rows = source_rows(surveying->inputs.source);
    free(blocks->blocks);
    *blocks = (struct row_blocks){.rows = rows};
    blocks->per_block = rows <= BLOCKS_MOST ? 1 : (rows + BLOCKS_MOST - 1) / BLOCKS_MOST;
    blocks->count = (size_t)((rows + blocks->per_block - 1) / blocks->per_block);
    return memory_zeroed(&blocks->blocks, blocks->count, sizeof *blocks->blocks, err);
}

// hex: of all rows. A query that is followed may have other rows than it has by itself: no more than those
// are looked at.
static int read_rows(struct surveying *surveying, char hex[DIGEST_HEX], struct error *err) {
    struct survey_file *out = surveying->out;
    struct row row;
    bool found = true;
    TRY(make_blocks(surveying, err));
    TRY(source_rewind(surveying->inputs.source, err));
    for (uint64_t rows = 0; found && rows < out->blocks.rows; rows++) {
        TRY(goes_on(surveying, rows, err));
        TRY(source_next(surveying->inputs.source, &row, &found, err));
        if (found) {
            TRY(add_row(surveying, &row, err));
        }
    }
    TRY(digest_finish(surveying->rows, hex, err));
    return digest_finish(surveying->ids, out->ids_sha256, err);
}

static int open_problems(struct surveying *surveying, char hex[DIGEST_HEX], struct error *err) {
    struct inputs *inputs = &surveying->inputs;
    const struct job *job = &inputs->job;
    TRY(source_open(&inputs->source, job->database, job->query, inputs->limit, &inputs->watch, err));
    TRY(source_check_ids(inputs->source, job->id, surveying->rows, err));
    TRY(digest_finish(surveying->rows, hex, err));
    TRY(source_column(inputs->source, job->id, &surveying->id, err));
    bool empty = source_rows(inputs->source) == 0;
    return empty && !job->allow_empty ? source_refuse_empty(inputs->source, err) : STATUS_OK;
}

// As it stands, without a view in the place of its table.
static int read_plainly(struct surveying *surveying, char hex[DIGEST_HEX], struct error *err) {
    struct inputs *inputs = &surveying->inputs;
    uint64_t rows = source_rows(inputs->source);
    surveying->follows = false;
    source_close(inputs->source);
    inputs->source = NULL;
    TRY(open_problems(surveying, hex, err));
    TRY(read_rows(surveying, hex, err));
    return source_rows(inputs->source) == rows
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "the query has other rows now than a moment ago");
}

// The first reading looks at the ids, the second one at the blocks. A query that asks for rowids itself finds
// none in the view by which it is followed.
static int read_query(struct surveying *surveying, struct error *err) {
    char plain[DIGEST_HEX];
    char *hex = surveying->out->problems_sha256;
    TRY(open_problems(surveying, plain, err));
    TRY(source_follow(surveying->inputs.source, &surveying->follows, err));
    TRY(read_rows(surveying, hex, err));
    if (surveying->follows && strcmp(plain, hex) != 0) {
        TRY(read_plainly(surveying, hex, err));
    }
    return strcmp(plain, hex) == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "the query has other rows now than a moment ago");
}

// ---- whether parts can enter it ----

// Through a source of its own, as a part reads its rows.
static bool can_enter(const struct surveying *surveying, size_t number) {
    const struct row_blocks *blocks = &surveying->out->blocks;
    const struct inputs *inputs = &surveying->inputs;
    uint64_t first = number * blocks->per_block;
    uint64_t end = first + blocks->per_block < blocks->rows ? first + blocks->per_block : blocks->rows;
    struct source *source = NULL;
    char hex[DIGEST_HEX];
    uint64_t rows;
    struct error err;
    int status;
    TRY_TO(done, status = source_open(&source, inputs->job.database, inputs->job.query, inputs->limit,
                                      &inputs->watch, &err));
    TRY_TO(done, status = source_confine(source, blocks, first, end, &err));
    status = survey_digest(source, &rows, hex, &err);
done:;
    bool can = status == STATUS_OK && source_entered(source);
    source_close(source);
    return can;
}

// A LIMIT or OFFSET of the query's own does not show in its plan, but in what it gives.
static void settle_entering(struct surveying *surveying) {
    struct row_blocks *blocks = &surveying->out->blocks;
    blocks->enters = surveying->follows && surveying->ascends && blocks->count > 0;
    blocks->enters =
        blocks->enters && can_enter(surveying, blocks->count / 2) && can_enter(surveying, blocks->count - 1);
    for (size_t i = 0; !blocks->enters && i < blocks->count; i++) {
        blocks->blocks[i].rowid = 0;
    }
}

// ---- the survey ----

// What the rows and their order depend on.
static int name_job(const struct inputs *inputs, struct identity *identity, struct error *err) {
    TRY(identity_add(identity, "problems.query", inputs->job.query, err));
    TRY(identity_add(identity, "problems.id", inputs->job.id, err));
    return identity_add_number(identity, "problems.limit", (long long)inputs->limit, err);
}

static int make(struct surveying *surveying, struct error *err) {
    struct inputs *inputs = &surveying->inputs;
    TRY(digest_create(&surveying->rows, err));
    TRY(digest_create(&surveying->block, err));
    TRY(digest_create(&surveying->ids, err));
    TRY(inputs_read_job(inputs, &surveying->options->inputs, err));
    TRY(template_parse(&surveying->template, inputs->job.text, err));
    TRY(read_query(surveying, err));
    settle_entering(surveying);
    return name_job(inputs, &surveying->out->identity, err);
}

static void destroy(struct surveying *surveying) {
    digest_destroy(surveying->rows);
    digest_destroy(surveying->block);
    digest_destroy(surveying->ids);
    template_destroy(&surveying->template);
    inputs_close(&surveying->inputs);
}

// A survey that was lost is made again only as it was: parts that have begun are of it.
static int compare_with_parts(struct survey_file *survey, const char *folder, struct error *err) {
    struct run_set_shared shared = {0};
    bool found = false;
    TRY(survey_file_hash(survey, err));
    TRY(run_set_shared(folder, &shared, &found, err));
    const char *of_parts = found ? identity_get(&shared.identity, IDENTITY_PART_SURVEY) : NULL;
    bool same = of_parts == NULL || strcmp(of_parts, survey->sha256) == 0;
    run_set_shared_destroy(&shared);
    return same ? STATUS_OK
                : error_set(err, STATUS_JOB,
                            "the query's rows are not those of the parts in %s that have begun: restore the "
                            "database and the job, or choose another run.output",
                            folder);
}

static int make_and_write(struct survey_file *survey, const struct set_survey_options *options,
                          const char *path, struct error *err) {
    struct surveying surveying = {.options = options, .out = survey, .ascends = true};
    int status;
    TRY_TO(done, status = make(&surveying, err));
    TRY_TO(done, status = compare_with_parts(survey, options->folder, err));
    status = survey_file_write(survey, path, err);
done:
    destroy(&surveying);
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
    TRY_TO(done, status = name_job(inputs, &now, err));
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

// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/printable.h"
#include "base/size.h"
#include "checkpoints/device_trail.h"
#include "checkpoints/layer.h"
#include "checkpoints/ledger.h"
#include "checkpoints/run_folder.h"
#include "checkpoints/run_list.h"
#include "checkpoints/shard_reader.h"
#include "commands/command.h"
#include "model/place.h"
#include "stages/prepare.h"
#include "start/folder_job.h"
#include "start/tokenizer_open.h"

// What is shown, opened.
struct view {
    FILE *out;
    char folder[PATH_SIZE]; // of the run, or of the part that has the problem
    struct run_part part;   // count 0: of a run by itself
    struct ledger *ledger;
    struct ledger_problem problem;
    struct buffer memory;  // the problem's texts
    struct buffer earlier; // reasons of its earlier tries
    size_t earlier_count;
    bool transient; // it failed, and a retry tries it again
    struct shard_reader *reader;
    struct buffer text;  // rendered; empty when it is not available
    struct buffer roles; // of the steps that are spans, each ended by a 0; as the text
    bool pools_steps;    // a row is one of a step
    size_t rows_most;
    size_t values;
    float *stored;  // [hidden] as stored, then
    float *numbers; // [hidden] float32
};

// ---- the rendered text, made again from the database that the job names ----

static int load_tokenizer(struct tokenizer **tokenizer, const struct job *job, struct error *err) {
    char path[PATH_SIZE];
    TRY(model_tokenizer_path(path, job->model_path, job->tokenizer_path, err));
    return tokenizer_open(tokenizer, path, err);
}

static bool same_rows(const struct prepared *prepared, const struct shard_row *rows, size_t row_count) {
    if (rows == NULL) {
        return true;
    }
    if (prepared->state != PROBLEM_DONE || prepared->row_count != row_count) {
        return false;
    }
    for (size_t i = 0; i < row_count; i++) {
        if (prepared->rows[i].byte_start != rows[i].byte_start ||
            prepared->rows[i].byte_end != rows[i].byte_end) {
            return false;
        }
    }
    return true;
}

// The row at the problem's place must still have its id and, when rows are given, render to these spans.
static int render(struct view *view, struct source *source, struct preparer *preparer,
                  const struct shard_row *rows, size_t row_count, struct error *err) {
    const struct ledger_problem *problem = &view->problem;
    struct row row;
    struct prepared prepared;
    bool found = false;
    TRY(source_skip_to(source, problem->ordinal, err));
    TRY(source_next(source, &row, &found, err));
    if (!found) {
        return error_set(err, STATUS_DATA, "the query has fewer rows now");
    }
    TRY(prepare_row(preparer, &row, &prepared, err));
    if (prepared.id_size != problem->id_size || memcmp(prepared.id, problem->id, problem->id_size) != 0 ||
        !same_rows(&prepared, rows, row_count)) {
        return error_set(err, STATUS_DATA, "the database has changed since the run");
    }
    if (prepared.text == NULL) {
        return error_set(err, STATUS_DATA, "it could not be rendered");
    }
    const char *role = prepared.roles;
    for (size_t i = 0; role != NULL && i < prepared.step_count; i++, role += strlen(role) + 1) {
        TRY(buffer_append(&view->roles, role, strlen(role) + 1, err));
    }
    return buffer_append(&view->text, prepared.text, prepared.text_size, err);
}

// STATUS_DATA also when the job, the database or the tokenizer is not there any more.
static int render_text(struct view *view, const struct shard_row *rows, size_t row_count, struct error *err) {
    const struct watch watch = {.patience = 5};
    struct job job = {0};
    struct source *source = NULL;
    struct tokenizer *tokenizer = NULL;
    struct preparer *preparer = NULL;
    int status;
    TRY_TO(done, status = folder_job_read(&job, view->folder, view->ledger, err));
    TRY_TO(done, status = source_open(&source, job.database, job.query, 0, &watch, err));
    TRY_TO(done, status = load_tokenizer(&tokenizer, &job, err));
    TRY_TO(done,
           status = preparer_create(&preparer, &job, source, tokenizer, tokenizer_id_limit(tokenizer), err));
    status = render(view, source, preparer, rows, row_count, err);
done:
    preparer_destroy(preparer);
    tokenizer_destroy(tokenizer);
    source_close(source);
    job_destroy(&job);
    return status;
}

// ---- what is printed ----

// At most `most` bytes of the text, whole characters.
static void print_start(FILE *out, const char *text, size_t size, size_t most) {
    size_t shown = size_min(size, most);
    while (shown < size && shown > 0 && ((unsigned char)text[shown] & 0xc0) == 0x80) {
        shown--;
    }
    printable_write_bytes(out, text, shown);
    if (shown < size) {
        fprintf(out, "... (%zu bytes)", size);
    }
}

// Of a problem that failed, now or before.
static void print_tries(const struct view *view) {
    size_t at = 0;
    for (size_t i = 0; i < view->earlier_count; i++) {
        const char *reason = view->earlier.data + at;
        fprintf(view->out, "  try %-7zu failed, ", i + 1);
        printable_write(view->out, reason);
        fputc('\n', view->out);
        at += strlen(reason) + 1;
    }
    if (view->problem.state == PROBLEM_FAILED) {
        fprintf(view->out, "  try again   %s\n",
                view->transient ? "strata run --retry-failed does"
                                : "only strata run --retry-failed=all does: its row is at fault");
    }
}

static void print_head(const struct view *view) {
    const struct ledger_problem *problem = &view->problem;
    FILE *out = view->out;
    printable_write_bytes(out, problem->id, problem->id_size);
    fprintf(out, ": %s%s", problem_state_name(problem->state), problem->reason == NULL ? "" : ", ");
    printable_write(out, problem->reason == NULL ? "" : problem->reason);
    fputc('\n', out);
    fprintf(out, "  query row   %" PRIu64 "\n", problem->ordinal);
    if (view->part.count > 0) {
        fprintf(out, "  part        %" PRIu64 "/%" PRIu64 "\n", view->part.index, view->part.count);
    }
    print_tries(view);
    if (problem->state == PROBLEM_DONE) {
        fprintf(out, "  shard       %" PRIu64 ", problem %" PRIu32 " in it, batch %" PRIu64 "\n",
                problem->shard, problem->index, problem->batch);
        fprintf(out, "  tokens      %" PRIu32 "%s\n", problem->tokens,
                problem->truncated ? ", truncated" : "");
        fprintf(out, "  steps       %" PRIu32 "; %" PRIu32 " rows\n", problem->steps, problem->rows);
    }
}

// Only of a run that went on with another CPU path: elsewhere there is one for all.
static int print_path(const struct view *view, struct error *err) {
    struct device_trail trail;
    char path[DEVICE_TRAIL_PATH];
    int status;
    TRY_TO(done, status = device_trail_read(&trail, view->ledger, err));
    if (device_trail_changed(&trail)) {
        device_trail_path(device_trail_at(&trail, view->problem.batch)->identity, path);
        fputs("  cpu path    ", view->out);
        printable_write(view->out, path);
        fputs("; the run used others, whose latents may differ in bits\n", view->out);
    }
done:
    device_trail_destroy(&trail);
    return status;
}

static int print_layer(struct view *view, size_t layer, size_t row, struct error *err) {
    const struct shard_content *content = shard_reader_content(view->reader);
    TRY(shard_reader_latents(view->reader, layer, row, 1, view->stored, err));
    dtype_convert(view->numbers, DTYPE_F32, view->stored, content->dtype, content->hidden);
    char name[LAYER_NAME];
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < content->hidden; i++) {
        sum += view->numbers[i];
        squares += (double)view->numbers[i] * view->numbers[i];
    }
    fprintf(view->out, "  %s  norm %.6g  mean %+.6g  [",
            layer_name(name, content->layers[layer], content->model_layers), sqrt(squares),
            sum / (double)content->hidden);
    for (size_t i = 0; i < content->hidden && i < view->values; i++) {
        fprintf(view->out, "%s%+.5g", i == 0 ? "" : " ", (double)view->numbers[i]);
    }
    fputs(content->hidden > view->values ? " ...]\n" : "]\n", view->out);
    return STATUS_OK;
}

// "" when it is not known.
static const char *role_of(const struct view *view, uint32_t step) {
    size_t at = 0;
    for (; step > 0 && at < view->roles.size; step--) {
        at += strlen(view->roles.data + at) + 1;
    }
    return at < view->roles.size ? view->roles.data + at : "";
}

// Of the row's tokens, those that a step owns.
static void print_mask(const struct view *view, const struct shard_problem *stored) {
    size_t owned = 0;
    if (stored->loss_mask == NULL) {
        return;
    }
    for (size_t i = 0; i < stored->token_count; i++) {
        owned += stored->loss_mask[i];
    }
    fprintf(view->out, "  loss mask   %zu of %" PRIu32 " tokens\n", owned, stored->token_count);
}

static int print_row(struct view *view, size_t number, size_t row, struct error *err) {
    const struct shard_content *content = shard_reader_content(view->reader);
    const struct shard_row *span = &content->row[row];
    const char *role = role_of(view, view->pools_steps ? span->step : UINT32_MAX);
    fprintf(view->out, "row %zu: step %" PRIu32 "%s", number, span->step, role[0] == 0 ? "" : " (");
    printable_write(view->out, role);
    fprintf(view->out, "%s, tokens %" PRIu32 " to %" PRIu32 ", bytes %" PRIu32 " to %" PRIu32 "\n",
            role[0] == 0 ? "" : ")", span->token_start, span->token_end, span->byte_start, span->byte_end);
    if (span->byte_end <= view->text.size && span->byte_start < span->byte_end) {
        fputs("  \"", view->out);
        print_start(view->out, view->text.data + span->byte_start, span->byte_end - span->byte_start, 400);
        fputs("\"\n", view->out);
    }
    for (size_t i = 0; i < content->layer_count; i++) {
        TRY(print_layer(view, i, row, err));
    }
    return STATUS_OK;
}

// The text is a courtesy: without the database the numbers are shown all the same.
static int print_text(struct view *view, const struct shard_row *rows, size_t row_count, struct error *err) {
    struct error problem = {0};
    int status = render_text(view, rows, row_count, &problem);
    if (status == STATUS_INTERNAL) {
        *err = problem;
        return status;
    }
    if (status != STATUS_OK) {
        buffer_clear(&view->text);
        buffer_clear(&view->roles);
        fputs("  text        not available: ", view->out);
        printable_write(view->out, problem.message);
        fputc('\n', view->out);
        return STATUS_OK;
    }
    fprintf(view->out, "  text        %zu bytes: \"", view->text.size);
    print_start(view->out, view->text.data, view->text.size, 200);
    fputs("\"\n", view->out);
    return STATUS_OK;
}

static int open_shard(struct view *view, struct error *err) {
    char path[PATH_SIZE];
    void *block;
    TRY(run_folder_shard(path, view->folder, view->problem.shard, false, err));
    TRY(shard_reader_open(&view->reader, path, err));
    const struct shard_content *content = shard_reader_content(view->reader);
    const struct shard_problem *stored = &content->problem[view->problem.index];
    if (view->problem.index >= content->problems || stored->id_size != view->problem.id_size ||
        memcmp(stored->id, view->problem.id, stored->id_size) != 0) {
        return error_set(err, STATUS_DATA,
                         "%s does not hold this problem where the ledger says: run 'strata verify'", path);
    }
    TRY(memory_zeroed(&block, 2 * content->hidden, sizeof(float), err));
    view->stored = block;
    view->numbers = view->stored + content->hidden;
    return STATUS_OK;
}

static int show_done(struct view *view, struct error *err) {
    TRY(open_shard(view, err));
    const struct shard_content *content = shard_reader_content(view->reader);
    const struct shard_problem *stored = &content->problem[view->problem.index];
    size_t first = (size_t)content->row_offset[view->problem.index];
    const char *pooling = shard_reader_attribute(view->reader, "pooling");
    view->pools_steps = pooling != NULL && (strcmp(pooling, pooling_name(POOLING_STEP_MEAN)) == 0 ||
                                            strcmp(pooling, pooling_name(POOLING_LAST_OF_STEP)) == 0);
    print_mask(view, stored);
    fputs("  metadata    ", view->out);
    printable_write_bytes(view->out, stored->metadata, stored->metadata_size);
    fputc('\n', view->out);
    TRY(print_path(view, err));
    TRY(print_text(view, content->row + first, stored->rows, err));
    for (size_t i = 0; i < stored->rows && i < view->rows_most; i++) {
        TRY(print_row(view, i, first + i, err));
    }
    if (stored->rows > view->rows_most) {
        fprintf(view->out, "... %zu more rows (--rows)\n", stored->rows - view->rows_most);
    }
    return STATUS_OK;
}

static int look_up(struct view *view, const char *folder, const char *id, bool *found, struct error *err) {
    TRY(path_join(view->folder, sizeof view->folder, "", folder, err));
    TRY(ledger_open_read(&view->ledger, folder, err));
    return ledger_find_problem(view->ledger, id, strlen(id), &view->problem, &view->memory, found, err);
}

// The part that has the id.
static int look_up_part(struct view *view, const char *folder, const char *id, bool *found,
                        struct error *err) {
    struct run_list list = {0};
    int status;
    TRY_TO(done, status = run_list_open(&list, &folder, 1, err));
    for (size_t i = 0; i < list.count && !*found; i++) {
        if (list.members[i].begun) {
            ledger_close(view->ledger);
            view->ledger = NULL;
            buffer_clear(&view->memory);
            view->part = list.members[i].part;
            TRY_TO(done, status = look_up(view, list.members[i].folder, id, found, err));
        }
    }
done:
    run_list_destroy(&list);
    return status;
}

// The id that is nearest, of as many as are looked at in a moment.
struct nearest {
    const char *id;
    char found[64];
    uint64_t seen;
};

static int compare_id(void *context, const struct ledger_problem *problem) {
    enum { LOOKED_AT = 100000 };
    struct nearest *nearest = context;
    char id[sizeof nearest->found];
    const char *both[] = {nearest->found, id};
    if (problem->id_size < sizeof id) {
        snprintf(id, sizeof id, "%.*s", (int)problem->id_size, problem->id);
        const char *best = job_nearest(nearest->id, both, 2);
        if (best == id) {
            memcpy(nearest->found, id, sizeof id);
        }
    }
    return ++nearest->seen == LOOKED_AT;
}

static int not_found(struct view *view, const char *folder, const char *id, struct error *err) {
    struct nearest nearest = {.id = id};
    struct error ignored;
    error_set(err, STATUS_DATA, "%s has no record of a problem '%s' (not processed yet, or another id)",
              folder, id);
    if (view->ledger != NULL) {
        ledger_each_problem(view->ledger, NULL, compare_id, &nearest, &ignored);
    }
    return nearest.found[0] == 0 ? STATUS_DATA : error_append(err, "; the nearest is '%s'", nearest.found);
}

static int find_problem(struct view *view, const char *folder, const char *id, struct error *err) {
    bool found = false;
    bool is_set = false;
    TRY(run_list_is_set(&folder, 1, &is_set, err));
    TRY(is_set ? look_up_part(view, folder, id, &found, err) : look_up(view, folder, id, &found, err));
    if (!found) {
        return not_found(view, folder, id, err);
    }
    TRY(ledger_earlier_reasons(view->ledger, view->problem.ordinal, &view->earlier, &view->earlier_count,
                               err));
    return ledger_is_transient(view->ledger, view->problem.ordinal, &view->transient, err);
}

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    struct view view = {.out = context->out,
                        .rows_most = (size_t)argument_integer(arguments, "--rows", 20),
                        .values = (size_t)argument_integer(arguments, "--values", 6)};
    int status;
    TRY_TO(done, status = find_problem(&view, argument_text(arguments, "DIR", NULL),
                                       argument_text(arguments, "ID", NULL), err));
    print_head(&view);
    status = view.problem.state == PROBLEM_DONE ? show_done(&view, err) : print_text(&view, NULL, 0, err);
done:
    shard_reader_close(view.reader);
    ledger_close(view.ledger);
    buffer_destroy(&view.memory);
    buffer_destroy(&view.earlier);
    buffer_destroy(&view.text);
    buffer_destroy(&view.roles);
    free(view.stored);
    return status;
}

static const struct operand operands[] = {
    {.name = "DIR", .help = "the run directory, or the folder of a set of parts"},
    {.name = "ID", .help = "the problem's id"},
};

static const struct option options[] = {
    {.name = "--rows",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "show at most N rows (default: 20)",
     .maximum = INT32_MAX},
    {.name = "--values",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "show the first N numbers of each vector (default: 6)",
     .maximum = INT32_MAX},
};

const struct command command_show = {
    .name = "show",
    .summary = "show one problem of a run: state, steps with spans and text, norms of its vectors",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .details = "Spans are [start, end): tokens of the problem, bytes of the rendered text. norm is "
               "Euclidean, mean is over the\n"
               "vector. The text is rendered again from the database; it is left out if the database has "
               "changed or is gone.\n",
    .run = run,
};

#include "extract/writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/size.h"
#include "checkpoints/run_folder.h"
#include "extract/measure.h"
#include "extract/throughput.h"

enum { HEARTBEAT_SECONDS = 2 };

// ---- what the thread tells others
// ---------------------------------------------------------------------------------

void writer_snapshot(struct writer *writer, struct writer_progress *out) {
    pthread_mutex_lock(&writer->lock);
    *out = writer->progress;
    pthread_mutex_unlock(&writer->lock);
}

// Under the lock. What failed may have been a sync, after which nothing more may be acknowledged.
static void distrust_ledger(struct writer *writer, const struct error *err) {
    if (writer->ledger_status == STATUS_OK) {
        writer->ledger_status = err->status;
        writer->ledger_err = *err;
    }
}

static int check_ledger(struct writer *writer, struct error *err) {
    pthread_mutex_lock(&writer->lock);
    int status = writer->ledger_status;
    if (status != STATUS_OK) {
        *err = writer->ledger_err;
    }
    pthread_mutex_unlock(&writer->lock);
    return status;
}

void writer_event(struct writer *writer, enum log_level level, const char *kind, const char *text) {
    struct error err;
    log_write(writer->options.log, level, "%s: %s", kind, text);
    pthread_mutex_lock(&writer->lock);
    if (ledger_event(writer->options.ledger, kind, text, &err) != STATUS_OK) {
        distrust_ledger(writer, &err);
    }
    pthread_mutex_unlock(&writer->lock);
}

// Under the lock.
static int heartbeat(struct writer *writer, struct error *err) {
    struct ledger_progress *live = &writer->live;
    live->updated = clock_unix();
    live->batches = writer->progress.batches;
    live->problems = writer->progress.problems;
    live->tokens = writer->progress.tokens;
    live->rows = writer->progress.rows;
    live->seconds = writer->progress.compute_seconds;
    live->memory_bytes = measure_memory();
    writer->last_heartbeat = clock_seconds();
    return ledger_set_progress(writer->options.ledger, live, err);
}

void writer_live(struct writer *writer, const char *stage, const char *drift, double score, double rate,
                 bool now) {
    struct error err;
    pthread_mutex_lock(&writer->lock);
    if (stage != NULL) {
        snprintf(writer->live.stage, sizeof writer->live.stage, "%s", stage);
    }
    if (drift != NULL) {
        snprintf(writer->live.drift, sizeof writer->live.drift, "%s", drift);
    }
    writer->live.score = score;
    writer->live.tokens_per_second = rate;
    if (now && heartbeat(writer, &err) != STATUS_OK) {
        distrust_ledger(writer, &err);
    }
    pthread_mutex_unlock(&writer->lock);
}

// ---- one batch
// ----------------------------------------------------------------------------------------------------

static struct ledger_problem describe(const struct window *window, const struct window_problem *problem) {
    return (struct ledger_problem){
        .ordinal = problem->ordinal,
        .id = window_text(window, problem->id_at),
        .id_size = problem->id_size,
        .state = problem->state,
        .reason = problem->state == PROBLEM_DONE ? NULL : window_text(window, problem->reason_at),
        .batch = UINT64_MAX,
        .tokens = problem->token_count,
        .rows = problem->state == PROBLEM_DONE ? problem->row_count : 0,
        .steps = problem->step_count,
        .truncated = problem->truncated,
        .shard = UINT64_MAX};
}

// Failed and skipped problems of a window go with its first batch.
static int add_window_outcomes(struct writer *writer, const struct window *window, struct error *err) {
    for (size_t i = 0; i < window->count; i++) {
        if (window->problems[i].state != PROBLEM_DONE) {
            struct ledger_problem problem = describe(window, &window->problems[i]);
            int status = outcomes_add(&writer->outcomes, &problem, err);
            if (status != STATUS_OK) {
                return status;
            }
            pthread_mutex_lock(&writer->lock);
            writer->progress.problems++;
            writer->progress.failed += problem.state == PROBLEM_FAILED;
            pthread_mutex_unlock(&writer->lock);
        }
    }
    return STATUS_OK;
}

// The first layer and row of a problem with a number that is not finite; false when all are fine.
static bool find_not_finite(const struct writer *writer, const struct model_output *output, size_t row,
                            size_t rows, char *reason, size_t size) {
    const struct shard_layout *layout = writer->options.layout;
    for (size_t l = 0; l < layout->layer_count; l++) {
        for (size_t r = row; r < row + rows; r++) {
            uint32_t count = output->checks[l][r].not_finite;
            if (count > 0) {
                snprintf(reason, size,
                         "hidden_states[%zu] has %" PRIu32 " values that are NaN or infinite in row %zu",
                         layout->layers[l], count, r - row);
                return true;
            }
        }
    }
    return false;
}

static uint64_t count_overflows(const struct writer *writer, const struct model_output *output, size_t rows) {
    uint64_t count = 0;
    for (size_t l = 0; l < writer->options.layout->layer_count; l++) {
        for (size_t r = 0; r < rows; r++) {
            count += output->checks[l][r].overflowed;
        }
    }
    return count;
}

// Chooses the problems that go into the shard (writer->problems, writer->rows) and notes the outcome of all
// of them.
static int select_problems(struct writer *writer, const struct work *work, const struct model_output *output,
                           struct shard_batch *batch, bool *failures, struct error *err) {
    size_t row = 0;
    *failures = false;
    *batch = (struct shard_batch){.number = work->number, .problems = writer->problems, .rows = writer->rows};
    for (size_t i = 0; i < work->texts; i++) {
        const struct window_problem *problem = window_batch_problem(work->window, work->batch, i);
        struct ledger_problem outcome = describe(work->window, problem);
        char reason[256];
        outcome.batch = work->number;
        writer->bad[i] = find_not_finite(writer, output, row, problem->row_count, reason, sizeof reason);
        if (writer->bad[i]) {
            *failures = true;
            outcome.state = PROBLEM_FAILED;
            outcome.reason = reason;
            outcome.rows = 0;
        } else {
            outcome.shard = writer->position.shards;
            outcome.index = (uint32_t)(writer->open_problems + batch->problem_count);
            writer->problems[batch->problem_count++] =
                (struct shard_problem){.id = outcome.id,
                                       .id_size = outcome.id_size,
                                       .metadata = window_text(work->window, problem->metadata_at),
                                       .metadata_size = problem->metadata_size,
                                       .ordinal = problem->ordinal,
                                       .token_count = problem->token_count,
                                       .truncated = problem->truncated,
                                       .step_count = problem->step_count,
                                       .rows = problem->row_count,
                                       .tokens = window_tokens(work->window, problem)};
            memcpy(writer->rows + batch->row_count, window_rows(work->window, problem),
                   problem->row_count * sizeof *writer->rows);
            batch->row_count += problem->row_count;
        }
        row += problem->row_count;
        int status = outcomes_add(&writer->outcomes, &outcome, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

// Copies the rows of the problems that stay to the front.
static void compact(struct writer *writer, const struct work *work, const struct model_output *output) {
    const struct shard_layout *layout = writer->options.layout;
    size_t row_bytes = layout->hidden * dtype_size(layout->dtype);
    for (size_t l = 0; l < layout->layer_count; l++) {
        size_t from = 0;
        size_t to = 0;
        for (size_t i = 0; i < work->texts; i++) {
            size_t rows = window_batch_problem(work->window, work->batch, i)->row_count;
            if (!writer->bad[i]) {
                memcpy((char *)writer->compacted[l] + to * row_bytes,
                       (const char *)output->rows[l] + from * row_bytes, rows * row_bytes);
                to += rows;
            }
            from += rows;
        }
        writer->latents[l] = writer->compacted[l];
    }
}

static int append(struct writer *writer, const struct work *work, uint64_t *overflowed, struct error *err) {
    struct model_output output;
    struct shard_batch batch;
    bool failures;
    model_outputs(writer->options.model, work->slot, &output);
    int status = select_problems(writer, work, &output, &batch, &failures, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (failures) {
        compact(writer, work, &output);
    } else {
        memcpy(writer->latents, output.rows, writer->options.layout->layer_count * sizeof *writer->latents);
    }
    *overflowed = count_overflows(writer, &output, work->rows);
    batch.latents = writer->latents;
    status = shard_append(writer->shard, &batch, err);
    if (status != STATUS_OK) {
        return error_wrap(err, "batch %" PRIu64, work->number);
    }
    writer->open_problems += batch.problem_count;
    return STATUS_OK;
}

// A batch whose latents were restored with a partial shard: only its outcomes are missing.
static int restore(struct writer *writer, const struct work *work, struct error *err) {
    for (size_t i = 0; i < work->texts; i++) {
        const struct window_problem *problem = window_batch_problem(work->window, work->batch, i);
        struct ledger_problem outcome = describe(work->window, problem);
        outcome.batch = work->number;
        outcome.shard = writer->position.shards;
        for (size_t f = 0; f < writer->replay_failure_count; f++) {
            if (writer->replay_failures[f].ordinal == problem->ordinal) {
                outcome.state = PROBLEM_FAILED;
                outcome.reason = writer->replay_failures[f].reason;
                outcome.rows = 0;
                outcome.shard = UINT64_MAX;
            }
        }
        if (outcome.state == PROBLEM_DONE) {
            outcome.index = (uint32_t)writer->open_problems++;
        }
        int status = outcomes_add(&writer->outcomes, &outcome, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static void count_work(struct writer *writer, const struct work *work, bool computed) {
    pthread_mutex_lock(&writer->lock);
    struct writer_progress *progress = &writer->progress;
    progress->batches++;
    progress->problems += work->texts;
    progress->tokens += work->tokens;
    progress->rows += work->rows;
    if (computed) {
        progress->launch_tokens += work->tokens;
        progress->compute_seconds += work->compute_seconds;
    }
    pthread_mutex_unlock(&writer->lock);
}

// ---- checkpoints
// --------------------------------------------------------------------------------------------------

static int watch_disk(struct writer *writer, struct error *err) {
    uint64_t space;
    int status = file_space(writer->options.folder, &space, err);
    if (status == STATUS_OK && space < writer->options.disk_reserve) {
        return error_set(err, STATUS_WRITE,
                         "only %.2f GB are left on the disk of %s, less than run.disk_reserve_gb %.2f GB",
                         (double)space * 1e-9, writer->options.folder,
                         (double)writer->options.disk_reserve * 1e-9);
    }
    return status;
}

// The partial file of the shard just acknowledged is of no more use.
static int remove_partial(struct writer *writer, struct error *err) {
    char path[PATH_SIZE];
    writer->kept_batches = 0;
    int status = run_folder_shard(path, writer->options.folder, writer->position.shards - 1, true, err);
    return status == STATUS_OK ? file_remove(path, err) : status;
}

// Seals the open shard and acknowledges it with its problems in one transaction.
static int checkpoint(struct writer *writer, bool finished, struct error *err) {
    struct shard_sealed sealed;
    bool durable;
    bool has_shard = writer->open_batches > 0;
    int status = has_shard ? shard_seal(writer->shard, false, &sealed, err) : STATUS_OK;
    if (status != STATUS_OK) {
        return status;
    }
    writer->position.shards += has_shard;
    struct ledger_commit commit = {.shard = has_shard ? &sealed : NULL,
                                   .position = writer->position,
                                   .problems = outcomes_resolve(&writer->outcomes),
                                   .problem_count = writer->outcomes.count,
                                   .batches = writer->outcomes.batches,
                                   .batch_count = writer->outcomes.batch_count,
                                   .finished = finished};
    pthread_mutex_lock(&writer->lock);
    status = ledger_commit(writer->options.ledger, &commit, &durable, err);
    if (status == STATUS_OK) {
        writer->progress.sealed_shards += has_shard;
        status = heartbeat(writer, err);
    }
    pthread_mutex_unlock(&writer->lock);
    outcomes_clear(&writer->outcomes);
    writer->open_batches = 0;
    writer->open_problems = 0;
    if (status == STATUS_OK && writer->kept_batches > 0) {
        status = remove_partial(writer, err);
    }
    if (status == STATUS_OK && has_shard) {
        log_write(writer->options.log, LOG_LEVEL_INFO,
                  "sealed %s: %" PRIu64 " problems, %" PRIu64 " rows, %" PRIu64 " bytes", sealed.name,
                  sealed.problems, sealed.rows, sealed.bytes);
    }
    return status;
}

// A clean stop: keeps the open shard's batches as a partial file, which the next launch restores.
static int keep_partial(struct writer *writer, struct error *err) {
    struct shard_sealed sealed;
    struct buffer record = {0};
    if (writer->open_batches == writer->kept_batches) {
        return STATUS_OK; // nothing new: the partial file that was restored still says it all
    }
    int status = shard_seal(writer->shard, true, &sealed, err);
    if (status == STATUS_OK) {
        status = outcomes_write_record(&writer->outcomes, &record, err);
    }
    if (status == STATUS_OK) {
        struct ledger_partial partial = {.shard = writer->position.shards,
                                         .batches = writer->open_batches,
                                         .record = record.data,
                                         .record_size = record.size};
        memcpy(partial.name, sealed.name, sizeof partial.name);
        memcpy(partial.sha256, sealed.sha256, sizeof partial.sha256);
        pthread_mutex_lock(&writer->lock);
        status = ledger_set_partial(writer->options.ledger, &partial, err);
        pthread_mutex_unlock(&writer->lock);
    }
    buffer_destroy(&record);
    return status;
}

// ---- the thread
// ---------------------------------------------------------------------------------------------------

static struct ledger_batch batch_record(const struct writer *writer, const struct work *work,
                                        double write_seconds, uint64_t overflowed) {
    return (struct ledger_batch){.number = work->number,
                                 .epoch = writer->options.epoch,
                                 .problems = (uint32_t)work->texts,
                                 .rows = (uint32_t)work->rows,
                                 .tokens = work->tokens,
                                 .squared_lengths = work->squared_lengths,
                                 .prepare_seconds = work->prepare_seconds,
                                 .wait_seconds = work->wait_seconds,
                                 .compute_seconds = work->compute_seconds,
                                 .write_seconds = write_seconds,
                                 .predicted_seconds = work->predicted_seconds,
                                 .score = work->score,
                                 .memory_bytes = measure_memory(),
                                 .overflowed = overflowed};
}

static void move_position(struct writer *writer, const struct work *work) {
    const struct window *window = work->window;
    bool last = !work->computes || work->batch + 1 == window->plan.batches;
    writer->position.batches = work->number + (work->computes ? 1 : 0);
    writer->position.window = last ? window->end : window->first;
    writer->position.window_batch = last ? window->first_batch + window->plan.batches : window->first_batch;
}

static int write_batch(struct writer *writer, const struct work *work, struct error *err) {
    double began = clock_seconds();
    uint64_t overflowed = 0;
    bool restored = writer_has(writer, work);
    int status = STATUS_OK;
    if (writer->open_batches == 0) {
        status = shard_start(writer->shard, writer->position.shards, err);
    }
    if (status == STATUS_OK) {
        status = restored ? restore(writer, work, err) : append(writer, work, &overflowed, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (!restored) {
        struct ledger_batch record = batch_record(writer, work, clock_seconds() - began, overflowed);
        status = outcomes_add_batch(&writer->outcomes, &record, err);
        throughput_write(writer->csv, &record);
        writer->open_batches++;
    }
    count_work(writer, work, !restored);
    return status;
}

static int process(struct writer *writer, const struct work *work, struct error *err) {
    if (watch_disk(writer, err) != STATUS_OK) {
        struct error
            ignored; // the disk's state is the reason to report, also when the partial shard no longer fits
        keep_partial(writer, &ignored);
        return err->status;
    }
    int status = check_ledger(writer, err);
    if (status == STATUS_OK && work->first_of_window) {
        status = add_window_outcomes(writer, work->window, err);
    }
    if (status == STATUS_OK && work->computes) {
        status = write_batch(writer, work, err);
    }
    move_position(writer, work);
    // A restored batch is never the last of its shard: a full shard is sealed, not kept as a partial one.
    if (status == STATUS_OK && work->computes && !writer_has(writer, work) &&
        writer->open_batches >= writer->options.batches_per_shard) {
        status = checkpoint(writer, false, err);
    }
    pthread_mutex_lock(&writer->lock);
    if (status == STATUS_OK && clock_seconds() - writer->last_heartbeat > HEARTBEAT_SECONDS) {
        status = heartbeat(writer, err);
    }
    pthread_mutex_unlock(&writer->lock);
    return status;
}

static int end(struct writer *writer, struct error *err) {
    int status = check_ledger(writer, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (writer->complete && !atomic_load(&writer->stop)) {
        status = checkpoint(writer, true, err);
        writer->finished_run = status == STATUS_OK;
        return status;
    }
    return keep_partial(writer, err);
}

static void *writer_main(void *context) {
    struct writer *writer = context;
    struct work *work;
    int status = STATUS_OK;
    while (status == STATUS_OK && (work = queue_pop(&writer->finished)) != NULL) {
        status = process(writer, work, &writer->err);
        feeder_release(writer->options.feeder, work);
    }
    if (status == STATUS_OK) {
        status = end(writer, &writer->err);
    }
    writer->status = status;
    queue_close(&writer->finished);
    atomic_store(&writer->done, true);
    return NULL;
}

// ---- life
// ---------------------------------------------------------------------------------------------------------

static int create_buffers(struct writer *writer, struct error *err) {
    const struct shard_layout *layout = writer->options.layout;
    const struct feeder_limits *limits = &writer->options.feeder->limits;
    size_t bytes = 0;
    int status =
        memory_zeroed((void **)&writer->problems, limits->plan.problems, sizeof *writer->problems, err);
    if (status == STATUS_OK) {
        status = memory_zeroed((void **)&writer->bad, limits->plan.problems, sizeof *writer->bad, err);
    }
    if (status == STATUS_OK) {
        status = memory_zeroed((void **)&writer->rows, limits->rows, sizeof *writer->rows, err);
    }
    if (status == STATUS_OK) {
        status =
            memory_zeroed((void **)&writer->compacted, layout->layer_count, sizeof *writer->compacted, err);
    }
    if (status == STATUS_OK) {
        status = memory_zeroed((void **)&writer->latents, layout->layer_count, sizeof *writer->latents, err);
    }
    if (status == STATUS_OK &&
        (!size_mul(limits->rows, layout->hidden * dtype_size(layout->dtype), &bytes))) {
        status = error_set(err, STATUS_INTERNAL, "a batch of %zu rows is too large", limits->rows);
    }
    for (size_t l = 0; status == STATUS_OK && l < layout->layer_count; l++) {
        status = memory_zeroed(&writer->compacted[l], 1, bytes,
                               err); // untouched, and so not resident, until a problem fails
    }
    return status;
}

static int restore_partial(struct writer *writer, const struct ledger_partial *partial, struct error *err) {
    char path[PATH_SIZE];
    char name[128];
    size_t batches;
    snprintf(name, sizeof name, "shards/%s", partial->name);
    int status = path_join(path, sizeof path, writer->options.folder, name, err);
    if (status == STATUS_OK) {
        status = shard_start(writer->shard, writer->position.shards, err);
    }
    if (status == STATUS_OK) {
        status = shard_replay(writer->shard, path, &batches, err);
    }
    if (status == STATUS_OK && batches != partial->batches) {
        status = error_set(err, STATUS_DATA, "%s holds %zu batches, the ledger says %" PRIu64, path, batches,
                           partial->batches);
    }
    if (status == STATUS_OK) {
        status = outcomes_read_record(&writer->outcomes, partial->record, partial->record_size,
                                      &writer->replay_failures, &writer->replay_failure_count, err);
    }
    writer->open_batches = partial->batches;
    writer->kept_batches = partial->batches;
    writer->first_new_batch = writer->position.batches + partial->batches;
    return status;
}

static int open_csv(struct writer *writer, struct error *err) {
    char path[PATH_SIZE];
    int status = path_join(path, sizeof path, writer->options.folder, "throughput.csv", err);
    return status == STATUS_OK ? throughput_open(&writer->csv, path, err) : status;
}

int writer_start(struct writer *writer, const struct writer_options *options,
                 const struct ledger_partial *partial, const struct ledger_progress *live,
                 struct error *err) {
    *writer = (struct writer){.options = *options, .live = *live};
    struct ledger_totals totals;
    pthread_mutex_init(&writer->lock, NULL);
    queue_open(&writer->finished);
    atomic_init(&writer->stop, false);
    atomic_init(&writer->done, false);
    int status = create_buffers(writer, err);
    if (status == STATUS_OK) {
        status = ledger_position(options->ledger, &writer->position, err);
    }
    if (status == STATUS_OK) {
        status = ledger_totals(options->ledger, &totals, err);
    }
    if (status == STATUS_OK) {
        writer->progress = (struct writer_progress){.batches = totals.batches,
                                                    .problems = totals.done + totals.failed + totals.skipped,
                                                    .tokens = totals.tokens,
                                                    .rows = totals.rows,
                                                    .failed = totals.failed,
                                                    .compute_seconds = totals.compute_seconds};
        status = open_csv(writer, err);
    }
    if (status == STATUS_OK) {
        status = shard_create(&writer->shard, options->folder, options->layout, err);
    }
    if (status == STATUS_OK && partial != NULL) {
        status = restore_partial(writer, partial, err);
    }
    if (status == STATUS_OK && pthread_create(&writer->thread, NULL, writer_main, writer) != 0) {
        status = error_set(err, STATUS_INTERNAL, "cannot start the writer thread");
    }
    writer->running = status == STATUS_OK;
    return status;
}

bool writer_has(const struct writer *writer, const struct work *work) {
    return work->computes && work->number < writer->first_new_batch;
}

bool writer_put(struct writer *writer, struct work *work) {
    return queue_push(&writer->finished, work);
}

void writer_request_stop(struct writer *writer) {
    atomic_store(&writer->stop, true);
    queue_close(&writer->finished);
}

int writer_finish(struct writer *writer, bool complete, struct error *err) {
    if (!writer->running) {
        return STATUS_OK;
    }
    writer->complete = complete;
    queue_close(&writer->finished);
    pthread_join(writer->thread, NULL);
    writer->running = false;
    if (writer->status != STATUS_OK) {
        *err = writer->err;
    }
    return writer->status;
}

bool writer_is_complete(const struct writer *writer) {
    return writer->finished_run;
}

void writer_destroy(struct writer *writer) {
    shard_destroy(writer->shard);
    outcomes_destroy(&writer->outcomes);
    for (size_t l = 0; writer->compacted != NULL && l < writer->options.layout->layer_count; l++) {
        free(writer->compacted[l]);
    }
    free(writer->compacted);
    free(writer->latents);
    free(writer->problems);
    free(writer->rows);
    free(writer->bad);
    free(writer->replay_failures);
    throughput_close(writer->csv);
    queue_destroy(&writer->finished);
    pthread_mutex_destroy(&writer->lock);
}

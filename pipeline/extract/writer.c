#include "extract/writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/amount.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/size.h"
#include "checkpoints/run_folder.h"
#include "extract/measure.h"
#include "extract/telemetry.h"

enum { HEARTBEAT_SECONDS = 2 };

// ---- what the thread tells others ----

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
    writer_evidence(writer, level, kind, text, text);
}

void writer_evidence(struct writer *writer, enum log_level level, const char *kind, const char *line,
                     const char *evidence) {
    struct error err;
    log_write(writer->options.log, level, "%s: %s", kind, line);
    pthread_mutex_lock(&writer->lock);
    if (ledger_event(writer->options.ledger, kind, evidence, &err) != STATUS_OK) {
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
    writer->live.tokens_per_second = rate >= 0 ? rate : writer->live.tokens_per_second;
    if (now && heartbeat(writer, &err) != STATUS_OK) {
        distrust_ledger(writer, &err);
    }
    pthread_mutex_unlock(&writer->lock);
}

// ---- one batch ----

static void count_work(struct writer *writer, const struct work *work, uint64_t failed, bool computed) {
    pthread_mutex_lock(&writer->lock);
    struct writer_progress *progress = &writer->progress;
    progress->batches++;
    progress->problems += work->texts;
    progress->failed += failed;
    progress->tokens += work->tokens;
    progress->rows += work->rows;
    if (computed) {
        progress->launch_tokens += work->tokens;
        progress->compute_seconds += work->compute_seconds;
    }
    pthread_mutex_unlock(&writer->lock);
}

// ---- checkpoints ----

static int watch_disk(struct writer *writer, struct error *err) {
    uint64_t space;
    int status = file_space(writer->options.folder, &space, err);
    if (status == STATUS_OK && space < writer->options.disk_reserve) {
        char texts[2][AMOUNT_TEXT];
        return error_set(err, STATUS_WRITE,
                         "only %s are left on the disk of %s, less than the %s of run.disk_reserve_gb",
                         amount_text((double)space, texts[0]), writer->options.folder,
                         amount_text((double)writer->options.disk_reserve, texts[1]));
    }
    return status;
}

// The partial file of the shard just acknowledged is of no more use.
static int remove_partial(struct writer *writer, struct error *err) {
    char path[PATH_SIZE];
    int status = run_folder_shard(path, writer->options.folder, writer->position.shards - 1, true, err);
    return status == STATUS_OK ? file_remove(path, err) : status;
}

// Seals the open shard and acknowledges it with its problems in one transaction.
static int checkpoint(struct writer *writer, bool finished, struct error *err) {
    struct shard_sealed sealed;
    bool durable;
    bool has_shard = writer->open.batches > 0;
    int status = has_shard ? shard_seal(writer->open.shard, false, &sealed, err) : STATUS_OK;
    if (status != STATUS_OK) {
        return status;
    }
    writer->position.shards += has_shard;
    struct ledger_commit commit = {.shard = has_shard ? &sealed : NULL,
                                   .position = writer->position,
                                   .problems = outcomes_resolve(&writer->open.outcomes),
                                   .problem_count = writer->open.outcomes.count,
                                   .batches = writer->open.outcomes.batches,
                                   .batch_count = writer->open.outcomes.batch_count,
                                   .finished = finished};
    pthread_mutex_lock(&writer->lock);
    status = ledger_commit(writer->options.ledger, &commit, &durable, err);
    if (status == STATUS_OK) {
        writer->progress.sealed_shards += has_shard;
        status = heartbeat(writer, err);
    }
    pthread_mutex_unlock(&writer->lock);
    if (status == STATUS_OK && writer->open.kept_batches > 0) {
        status = remove_partial(writer, err);
    }
    open_shard_next(&writer->open, writer->position.shards);
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
    if (writer->open.batches == writer->open.kept_batches) {
        return STATUS_OK; // nothing new: the partial file that was restored still says it all
    }
    int status = shard_seal(writer->open.shard, true, &sealed, err);
    if (status == STATUS_OK) {
        status = outcomes_write_record(&writer->open.outcomes, &record, err);
    }
    if (status == STATUS_OK) {
        struct ledger_partial partial = {.shard = writer->position.shards,
                                         .batches = writer->open.batches,
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

// ---- the thread ----

static struct ledger_batch batch_record(const struct writer *writer, const struct work *work,
                                        double write_seconds, uint64_t overflowed) {
    struct ledger_batch record = {.number = work->number,
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
    telemetry_figures(&record.device, &work->sample, &work->times);
    return record;
}

static void move_position(struct writer *writer, const struct work *work) {
    const struct window *window = work->window;
    bool last = !work->computes || work->batch + 1 == window->plan.batches;
    writer->position.batches = work->number + (work->computes ? 1 : 0);
    writer->position.window = last ? window->end : window->first;
    writer->position.window_batch = last ? window->first_batch + window->plan.batches : window->first_batch;
}

static int write_batch(struct writer *writer, const struct work *work, struct error *err) {
    struct batch_result result;
    double began = clock_seconds();
    bool restored = open_shard_has(&writer->open, work);
    int status = open_shard_add(&writer->open, work, &result, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (!restored) {
        struct ledger_batch record = batch_record(writer, work, clock_seconds() - began, result.overflowed);
        status = outcomes_add_batch(&writer->open.outcomes, &record, err);
        throughput_write(&writer->csv, &record);
        pthread_mutex_lock(&writer->lock);
        writer->live.device = record.device;
        pthread_mutex_unlock(&writer->lock);
    }
    count_work(writer, work, result.failed, !restored);
    return status;
}

static int write_window(struct writer *writer, const struct window *window, struct error *err) {
    uint64_t failed;
    uint64_t skipped;
    int status = open_shard_add_window(&writer->open, window, &failed, &skipped, err);
    pthread_mutex_lock(&writer->lock);
    writer->progress.problems += failed + skipped;
    writer->progress.failed += failed;
    pthread_mutex_unlock(&writer->lock);
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
        status = write_window(writer, work->window, err);
    }
    if (status == STATUS_OK && work->computes) {
        status = write_batch(writer, work, err);
    }
    move_position(writer, work);
    // A restored batch is never the last of its shard: a full shard is sealed, not kept as a partial one.
    if (status == STATUS_OK && work->computes && !writer_has(writer, work) &&
        writer->open.batches >= writer->options.batches_per_shard) {
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
    // `complete` is settled only when no stop closed the queue before.
    if (!atomic_load(&writer->stop) && writer->complete) {
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

// ---- life ----

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
    int status = ledger_position(options->ledger, &writer->position, err);
    if (status == STATUS_OK) {
        status = ledger_totals(options->ledger, &totals, err);
    }
    if (status == STATUS_OK) {
        writer->progress = (struct writer_progress){.batches = totals.batches,
                                                    .problems = totals.done + totals.failed + totals.skipped -
                                                                options->waiting,
                                                    .tokens = totals.tokens,
                                                    .rows = totals.rows,
                                                    .failed = totals.failed - options->waiting,
                                                    .compute_seconds = totals.compute_seconds};
        status = open_csv(writer, err);
    }
    if (status == STATUS_OK) {
        status = open_shard_create(&writer->open, options->folder, options->layout, options->model,
                                   &options->feeder->limits, writer->position.shards, err);
    }
    if (status == STATUS_OK && partial != NULL) {
        status = open_shard_restore(&writer->open, partial, writer->position.batches, err);
        if (status == STATUS_DATA) { // only a cache: the next launch computes its batches again
            struct error ignored;
            ledger_drop_partial(options->ledger, &ignored);
            error_wrap(err,
                       "the partial shard cannot be restored and is dropped; run the same command again");
        }
    }
    if (status == STATUS_OK && pthread_create(&writer->thread, NULL, writer_main, writer) != 0) {
        status = error_set(err, STATUS_INTERNAL, "cannot start the writer thread");
    }
    writer->running = status == STATUS_OK;
    return status;
}

bool writer_has(const struct writer *writer, const struct work *work) {
    return open_shard_has(&writer->open, work);
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
    open_shard_destroy(&writer->open);
    throughput_close(&writer->csv);
    queue_destroy(&writer->finished);
    pthread_mutex_destroy(&writer->lock);
}

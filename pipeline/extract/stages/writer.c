// SPDX-License-Identifier: MIT
#include "stages/writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/amount.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "base/size.h"
#include "checkpoints/run_folder.h"
#include "journal/figures.h"

// ---- one batch ----

static void count_work(struct writer *writer, const struct work *work, uint64_t failed, bool computed) {
    const struct journal_counts more = {.batches = 1,
                                        .problems = work->batch.texts,
                                        .failed = failed,
                                        .tokens = work->batch.tokens,
                                        .rows = work->batch.rows,
                                        .seconds = computed ? work->compute_seconds : 0};
    journal_count(writer->options.journal, &more);
}

// ---- checkpoints ----

static int watch_disk(struct writer *writer, struct error *err) {
    uint64_t space;
    TRY(file_space(writer->options.folder->path, &space, err));
    if (space < writer->options.disk_reserve) {
        char texts[2][AMOUNT_TEXT];
        return error_set(err, STATUS_WRITE,
                         "only %s are left on the disk of %s, less than the %s of run.disk_reserve_gb",
                         amount_text((double)space, texts[0]), writer->options.folder->path,
                         amount_text((double)writer->options.disk_reserve, texts[1]));
    }
    return STATUS_OK;
}

// The partial file of the shard just acknowledged is of no more use.
static int remove_partial(struct writer *writer, struct error *err) {
    char path[PATH_SIZE];
    TRY(run_folder_shard(path, writer->options.folder->path, writer->position.shards - 1, true, err));
    return file_remove(path, err);
}

// Looks before and behind whether another machine's launch has taken the run over, which no lock may tell:
// the former spares a copy in vain, the latter keeps a shard from being acknowledged twice. In between the
// copy asks right before it gets its name (ledger_apart_claim).
static int seal(struct writer *writer, bool partial, struct shard_sealed *sealed, struct error *err) {
    TRY(ledger_apart_fence(writer->options.apart, err));
    TRY(shard_seal(writer->open.shard, partial, sealed, err));
    return ledger_apart_fence(writer->options.apart, err);
}

// Seals the open shard and acknowledges it with its problems in one transaction.
static int checkpoint(struct writer *writer, bool finished, struct error *err) {
    struct journal *journal = writer->options.journal;
    struct shard_sealed sealed;
    bool durable;
    bool has_shard = writer->open.batches > 0;
    if (has_shard) {
        TRY(seal(writer, false, &sealed, err));
    }
    writer->position.shards += has_shard;
    struct ledger_commit commit = {.shard = has_shard ? &sealed : NULL,
                                   .position = writer->position,
                                   .problems = outcomes_resolve(&writer->open.outcomes),
                                   .problem_count = writer->open.outcomes.count,
                                   .batches = writer->open.outcomes.batches,
                                   .batch_count = writer->open.outcomes.batch_count,
                                   .finished = finished};
    int status = ledger_commit(journal_lock(journal), &commit, &durable, err);
    if (status == STATUS_OK) {
        status = ledger_apart_refresh(writer->options.apart, false, err);
    }
    journal_unlock(journal);
    TRY(status);
    journal_count(journal, &(struct journal_counts){.sealed = has_shard});
    TRY(journal_show(journal, err));
    if (writer->open.kept_batches > 0) {
        TRY(remove_partial(writer, err));
    }
    open_shard_next(&writer->open, writer->position.shards);
    if (has_shard) {
        log_write(writer->options.log, LOG_LEVEL_INFO,
                  "sealed %s: %" PRIu64 " problems, %" PRIu64 " rows, %" PRIu64 " bytes", sealed.name,
                  sealed.problems, sealed.rows, sealed.bytes);
    }
    return STATUS_OK;
}

static int acknowledge_partial(struct writer *writer, const struct shard_sealed *sealed,
                               const struct buffer *record, struct error *err) {
    struct ledger_partial partial = {.shard = writer->position.shards,
                                     .batches = writer->open.batches,
                                     .record = record->data,
                                     .record_size = record->size};
    memcpy(partial.name, sealed->name, sizeof partial.name);
    memcpy(partial.sha256, sealed->sha256, sizeof partial.sha256);
    int status = ledger_set_partial(journal_lock(writer->options.journal), &partial, err);
    journal_unlock(writer->options.journal);
    return status;
}

// A clean stop: keeps the open shard's batches as a partial file, which the next launch restores.
static int keep_partial(struct writer *writer, struct error *err) {
    struct shard_sealed sealed;
    struct buffer record = {0};
    if (writer->open.batches == writer->open.kept_batches) {
        return STATUS_OK; // nothing new: the partial file that was restored still says it all
    }
    TRY(seal(writer, true, &sealed, err));
    int status;
    TRY_TO(done, status = outcomes_write_record(&writer->open.outcomes, &record, err));
    TRY_TO(done, status = acknowledge_partial(writer, &sealed, &record, err));
done:
    buffer_destroy(&record);
    return status;
}

// ---- the thread ----

static struct ledger_batch batch_record(const struct writer *writer, const struct work *work,
                                        double write_seconds, uint64_t overflowed) {
    struct ledger_batch record = {.number = work->number,
                                  .epoch = writer->options.epoch,
                                  .problems = (uint32_t)work->batch.texts,
                                  .rows = (uint32_t)work->batch.rows,
                                  .tokens = work->batch.tokens,
                                  .squared_lengths = work->squared_lengths,
                                  .prepare_seconds = work->prepare_seconds,
                                  .wait_seconds = work->wait_seconds,
                                  .compute_seconds = work->compute_seconds,
                                  .write_seconds = write_seconds,
                                  .predicted_seconds = work->predicted_seconds,
                                  .score = work->score,
                                  .memory_bytes = process_memory(),
                                  .overflowed = overflowed};
    figures_take(&record.device, &work->sample, &work->times);
    if (model_lanes(writer->options.model) > 1) {
        snprintf(record.device_name, sizeof record.device_name, "%s",
                 model_lane_name(writer->options.model, work->lane));
    }
    return record;
}

static void move_position(struct writer *writer, const struct work *work) {
    const struct window *window = work->window;
    bool last = !work->computes || work->index + 1 == window->plan.batches;
    writer->position.batches = work->number + (work->computes ? 1 : 0);
    writer->position.window = last ? window->end : window->first;
    writer->position.window_batch = last ? window->first_batch + window->plan.batches : window->first_batch;
}

static int write_batch(struct writer *writer, const struct work *work, struct error *err) {
    struct batch_result result;
    double began = clock_seconds();
    bool restored = open_shard_has(&writer->open, work);
    TRY(open_shard_add(&writer->open, work, &result, err));
    if (!restored) {
        struct ledger_batch record = batch_record(writer, work, clock_seconds() - began, result.overflowed);
        TRY(outcomes_add_batch(&writer->open.outcomes, &record, err));
        throughput_write(&writer->csv, &record);
        journal_device(writer->options.journal, &record.device);
    }
    count_work(writer, work, result.failed, !restored);
    return STATUS_OK;
}

static int write_window(struct writer *writer, const struct window *window, struct error *err) {
    uint64_t failed;
    uint64_t skipped;
    TRY(open_shard_add_window(&writer->open, window, &failed, &skipped, err));
    journal_count(writer->options.journal,
                  &(struct journal_counts){.problems = failed + skipped, .failed = failed});
    return STATUS_OK;
}

static int process(struct writer *writer, const struct work *work, struct error *err) {
    if (watch_disk(writer, err) != STATUS_OK) {
        struct error ignored;
        keep_partial(writer, &ignored); // the disk's state is the reason to report, also when it fails
        return err->status;
    }
    TRY(journal_check(writer->options.journal, err));
    if (work->first_of_window) {
        TRY(write_window(writer, work->window, err));
    }
    if (work->computes) {
        TRY(write_batch(writer, work, err));
    }
    move_position(writer, work);
    // A restored batch is never the last of its shard: a full shard is sealed, not kept as a partial one.
    if (work->computes && !writer_has(writer, work) &&
        writer->open.batches >= writer->options.batches_per_shard) {
        TRY(checkpoint(writer, false, err));
    }
    return journal_refresh(writer->options.journal, err);
}

static int end(struct writer *writer, struct error *err) {
    TRY(journal_check(writer->options.journal, err));
    // `complete` is settled only when no stop closed the queue before.
    if (!atomic_load(&writer->stop) && writer->complete) {
        TRY(checkpoint(writer, true, err));
        writer->finished_run = true;
        return STATUS_OK;
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
    TRY(path_join(path, sizeof path, writer->options.folder->path, "throughput.csv", err));
    return throughput_open(&writer->csv, path, model_lanes(writer->options.model) > 1, err);
}

// What the ledger says, before this launch adds to it.
static void count_from(const struct writer *writer, const struct ledger_totals *totals) {
    uint64_t waiting = writer->options.waiting;
    const struct journal_counts counts = {.batches = totals->batches,
                                          .problems =
                                              totals->done + totals->failed + totals->skipped - waiting,
                                          .tokens = totals->tokens,
                                          .rows = totals->rows,
                                          .failed = totals->failed - waiting,
                                          .seconds = totals->compute_seconds};
    journal_count_from(writer->options.journal, &counts);
}

static int restore(struct writer *writer, struct ledger *ledger, const struct ledger_partial *partial,
                   struct error *err) {
    int status = open_shard_restore(&writer->open, partial, writer->position.batches, err);
    if (status == STATUS_DATA) { // only a cache: the next launch computes its batches again
        struct error ignored;
        ledger_drop_partial(ledger, &ignored);
        error_wrap(err, "the partial shard cannot be restored and is dropped; run the same command again");
    }
    return status;
}

// All but the thread.
static int open_all(struct writer *writer, const struct ledger_partial *partial, struct error *err) {
    const struct writer_options *options = &writer->options;
    struct ledger *ledger = options->journal->ledger; // nobody else is in it yet
    struct ledger_totals totals;
    TRY(ledger_position(ledger, &writer->position, err));
    TRY(ledger_totals(ledger, &totals, err));
    TRY(open_csv(writer, err));
    TRY(open_shard_create(&writer->open, options->apart, options->layout, options->model,
                          &options->feeder->limits, writer->position.shards, err));
    if (partial != NULL) {
        TRY(restore(writer, ledger, partial, err));
    }
    count_from(writer, &totals);
    return STATUS_OK;
}

int writer_start(struct writer *writer, const struct writer_options *options,
                 const struct ledger_partial *partial, struct error *err) {
    *writer = (struct writer){.options = *options};
    queue_open(&writer->finished);
    atomic_init(&writer->stop, false);
    atomic_init(&writer->done, false);
    TRY(open_all(writer, partial, err));
    if (pthread_create(&writer->thread, NULL, writer_main, writer) != 0) {
        return error_set(err, STATUS_INTERNAL, "cannot start the writer thread");
    }
    writer->running = true;
    return STATUS_OK;
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

static void stop_for_guard(void *writer) {
    writer_request_stop(writer);
}

static bool is_done(const void *writer) {
    return atomic_load(&((const struct writer *)writer)->done);
}

static int result(const void *context, struct error *err) {
    const struct writer *writer = context;
    if (writer->status != STATUS_OK) {
        *err = writer->err;
    }
    return writer->status;
}

struct guard_writer writer_for_guard(struct writer *writer) {
    return (struct guard_writer){
        .stop = stop_for_guard, .is_done = is_done, .result = result, .writer = writer};
}

int writer_finish(struct writer *writer, bool complete, struct error *err) {
    if (!writer->running) {
        return STATUS_OK;
    }
    writer->complete = complete;
    queue_close(&writer->finished);
    pthread_join(writer->thread, NULL);
    writer->running = false;
    return result(writer, err);
}

bool writer_is_complete(const struct writer *writer) {
    return writer->finished_run;
}

void writer_destroy(struct writer *writer) {
    open_shard_destroy(&writer->open);
    throughput_close(&writer->csv);
    queue_destroy(&writer->finished);
}

// SPDX-License-Identifier: MIT
#include "stages/open_shard.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/size.h"
#include "checkpoints/run_folder.h"
#include "model/layer_names.h"

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

int open_shard_add_window(struct open_shard *open, const struct window *window, uint64_t *failed,
                          uint64_t *skipped, struct error *err) {
    *failed = *skipped = 0;
    for (size_t i = 0; i < window->count; i++) {
        if (window->problems[i].state != PROBLEM_DONE) {
            struct ledger_problem problem = describe(window, &window->problems[i]);
            TRY(outcomes_add(&open->outcomes, &problem, err));
            *failed += problem.state == PROBLEM_FAILED;
            *skipped += problem.state == PROBLEM_SKIPPED;
        }
    }
    return STATUS_OK;
}

// The first layer and row of a problem with a number that is not finite; false when all are fine.
static bool find_not_finite(const struct open_shard *open, const struct model_output *output, size_t row,
                            size_t rows, char *reason, size_t size) {
    const struct shard_layout *layout = open->layout;
    for (size_t l = 0; l < layout->layer_count; l++) {
        for (size_t r = row; r < row + rows; r++) {
            uint32_t count = output->checks[l][r].not_finite;
            if (count > 0) {
                char label[MODEL_LAYER_LABEL];
                snprintf(reason, size, "%s has %" PRIu32 " values that are NaN or infinite in row %zu%s",
                         model_layer_label(model_config_of(open->model), layout->layers[l], label), count,
                         r - row, model_range_remedy(open->model));
                return true;
            }
        }
    }
    return false;
}

// On a GPU what is not finite in a text may reach those that go on from it, though not from those tokens.
static void tell_origin(const struct work *work, size_t text, char *reason, size_t size) {
    const struct device_origin *origins = work->batch.origins;
    if (origins != NULL && origins[text].before > 0 && origins[text].parent != DEVICE_HEAD) {
        size_t length = strlen(reason);
        snprintf(reason + length, size - length,
                 "; it goes on from another text: --retry-failed computes it alone");
    }
}

static uint64_t count_overflows(const struct open_shard *open, const struct model_output *output,
                                size_t rows) {
    uint64_t count = 0;
    for (size_t l = 0; l < open->layout->layer_count; l++) {
        for (size_t r = 0; r < rows; r++) {
            count += output->checks[l][r].overflowed;
        }
    }
    return count;
}

// Chooses the problems that go into the shard (open->list, open->rows) and notes the outcome of all
// of them.
static int select_problems(struct open_shard *open, const struct work *work,
                           const struct model_output *output, struct shard_batch *batch, uint64_t *failures,
                           struct error *err) {
    size_t row = 0;
    *failures = 0;
    *batch = (struct shard_batch){.number = work->number, .problems = open->list, .rows = open->rows};
    for (size_t i = 0; i < work->batch.texts; i++) {
        const struct window_problem *problem = window_batch_problem(work->window, work->index, i);
        struct ledger_problem outcome = describe(work->window, problem);
        char reason[256];
        outcome.batch = work->number;
        open->bad[i] = find_not_finite(open, output, row, problem->row_count, reason, sizeof reason);
        if (open->bad[i]) {
            tell_origin(work, i, reason, sizeof reason);
            (*failures)++;
            outcome.state = PROBLEM_FAILED;
            outcome.reason = reason;
            outcome.rows = 0;
        } else {
            outcome.shard = open->number;
            outcome.index = (uint32_t)(open->problems + batch->problem_count);
            open->list[batch->problem_count++] =
                (struct shard_problem){.id = outcome.id,
                                       .id_size = outcome.id_size,
                                       .metadata = window_text(work->window, problem->metadata_at),
                                       .metadata_size = problem->metadata_size,
                                       .ordinal = problem->ordinal,
                                       .token_count = problem->token_count,
                                       .truncated = problem->truncated,
                                       .step_count = problem->step_count,
                                       .rows = problem->row_count,
                                       .tokens = window_tokens(work->window, problem),
                                       .loss_mask = window_loss_mask(work->window, problem)};
            memcpy(open->rows + batch->row_count, window_rows(work->window, problem),
                   problem->row_count * sizeof *open->rows);
            batch->row_count += problem->row_count;
        }
        row += problem->row_count;
        TRY(outcomes_add(&open->outcomes, &outcome, err));
    }
    return STATUS_OK;
}

// Copies the rows of the problems that stay to the front.
static void compact(struct open_shard *open, const struct work *work, const struct model_output *output) {
    const struct shard_layout *layout = open->layout;
    size_t row_bytes = layout->hidden * dtype_size(layout->dtype);
    for (size_t l = 0; l < layout->layer_count; l++) {
        size_t from = 0;
        size_t to = 0;
        for (size_t i = 0; i < work->batch.texts; i++) {
            size_t rows = window_batch_problem(work->window, work->index, i)->row_count;
            if (!open->bad[i]) {
                memcpy((char *)open->compacted[l] + to * row_bytes,
                       (const char *)output->rows[l] + from * row_bytes, rows * row_bytes);
                to += rows;
            }
            from += rows;
        }
        open->latents[l] = open->compacted[l];
    }
}

static int append(struct open_shard *open, const struct work *work, struct batch_result *result,
                  struct error *err) {
    struct model_output output;
    struct shard_batch batch;
    model_outputs(open->model, work->batch.slot, &output);
    TRY(select_problems(open, work, &output, &batch, &result->failed, err));
    if (result->failed > 0) {
        compact(open, work, &output);
    } else {
        memcpy(open->latents, output.rows, open->layout->layer_count * sizeof *open->latents);
    }
    result->overflowed = count_overflows(open, &output, work->batch.rows);
    batch.latents = open->latents;
    if (shard_append(open->shard, &batch, err) != STATUS_OK) {
        return error_wrap(err, "batch %" PRIu64, work->number);
    }
    open->problems += batch.problem_count;
    return STATUS_OK;
}

// A batch whose latents were restored with a partial shard: only its outcomes are missing.
static int note_restored(struct open_shard *open, const struct work *work, struct batch_result *result,
                         struct error *err) {
    for (size_t i = 0; i < work->batch.texts; i++) {
        const struct window_problem *problem = window_batch_problem(work->window, work->index, i);
        struct ledger_problem outcome = describe(work->window, problem);
        outcome.batch = work->number;
        outcome.shard = open->number;
        for (size_t f = 0; f < open->failure_count; f++) {
            if (open->failures[f].ordinal == problem->ordinal) {
                outcome.state = PROBLEM_FAILED;
                outcome.reason = open->failures[f].reason;
                outcome.rows = 0;
                outcome.shard = UINT64_MAX;
                result->failed++;
            }
        }
        if (outcome.state == PROBLEM_DONE) {
            outcome.index = (uint32_t)open->problems++;
        }
        TRY(outcomes_add(&open->outcomes, &outcome, err));
    }
    return STATUS_OK;
}

bool open_shard_has(const struct open_shard *open, const struct work *work) {
    return work->computes && work->number < open->first_new_batch;
}

int open_shard_add(struct open_shard *open, const struct work *work, struct batch_result *result,
                   struct error *err) {
    *result = (struct batch_result){0};
    if (open_shard_has(open, work)) {
        return note_restored(open, work, result, err);
    }
    if (open->batches == 0) {
        TRY(shard_start(open->shard, open->number, err));
    }
    TRY(append(open, work, result, err));
    open->batches++;
    return STATUS_OK;
}

void open_shard_next(struct open_shard *open, uint64_t number) {
    outcomes_clear(&open->outcomes);
    open->number = number;
    open->batches = 0;
    open->problems = 0;
    open->kept_batches = 0;
}

// ---- life ----

static int create_buffers(struct open_shard *open, const struct feeder_limits *limits, struct error *err) {
    size_t layers = open->layout->layer_count;
    size_t bytes = 0;
    if (!size_mul(limits->rows, open->layout->hidden * dtype_size(open->layout->dtype), &bytes)) {
        return error_set(err, STATUS_INTERNAL, "a batch of %zu rows is too large", limits->rows);
    }
    TRY(memory_zeroed(&open->list, limits->plan.problems, sizeof *open->list, err));
    TRY(memory_zeroed(&open->bad, limits->plan.problems, sizeof *open->bad, err));
    TRY(memory_zeroed(&open->rows, limits->rows, sizeof *open->rows, err));
    TRY(memory_zeroed(&open->compacted, layers, sizeof *open->compacted, err));
    TRY(memory_zeroed(&open->latents, layers, sizeof *open->latents, err));
    for (size_t l = 0; l < layers; l++) {
        TRY(memory_zeroed(&open->compacted[l], 1, bytes, err)); // not resident until it is touched
    }
    return STATUS_OK;
}

int open_shard_create(struct open_shard *open, const struct ledger_apart *apart,
                      const struct shard_layout *layout, const struct model *model,
                      const struct feeder_limits *limits, uint64_t number, struct error *err) {
    const struct run_folder *folder = apart->folder;
    const struct copy_claim claim = ledger_apart_claim(apart);
    *open = (struct open_shard){.folder = folder, .layout = layout, .model = model, .number = number};
    TRY(create_buffers(open, limits, err));
    TRY(shard_create(&open->shard, folder->path, layout, err));
    return folder->apart ? shard_open_in(open->shard, folder->ledger, &claim, err) : STATUS_OK;
}

void open_shard_destroy(struct open_shard *open) {
    shard_destroy(open->shard);
    outcomes_destroy(&open->outcomes);
    for (size_t l = 0; open->compacted != NULL && l < open->layout->layer_count; l++) {
        free(open->compacted[l]);
    }
    free(open->compacted);
    free(open->latents);
    free(open->list);
    free(open->rows);
    free(open->bad);
    free(open->failures);
    *open = (struct open_shard){0};
}

int open_shard_restore(struct open_shard *open, const struct ledger_partial *partial, uint64_t first_batch,
                       struct error *err) {
    char path[PATH_SIZE];
    size_t batches = 0;
    TRY(run_folder_shard(path, open->folder->path, open->number, true, err));
    TRY(shard_start(open->shard, open->number, err));
    TRY(shard_replay(open->shard, path, &batches, err));
    if (batches != partial->batches) {
        return error_set(err, STATUS_DATA, "%s holds %zu batches, the ledger says %" PRIu64, path, batches,
                         partial->batches);
    }
    TRY(outcomes_read_record(&open->outcomes, partial->record, partial->record_size, &open->failures,
                             &open->failure_count, err));
    open->batches = partial->batches;
    open->kept_batches = partial->batches;
    open->first_new_batch = first_batch + partial->batches;
    return STATUS_OK;
}

// SPDX-License-Identifier: MIT
#include "export/export.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/size.h"
#include "export/export_plan.h"
#include "export/figures.h"
#include "export/format.h"
#include "export/normalization.h"
#include "export/outputs.h"
#include "export/progress.h"
#include "export/sidecar.h"
#include "export/target.h"

// One export at work. Blocks are [block_rows, hidden].
struct transfer {
    const struct export_plan *plan;
    struct export_outputs outputs;
    const struct normalization *normalization;
    size_t block_rows;
    void *stored;    // as read
    void *converted; // NULL when the export has the stored numbers
    size_t touched;  // problems
};

enum { BLOCK_BYTES = 4 << 20 };

static int transfer_open(struct transfer *transfer, const struct export_plan *plan,
                         const struct export_request *request, const struct normalization *normalization,
                         struct export_progress *progress, const char *folder, struct error *err) {
    *transfer = (struct transfer){.plan = plan, .normalization = normalization};
    size_t row_bytes = plan->hidden * dtype_size(plan->stored);
    transfer->block_rows = size_max(1, BLOCK_BYTES / row_bytes);
    TRY(memory_zeroed(&transfer->stored, transfer->block_rows, row_bytes, err));
    if (plan->dtype != plan->stored || normalization->kind != NORMALIZATION_NONE) {
        TRY(memory_zeroed(&transfer->converted, transfer->block_rows, plan->hidden * dtype_size(plan->dtype),
                          err));
    }
    return export_outputs_open(&transfer->outputs, plan, request, progress, folder, err);
}

static void transfer_close(struct transfer *transfer) {
    if (transfer->plan != NULL) {
        export_outputs_destroy(&transfer->outputs);
    }
    free(transfer->stored);
    free(transfer->converted);
}

// Converts a block when asked to; returns what goes out.
static void *convert_block(struct transfer *transfer, size_t layer, size_t rows) {
    const struct export_plan *plan = transfer->plan;
    if (transfer->converted == NULL) {
        return transfer->stored;
    }
    if (transfer->normalization->kind != NORMALIZATION_NONE) {
        normalization_apply(transfer->normalization, layer, transfer->stored, transfer->converted, rows);
    } else {
        dtype_convert(transfer->converted, plan->dtype, transfer->stored, plan->stored, rows * plan->hidden);
    }
    return transfer->converted;
}

static const struct export_problem *problem_of(const struct transfer *transfer, size_t shard, size_t index) {
    const struct export_plan *plan = transfer->plan;
    return &plan->problems[plan->by_place[plan->shards[shard].first + index]];
}

// Rows [first, first + rows) of the shard lie in the block; every problem among them gets its part.
static int scatter_block(struct transfer *transfer, size_t shard, const struct shard_content *content,
                         size_t layer, uint64_t first, size_t rows, size_t *problem, struct error *err) {
    size_t out_bytes = transfer->plan->hidden * dtype_size(transfer->plan->dtype);
    char *out = convert_block(transfer, layer, rows);
    for (uint64_t row = first; row < first + rows;) {
        while (content->row_offset[*problem + 1] <= row) {
            ++*problem;
        }
        uint64_t end = content->row_offset[*problem + 1];
        size_t count = (size_t)((end < first + rows ? end : first + rows) - row);
        TRY(export_outputs_latents(&transfer->outputs, problem_of(transfer, shard, *problem), layer,
                                   row - content->row_offset[*problem], count,
                                   out + (row - first) * out_bytes, err));
        row += count;
    }
    return STATUS_OK;
}

// A layer of problems [first, end) of the shard.
static int transfer_run(struct transfer *transfer, size_t shard, struct shard_reader *reader, size_t layer,
                        size_t first, size_t end, struct error *err) {
    const struct shard_content *content = shard_reader_content(reader);
    uint64_t last = content->row_offset[end];
    size_t problem = first;
    for (uint64_t row = content->row_offset[first]; row < last; row += transfer->block_rows) {
        size_t rows = size_min(transfer->block_rows, last - row);
        TRY(shard_reader_latents(reader, transfer->plan->layer_places[layer], row, rows, transfer->stored,
                                 err));
        TRY(scatter_block(transfer, shard, content, layer, row, rows, &problem, err));
    }
    return STATUS_OK;
}

// Of the shard only what the wave wants is read: runs of problems that follow each other.
static int transfer_layer(struct transfer *transfer, size_t shard, struct shard_reader *reader, size_t layer,
                          struct error *err) {
    size_t problems = transfer->plan->shards[shard].problems;
    size_t first = 0;
    while (first < problems) {
        size_t end = first;
        while (end < problems && export_outputs_want(&transfer->outputs, problem_of(transfer, shard, end))) {
            end++;
        }
        TRY(transfer_run(transfer, shard, reader, layer, first, end, err));
        first = end + 1; // the one at `end` is not wanted
    }
    return STATUS_OK;
}

static int transfer_problems(struct transfer *transfer, size_t shard, const struct shard_content *content,
                             struct error *err) {
    for (size_t i = 0; i < transfer->plan->shards[shard].problems; i++) {
        const struct export_problem *problem = problem_of(transfer, shard, i);
        if (export_outputs_want(&transfer->outputs, problem)) {
            TRY(export_outputs_problem(&transfer->outputs, problem, content, err));
        }
    }
    return STATUS_OK;
}

static int transfer_shard(struct transfer *transfer, size_t shard, struct error *err) {
    const struct export_plan *plan = transfer->plan;
    struct shard_reader *reader = NULL;
    int status;
    TRY_TO(done, status = export_plan_open_shard(plan, shard, &reader, err));
    TRY_TO(done, status = transfer_problems(transfer, shard, shard_reader_content(reader), err));
    for (size_t i = 0; i < plan->layer_count; i++) {
        TRY_TO(done, status = transfer_layer(transfer, shard, reader, i, err));
    }
    for (size_t i = 0; i < plan->shards[shard].problems; i++) {
        TRY_TO(done, status = export_outputs_done(&transfer->outputs, problem_of(transfer, shard, i), err));
    }
done:
    shard_reader_close(reader);
    return status;
}

static bool shard_is_wanted(struct transfer *transfer, size_t shard) {
    const struct export_plan *plan = transfer->plan;
    bool wanted = false;
    if (!export_outputs_want_shard(&transfer->outputs, &plan->shards[shard])) {
        return false;
    }
    for (size_t i = 0; i < plan->shards[shard].problems && !wanted; i++) {
        wanted = export_outputs_want(&transfer->outputs, problem_of(transfer, shard, i));
    }
    export_plan_touched(plan, &transfer->touched, plan->shards[shard].problems);
    return wanted;
}

static int transfer_waves(struct transfer *transfer, struct error *err) {
    TRY(export_outputs_begin_wave(&transfer->outputs, err));
    while (transfer->outputs.wave_count > 0) {
        for (size_t i = 0; i < transfer->plan->shard_count; i++) {
            if (shard_is_wanted(transfer, i)) {
                TRY(transfer_shard(transfer, i, err));
            }
        }
        TRY(export_outputs_end_wave(&transfer->outputs, err));
        TRY(export_outputs_begin_wave(&transfer->outputs, err));
    }
    return export_outputs_finish(&transfer->outputs, err);
}

// ---- the whole ----

// Names everything that the export follows from, so that another one's folder or pieces are not taken for its
// own.
static int add_request(struct digest *digest, const struct export_plan *plan,
                       const struct export_request *request, struct error *err) {
    const struct split_rule *rule = &request->split;
    const uint64_t numbers[] = {request->convert,
                                request->dtype,
                                request->shuffle,
                                request->shuffle_seed,
                                request->shuffle_rows,
                                request->row_seed,
                                request->file_bytes,
                                request->normalization,
                                rule->kind,
                                rule->seed,
                                rule->count,
                                plan->count,
                                plan->failed,
                                plan->skipped,
                                plan->finished,
                                plan->shard_count,
                                request->layer_count};
    TRY(digest_field(digest, request->program, strlen(request->program), err));
    TRY(digest_field(digest, request->format->name, strlen(request->format->name), err));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        TRY(digest_number(digest, numbers[i], err));
    }
    TRY(digest_field(digest, rule->column, strlen(rule->column), err));
    for (size_t i = 0; i < rule->count; i++) {
        TRY(digest_field(digest, rule->names[i], strlen(rule->names[i]), err));
        TRY(digest_field(digest, &rule->fractions[i], sizeof rule->fractions[i], err));
    }
    for (size_t i = 0; i < request->layer_count; i++) {
        TRY(digest_number(digest, request->layers[i].kind, err));
        TRY(digest_number(digest, (uint64_t)request->layers[i].number, err));
    }
    for (size_t i = 0; i < plan->shard_count; i++) {
        TRY(digest_field(digest, plan->shards[i].sealed.sha256, strlen(plan->shards[i].sealed.sha256), err));
    }
    return STATUS_OK;
}

static int name_request(const struct export_plan *plan, const struct export_request *request,
                        char key[DIGEST_HEX], struct error *err) {
    struct digest *digest;
    TRY(digest_create(&digest, err));
    int status;
    TRY_TO(done, status = add_request(digest, plan, request, err));
    status = digest_finish(digest, key, err);
done:
    digest_destroy(digest);
    return status;
}

static void fill_report(struct export_report *report, const struct export_plan *plan,
                        const struct export_progress *progress) {
    *report = (struct export_report){.problems = plan->count,
                                     .failed = plan->failed,
                                     .skipped = plan->skipped,
                                     .saturated = progress->saturated,
                                     .kept = progress->kept,
                                     .remaining = plan->remaining,
                                     .at_least = plan->at_least};
    export_plan_incomplete_parts(plan, report->incomplete);
    for (size_t i = 0; i < plan->split_count; i++) {
        report->rows += plan->splits[i].counts.rows;
        report->unsplit += strcmp(plan->splits[i].name, "unsplit") == 0 ? plan->splits[i].counts.problems : 0;
    }
}

// Everything behind the ledgers' part of the plan.
static int make(const struct export_request *request, struct export_plan *plan, struct aside_folder *folder,
                const char key[DIGEST_HEX], struct export_report *report, struct error *err) {
    struct export_figures figures = {0};
    struct export_progress progress = {0};
    struct normalization normalization = {0};
    struct transfer transfer = {0};
    int status;
    TRY_TO(done, status = export_plan_make(plan, request, &figures, err));
    TRY_TO(done, status = normalization_create(&normalization, plan, request, &figures, err));
    TRY_TO(done, status = export_progress_open(&progress, folder->path, key, plan->piece_count, err));
    folder->keep = progress.count > 0;
    TRY_TO(done,
           status = transfer_open(&transfer, plan, request, &normalization, &progress, folder->path, err));
    TRY_TO(done, status = transfer_waves(&transfer, err));
    TRY_TO(done, status = export_figures_write(&figures, folder->path, err));
    TRY_TO(done, status = normalization_write(&normalization, folder->path, err));
    TRY_TO(done, status = request->complete == NULL ? STATUS_OK : request->complete(folder->path, err));
    fill_report(report, plan, &progress);
    const struct sidecar_source source = {plan, request, &figures, &normalization, &progress, key};
    TRY_TO(done, status = export_sidecar_write(&source, folder->path, report, err));
    status = aside_folder_publish(folder, err);
done:
    transfer_close(&transfer);
    normalization_destroy(&normalization);
    folder->keep = folder->keep || progress.count > 0;
    export_progress_close(&progress);
    export_figures_destroy(&figures);
    return status;
}

int export_run(const struct export_request *request, struct export_report *report, struct error *err) {
    struct aside_folder folder = {.lock = -1};
    struct export_plan plan = {0};
    char key[DIGEST_HEX];
    char before[DIGEST_HEX];
    int status;
    bool is_there = export_sidecar_key(request->target, before);
    TRY_TO(done, status = aside_folder_open(&folder, request->target, is_there, err));
    TRY_TO(done, status = export_plan_begin(&plan, request, folder.path, err));
    TRY_TO(done, status = name_request(&plan, request, key, err));
    if (!is_there) {
        status = make(request, &plan, &folder, key, report, err);
    } else if (strcmp(key, before) == 0) {
        *report = (struct export_report){.was_there = true};
        TRY_TO(done, status = export_sidecar_check(folder.target, err));
        if (request->complete != NULL && !export_sidecar_lists(folder.target, request->completes)) {
            TRY_TO(done, status = request->complete(folder.target, err));
        }
        status = aside_folder_tidy(&folder, err);
    } else {
        status = error_set(err, STATUS_USAGE,
                           "%s exists and is an export with other options, or of what the run had finished "
                           "before; an export never overwrites anything",
                           folder.target);
    }
done:
    export_plan_destroy(&plan);
    aside_folder_close(&folder);
    return status;
}

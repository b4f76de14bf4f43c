#include "export/export.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "export/export_plan.h"
#include "export/figures.h"
#include "export/outputs.h"
#include "export/sidecar.h"
#include "export/target.h"

// One export at work. Blocks are [block_rows, hidden].
struct transfer {
    const struct export_plan *plan;
    struct export_outputs outputs;
    struct export_figures figures;
    size_t block_rows;
    void *stored;    // as read
    void *converted; // NULL when the export has the stored dtype
    uint64_t saturated;
    size_t touched; // problems
};

enum { BLOCK_BYTES = 4 << 20 };

static int transfer_open(struct transfer *transfer, const struct export_plan *plan,
                         const struct export_request *request, const char *folder, struct error *err) {
    *transfer = (struct transfer){.plan = plan};
    size_t row_bytes = plan->hidden * dtype_size(plan->stored);
    transfer->block_rows = size_max(1, BLOCK_BYTES / row_bytes);
    TRY(memory_zeroed(&transfer->stored, transfer->block_rows, row_bytes, err));
    if (plan->dtype != plan->stored) {
        TRY(memory_zeroed(&transfer->converted, transfer->block_rows, plan->hidden * dtype_size(plan->dtype),
                          err));
    }
    TRY(export_figures_create(&transfer->figures, plan, err));
    return export_outputs_open(&transfer->outputs, plan, request, folder, err);
}

static void transfer_close(struct transfer *transfer) {
    if (transfer->plan != NULL) {
        export_outputs_destroy(&transfer->outputs);
    }
    export_figures_destroy(&transfer->figures);
    free(transfer->stored);
    free(transfer->converted);
}

// Numbers beyond float16's range become its largest instead of infinity, as when a shard is written.
static uint64_t saturate_f16(uint16_t *numbers, size_t count) {
    uint64_t saturated = 0;
    for (size_t i = 0; i < count; i++) {
        if ((numbers[i] & 0x7fffu) == 0x7c00u) {
            numbers[i] = (uint16_t)((numbers[i] & 0x8000u) | 0x7bffu);
            saturated++;
        }
    }
    return saturated;
}

// Converts a block when asked to; returns what goes out.
static const void *convert_block(struct transfer *transfer, size_t rows) {
    const struct export_plan *plan = transfer->plan;
    if (transfer->converted == NULL) {
        return transfer->stored;
    }
    size_t count = rows * plan->hidden;
    dtype_convert(transfer->converted, plan->dtype, transfer->stored, plan->stored, count);
    if (plan->dtype == DTYPE_F16) {
        transfer->saturated += saturate_f16(transfer->converted, count);
    }
    return transfer->converted;
}

// Rows [first, first + rows) of the shard lie in the block; every problem among them gets its part.
static int scatter_block(struct transfer *transfer, size_t shard, const struct shard_content *content,
                         size_t layer, uint64_t first, size_t rows, size_t *problem, struct error *err) {
    const struct export_plan *plan = transfer->plan;
    size_t in_bytes = plan->hidden * dtype_size(plan->stored);
    size_t out_bytes = plan->hidden * dtype_size(plan->dtype);
    const char *out = convert_block(transfer, rows);
    for (uint64_t row = first; row < first + rows;) {
        while (content->row_offset[*problem + 1] <= row) {
            ++*problem;
        }
        uint64_t end = content->row_offset[*problem + 1];
        size_t count = (size_t)((end < first + rows ? end : first + rows) - row);
        const struct export_problem *target =
            &plan->problems[plan->by_place[plan->shards[shard].first + *problem]];
        size_t at = (size_t)(row - first);
        if (plan->split_count > 1) {
            export_figures_add_rows(&transfer->figures, target, layer,
                                    (const char *)transfer->stored + at * in_bytes, count);
        }
        TRY(export_outputs_latents(&transfer->outputs, target, layer, row - content->row_offset[*problem],
                                   count, out + at * out_bytes, err));
        row += count;
    }
    return STATUS_OK;
}

static int transfer_layer(struct transfer *transfer, size_t shard, struct shard_reader *reader, size_t layer,
                          struct error *err) {
    const struct shard_content *content = shard_reader_content(reader);
    size_t problem = 0;
    for (size_t first = 0; first < content->rows; first += transfer->block_rows) {
        size_t rows = size_min(transfer->block_rows, content->rows - first);
        TRY(shard_reader_latents(reader, transfer->plan->layer_places[layer], first, rows, transfer->stored,
                                 err));
        TRY(scatter_block(transfer, shard, content, layer, first, rows, &problem, err));
    }
    return STATUS_OK;
}

static int transfer_shard(struct transfer *transfer, size_t shard, struct error *err) {
    const struct export_plan *plan = transfer->plan;
    struct shard_reader *reader = NULL;
    int status;
    TRY_TO(done, status = export_plan_open_shard(plan, shard, &reader, err));
    TRY_TO(done, status = export_figures_add_shard(&transfer->figures, reader, err));
    for (size_t i = 0; i < plan->shards[shard].problems; i++) {
        const struct export_problem *problem = &plan->problems[plan->by_place[plan->shards[shard].first + i]];
        TRY_TO(done, status = export_outputs_problem(&transfer->outputs, problem,
                                                     shard_reader_content(reader), err));
    }
    for (size_t i = 0; i < plan->layer_count; i++) {
        TRY_TO(done, status = transfer_layer(transfer, shard, reader, i, err));
    }
    export_plan_touched(plan, &transfer->touched, plan->shards[shard].problems);
done:
    shard_reader_close(reader);
    return status;
}

static void fill_report(struct export_report *report, const struct export_plan *plan, uint64_t saturated) {
    *report = (struct export_report){.problems = plan->count,
                                     .failed = plan->failed,
                                     .skipped = plan->skipped,
                                     .saturated = saturated,
                                     .remaining = plan->remaining,
                                     .at_least = plan->at_least};
    export_plan_incomplete_parts(plan, report->incomplete);
    for (size_t i = 0; i < plan->split_count; i++) {
        report->rows += plan->splits[i].rows;
        report->unsplit += strcmp(plan->splits[i].name, "unsplit") == 0 ? plan->splits[i].problems : 0;
    }
}

int export_run(const struct export_request *request, struct export_report *report, struct error *err) {
    struct aside_folder folder = {.lock = -1};
    struct export_plan plan = {0};
    struct transfer transfer = {0};
    int status;
    TRY_TO(done, status = aside_folder_open(&folder, request->target, err));
    TRY_TO(done, status = export_plan_make(&plan, request, folder.path, err));
    TRY_TO(done, status = transfer_open(&transfer, &plan, request, folder.path, err));
    for (size_t i = 0; i < plan.shard_count; i++) {
        if (plan.shards[i].problems > 0) {
            TRY_TO(done, status = transfer_shard(&transfer, i, err));
        }
    }
    TRY_TO(done, status = export_outputs_finish(&transfer.outputs, err));
    TRY_TO(done, status = export_figures_write(&transfer.figures, folder.path, err));
    fill_report(report, &plan, transfer.saturated);
    TRY_TO(done, status = export_sidecar_write(&plan, request, &transfer.figures, folder.path, report, err));
    status = aside_folder_publish(&folder, err);
done:
    transfer_close(&transfer);
    export_plan_destroy(&plan);
    aside_folder_close(&folder);
    return status;
}

// SPDX-License-Identifier: MIT
// The layout of rows that are shuffled each by itself (row_shuffle.h): pieces of arrays of rows, and one file
// of JSON lines of the split's problems, to which the array "problem" leads from each row. Rows are written
// to their buckets as they come; a piece that has all of them shuffles its buckets where they lie, one bucket
// of one array in memory at a time.
#include <stdio.h>
#include <stdlib.h>

#include "base/size.h"
#include "export/format.h"
#include "export/outputs.h"
#include "export/row_shuffle.h"

static int open(struct export_outputs *outputs, struct output_piece *piece, struct error *err) {
    char file[SPLIT_NAME + 16];
    if (piece->plan->kind == PIECE_ROWS) {
        return export_outputs_make_arrays(outputs, piece, err);
    }
    snprintf(file, sizeof file, "%s.jsonl", outputs->plan->splits[piece->plan->split].name);
    return export_outputs_make_lines(outputs, piece, file, err);
}

// The piece that a problem's row goes to, and *at, its row there; NULL when the wave has it not.
static struct output_piece *piece_of(const struct export_outputs *outputs,
                                     const struct export_problem *problem, uint64_t row, uint64_t *at) {
    const struct export_plan *plan = outputs->plan;
    const struct export_split *split = &plan->splits[problem->split];
    uint64_t place = plan->row_places[split->rows_before + problem->row_at + row];
    struct output_piece *piece = export_outputs_piece(outputs, row_shuffle_piece(plan, split, place));
    *at = piece == NULL ? 0 : place - piece->plan->row_at;
    return piece;
}

static int write_problem(struct export_outputs *outputs, const struct export_problem *problem,
                         const struct shard_content *content, struct error *err) {
    uint64_t first = content->row_offset[problem->index];
    for (uint64_t row = 0; row < problem->rows; row++) {
        uint64_t at;
        const struct output_piece *piece = piece_of(outputs, problem, row, &at);
        if (piece != NULL) {
            TRY(column_set_write_row(&piece->columns, piece->store, at, problem, content, first + row, err));
        }
    }
    return STATUS_OK;
}

static int write_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                         uint64_t first, uint64_t rows, void *latents, struct error *err) {
    size_t width = outputs->plan->hidden * dtype_size(outputs->plan->dtype);
    for (uint64_t row = 0; row < rows; row++) {
        uint64_t at;
        struct output_piece *piece = piece_of(outputs, problem, first + row, &at);
        if (piece != NULL) {
            TRY(export_outputs_put(outputs, piece, layer, at, 1, (char *)latents + row * width, err));
        }
    }
    return STATUS_OK;
}

static int shuffle_array(const struct export_outputs *outputs, struct output_piece *piece, size_t array,
                         void *memory, struct error *err) {
    const struct export_split *split = &outputs->plan->splits[piece->plan->split];
    const struct array_spec *spec = &piece->columns.specs[array];
    size_t width = array_type_size(spec->type) * size_max(1, spec->columns);
    uint64_t base = piece->plan->row_at;
    uint64_t end = base + piece->plan->counts.rows;
    for (size_t i = row_shuffle_bucket(split, base); i < split->buckets && split->bucket_start[i] < end;
         i++) {
        uint64_t first = split->bucket_start[i];
        uint64_t rows = split->bucket_start[i + 1] - first;
        TRY(array_store_read(piece->store, array, first - base, rows, memory, err));
        row_shuffle_bucket_rows(outputs->request->row_seed, piece->plan->split, i, memory, (size_t)rows,
                                width);
        TRY(array_store_write(piece->store, array, first - base, rows, memory, err));
    }
    return STATUS_OK;
}

static int finish(struct export_outputs *outputs, struct output_piece *piece, struct error *err) {
    void *memory;
    int status = STATUS_OK;
    if (piece->plan->kind != PIECE_ROWS) {
        return STATUS_OK;
    }
    size_t width = size_max(outputs->plan->hidden * dtype_size(outputs->plan->dtype), sizeof(int64_t));
    TRY(memory_zeroed(&memory, size_max(1, row_shuffle_most(outputs->plan, piece->plan)), width, err));
    for (size_t i = 0; i < piece->columns.count; i++) {
        TRY_TO(done, status = shuffle_array(outputs, piece, i, memory, err));
    }
done:
    free(memory);
    return status;
}

const struct export_layout export_shuffled_rows = {
    .open = open, .problem = write_problem, .latents = write_latents, .finish = finish, .indexed = true};

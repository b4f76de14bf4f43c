// SPDX-License-Identifier: MIT
// The layout of most formats: a piece is one set of arrays, in which the rows of its problems lie one behind
// the other, with a file of JSON lines beside it.
#include <stdio.h>

#include "export/format.h"
#include "export/outputs.h"
#include "export/pieces.h"

static int open(struct export_outputs *outputs, struct output_piece *piece, struct error *err) {
    char name[PIECE_NAME];
    char file[PIECE_NAME + 16];
    TRY(export_outputs_make_arrays(outputs, piece, err));
    if (outputs->request->format->as_shard) { // the metadata is among the arrays
        return STATUS_OK;
    }
    export_piece_name(outputs->plan, piece->plan, name);
    snprintf(file, sizeof file, "%s.jsonl", name);
    return export_outputs_make_lines(outputs, piece, file, err);
}

static int write_problem(struct export_outputs *outputs, const struct export_problem *problem,
                         const struct shard_content *content, struct error *err) {
    const struct output_piece *piece = export_outputs_piece(outputs, problem->piece);
    return column_set_write_problem(&piece->columns, piece->store, outputs->plan, problem, content, err);
}

static int write_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                         uint64_t first, uint64_t rows, void *latents, struct error *err) {
    struct output_piece *piece = export_outputs_piece(outputs, problem->piece);
    return export_outputs_put(outputs, piece, layer, problem->row_at + first, rows, latents, err);
}

static int finish(struct export_outputs *outputs, struct output_piece *piece, struct error *err) {
    return column_set_write_plan(&piece->columns, piece->store, outputs->plan, piece->plan, err);
}

const struct export_layout export_split_arrays = {
    .open = open, .problem = write_problem, .latents = write_latents, .finish = finish, .indexed = true};

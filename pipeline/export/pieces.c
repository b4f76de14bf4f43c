// SPDX-License-Identifier: MIT
#include "export/pieces.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/size.h"
#include "export/columns.h"
#include "export/format.h"
#include "export/row_shuffle.h"

int export_pieces_add(struct export_plan *plan, const struct export_piece *piece, struct error *err) {
    // Room for a power of two of them.
    if ((plan->piece_count & (plan->piece_count - 1)) == 0) {
        void *block = plan->pieces;
        TRY(memory_resize(&block, size_max(1, plan->piece_count * 2), sizeof *plan->pieces, err));
        plan->pieces = block;
    }
    if (plan->piece_count >= UINT32_MAX) {
        return error_set(err, STATUS_USAGE, "the export would have more than 2^32 files");
    }
    plan->pieces[plan->piece_count++] = *piece;
    return STATUS_OK;
}

void export_piece_name(const struct export_plan *plan, const struct export_piece *piece,
                       char out[PIECE_NAME]) {
    const struct export_split *split = &plan->splits[piece->split];
    if (split->files <= 1) {
        snprintf(out, PIECE_NAME, "%s", split->name);
    } else {
        snprintf(out, PIECE_NAME, "%s-%05" PRIu32 "-of-%05zu", split->name, piece->number + 1, split->files);
    }
}

static void add_problem(struct export_counts *counts, const struct export_problem *problem) {
    counts->problems++;
    counts->rows += problem->rows;
    counts->tokens += problem->tokens;
    counts->id_bytes += problem->id_size;
    counts->metadata_bytes += problem->metadata_size;
    counts->line_bytes += problem->line_size;
}

static void count_splits(struct export_plan *plan) {
    size_t touched = 0;
    for (size_t i = 0; i < plan->count; i++) {
        struct export_problem *problem = &plan->problems[i];
        struct export_split *split = &plan->splits[problem->split];
        problem->position = (uint32_t)split->counts.problems;
        add_problem(&split->counts, problem);
        split->truncated += problem->truncated;
        if (plan->step_rows && problem->steps > problem->rows) {
            split->missing_steps += problem->steps - problem->rows;
            split->short_of_steps++;
        }
        export_plan_touched(plan, &touched, 1);
    }
}

// Whether the problem goes into the piece, which has one already: one that is larger than a file may be is
// alone in its own.
static bool fits(const struct export_plan *plan, const struct export_request *request,
                 const struct export_piece *piece, const struct export_problem *problem) {
    const struct export_layout *layout = export_layout_of(request);
    struct export_counts with = piece->counts;
    if (layout->most_problems != NULL &&
        with.problems >= layout->most_problems(plan->splits[piece->split].counts.problems)) {
        return false;
    }
    add_problem(&with, problem);
    return request->file_bytes == 0 ||
           column_set_bytes(plan, PIECE_PROBLEMS, &with, request->format) <= request->file_bytes;
}

static void place_problem(struct export_piece *piece, struct export_problem *problem, size_t number) {
    problem->row_at = piece->counts.rows;
    problem->token_at = piece->counts.tokens;
    problem->id_out_at = piece->counts.id_bytes;
    problem->metadata_at = piece->counts.metadata_bytes;
    problem->line_at = piece->counts.line_bytes;
    add_problem(&piece->counts, problem);
    piece->end = number + 1;
}

static void note_piece(struct export_shard *shard, uint32_t piece) {
    shard->lowest_piece = piece < shard->lowest_piece ? piece : shard->lowest_piece;
    shard->highest_piece = piece > shard->highest_piece ? piece : shard->highest_piece;
}

// `open` are the pieces that the splits' next problems go to, SIZE_MAX where there is none yet.
static int place_problems(struct export_plan *plan, const struct export_request *request,
                          size_t open[SPLIT_MAXIMUM], struct error *err) {
    size_t touched = 0;
    for (size_t i = 0; i < plan->count; i++) {
        struct export_problem *problem = &plan->problems[i];
        struct export_split *split = &plan->splits[problem->split];
        size_t *piece = &open[problem->split];
        if (*piece == SIZE_MAX || !(plan->by_rows || fits(plan, request, &plan->pieces[*piece], problem))) {
            *piece = plan->piece_count;
            struct export_piece begun = {.kind = plan->by_rows ? PIECE_LINES : PIECE_PROBLEMS,
                                         .split = problem->split,
                                         .number = (uint32_t)split->files,
                                         .first = i};
            split->files += plan->by_rows ? 0 : 1;
            TRY(export_pieces_add(plan, &begun, err));
        }
        problem->piece = (uint32_t)*piece;
        note_piece(&plan->shards[problem->shard], problem->piece);
        place_problem(&plan->pieces[*piece], problem, i);
        export_plan_touched(plan, &touched, 1);
    }
    return STATUS_OK;
}

int export_pieces_make(struct export_plan *plan, const struct export_request *request, struct error *err) {
    size_t open[SPLIT_MAXIMUM];
    for (size_t i = 0; i < SPLIT_MAXIMUM; i++) {
        open[i] = SIZE_MAX;
    }
    for (size_t i = 0; i < plan->shard_count; i++) {
        plan->shards[i].lowest_piece = UINT32_MAX;
    }
    count_splits(plan);
    TRY(place_problems(plan, request, open, err));
    return plan->by_rows ? row_shuffle_plan(plan, request, err) : STATUS_OK;
}

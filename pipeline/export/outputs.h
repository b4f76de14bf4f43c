// SPDX-License-Identifier: MIT
// The files of an export while they are written. Pieces (export_plan.h) are written a few at a time, a wave
// of them, for which the shards are gone through once; everything about a problem may come in any order, and
// the plan says where it goes. A piece that is complete is synced, closed and recorded (progress.h).
#ifndef STRATA_EXPORT_OUTPUTS_H
#define STRATA_EXPORT_OUTPUTS_H

#include "export/array_store.h"
#include "export/columns.h"
#include "export/export_plan.h"
#include "export/progress.h"

struct output_piece {
    const struct export_piece *plan;
    size_t number;              // in plan->pieces
    struct array_store *store;  // NULL of a piece of lines
    struct column_set columns;  // of a set of arrays
    char path[PATH_SIZE];       // of the store, below the export's folder; empty: none
    char lines_path[PATH_SIZE]; // empty: no lines of JSON (the arrays hold the metadata)
    int lines;                  // descriptor
    uint64_t left;              // problems that are not written yet
    uint64_t saturated;
};

struct export_outputs {
    const struct export_plan *plan;
    const struct export_request *request;
    struct export_progress *progress;
    char folder[PATH_SIZE];
    uint16_t *slots;           // [plan->piece_count] where a piece lies in the wave + 1, or 0
    struct output_piece *wave; // [wave_most]
    size_t wave_most;
    size_t wave_count;
    size_t next;                // piece that no wave has had
    size_t open[SPLIT_MAXIMUM]; // pieces of the wave that are not finished
    bool saturates;             // numbers beyond float16 become its largest
    struct buffer line;
};

// Under `folder` (which exists). STATUS_WRITE when the disk has not the room for what is not finished.
int export_outputs_open(struct export_outputs *outputs, const struct export_plan *plan,
                        const struct export_request *request, struct export_progress *progress,
                        const char *folder, struct error *err);

// Makes the files of the next pieces that are not finished; wave_count is 0 when there are none.
int export_outputs_begin_wave(struct export_outputs *outputs, struct error *err);

// Whether something of the problem goes into the wave; false of a shard: nothing of it does.
bool export_outputs_want_shard(const struct export_outputs *outputs, const struct export_shard *shard);
bool export_outputs_want(const struct export_outputs *outputs, const struct export_problem *problem);

// Everything of such a problem but its latents: spans of rows, tokens, id, metadata, line.
int export_outputs_problem(struct export_outputs *outputs, const struct export_problem *problem,
                           const struct shard_content *content, struct error *err);

// Rows [first, first + rows) of the problem for the plan's layer number `layer`, in the plan's dtype; they
// may be changed.
int export_outputs_latents(struct export_outputs *outputs, const struct export_problem *problem, size_t layer,
                           uint64_t first, uint64_t rows, void *latents, struct error *err);

// All of the problem was written: its piece is finished with its last one.
int export_outputs_done(struct export_outputs *outputs, const struct export_problem *problem,
                        struct error *err);

// Finishes the pieces of the wave that are not yet.
int export_outputs_end_wave(struct export_outputs *outputs, struct error *err);

// Writes the index of each split that has several files, once all pieces are finished.
int export_outputs_finish(const struct export_outputs *outputs, struct error *err);

// Removes what is half made. Accepts zeros; leaves zeros.
void export_outputs_destroy(struct export_outputs *outputs);

// ---- for the layouts ----

// The piece of that number, if the wave has it; NULL otherwise.
struct output_piece *export_outputs_piece(const struct export_outputs *outputs, size_t number);

// Where `name`, below the export's folder, is to be made: writes the whole path to `path`, and to `below`
// what the piece keeps.
int export_outputs_place(const struct export_outputs *outputs, const char *name, char below[PATH_SIZE],
                         char path[PATH_SIZE], struct error *err);

// Makes the piece's file of JSON lines.
int export_outputs_make_lines(const struct export_outputs *outputs, struct output_piece *piece,
                              const char *name, struct error *err);

// Makes a set of arrays of the request's format for a piece's latents and columns.
int export_outputs_make_arrays(const struct export_outputs *outputs, struct output_piece *piece,
                               struct error *err);

// Writes rows of latents into a piece's array, as the plan's dtype holds them.
int export_outputs_put(const struct export_outputs *outputs, struct output_piece *piece, size_t array,
                       uint64_t first, uint64_t rows, void *latents, struct error *err);

#endif

// SPDX-License-Identifier: MIT
// The time axis of a run: the time that its launches worked, one after another, with a narrow gap between two
// of them however long nothing ran.
#ifndef STRATA_REPORT_TIMELINE_H
#define STRATA_REPORT_TIMELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct timeline_piece {
    uint64_t launch;
    int64_t start, end; // unix seconds, of the ledger
    double seconds;     // that the piece stands for
    bool summed;        // seconds are its batches' times; they are too short for the ledger's whole seconds
    double left, width; // on the axis, which goes from 0 to 1
};

struct timeline {
    struct timeline_piece *pieces; // owned
    size_t count;
    double gap; // its width on the axis
};

int timeline_add(struct timeline *timeline, const struct timeline_piece *piece, struct error *err);
// Once all pieces are there: sets gap, left and width. whole > 0: without gaps, and so that the axis is so
// many seconds long, for two runs on one axis.
void timeline_arrange(struct timeline *timeline, double whole);
double timeline_seconds(const struct timeline *timeline); // of all pieces
void timeline_destroy(struct timeline *timeline);         // accepts zeros; leaves zeros

const struct timeline_piece *timeline_find(const struct timeline *timeline, uint64_t launch); // or NULL
// Where a moment lies on the axis: so many seconds after the piece began.
double timeline_place(const struct timeline_piece *piece, double seconds);
// The last piece that begins at or before a place; 0 without one.
size_t timeline_piece_at(const struct timeline *timeline, double place);

#endif

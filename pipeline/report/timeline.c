// SPDX-License-Identifier: MIT
#include "report/timeline.h"

#include <stdlib.h>

#include "base/memory.h"

#define GAP 0.012     // of the axis, for the time between two launches
#define GAPS_MOST 0.2 // all of them together

int timeline_add(struct timeline *timeline, const struct timeline_piece *piece, struct error *err) {
    void *block = timeline->pieces;
    TRY(memory_resize(&block, timeline->count + 1, sizeof *timeline->pieces, err));
    timeline->pieces = block;
    timeline->pieces[timeline->count++] = *piece;
    return STATUS_OK;
}

double timeline_seconds(const struct timeline *timeline) {
    double seconds = 0;
    for (size_t i = 0; i < timeline->count; i++) {
        seconds += timeline->pieces[i].seconds;
    }
    return seconds;
}

void timeline_arrange(struct timeline *timeline, double whole) {
    double gaps = timeline->count > 1 && whole == 0 ? (double)(timeline->count - 1) : 0;
    timeline->gap = gaps == 0 ? 0 : gaps * GAP > GAPS_MOST ? GAPS_MOST / gaps : GAP;
    double room = 1 - gaps * timeline->gap;
    double all = whole > 0 ? whole : timeline_seconds(timeline);
    double left = 0;
    for (size_t i = 0; i < timeline->count; i++) {
        struct timeline_piece *piece = &timeline->pieces[i];
        piece->left = left;
        piece->width = room * (all > 0 ? piece->seconds / all : 1 / (double)timeline->count);
        left += piece->width + timeline->gap;
    }
}

void timeline_destroy(struct timeline *timeline) {
    free(timeline->pieces);
    *timeline = (struct timeline){0};
}

const struct timeline_piece *timeline_find(const struct timeline *timeline, uint64_t launch) {
    for (size_t i = timeline->count; i > 0; i--) {
        if (timeline->pieces[i - 1].launch == launch) {
            return &timeline->pieces[i - 1];
        }
    }
    return NULL;
}

double timeline_place(const struct timeline_piece *piece, double seconds) {
    double share = piece->seconds > 0 ? seconds / piece->seconds : 0;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    return piece->left + share * piece->width;
}

size_t timeline_piece_at(const struct timeline *timeline, double place) {
    size_t found = 0;
    while (found + 1 < timeline->count && timeline->pieces[found + 1].left <= place) {
        found++;
    }
    return found;
}

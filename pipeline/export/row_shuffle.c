// SPDX-License-Identifier: MIT
#include "export/row_shuffle.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/size.h"
#include "export/columns.h"
#include "export/format.h"
#include "export/pieces.h"

enum {
    BUCKET_BYTES = 64 << 20, // of a layer, about: what a bucket takes of memory
    BUCKETS_A_FILE = 16,     // at least, so that files come near to the size they may have
    BUCKET_BITS = 20,        // at most: then buckets grow
};

// A stream of its own for each purpose that `number` counts.
static uint64_t stream(uint64_t seed, uint64_t number) {
    uint64_t state = seed + number * 0xD1B54A32D192ED03u;
    return random_next(&state);
}

// Element number `row` of the split's stream, in one step.
static size_t draw(uint64_t start, uint64_t row, unsigned bits) {
    uint64_t state = start + row * 0x9E3779B97F4A7C15u;
    uint64_t number = random_next(&state);
    return bits == 0 ? 0 : (size_t)(number >> (64 - bits));
}

static unsigned bucket_bits(const struct export_plan *plan, const struct export_request *request,
                            uint64_t rows) {
    struct export_counts one = {.rows = 1};
    uint64_t most = BUCKET_BYTES / (plan->hidden * dtype_size(plan->dtype));
    if (request->file_bytes > 0) {
        uint64_t row = column_set_bytes(plan, PIECE_ROWS, &one, request->format);
        uint64_t fixed = column_set_bytes(plan, PIECE_ROWS, &(struct export_counts){0}, request->format);
        most = size_min(most, request->file_bytes / (BUCKETS_A_FILE * (row - fixed)));
    }
    unsigned bits = 0;
    while (bits < BUCKET_BITS && rows >> bits > size_max(1, most)) {
        bits++;
    }
    return bits;
}

// Where buckets begin, then each row's place: by counting.
static int place_rows(struct export_plan *plan, const struct export_request *request,
                      struct export_split *split, struct error *err) {
    uint64_t rows = split->counts.rows;
    unsigned bits = bucket_bits(plan, request, rows);
    uint64_t start = stream(request->row_seed, (uint64_t)(split - plan->splits));
    uint64_t *places = (uint64_t *)plan->row_file.data + split->rows_before;
    void *block;
    split->buckets = (size_t)1 << bits;
    TRY(memory_zeroed(&block, split->buckets + 1, sizeof *split->bucket_start, err));
    split->bucket_start = block;
    for (uint64_t row = 0; row < rows; row++) {
        split->bucket_start[draw(start, row, bits) + 1]++;
    }
    for (size_t i = 0; i < split->buckets; i++) {
        split->bucket_start[i + 1] += split->bucket_start[i];
    }
    size_t touched = 0;
    for (uint64_t row = 0; row < rows; row++) {
        places[row] = split->bucket_start[draw(start, row, bits)]++;
        export_plan_touched(plan, &touched, 1);
    }
    for (size_t i = split->buckets; i > 0; i--) { // each stands where the next begins
        split->bucket_start[i] = split->bucket_start[i - 1];
    }
    split->bucket_start[0] = 0;
    return STATUS_OK;
}

static int cut_pieces(struct export_plan *plan, const struct export_request *request,
                      struct export_split *split, struct error *err) {
    struct export_piece piece = {.kind = PIECE_ROWS, .split = (uint16_t)(split - plan->splits)};
    split->first_piece = plan->piece_count;
    for (size_t i = 0; i < split->buckets; i++) {
        uint64_t bucket = split->bucket_start[i + 1] - split->bucket_start[i];
        struct export_counts with = {.rows = piece.counts.rows + bucket};
        if (request->file_bytes > 0 && piece.counts.rows > 0 &&
            column_set_bytes(plan, PIECE_ROWS, &with, request->format) > request->file_bytes) {
            TRY(export_pieces_add(plan, &piece, err));
            piece.number = (uint32_t)++split->files;
            piece.row_at += piece.counts.rows;
            piece.counts.rows = 0;
        }
        piece.counts.rows += bucket;
    }
    split->files++;
    return export_pieces_add(plan, &piece, err);
}

int row_shuffle_plan(struct export_plan *plan, const struct export_request *request, struct error *err) {
    uint64_t rows = 0;
    for (size_t i = 0; i < plan->split_count; i++) {
        plan->splits[i].rows_before = rows;
        rows += plan->splits[i].counts.rows;
    }
    TRY(paged_file_reserve(&plan->row_file, rows, sizeof *plan->row_places, err));
    plan->row_places = plan->row_file.data;
    for (size_t i = 0; i < plan->split_count; i++) {
        TRY(place_rows(plan, request, &plan->splits[i], err));
        TRY(cut_pieces(plan, request, &plan->splits[i], err));
    }
    return STATUS_OK;
}

size_t row_shuffle_piece(const struct export_plan *plan, const struct export_split *split, uint64_t row) {
    size_t low = split->first_piece;
    size_t high = low + split->files;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (plan->pieces[middle].row_at <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t row_shuffle_bucket(const struct export_split *split, uint64_t row) {
    size_t low = 0;
    size_t high = split->buckets;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (split->bucket_start[middle] < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t row_shuffle_most(const struct export_plan *plan, const struct export_piece *piece) {
    const struct export_split *split = &plan->splits[piece->split];
    uint64_t end = piece->row_at + piece->counts.rows;
    uint64_t most = 0;
    for (size_t i = row_shuffle_bucket(split, piece->row_at);
         i < split->buckets && split->bucket_start[i] < end; i++) {
        uint64_t rows = split->bucket_start[i + 1] - split->bucket_start[i];
        most = rows > most ? rows : most;
    }
    return (size_t)most;
}

void row_shuffle_bucket_rows(uint64_t seed, size_t split, size_t bucket, void *rows, size_t count,
                             size_t width) {
    uint64_t state = stream(stream(seed, split) ^ 0x5851F42D4C957F2Du, bucket);
    char *first = rows;
    for (size_t i = count; i > 1; i--) { // Fisher and Yates
        size_t other = (size_t)random_below(&state, i);
        char *a = first + (i - 1) * width;
        char *b = first + other * width;
        for (size_t at = 0; a != b && at < width;) {
            char kept[256];
            size_t size = size_min(sizeof kept, width - at);
            memcpy(kept, a + at, size);
            memcpy(a + at, b + at, size);
            memcpy(b + at, kept, size);
            at += size;
        }
    }
}

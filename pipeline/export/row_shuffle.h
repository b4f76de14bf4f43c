// SPDX-License-Identifier: MIT
// A uniform permutation of the rows of each split, made in two passes: a seeded stream assigns every row to a
// bucket, and the buckets, which fit into memory, lie behind each other and are shuffled one by one. Buckets
// that are drawn independently and a uniform order in each are together a uniform order of all. Where a row
// goes depends on the seed, the bounds on files and buckets, and its number in its split as the query has it;
// not on shards, parts or interruptions.
#ifndef STRATA_EXPORT_ROW_SHUFFLE_H
#define STRATA_EXPORT_ROW_SHUFFLE_H

#include "export/export_plan.h"

// Draws the buckets of all rows, and adds the pieces: buckets as long as they fit into a file.
int row_shuffle_plan(struct export_plan *plan, const struct export_request *request, struct error *err);

// The piece that holds row `row` of a split, by plan->row_places.
size_t row_shuffle_piece(const struct export_plan *plan, const struct export_split *split, uint64_t row);

// Most rows of a bucket of the piece.
size_t row_shuffle_most(const struct export_plan *plan, const struct export_piece *piece);

// The bucket of the split that begins at `row` or, if that is within one, the next; the number of buckets
// when there is none.
size_t row_shuffle_bucket(const struct export_split *split, uint64_t row);

// Shuffles a bucket's rows, `width` bytes each: the same order for every array of them.
void row_shuffle_bucket_rows(uint64_t seed, size_t split, size_t bucket, void *rows, size_t count,
                             size_t width);

#endif

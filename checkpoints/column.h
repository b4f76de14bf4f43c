// SPDX-License-Identifier: MIT
// One flat dataset while it is written: rows are gathered in a buffer of one chunk and leave it only in whole
// chunks, so that the file's bytes do not depend on how the rows were cut into calls. A dataset that never
// fills a chunk is written contiguous at the end, without padding; a larger one is chunked and its last chunk
// is padded with zeros.
#ifndef STRATA_CHECKPOINTS_COLUMN_H
#define STRATA_CHECKPOINTS_COLUMN_H

#include "checkpoints/hdf5_file.h"

struct column {
    char path[64];         // "/problems/id"
    hid_t type;            // borrowed
    size_t number;         // bytes of one number
    size_t width;          // numbers a row; 0: one-dimensional
    size_t chunk;          // rows a chunk
    unsigned char *buffer; // [chunk rows], borrowed from an arena
    size_t buffered;       // rows in it
    uint64_t written;      // rows in the file
    hid_t dataset;         // once a chunk was written
};

// Bytes of the buffer that column_init wants; false when that does not fit a size.
bool column_bytes(size_t number, size_t width, size_t chunk, size_t *bytes);
int column_init(struct column *column, const char *path, hid_t type, size_t width, size_t chunk,
                struct arena *arena, struct error *err);
void column_reset(struct column *column); // for the next file; handles went with the file
int column_append(struct column *column, hid_t file, const void *rows, size_t count, struct error *err);
int column_finish(struct column *column, hid_t file,
                  struct error *err);              // writes the rest and closes the dataset
uint64_t column_rows(const struct column *column); // appended so far

#endif

// SPDX-License-Identifier: MIT
#include "checkpoints/column.h"

#include <stdio.h>
#include <string.h>

#include "base/size.h"

enum { BUFFER_ALIGNMENT = 64 };

static size_t row_bytes(const struct column *column) {
    return column->number * size_max(column->width, 1);
}

bool column_bytes(size_t number, size_t width, size_t chunk, size_t *bytes) {
    return size_mul(number, size_max(width, 1), bytes) && size_mul(*bytes, chunk, bytes) &&
           size_round_up(*bytes, BUFFER_ALIGNMENT, bytes);
}

int column_init(struct column *column, const char *path, hid_t type, size_t width, size_t chunk,
                struct arena *arena, struct error *err) {
    size_t bytes;
    *column = (struct column){.type = type, .number = H5Tget_size(type), .width = width, .chunk = chunk};
    column->dataset = H5I_INVALID_HID;
    snprintf(column->path, sizeof column->path, "%s", path);
    if (!column_bytes(column->number, width, chunk, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "the dataset %s is too wide", path);
    }
    column->buffer = arena_take(arena, bytes, BUFFER_ALIGNMENT);
    if (column->buffer == NULL) {
        return error_set(err, STATUS_INTERNAL, "no memory left for the buffer of %s", path);
    }
    return STATUS_OK;
}

void column_reset(struct column *column) {
    column->buffered = 0;
    column->written = 0;
    column->dataset = H5I_INVALID_HID;
}

uint64_t column_rows(const struct column *column) {
    return column->written + column->buffered;
}

static int create_chunked(struct column *column, hid_t file, struct error *err) {
    int rank = column->width > 0 ? 2 : 1;
    hsize_t dims[2] = {0, column->width};
    hsize_t limits[2] = {H5S_UNLIMITED, column->width};
    hsize_t chunk[2] = {column->chunk, column->width};
    hid_t plist;
    hid_t space = H5I_INVALID_HID;
    int status;
    TRY_TO(done, status = hdf5_dataset_plist(&plist, err));
    space = H5Screate_simple(rank, dims, limits);
    if (space >= 0 && H5Pset_chunk(plist, rank, chunk) >= 0) {
        column->dataset =
            H5Dcreate2(file, column->path, column->type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    }
    if (column->dataset < 0) {
        status = hdf5_fail(err, STATUS_WRITE, "cannot create the dataset %s", column->path);
    }
done:
    H5Sclose(space);
    H5Pclose(plist);
    return status;
}

// Writes one chunk of which `rows` count. H5Dwrite_chunk accepts a short size without a word, so it always
// gets a whole chunk of the size the dataset was made with.
static int write_chunk(struct column *column, hid_t file, const unsigned char *chunk, size_t rows,
                       struct error *err) {
    TRY(column->dataset < 0 ? create_chunked(column, file, err) : STATUS_OK);
    hsize_t extent[2] = {column->written + rows, column->width};
    hsize_t place[2] = {column->written, 0};
    if (H5Dset_extent(column->dataset, extent) < 0 ||
        H5Dwrite_chunk(column->dataset, H5P_DEFAULT, 0, place, column->chunk * row_bytes(column), chunk) <
            0) {
        return hdf5_fail(err, STATUS_WRITE, "cannot write the dataset %s", column->path);
    }
    column->written += rows;
    return STATUS_OK;
}

int column_append(struct column *column, hid_t file, const void *rows, size_t count, struct error *err) {
    const unsigned char *next = rows;
    while (count > 0) {
        size_t taken = size_min(count, column->chunk - column->buffered);
        if (taken == column->chunk) { // a whole chunk goes to the file without a copy
            int status = write_chunk(column, file, next, taken, err);
            if (status != STATUS_OK) {
                return status;
            }
        } else {
            memcpy(column->buffer + column->buffered * row_bytes(column), next, taken * row_bytes(column));
            column->buffered += taken;
        }
        if (column->buffered == column->chunk) {
            int status = write_chunk(column, file, column->buffer, column->chunk, err);
            if (status != STATUS_OK) {
                return status;
            }
            column->buffered = 0;
        }
        next += taken * row_bytes(column);
        count -= taken;
    }
    return STATUS_OK;
}

int column_finish(struct column *column, hid_t file, struct error *err) {
    if (column->dataset < 0) {
        int status = hdf5_write(file, column->path, column->type, column->buffered, column->width,
                                column->buffer, err);
        column->written = column->buffered;
        column->buffered = 0;
        return status;
    }
    int status = STATUS_OK;
    if (column->buffered > 0) {
        size_t used = column->buffered * row_bytes(column);
        memset(column->buffer + used, 0, column->chunk * row_bytes(column) - used);
        status = write_chunk(column, file, column->buffer, column->buffered, err);
        column->buffered = 0;
    }
    if (status == STATUS_OK && H5Dclose(column->dataset) < 0) {
        status = hdf5_fail(err, STATUS_WRITE, "cannot close the dataset %s", column->path);
    }
    column->dataset = H5I_INVALID_HID;
    return status;
}

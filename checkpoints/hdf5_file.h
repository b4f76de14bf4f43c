// SPDX-License-Identifier: MIT
// The house's way with HDF5, for this room only: files whose bytes do not depend on when they were written,
// the number types of latents, fixed-size text attributes, and HDF5's error stack turned into one line. HDF5
// is crash-only: after any error from here the library's state is not to be trusted (end the process with
// _exit).
#ifndef STRATA_CHECKPOINTS_HDF5_FILE_H
#define STRATA_CHECKPOINTS_HDF5_FILE_H

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"

// Stops HDF5 from printing its errors. The setting belongs to the calling thread, so every entry point asks
// for it.
void hdf5_quiet(void);

// error_set followed by what HDF5 says failed first (the innermost entry of its error stack).
int hdf5_fail(struct error *err, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

// Creates (truncating) or opens read-only. Bounds V110, V110: a file that was not closed is refused on open.
// Closing a file closes every handle in it.
int hdf5_create(hid_t *file, const char *path, struct error *err);
int hdf5_open(hid_t *file, const char *path, struct error *err);

// Whether all that can be reached lies in the file itself: STATUS_DATA for links out of it or within it, of
// which this program writes none; and for a dataset whose numbers lie in other files (external storage,
// virtual layout) or pass through filters, which are code. To be asked before anything is read: a shard comes
// from a folder that others may have written to, and would hand any file of its reader to whoever gets the
// result.
int hdf5_check_links(hid_t file, struct error *err);
int hdf5_check_storage(hid_t dataset, const char *path, struct error *err);

// Property list for a new dataset: no times. The caller closes it.
int hdf5_dataset_plist(hid_t *plist, struct error *err);
int hdf5_make_group(hid_t file, const char *path, struct error *err);

// Kinds of flat numbers in a shard; all little-endian.
enum hdf5_kind { HDF5_U8, HDF5_U32, HDF5_I32, HDF5_U64, HDF5_F64 };

hid_t hdf5_kind_type(enum hdf5_kind kind); // predefined: not to be closed
size_t hdf5_kind_size(enum hdf5_kind kind);

// float32 as IEEE little-endian; float16 as fields (15, 10, 5, 0, 10) which h5py reads as float16; bfloat16
// as (15, 7, 8, 0, 7), bias 127. The caller closes the type.
int hdf5_float_type(hid_t *type, enum dtype dtype, struct error *err);

// A whole dataset of fixed size, [count] or, width > 0, [count, width].
int hdf5_write(hid_t file, const char *path, hid_t type, size_t count, size_t width, const void *data,
               struct error *err);

// Attributes of the object at `path` of `file`. Text is stored with a fixed size, as UTF-8.
int hdf5_set_text(hid_t file, const char *path, const char *name, const char *value, struct error *err);
int hdf5_set_numbers(hid_t file, const char *path, const char *name, enum hdf5_kind kind, size_t count,
                     const void *values, struct error *err); // count 0: one scalar
// Reads exactly `count` numbers of that kind (0: a scalar).
int hdf5_get_numbers(hid_t file, const char *path, const char *name, enum hdf5_kind kind, size_t count,
                     void *values, struct error *err);

// A one-dimensional dataset of that kind read whole; *data is malloc'ed and owned by the caller. STATUS_DATA
// when it is missing, of another type or shape, or larger than what the file stores.
int hdf5_read_column(hid_t file, const char *path, enum hdf5_kind kind, void **data, size_t *count,
                     struct error *err);

#endif

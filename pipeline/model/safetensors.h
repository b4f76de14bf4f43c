// SPDX-License-Identifier: MIT
// The safetensors container: fills the tensor directory from the header of one file. Reads headers only;
// hostile ones are refused, never trusted.
//
// A file is: u64 little-endian N, N bytes of JSON, data. The JSON maps names to {dtype, shape, data_offsets}.
#ifndef STRATA_MODEL_SAFETENSORS_H
#define STRATA_MODEL_SAFETENSORS_H

#include <stddef.h>

#include "base/error.h"
#include "model/tensors.h"

enum {
    SAFETENSORS_TENSORS = 1 << 18, // tensors of one file
    SAFETENSORS_HEADER = 64 << 20, // bytes of a header; the largest real ones have a few hundred thousand
};

// Appends the tensors of file `number`, open for reading, of `size` bytes, in the order of their data.
// STATUS_DATA with the file, the tensor and the reason; the directory is then as it was.
int safetensors_read(struct tensors *out, size_t number, int descriptor, size_t size, const char *path,
                     struct error *err);

// The same of a file in memory, of `size` bytes; only its first 8 + N bytes are looked at. `name` stands for
// the file in messages.
int safetensors_parse(struct tensors *out, size_t number, const unsigned char *bytes, size_t size,
                      const char *name, struct error *err);

#endif

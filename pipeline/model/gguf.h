// SPDX-License-Identifier: MIT
// The GGUF container, versions 2 and 3, little-endian: fills the tensor directory and the metadata from the
// header of one file. Reads headers only; hostile ones are refused, never trusted.
//
// A file is: "GGUF", u32 version, u64 tensors, u64 keys; the keys (text, u32 type, value); the tensors (text,
// u32 rank, u64 sizes with the row's length first, u32 type, u64 offset); padding to the alignment; data. A
// text is its length as u64 and its bytes. Offsets count from the start of the data; each tensor is padded to
// the alignment.
#ifndef STRATA_MODEL_GGUF_H
#define STRATA_MODEL_GGUF_H

#include <stddef.h>

#include "base/error.h"
#include "model/gguf_metadata.h"
#include "model/tensors.h"

enum {
    GGUF_TENSORS = 1 << 18, // of one file
    GGUF_KEYS = 1 << 16,
    GGUF_RANK = 4,
    GGUF_HEADER = 256 << 20, // bytes of a header; vocabularies make real ones of some ten million
};

// The first `size` bytes of a file of `file_size`.
struct gguf_window {
    const unsigned char *bytes;
    size_t size;
    size_t file_size;
    const char *name; // stands for the file in messages
    size_t wanted;    // after a failure: the header needs at least so many bytes; 0: more would not help
};

// Appends the tensors, under the names of the file, in the order of their data; *metadata's values point into
// the window. STATUS_DATA with the file, the key or tensor and the reason; the directory is then as it was,
// *metadata zeros.
int gguf_parse(struct gguf_metadata *metadata, struct tensors *tensors, size_t number,
               struct gguf_window *window, struct error *err);

// The same of file `number`, open for reading, of `size` bytes. *metadata has bytes of its own.
int gguf_read(struct gguf_metadata *metadata, struct tensors *tensors, size_t number, int descriptor,
              size_t size, const char *path, struct error *err);

#endif

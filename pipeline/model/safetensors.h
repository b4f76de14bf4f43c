// The safetensors container: what lies where in one file. Reads headers only; hostile ones are refused, never
// trusted.
//
// A file is: u64 little-endian N, N bytes of JSON, data. The JSON maps names to {dtype, shape, data_offsets}.
#ifndef STRATA_MODEL_SAFETENSORS_H
#define STRATA_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"

enum {
    SAFETENSORS_RANK = 8,          // more dimensions than any weight has
    SAFETENSORS_TENSORS = 1 << 18, // tensors of one file
    SAFETENSORS_HEADER = 64 << 20, // bytes of a header; the largest real ones have a few hundred thousand
};

struct safetensors_type {
    const char *name;  // as the header writes it
    unsigned bits;     // of one number
    bool is_weight;    // F32, F16 or BF16
    enum dtype weight; // meaningful when is_weight
};

struct safetensor {
    char *name;
    const struct safetensors_type *type;
    size_t rank;
    size_t shape[SAFETENSORS_RANK];
    size_t begin; // bytes [begin, end) of the file
    size_t end;
};

struct safetensors {
    struct safetensor *tensors; // ascending in the file
    size_t count;
};

// Parses the header of a file of `size` bytes; only its first 8 + N bytes are looked at. `name` stands for
// the file in messages. STATUS_DATA with the tensor and the reason.
int safetensors_parse(struct safetensors *out, const unsigned char *bytes, size_t size, const char *name,
                      struct error *err);
void safetensors_destroy(struct safetensors *file); // accepts zeros; leaves zeros

// "[2, 3]" for messages.
enum { SAFETENSORS_SHAPE_TEXT = 24 * SAFETENSORS_RANK };
void safetensors_shape_text(const size_t *shape, size_t rank, char out[SAFETENSORS_SHAPE_TEXT]);

#endif

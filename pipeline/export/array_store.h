// SPDX-License-Identifier: MIT
// Where an export's arrays go: a set of named arrays whose shapes are known beforehand, written in row ranges
// in any order. One interface, three kinds of file: safetensors, a folder of .npy, HDF5.
#ifndef STRATA_EXPORT_ARRAY_STORE_H
#define STRATA_EXPORT_ARRAY_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"

enum array_type { ARRAY_F16, ARRAY_BF16, ARRAY_F32, ARRAY_F64, ARRAY_U8, ARRAY_I32, ARRAY_I64 };

size_t array_type_size(enum array_type type);
enum array_type array_type_of(enum dtype dtype);

struct array_spec {
    const char *name; // "hs_035"; in HDF5 a path: "latents/hs_035"
    size_t name_size;
    enum array_type type;
    uint64_t rows;
    uint64_t columns;  // 0: the array has one dimension
    const char *layer; // HDF5: text attribute "layer" of the dataset; NULL: none
};

struct store_attribute { // HDF5: of the root group
    const char *name;
    const char *value;
};

struct array_set {
    const struct array_spec *specs;
    size_t count;
    const struct store_attribute *attributes;
    size_t attribute_count;
};

struct array_store {
    int (*write)(struct array_store *store, size_t array, uint64_t first, uint64_t rows, const void *bytes,
                 struct error *err);
    // What was written; NULL: the kind has no need of it.
    int (*read)(struct array_store *store, size_t array, uint64_t first, uint64_t rows, void *bytes,
                struct error *err);
    int (*close)(struct array_store *store, struct error *err); // everything on disk, files closed
    void (*destroy)(struct array_store *store);
};

// Creates a safetensors file and gives every array its place; names are copied. The other kinds are made
// through their formats alone (format.h).
int safetensors_store(struct array_store **out, const char *path, const struct array_spec *specs,
                      size_t count, struct error *err);

// The same, but its arrays, whose rows are of one size, are written as one, number 0, that has the rows of
// all.
int safetensors_joined_store(struct array_store **out, const char *path, const struct array_spec *specs,
                             size_t count, struct error *err);

// Rows [first, first + rows) of array number `array`, as stored there. STATUS_WRITE when it cannot be
// written.
int array_store_write(struct array_store *store, size_t array, uint64_t first, uint64_t rows,
                      const void *bytes, struct error *err);

// Of a kind that can: rows as they were written.
int array_store_read(struct array_store *store, size_t array, uint64_t first, uint64_t rows, void *bytes,
                     struct error *err);
int array_store_close(struct array_store *store, struct error *err);
void array_store_destroy(struct array_store *store); // accepts NULL

#endif

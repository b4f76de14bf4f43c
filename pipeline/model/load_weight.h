// SPDX-License-Identifier: MIT
// One tensor of a file into its places on the stages that want it (private to loading; load.c calls it in the
// order of the files).
#ifndef STRATA_MODEL_LOAD_WEIGHT_H
#define STRATA_MODEL_LOAD_WEIGHT_H

#include "model/reader.h"
#include "model/stage.h"

struct loader_bytes { // grows, and is used again
    unsigned char *data;
    size_t size;
};

struct loader_seen { // a tensor whose bytes are read twice
    bool once;
    unsigned char sha256[DIGEST_BYTES];
};

struct loader_range { // bytes [begin, end) of a file, a part of the reader
    size_t file;
    size_t begin;
    size_t end;
    size_t part;
    size_t hashed_every; // as the reader's part
};

struct loader {
    struct model *model;
    struct reader *reader;
    const struct loader_range *ranges; // [range_count] what the reader has of the files now
    size_t range_count;
    struct loader_bytes aligned; // what does not lie on its boundaries or in order in the file is copied here
    struct loader_bytes whole;   // of a tensor that is rearranged
    struct loader_bytes part;    // what becomes of it
    struct loader_seen *seen;    // [tensors.count] NULL: none yet
    struct loader_bytes merged;  // numbers that an adapter was added to
    int threads;                 // that add it; 0: not known yet
    struct loader_bytes gathered; // the parts of a weight that is expanded now, as weight_layout says
};

struct load_places { // the stages that want a tensor: they hold it in the same way
    struct stage *stages[MODEL_DEVICES];
    size_t count; // at least 1
};

// What is loaded now.
struct item {
    struct loader *loader;
    const struct load_places *places;
    const struct tensor *tensor;
    struct weight_use use;
    const struct weight_bound *bound;
    const struct weight_component *component;
    struct weight_layout layout; // of the weight
    size_t row_bytes;            // of a row in the file, which of a weight that is quantised holds numbers
    size_t rows;
    size_t columns;
    bool is_kept;
};

enum { LOAD_STEP = 8 << 20 }; // bytes put on the device at a time

// Room for so many bytes at least; what they hold is kept.
int loader_grow(struct loader_bytes *bytes, size_t size, struct error *err);

// What is wrong with a tensor's numbers is told with its name; the reader names its file itself.
int load_named(const struct item *item, int status, struct error *err);

// Bytes [begin, end) of a file from the reader (reader_bytes).
int loader_read(struct loader *loader, size_t file, size_t begin, size_t end, const unsigned char **out,
                struct error *err);

// The bytes of rows [row, row + count) as the model has them, whole heads where their rows are interleaved.
int load_read_rows(const struct item *item, size_t row, size_t count, const unsigned char **source,
                   struct error *err);

// Bytes of a part: onto the devices where the weight is kept, else beside its others.
int load_part(const struct item *item, enum weight_part part, size_t offset, const void *source, size_t bytes,
              struct error *err);

// All parts of a weight that is not kept are there: its numbers go into their place.
int load_gathered(const struct item *item, struct error *err);

// quantise.c: a tensor of numbers that is quantised on the way.
int load_quantised(const struct item *item, struct error *err);

// load_merge.c: whether something is added to the weight; that to numbers of rows [row, row + count), where
// there is any; and rows of a view, which begin with row `row` of the weight, with it into their place.
bool load_is_merged(const struct item *item);
int load_merge(const struct item *item, float *numbers, size_t row, size_t count, struct error *err);
int load_merged(const struct item *item, const struct weight_view *view, size_t row, struct error *err);

void loader_destroy(struct loader *loader); // all but the reader

int load_tensor(struct loader *loader, const struct load_places *places, const struct tensor *tensor,
                struct weight_use use, struct error *err);

#endif

// SPDX-License-Identifier: MIT
// Which bytes of the files are read: whole pieces, as they are hashed (reader.h), that hold wanted tensors.
// Private to loading.
#ifndef STRATA_MODEL_LOAD_RANGES_H
#define STRATA_MODEL_LOAD_RANGES_H

#include "model/load_weight.h"
#include "model/reader.h"
#include "model/stage.h"

typedef bool load_wants(const void *context, const struct model *model, const struct tensor *tensor);

// Appends the ranges (struct loader_range) of the tensors that are wanted, in the order of the files; those
// that meet are one.
int load_ranges_add(struct buffer *ranges, const struct model *model, load_wants *wants, const void *context,
                    struct error *err);

size_t load_ranges_bytes(const struct loader_range *ranges, size_t count);

// Starts a reader of which each range is a part, and numbers them. Those of a file whose hashes are there
// ([files] of them, NULL: not known) must have these.
int load_ranges_start(struct reader **out, const struct model *model, struct loader_range *ranges,
                      size_t count, unsigned char (*const *hashes)[DIGEST_BYTES],
                      const struct reader_options *options, struct error *err);

#endif

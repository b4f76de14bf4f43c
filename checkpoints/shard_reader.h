// SPDX-License-Identifier: MIT
// Reads one sealed shard. Everything small is in memory after opening; latents are read in row ranges.
#ifndef STRATA_CHECKPOINTS_SHARD_READER_H
#define STRATA_CHECKPOINTS_SHARD_READER_H

#include "checkpoints/shard.h"

struct shard_reader;

// STATUS_DATA when it is not a shard of a known format or its datasets contradict each other (lengths,
// offsets).
int shard_reader_open(struct shard_reader **out, const char *path, struct error *err);
void shard_reader_close(struct shard_reader *reader); // accepts NULL

struct shard_content {
    uint64_t number;
    enum dtype dtype;
    size_t hidden;
    const size_t *layers; // ascending (layer.h)
    size_t layer_count;
    size_t model_layers; // blocks of the model
    size_t problems;
    size_t rows;
    size_t batches;
    const struct shard_problem *problem; // [problems]; tokens, loss_mask NULL when not stored
    const uint64_t *row_offset;          // [problems + 1]
    const struct shard_row *row;         // [rows]
    const uint64_t *batch_number;        // [batches]
    const uint64_t *batch_offset;        // [batches + 1] problems
};

// Valid until the reader is closed.
const struct shard_content *shard_reader_content(const struct shard_reader *reader);

// Root attribute as text, or NULL.
const char *shard_reader_attribute(const struct shard_reader *reader, const char *name);

// Root attributes that are text, by place: NULL beyond the last.
const char *shard_reader_attribute_at(const struct shard_reader *reader, size_t place, const char **value);

// Rows [first, first + count) of the layer at position `layer` of content->layers, as stored.
int shard_reader_latents(struct shard_reader *reader, size_t layer, size_t first, size_t count, void *out,
                         struct error *err);

struct shard_statistics {
    double *sum; // [hidden] each; the caller's memory
    double *sum_of_squares;
    double *minimum;
    double *maximum;
    double norm_sum;
    uint64_t rows;
};

int shard_reader_statistics(struct shard_reader *reader, size_t layer, struct shard_statistics *out,
                            struct error *err);

#endif

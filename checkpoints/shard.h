// SPDX-License-Identifier: MIT
// A shard: the latents of the problems of N batches in one HDF5 file that is written once, closed, synced,
// hashed, renamed and never touched again. This file writes shards; shard_reader.h reads them. No other room
// calls HDF5 for shards. One thread uses a writer. After STATUS_INTERNAL or STATUS_WRITE from here the
// library's state is not to be trusted: abandon the writer and end the process with _exit.
//
// Layout (format 1), all datasets flat, ragged by offsets:
//   /latents/hs_035          [rows, hidden]   float32, float16, or bfloat16 (attribute dtype = "bfloat16")
//                            The last block's output before the final norm (latents.layers: pre_norm) is
//                            hs_036_pre_norm; in the root's `layers` one more than model_layers stands for
//                            it.
//   /problems/id             [bytes] uint8    UTF-8, cut by /problems/id_offset [problems + 1] uint64
//   /problems/metadata       [bytes] uint8    one JSON object a problem, cut by /problems/metadata_offset
//   [problems + 1] /problems/ordinal        [problems] uint64    row of the query, from 0
//   /problems/row_offset     [problems + 1] uint64
//   /problems/token_count    [problems] uint32    after truncation, special tokens included
//   /problems/truncated      [problems] uint8
//   /problems/step_count     [problems] uint32    steps of the text; those without a row were cut off or own
//   no token /rows/step               [rows] uint32        step of the problem, from 0 (0 for poolings
//   without steps; token number
//                                                 for pooling tokens)
//   /rows/token_start, token_end  [rows] uint32   in the problem's tokens, [start, end)
//   /rows/byte_start, byte_end    [rows] uint32   in the rendered text, [start, end)
//   /tokens/ids              [tokens] int32, cut by /tokens/offset [problems + 1] uint64 (when asked for)
//   /tokens/loss_mask        [tokens] uint8, beside them: 1 for a token that a step owns (when asked for)
//   /batches/number          [batches] uint64, /batches/problem_offset [batches + 1] uint64
//   /statistics/hs_035/sum, sum_of_squares, minimum, maximum  [hidden] float64; attributes rows, norm_sum (of
//   row
//                            Euclidean norms): of the stored values, added in row order, so that shards can
//                            be summed in shard order to the same bits in any run
// Root attributes: format_version, shard, and those of the layout. Each /latents dataset names its layer
// three ways.
#ifndef STRATA_CHECKPOINTS_SHARD_H
#define STRATA_CHECKPOINTS_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/copy.h"
#include "base/digest.h"
#include "base/dtype.h"
#include "base/error.h"

enum { SHARD_FORMAT = 1 };

struct shard_attribute {
    const char *name;
    const char *value;
};

// What all shards of a run share. Pointers are the caller's and outlive the writer.
struct shard_layout {
    const size_t *layers; // ascending transformers indices; model_layers + 1: pre_norm (layer.h)
    size_t layer_count;
    size_t model_layers; // blocks of the model: hidden_states run from 0 to model_layers
    size_t hidden;
    enum dtype dtype;
    bool token_ids;
    bool loss_mask; // only with token_ids
    const struct shard_attribute
        *attributes; // model, model_fingerprint, tokenizer_fingerprint, pooling, template ...
    size_t attribute_count;
};

struct shard_problem {
    const char *id;
    size_t id_size;
    const char *metadata; // JSON object
    size_t metadata_size;
    uint64_t ordinal;
    uint32_t token_count;
    bool truncated;
    uint32_t step_count;
    size_t rows;              // of this problem in the batch
    const int32_t *tokens;    // [token_count], used when the layout asks for token ids
    const uint8_t *loss_mask; // [token_count] 0 or 1, used when the layout asks for it
};

struct shard_row {
    uint32_t step;
    uint32_t token_start;
    uint32_t token_end;
    uint32_t byte_start;
    uint32_t byte_end;
};

struct shard_batch {
    uint64_t number; // of the plan, from 0
    const struct shard_problem *problems;
    size_t problem_count;
    const struct shard_row *rows; // problem after problem
    size_t row_count;
    const void *const *latents; // [layer_count] -> [row_count, hidden] of the layout's dtype, finite
};

struct shard_writer;

// Makes a writer for shards under FOLDER/shards. Buffers are allocated here; shard_start opens
// part-NNNNNN.h5.tmp.
int shard_create(struct shard_writer **out, const char *folder, const struct shard_layout *layout,
                 struct error *err);
int shard_start(struct shard_writer *writer, uint64_t number, struct error *err); // begins shard `number`

// The open shard lies under `folder`/shards, on a file system of its own, from where a full one is copied.
// Before the first shard.
int shard_open_in(struct shard_writer *writer, const char *folder, const struct copy_claim *claim,
                  struct error *err);

// Appends one batch. The bytes of the finished file depend only on the sequence of batches.
int shard_append(struct shard_writer *writer, const struct shard_batch *batch, struct error *err);

// Appends every batch of a partial shard kept by a clean stop; *batches gets their number. The caller has
// checked its hash.
int shard_replay(struct shard_writer *writer, const char *partial_path, size_t *batches, struct error *err);

struct shard_sealed {
    char name[64]; // file name within shards/
    char sha256[DIGEST_HEX];
    uint64_t bytes;
    uint64_t problems;
    uint64_t rows;
    uint64_t tokens;
};

// Closes, syncs, hashes, renames and syncs the folder (the ledger commit that acknowledges it is the
// caller's). From another file system it is copied aside, synced and read back before it is renamed.
// `partial` names it part-NNNNNN.partial.h5. A failed sync is final.
int shard_seal(struct shard_writer *writer, bool partial, struct shard_sealed *sealed, struct error *err);

// Drops the open shard, if any, and its .tmp file, and frees the writer. Accepts NULL.
void shard_destroy(struct shard_writer *writer);

// Version of the HDF5 library, for the identity.
const char *shard_library(char out[32]);

#endif

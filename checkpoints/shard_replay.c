// SPDX-License-Identifier: MIT
// A partial shard kept by a clean stop is read back and appended batch by batch, which gives the same bytes
// as if the run had never stopped (invariant 11).
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "checkpoints/shard_reader.h"
#include "checkpoints/shard_writer.h"

static int check_same(const struct shard_writer *writer, const struct shard_content *content,
                      struct error *err) {
    const struct shard_layout *layout = writer->layout;
    bool same = content->number == writer->number && content->dtype == layout->dtype &&
                content->hidden == layout->hidden && content->layer_count == layout->layer_count;
    for (size_t i = 0; same && i < layout->layer_count; i++) {
        same = content->layers[i] == layout->layers[i];
    }
    if (same && layout->token_ids && content->problems > 0) {
        same = content->problem[0].tokens != NULL &&
               (content->problem[0].loss_mask != NULL) == layout->loss_mask;
    }
    return same ? STATUS_OK : error_set(err, STATUS_DATA, "it holds another shard or layout");
}

// The latents of one batch in memory.
struct batch_memory {
    unsigned char *block; // [layers] -> [rows, hidden], `stride` bytes apart
    size_t stride;
    const void **layers; // where each layer begins
};

static int take_memory(struct batch_memory *memory, const struct shard_content *content, struct error *err) {
    size_t most = 0;
    for (size_t i = 0; i < content->batches; i++) {
        uint64_t rows =
            content->row_offset[content->batch_offset[i + 1]] - content->row_offset[content->batch_offset[i]];
        most = size_max(most, rows);
    }
    if (!size_mul(most, content->hidden * dtype_size(content->dtype), &memory->stride)) {
        return error_set(err, STATUS_DATA, "its batches are too large");
    }
    void *taken = NULL;
    TRY(memory_zeroed(&taken, content->layer_count, sizeof *memory->layers, err));
    memory->layers = taken;
    TRY(memory_zeroed(&taken, content->layer_count, memory->stride, err));
    memory->block = taken;
    for (size_t i = 0; i < content->layer_count; i++) {
        memory->layers[i] = memory->block + i * memory->stride;
    }
    return STATUS_OK;
}

static int replay_batch(struct shard_writer *writer, struct shard_reader *reader, size_t place,
                        const struct batch_memory *memory, struct error *err) {
    const struct shard_content *content = shard_reader_content(reader);
    size_t first = content->batch_offset[place];
    size_t last = content->batch_offset[place + 1];
    size_t row = content->row_offset[first];
    struct shard_batch batch = {.number = content->batch_number[place],
                                .problems = content->problem + first,
                                .problem_count = last - first,
                                .rows = content->row + row,
                                .row_count = content->row_offset[last] - row,
                                .latents = memory->layers};
    for (size_t i = 0; i < content->layer_count; i++) {
        TRY(shard_reader_latents(reader, i, row, batch.row_count, memory->block + i * memory->stride, err));
    }
    return shard_append(writer, &batch, err);
}

int shard_replay(struct shard_writer *writer, const char *partial_path, size_t *batches, struct error *err) {
    struct shard_reader *reader = NULL;
    struct batch_memory memory = {0};
    *batches = 0;
    TRY(shard_reader_open(&reader, partial_path, err));
    const struct shard_content *content = shard_reader_content(reader);
    int status;
    TRY_TO(done, status = check_same(writer, content, err));
    TRY_TO(done, status = take_memory(&memory, content, err));
    for (size_t i = 0; i < content->batches; i++) {
        TRY_TO(done, status = replay_batch(writer, reader, i, &memory, err));
        ++*batches;
    }
done:
    if (status != STATUS_OK) {
        error_wrap(err, "cannot go on from %s", partial_path);
    }
    free(memory.layers);
    free(memory.block);
    shard_reader_close(reader);
    return status;
}

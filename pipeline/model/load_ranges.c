// SPDX-License-Identifier: MIT
#include "model/load_ranges.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/size.h"

static size_t piece_begin(size_t at) {
    return at / READER_PIECE * READER_PIECE;
}

static size_t piece_end(size_t at, size_t size) {
    return size - at < READER_PIECE - (at - piece_begin(at)) ? size : piece_begin(at) + READER_PIECE;
}

int load_ranges_add(struct buffer *ranges, const struct model *model, load_wants *wants, const void *context,
                    struct error *err) {
    const struct tensors *tensors = &model->checkpoint.tensors;
    struct loader_range open = {0};
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = tensors->in_files[i];
        if (!wants(context, model, tensor) || tensor->begin == tensor->end) {
            continue;
        }
        size_t size = model->checkpoint.files[tensor->file].size;
        struct loader_range range = {.file = tensor->file,
                                     .begin = piece_begin(tensor->begin),
                                     .end = piece_end(tensor->end - 1, size)};
        if (open.end > 0 && open.file == range.file && range.begin <= open.end) {
            open.end = size_max(open.end, range.end);
            continue;
        }
        if (open.end > 0) {
            TRY(buffer_append(ranges, &open, sizeof open, err));
        }
        open = range;
    }
    return open.end > 0 ? buffer_append(ranges, &open, sizeof open, err) : STATUS_OK;
}

size_t load_ranges_bytes(const struct loader_range *ranges, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += ranges[i].end - ranges[i].begin;
    }
    return bytes;
}

int load_ranges_start(struct reader **out, const struct model *model, struct loader_range *ranges,
                      size_t count, unsigned char (*const *hashes)[DIGEST_BYTES],
                      const struct reader_options *options, struct error *err) {
    struct reader_part *parts;
    TRY(memory_zeroed(&parts, size_max(count, 1), sizeof parts[0], err));
    for (size_t i = 0; i < count; i++) {
        struct loader_range *range = &ranges[i];
        const struct checkpoint_file *file = &model->checkpoint.files[range->file];
        const unsigned char(*known)[DIGEST_BYTES] = (const unsigned char(*)[DIGEST_BYTES])hashes[range->file];
        range->part = i;
        parts[i] =
            (struct reader_part){.descriptor = file->descriptor,
                                 .size = range->end - range->begin,
                                 .name = file->path,
                                 .begin = range->begin,
                                 .expected = known == NULL ? NULL : known + range->begin / READER_PIECE,
                                 .hashed_every = range->hashed_every};
    }
    int status = reader_start(out, parts, count, options, err);
    free(parts);
    return status;
}

// Weights from mapped files into their places on the device, in the order of the files; the fingerprint on
// the way.
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "model/reader.h"
#include "model/rope.h"
#include "model/state.h"

enum { PIECE = 8 << 20 }; // bytes put on the device at a time

static const double notice_seconds = 30;

struct loader {
    struct model *model;
    struct reader *reader;
    bool with_weights;
    unsigned char *aligned; // a piece whose numbers do not lie on their boundaries in the file is copied here
    size_t aligned_size;
};

static size_t piece_rows(size_t row_bytes) {
    return size_max(1, PIECE / size_max(row_bytes, 1));
}

// safetensors does not promise alignment; the device is promised it.
static int align_piece(struct loader *loader, const unsigned char **source, size_t bytes, size_t width,
                       struct error *err) {
    if ((uintptr_t)*source % width == 0) {
        return STATUS_OK;
    }
    if (bytes > loader->aligned_size) {
        void *block = loader->aligned;
        int status = memory_resize(&block, bytes, 1, err);
        if (status != STATUS_OK) {
            return status;
        }
        loader->aligned = block;
        loader->aligned_size = bytes;
    }
    memcpy(loader->aligned, *source, bytes);
    *source = loader->aligned;
    return STATUS_OK;
}

static int load_tensor(struct loader *loader, size_t file_number, const struct safetensor *tensor,
                       struct weight_use use, struct error *err) {
    struct model *model = loader->model;
    const struct checkpoint_file *file = &model->checkpoint.files[file_number];
    size_t width = dtype_size(tensor->type->weight);
    size_t rows;
    size_t columns;
    weights_rows(&model->config, use, &rows, &columns);
    size_t step = piece_rows(columns * width);
    for (size_t row = 0; row < rows; row += step) {
        size_t count = size_min(step, rows - row);
        size_t begin = tensor->begin + row * columns * width;
        size_t bytes = count * columns * width;
        int status = reader_wait(loader->reader, file_number, begin + bytes, err);
        if (status != STATUS_OK) {
            return status;
        }
        const unsigned char *source = file->map.data + begin;
        status = align_piece(loader, &source, bytes, width, err);
        if (status == STATUS_OK) {
            status = weights_put(model->device, &model->weights, &model->config, use, row, count, source,
                                 tensor->type->weight, err);
        }
        if (status != STATUS_OK) {
            return error_wrap(err, "%s: tensor '%s'", file->path, tensor->name);
        }
        reader_release(loader->reader, file_number, begin + bytes);
    }
    return STATUS_OK;
}

// Bytes that are only hashed: tensors of blocks after the last wanted one, the head.
static int pass_over(struct loader *loader, size_t file_number, size_t begin, size_t end, struct error *err) {
    while (begin < end) {
        begin = size_min(end, begin + PIECE);
        int status = reader_wait(loader->reader, file_number, begin, err);
        if (status != STATUS_OK) {
            return status;
        }
        reader_release(loader->reader, file_number, begin);
    }
    return STATUS_OK;
}

static int load_file(struct loader *loader, size_t number, struct error *err) {
    struct model *model = loader->model;
    const struct checkpoint_file *file = &model->checkpoint.files[number];
    if (!loader->with_weights) {
        return pass_over(loader, number, 0, file->map.size, err);
    }
    for (size_t i = 0; i < file->header.count; i++) {
        const struct safetensor *tensor = &file->header.tensors[i];
        size_t entry;
        if (!checkpoint_find(&model->checkpoint, tensor->name, &entry)) {
            return error_set(err, STATUS_INTERNAL, "tensor '%s' was lost", tensor->name);
        }
        struct weight_use use = model->uses[entry];
        int status = weights_left_out(&model->weights, use)
                         ? pass_over(loader, number, tensor->begin, tensor->end, err)
                         : load_tensor(loader, number, tensor, use, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static int load_parts(struct loader *loader, const struct reader_part *parts, struct digest *digest,
                      const struct model_load_options *options, struct error *err) {
    struct model *model = loader->model;
    struct reader_options reading = {.timeout_seconds = options->timeout_seconds,
                                     .notice_seconds = notice_seconds,
                                     .log = options->log,
                                     .progress = options->progress,
                                     .context = options->context};
    int status = reader_start(&loader->reader, parts, model->checkpoint.count, digest, &reading, err);
    for (size_t i = 0; i < model->checkpoint.count && status == STATUS_OK; i++) {
        status = load_file(loader, i, err);
    }
    if (status == STATUS_OK) {
        status = reader_finish(loader->reader, model->fingerprint, err);
    }
    model->mappings_held = !reader_close(loader->reader) || model->mappings_held;
    return status;
}

int load_files(struct model *model, bool with_weights, const struct model_load_options *options,
               struct error *err) {
    struct loader loader = {.model = model, .with_weights = with_weights};
    struct digest *digest = NULL;
    void *block = NULL;
    int status = memory_zeroed(&block, model->checkpoint.count, sizeof(struct reader_part), err);
    if (status != STATUS_OK) {
        return status;
    }
    struct reader_part *parts = block;
    for (size_t i = 0; i < model->checkpoint.count; i++) {
        const struct checkpoint_file *file = &model->checkpoint.files[i];
        parts[i] = (struct reader_part){file->map.data, file->map.size, file->path};
    }
    status = digest_create(&digest, err);
    if (status == STATUS_OK) {
        status = digest_field(digest, model->config_text.data, model->config_text.size, err);
    }
    if (status == STATUS_OK) {
        status = load_parts(&loader, parts, digest, options, err);
    }
    free(loader.aligned);
    if (!model->mappings_held) {
        digest_destroy(digest);
        free(parts);
    }
    return status;
}

// A table is filled through a staging buffer, which may be reused only when the copy is done.
static int upload_rows(struct model *model, float *table, size_t row, size_t count, struct error *err) {
    struct model_state *state = &model->state;
    size_t half = model->config.head_dim / 2;
    struct device_mark mark;
    int status = device_upload(model->device, table + row * half, state->table_staging,
                               count * half * sizeof(float), err);
    if (status == STATUS_OK) {
        status = device_mark(model->device, &mark, err);
    }
    return status == STATUS_OK ? device_wait(model->device, mark, NULL, err) : status;
}

int load_rope_tables(struct model *model, struct error *err) {
    struct model_state *state = &model->state;
    size_t half = model->config.head_dim / 2;
    void *block = NULL;
    int status = memory_zeroed(&block, half * state->table_chunk, sizeof(float), err);
    if (status != STATUS_OK) {
        return status;
    }
    float *sines = block; // [table_chunk, half] kept while the cosines are uploaded
    rope_frequencies(&model->config, state->table_rows, state->frequencies);
    for (size_t row = 0; row < state->table_rows && status == STATUS_OK; row += state->table_chunk) {
        size_t count = size_min(state->table_chunk, state->table_rows - row);
        rope_rows(&model->config, state->frequencies, row, count, state->table_staging, sines);
        status = upload_rows(model, state->cosine, row, count, err);
        if (status == STATUS_OK) {
            memcpy(state->table_staging, sines, count * half * sizeof(float));
            status = upload_rows(model, state->sine, row, count, err);
        }
    }
    free(block);
    return status;
}

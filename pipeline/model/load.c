// Weights from files into their places on the device, in the order of the files; the fingerprint on the way.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "model/reader.h"
#include "model/rope.h"
#include "model/state.h"

enum { STEP = 8 << 20 }; // bytes put on the device at a time

static const double notice_seconds = 30;

struct loader {
    struct model *model;
    struct reader *reader;
    unsigned char *aligned; // numbers that do not lie on their boundaries in the file are copied here
    size_t aligned_size;
};

static size_t step_rows(size_t row_bytes) {
    return size_max(1, STEP / size_max(row_bytes, 1));
}

// safetensors does not promise alignment; the device is promised it.
static int align(struct loader *loader, const unsigned char **source, size_t bytes, size_t width,
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
    size_t width = dtype_size(tensor->type->weight);
    size_t rows;
    size_t columns;
    weights_rows(&model->config, use, &rows, &columns);
    size_t step = step_rows(columns * width);
    for (size_t row = 0; row < rows; row += step) {
        size_t count = size_min(step, rows - row);
        size_t begin = tensor->begin + row * columns * width;
        size_t bytes = count * columns * width;
        const unsigned char *source;
        int status = reader_bytes(loader->reader, file_number, begin, begin + bytes, &source, err);
        if (status != STATUS_OK) {
            return status;
        }
        status = align(loader, &source, bytes, width, err);
        if (status == STATUS_OK) {
            status = weights_put(model->device, &model->weights, &model->config, use, row, count, source,
                                 tensor->type->weight, err);
        }
        if (status != STATUS_OK) {
            return error_wrap(err, "%s: tensor '%s'", model->checkpoint.files[file_number].path,
                              tensor->name);
        }
    }
    return STATUS_OK;
}

// What no tensor asks for (blocks after the last wanted one, the head) is only hashed.
static int load_file(struct loader *loader, size_t number, struct error *err) {
    struct model *model = loader->model;
    const struct checkpoint_file *file = &model->checkpoint.files[number];
    for (size_t i = 0; i < file->header.count; i++) {
        const struct safetensor *tensor = &file->header.tensors[i];
        size_t entry;
        if (!checkpoint_find(&model->checkpoint, tensor->name, &entry)) {
            return error_set(err, STATUS_INTERNAL, "tensor '%s' was lost", tensor->name);
        }
        struct weight_use use = model->uses[entry];
        int status = weights_left_out(&model->weights, use) ? STATUS_OK
                                                            : load_tensor(loader, number, tensor, use, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static int finish_fingerprint(struct loader *loader, struct error *err) {
    static const char kind[] = "strata model, pieces of 4 MiB";
    struct model *model = loader->model;
    struct digest *digest;
    int status = digest_create(&digest, err);
    if (status == STATUS_OK) {
        status = digest_field(digest, kind, sizeof kind - 1, err);
    }
    if (status == STATUS_OK) {
        status = digest_field(digest, model->config_text.data, model->config_text.size, err);
    }
    if (status == STATUS_OK) {
        status = reader_finish(loader->reader, digest, err);
    }
    if (status == STATUS_OK) {
        status = digest_finish(digest, model->fingerprint, err);
    }
    digest_destroy(digest);
    return status;
}

static int start_reading(struct loader *loader, const struct model_load_options *options, struct error *err) {
    const struct checkpoint *checkpoint = &loader->model->checkpoint;
    struct reader_options reading = {.timeout_seconds = options->timeout_seconds,
                                     .notice_seconds = notice_seconds,
                                     .log = options->log,
                                     .progress = options->progress,
                                     .context = options->context};
    void *block = NULL;
    int status = memory_zeroed(&block, checkpoint->count, sizeof(struct reader_part), err);
    if (status != STATUS_OK) {
        return status;
    }
    struct reader_part *parts = block;
    for (size_t i = 0; i < checkpoint->count; i++) {
        const struct checkpoint_file *file = &checkpoint->files[i];
        parts[i] = (struct reader_part){file->descriptor, file->size, file->path};
    }
    status = reader_start(&loader->reader, parts, checkpoint->count, &reading, err);
    free(parts);
    return status;
}

int load_files(struct model *model, bool with_weights, const struct model_load_options *options,
               struct error *err) {
    struct loader loader = {.model = model};
    double started = clock_seconds();
    int status = start_reading(&loader, options, err);
    for (size_t i = 0; with_weights && i < model->checkpoint.count && status == STATUS_OK; i++) {
        status = load_file(&loader, i, err);
    }
    if (status == STATUS_OK) {
        status = finish_fingerprint(&loader, err);
    }
    reader_close(loader.reader);
    free(loader.aligned);
    if (status == STATUS_OK && options->log != NULL) {
        double seconds = clock_seconds() - started;
        double gigabytes = (double)checkpoint_bytes(&model->checkpoint) * 1e-9;
        log_write(options->log, LOG_LEVEL_INFO, "weights: %.3f GB read in %.3f s, %.2f GB/s", gigabytes,
                  seconds, seconds > 0 ? gigabytes / seconds : 0.0);
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

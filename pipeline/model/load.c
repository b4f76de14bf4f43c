// Weights from files into their places on the device, in the order of the files; the fingerprint on the way.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/weight_format.h"
#include "model/reader.h"
#include "model/stage.h"

enum { STEP = 8 << 20 }; // bytes put on the device at a time

static const double notice_seconds = 30;

struct loader {
    struct model *model;
    struct reader *reader;
    unsigned char
        *aligned; // numbers that do not lie on their boundaries or in order in the file are copied here
    size_t aligned_size;
};

// Whole heads where their rows are interleaved: no row leaves its head.
static size_t step_rows(size_t row_bytes, size_t head_rows) {
    size_t heads = STEP / size_max(row_bytes, 1) / size_max(head_rows, 1);
    return size_max(1, heads) * size_max(head_rows, 1);
}

// Puts the rows in the model's order. safetensors does not promise alignment; the device is promised it for
// numbers, and takes blocks bytewise.
static int align(struct loader *loader, const unsigned char **source, size_t rows, size_t row_bytes,
                 const struct tensor *tensor, struct error *err) {
    const struct weight_format *format = tensor->format;
    size_t width = format->plain ? format->bytes : 1;
    size_t bytes = rows * row_bytes;
    if ((uintptr_t)*source % width == 0 && tensor->head_rows == 0) {
        return STATUS_OK;
    }
    if (bytes > loader->aligned_size) {
        void *block = loader->aligned;
        TRY(memory_resize(&block, bytes, 1, err));
        loader->aligned = block;
        loader->aligned_size = bytes;
    }
    if (tensor->head_rows == 0) {
        memcpy(loader->aligned, *source, bytes);
    }
    for (size_t row = 0; tensor->head_rows > 0 && row < rows; row++) {
        memcpy(loader->aligned + row * row_bytes, *source + tensor_file_row(tensor, row) * row_bytes,
               row_bytes);
    }
    *source = loader->aligned;
    return STATUS_OK;
}

static int load_rows(struct loader *loader, struct stage *stage, const struct tensor *tensor,
                     struct weight_use use, size_t row, size_t count, size_t row_bytes, struct error *err) {
    struct model *model = loader->model;
    size_t begin = tensor->begin + row * row_bytes;
    size_t bytes = count * row_bytes;
    const unsigned char *source;
    TRY(reader_bytes(loader->reader, tensor->file, begin, begin + bytes, &source, err));
    TRY_TO(named, align(loader, &source, count, row_bytes, tensor, err));
    TRY_TO(named, weights_put(stage->device, &stage->weights, &model->config, use, row, count, source,
                              tensor->format, err));
    return STATUS_OK;
named:
    return error_wrap(err, "%s: tensor '%s'", model->checkpoint.files[tensor->file].path, tensor->name);
}

static int load_tensor(struct loader *loader, struct stage *stage, const struct tensor *tensor,
                       struct weight_use use, struct error *err) {
    size_t rows;
    size_t columns;
    struct weight_layout layout;
    weights_rows(&loader->model->config, use, &rows, &columns);
    if (!weight_layout(tensor->format, rows, columns, &layout)) {
        return error_set(err, STATUS_INTERNAL, "tensor '%s' is too large", tensor->name);
    }
    size_t row_bytes = layout.parts[0].row; // its blocks, the last one whole
    size_t step = step_rows(row_bytes, tensor->head_rows);
    for (size_t row = 0; row < rows; row += step) {
        TRY(load_rows(loader, stage, tensor, use, row, size_min(step, rows - row), row_bytes, err));
    }
    return STATUS_OK;
}

// What no tensor asks for (blocks after the last wanted one, the head) is only hashed.
static int load_tensors(struct loader *loader, struct error *err) {
    struct model *model = loader->model;
    const struct tensors *tensors = &model->checkpoint.tensors;
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = tensors->in_files[i];
        struct weight_use use = model->uses[tensor - tensors->entries];
        for (size_t s = 0; s < model->stage_count; s++) {
            struct stage *stage = &model->stages[s];
            if (!weights_left_out(&stage->weights, use)) {
                TRY(load_tensor(loader, stage, tensor, use, err));
            }
        }
    }
    return STATUS_OK;
}

static int finish_fingerprint(struct loader *loader, struct error *err) {
    static const char kind[] = "strata model, pieces of 4 MiB";
    int status;
    struct model *model = loader->model;
    struct digest *digest;
    TRY(digest_create(&digest, err));
    TRY_TO(done, status = digest_field(digest, kind, sizeof kind - 1, err));
    TRY_TO(done, status = digest_field(digest, model->config_text.data, model->config_text.size, err));
    TRY_TO(done, status = reader_finish(loader->reader, digest, err));
    status = digest_finish(digest, model->fingerprint, err);
done:
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
    void *block;
    TRY(memory_zeroed(&block, checkpoint->count, sizeof(struct reader_part), err));
    struct reader_part *parts = block;
    for (size_t i = 0; i < checkpoint->count; i++) {
        const struct checkpoint_file *file = &checkpoint->files[i];
        parts[i] = (struct reader_part){file->descriptor, file->size, file->path};
    }
    int status = reader_start(&loader->reader, parts, checkpoint->count, &reading, err);
    free(parts);
    return status;
}

static int read_all(struct loader *loader, bool with_weights, const struct model_load_options *options,
                    struct error *err) {
    TRY(start_reading(loader, options, err));
    if (with_weights) {
        TRY(load_tensors(loader, err));
    }
    return finish_fingerprint(loader, err);
}

int load_files(struct model *model, bool with_weights, const struct model_load_options *options,
               struct error *err) {
    struct loader loader = {.model = model};
    double started = clock_seconds();
    int status = read_all(&loader, with_weights, options, err);
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

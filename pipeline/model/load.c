// Weights from files into their places on the device, in the order of the files; the fingerprint on the way.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "model/adapter.h"
#include "model/load_weight.h"
#include "model/stage.h"

static const double notice_seconds = 30;

static bool is_loaded_now(const struct model_weights *weights, struct weight_use use) {
    return !weights_left_out(weights, use) &&
           !(weight_in_block(use.row) && weights_is_streamed(weights, use.block));
}

// What no tensor asks for (blocks after the last wanted one, the head), and what comes into slots later, is
// only hashed.
static int load_tensors(struct loader *loader, struct error *err) {
    struct model *model = loader->model;
    const struct tensors *tensors = &model->checkpoint.tensors;
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = tensors->in_files[i];
        struct weight_use use = model->match.uses[tensor - tensors->entries];
        struct load_places places = {.count = 0};
        for (size_t s = 0; s < model->stage_count; s++) {
            if (is_loaded_now(&model->stages[s].weights, use)) {
                places.stages[places.count++] = &model->stages[s];
            }
        }
        if (places.count > 0) {
            TRY(load_tensor(loader, &places, tensor, use, err));
        }
    }
    return STATUS_OK;
}

// What is read again later is held to these.
static int keep_hashes(struct loader *loader, struct error *err) {
    struct model *model = loader->model;
    const struct checkpoint *checkpoint = &model->checkpoint;
    void *block;
    if (model->hashes != NULL) {
        return STATUS_OK;
    }
    TRY(memory_zeroed(&block, checkpoint->count, sizeof model->hashes[0], err));
    model->hashes = block;
    for (size_t i = 0; i < checkpoint->count; i++) {
        size_t count;
        const unsigned char(*hashes)[DIGEST_BYTES] = reader_hashes(loader->reader, i, &count);
        TRY(memory_zeroed(&block, size_max(count, 1), DIGEST_BYTES, err));
        model->hashes[i] = block;
        memcpy(block, hashes, count * DIGEST_BYTES);
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
    if (model->adapter != NULL) {
        const char *adapter = model->adapter->fingerprint;
        TRY_TO(done, status = digest_field(digest, adapter, strlen(adapter), err));
    }
    TRY_TO(done, status = keep_hashes(loader, err));
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
        parts[i] =
            (struct reader_part){.descriptor = file->descriptor, .size = file->size, .name = file->path};
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
    loader_destroy(&loader);
    if (with_weights && model->stages[0].weights.streamed == 0) { // nothing is loaded again
        adapter_release(model->adapter);
    }
    if (status == STATUS_OK && options->log != NULL) {
        double seconds = clock_seconds() - started;
        double gigabytes = (double)checkpoint_bytes(&model->checkpoint) * 1e-9;
        log_write(options->log, LOG_LEVEL_INFO, "weights: %.3f GB read in %.3f s, %.2f GB/s", gigabytes,
                  seconds, seconds > 0 ? gigabytes / seconds : 0.0);
    }
    return status;
}

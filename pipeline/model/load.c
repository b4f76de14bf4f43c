// SPDX-License-Identifier: MIT
// Weights from files into their places on the device, in the order of the files; the fingerprint on the way.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "model/adapter.h"
#include "model/hash_cache.h"
#include "model/load_ranges.h"
#include "model/load_weight.h"
#include "model/stage.h"

static const double notice_seconds = 30;

// Of a file whose hashes are known every so many-th piece is hashed nevertheless: other weights under the
// same stamp do not pass for these, at 3 % of the work.
enum { LOOKED_AT = 32 };

struct load { // one call of load_files
    struct model *model;
    const struct model_load_options *options;
    bool with_weights;
    struct loader loader;
    struct buffer ranges; // struct loader_range
    struct hash_cache *cache;
    struct hash_stamp *stamps;              // [files] before they were read
    unsigned char (**hashes)[DIGEST_BYTES]; // [files] -> of each piece; NULL: not known
    bool *known;                            // [files] from an earlier launch
    size_t known_count;
    uint64_t bytes; // read
};

static size_t pieces_of(const struct checkpoint_file *file) {
    return file->size / READER_PIECE + (file->size % READER_PIECE > 0 ? 1 : 0);
}

static size_t range_count(const struct load *load) {
    return load->ranges.size / sizeof(struct loader_range);
}

// ---- what is known of the files ----

static int take_lists(struct load *load, struct error *err) {
    size_t count = load->model->checkpoint.count;
    TRY(memory_zeroed(&load->stamps, count, sizeof load->stamps[0], err));
    TRY(memory_zeroed(&load->hashes, count, sizeof load->hashes[0], err));
    return memory_zeroed(&load->known, count, sizeof load->known[0], err);
}

static int find_known(struct load *load, struct error *err) {
    const struct checkpoint *checkpoint = &load->model->checkpoint;
    TRY(take_lists(load, err));
    load->cache = load->options->hashes == MODEL_HASHES_MADE ? NULL : hash_cache_open();
    for (size_t i = 0; i < checkpoint->count && load->cache != NULL; i++) {
        const struct checkpoint_file *file = &checkpoint->files[i];
        TRY(memory_zeroed(&load->hashes[i], size_max(pieces_of(file), 1), DIGEST_BYTES, err));
        hash_stamp_take(&load->stamps[i], file->descriptor, file->size);
        load->known[i] =
            hash_cache_find(load->cache, file->path, &load->stamps[i], load->hashes[i], pieces_of(file));
        load->known_count += load->known[i] ? 1 : 0;
        if (!load->known[i]) {
            free(load->hashes[i]);
            load->hashes[i] = NULL;
        }
    }
    return STATUS_OK;
}

static void drop_known(struct load *load) {
    const struct checkpoint *checkpoint = &load->model->checkpoint;
    for (size_t i = 0; i < checkpoint->count; i++) {
        if (load->known[i]) {
            hash_cache_drop(load->cache, checkpoint->files[i].path);
        }
    }
    hash_cache_save(load->cache, load->options->log);
}

static void keep_made(struct load *load) {
    const struct checkpoint *checkpoint = &load->model->checkpoint;
    for (size_t i = 0; i < checkpoint->count; i++) {
        const struct checkpoint_file *file = &checkpoint->files[i];
        struct hash_stamp now;
        hash_stamp_take(&now, file->descriptor, file->size);
        if (!load->known[i] && load->stamps[i].settled && hash_stamp_same(&load->stamps[i], &now)) {
            hash_cache_put(load->cache, file->path, &now,
                           (const unsigned char(*)[DIGEST_BYTES])load->hashes[i], pieces_of(file));
        }
    }
    hash_cache_save(load->cache, load->options->log);
}

// ---- reading ----

static bool is_loaded_now(const struct model_weights *weights, struct weight_use use) {
    return !weights_left_out(weights, use) &&
           !(weight_in_block(use.row) && weights_is_streamed(weights, use.block));
}

// The stages that want a tensor. None: blocks after the last wanted one, the head, what comes into slots
// later.
static struct load_places find_places(struct model *model, struct weight_use use) {
    struct load_places places = {.count = 0};
    for (size_t s = 0; s < model->stage_count; s++) {
        if (is_loaded_now(&model->stages[s].weights, use)) {
            places.stages[places.count++] = &model->stages[s];
        }
    }
    return places;
}

static int load_tensors(struct loader *loader, struct error *err) {
    struct model *model = loader->model;
    const struct tensors *tensors = &model->checkpoint.tensors;
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = tensors->in_files[i];
        struct weight_use use = model->match.uses[tensor - tensors->entries];
        struct load_places places = find_places(model, use);
        if (places.count > 0) {
            TRY(load_tensor(loader, &places, tensor, use, err));
        }
    }
    return STATUS_OK;
}

struct wanted {
    const struct load *load;
    size_t file;
};

static bool is_wanted(const void *context, const struct model *model, const struct tensor *tensor) {
    const struct wanted *wanted = context;
    struct weight_use use = model->match.uses[tensor - model->checkpoint.tensors.entries];
    return tensor->file == wanted->file && find_places(wanted->load->model, use).count > 0;
}

static int add_file(struct load *load, size_t file, struct error *err) {
    const struct loader_range all = {.file = file, .end = load->model->checkpoint.files[file].size};
    return buffer_append(&load->ranges, &all, sizeof all, err);
}

// All of a file that is to be hashed; of one whose hashes are known what is loaded.
static int list_ranges(struct load *load, struct error *err) {
    for (size_t i = 0; i < load->model->checkpoint.count; i++) {
        const struct wanted wanted = {.load = load, .file = i};
        size_t first = range_count(load);
        if (!load->known[i]) {
            TRY(add_file(load, i, err));
        } else if (load->with_weights) {
            TRY(load_ranges_add(&load->ranges, load->model, is_wanted, &wanted, err));
            struct loader_range *ranges = (void *)load->ranges.data;
            for (size_t k = first; k < range_count(load); k++) {
                ranges[k].hashed_every = LOOKED_AT;
            }
        }
    }
    return STATUS_OK;
}

static int start_reading(struct load *load, struct error *err) {
    const struct model_load_options *options = load->options;
    struct loader_range *ranges = (void *)load->ranges.data;
    const struct reader_options reading = {.timeout_seconds = options->timeout_seconds,
                                           .notice_seconds = notice_seconds,
                                           .log = options->log,
                                           .progress = options->progress,
                                           .context = options->context};
    load->loader.ranges = ranges;
    load->loader.range_count = range_count(load);
    load->bytes += load_ranges_bytes(ranges, range_count(load));
    return load_ranges_start(&load->loader.reader, load->model, ranges, range_count(load), load->hashes,
                             &reading, err);
}

static void end_reading(struct load *load) {
    reader_close(load->loader.reader);
    load->loader.reader = NULL;
    buffer_clear(&load->ranges);
}

// The hashes of files that were read whole.
static int take_hashes(struct load *load, struct error *err) {
    for (size_t i = 0; i < load->loader.range_count; i++) {
        const struct loader_range *range = &load->loader.ranges[i];
        size_t count;
        if (load->known[range->file]) {
            continue;
        }
        const unsigned char(*hashes)[DIGEST_BYTES] = reader_hashes(load->loader.reader, range->part, &count);
        TRY(memory_zeroed(&load->hashes[range->file], size_max(count, 1), DIGEST_BYTES, err));
        memcpy(load->hashes[range->file], hashes, count * DIGEST_BYTES);
    }
    return STATUS_OK;
}

static int read_ranges(struct load *load, bool with_weights, struct error *err) {
    if (range_count(load) == 0) {
        return STATUS_OK;
    }
    TRY(start_reading(load, err));
    if (with_weights) {
        TRY(load_tensors(&load->loader, err));
    }
    TRY(reader_finish(load->loader.reader, err));
    TRY(take_hashes(load, err));
    end_reading(load);
    return STATUS_OK;
}

// Files that were taken for known ones and have another stamp by now: all of them must be as they were.
static int check_moved(struct load *load, struct error *err) {
    const struct checkpoint *checkpoint = &load->model->checkpoint;
    for (size_t i = 0; i < checkpoint->count; i++) {
        struct hash_stamp now;
        hash_stamp_take(&now, checkpoint->files[i].descriptor, checkpoint->files[i].size);
        if (load->known[i] && !hash_stamp_same(&load->stamps[i], &now)) {
            TRY(add_file(load, i, err));
        }
    }
    return read_ranges(load, false, err);
}

// ---- what comes of it ----

static int make_fingerprint(const struct load *load, struct error *err) {
    static const char kind[] = "strata model, pieces of 4 MiB";
    int status;
    struct model *model = load->model;
    const struct checkpoint *checkpoint = &model->checkpoint;
    struct digest *digest;
    TRY(digest_create(&digest, err));
    TRY_TO(done, status = digest_field(digest, kind, sizeof kind - 1, err));
    TRY_TO(done, status = digest_field(digest, model->config_text.data, model->config_text.size, err));
    for (size_t i = 0; i < checkpoint->count; i++) {
        size_t pieces = pieces_of(&checkpoint->files[i]);
        TRY_TO(done, status = digest_number(digest, checkpoint->files[i].size, err));
        TRY_TO(done, status = digest_update(digest, load->hashes[i], pieces * DIGEST_BYTES, err));
    }
    if (model->adapter != NULL) {
        const char *adapter = model->adapter->fingerprint;
        TRY_TO(done, status = digest_field(digest, adapter, strlen(adapter), err));
    }
    status = digest_finish(digest, model->fingerprint, err);
done:
    digest_destroy(digest);
    return status;
}

// What is read again later is held to the hashes of the first time.
static void give_hashes(struct load *load) {
    if (load->model->hashes == NULL) {
        load->model->hashes = load->hashes;
        load->hashes = NULL;
    }
}

static int read_all(struct load *load, struct error *err) {
    TRY(find_known(load, err));
    TRY(list_ranges(load, err));
    int status = read_ranges(load, load->with_weights, err);
    if (status == STATUS_OK) {
        status = check_moved(load, err);
    }
    if (status == STATUS_DATA && load->options->hashes == MODEL_HASHES_KEPT) {
        drop_known(load);
    }
    TRY(status);
    TRY(make_fingerprint(load, err));
    if (load->options->hashes == MODEL_HASHES_KEPT) {
        keep_made(load);
    }
    give_hashes(load);
    return STATUS_OK;
}

static void log_reading(const struct load *load, double seconds) {
    double gigabytes = (double)load->bytes * 1e-9;
    if (load->options->log == NULL) {
        return;
    }
    log_write(load->options->log, LOG_LEVEL_INFO, "weights: %.3f GB read in %.3f s, %.2f GB/s", gigabytes,
              seconds, seconds > 0 ? gigabytes / seconds : 0.0);
    if (load->known_count > 0) {
        log_write(load->options->log, LOG_LEVEL_INFO,
                  "%zu of %zu weight files are as an earlier launch hashed them and were not hashed again",
                  load->known_count, load->model->checkpoint.count);
    }
}

int load_files(struct model *model, bool with_weights, const struct model_load_options *options,
               struct error *err) {
    struct load load = {
        .model = model, .options = options, .with_weights = with_weights, .loader = {.model = model}};
    double started = clock_seconds();
    int status = read_all(&load, err);
    reader_close(load.loader.reader);
    loader_destroy(&load.loader);
    if (with_weights && model->stages[0].weights.streamed == 0) { // nothing is loaded again
        adapter_release(model->adapter);
    }
    if (status == STATUS_OK) {
        log_reading(&load, clock_seconds() - started);
    }
    for (size_t i = 0; load.hashes != NULL && i < model->checkpoint.count; i++) {
        free(load.hashes[i]);
    }
    free(load.hashes);
    free(load.stamps);
    free(load.known);
    hash_cache_close(load.cache);
    buffer_destroy(&load.ranges);
    return status;
}

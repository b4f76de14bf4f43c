// SPDX-License-Identifier: MIT
#include "model/streaming.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/size.h"
#include "model/load_ranges.h"

static const double notice_seconds = 30;

struct image {  // of a block, as the device has it
    void *data; // staging memory
    size_t bytes;
    bool holds;
};

struct streaming {
    struct model *model;
    struct loader loader; // its reader is the present sweep's; NULL: none
    struct reader_options reading;
    void (*reads_again)(void *context); // model_load_options
    void *context;
    bool queues;               // the devices: loads go on beside what they compute
    struct load_places places; // all of the model's stages
    struct buffer ranges;      // struct loader_range of all streamed blocks, block after block
    size_t *first_range;       // [streamed + 1]
    size_t next;               // streamed block that the reader comes to next
    struct image *images;      // [streamed] NULL: files are read again
};

// ---- what is read of the files ----

static bool is_of_block(const void *block, const struct model *model, const struct tensor *tensor) {
    struct weight_use use = model->match.uses[tensor - model->checkpoint.tensors.entries];
    return use.row != NULL && weight_in_block(use.row) && use.block == *(const size_t *)block;
}

// ---- memory ----

size_t streaming_slots(const struct device *device, size_t streamed) {
    struct device_description description;
    device_describe(device, &description);
    return size_min(streamed, description.queues ? WEIGHT_SLOTS : 1);
}

// Of the files, all streamed blocks and the largest of them.
static int count_bytes(const struct model *model, const struct model_weights *weights, size_t *all,
                       size_t *largest, struct error *err) {
    size_t end = weights->first_block + weights->block_count;
    *all = 0;
    *largest = 0;
    for (size_t block = weights_first_streamed(weights); block < end; block++) {
        struct buffer ranges = {0};
        int status = load_ranges_add(&ranges, model, is_of_block, &block, err);
        size_t bytes =
            load_ranges_bytes((const void *)ranges.data, ranges.size / sizeof(struct loader_range));
        *all += bytes; // of files that are there
        *largest = size_max(*largest, bytes);
        buffer_destroy(&ranges);
        TRY(status);
    }
    return STATUS_OK;
}

// A processor reads the next block ahead while it computes; a device that queues leaves the host time to.
static int choose_ring(const struct model *model, const struct model_weights *weights,
                       const struct device *device, struct reader_options *reading, size_t *pieces,
                       struct error *err) {
    struct device_description description;
    size_t all;
    size_t largest;
    TRY(count_bytes(model, weights, &all, &largest, err));
    device_describe(device, &description);
    reading->ring = description.queues ? 0 : largest;
    *pieces = all / READER_PIECE + weights->streamed; // a range may end in a piece that is not whole
    return STATUS_OK;
}

int streaming_plan(const struct model *model, const struct model_weights *weights, struct device_plan *plan,
                   struct error *err) {
    const struct device *device = model->stages[0].device;
    struct reader_options reading = {0};
    if (weights->streamed == 0) {
        return STATUS_OK;
    }
    size_t pieces;
    TRY(choose_ring(model, weights, device, &reading, &pieces, err));
    plan->beside = reader_ring_bytes(&reading, pieces);
    size_t first = weights_first_streamed(weights);
    for (size_t i = 0; i < weights->streamed && model->placement.at == MODEL_WEIGHTS_HOST; i++) {
        size_t bytes;
        TRY(weights_block_bytes(weights, &model->config, device, first + i, &bytes, err));
        TRY(device_plan_add(plan, DEVICE_STAGING, bytes, err));
    }
    return STATUS_OK;
}

// ---- a model's ----

static int list_all_ranges(struct streaming *streaming, const struct model_weights *weights,
                           struct error *err) {
    size_t first = weights_first_streamed(weights);
    void *block;
    TRY(memory_zeroed(&block, weights->streamed + 1, sizeof streaming->first_range[0], err));
    streaming->first_range = block;
    for (size_t i = 0; i < weights->streamed; i++) {
        const size_t number = first + i;
        TRY(load_ranges_add(&streaming->ranges, streaming->model, is_of_block, &number, err));
        streaming->first_range[i + 1] = streaming->ranges.size / sizeof(struct loader_range);
    }
    return STATUS_OK;
}

// All devices are of one kind: what one has, the others take.
static int take_images(struct streaming *streaming, const struct stage *stage, struct error *err) {
    const struct model_weights *weights = &stage->weights;
    size_t first = weights_first_streamed(weights);
    void *block;
    if (streaming->model->placement.at != MODEL_WEIGHTS_HOST) {
        return STATUS_OK;
    }
    TRY(memory_zeroed(&block, weights->streamed, sizeof streaming->images[0], err));
    streaming->images = block;
    for (size_t i = 0; i < weights->streamed; i++) {
        struct image *image = &streaming->images[i];
        TRY(weights_block_bytes(weights, &streaming->model->config, stage->device, first + i, &image->bytes,
                                err));
        TRY(device_take(stage->device, DEVICE_STAGING, image->bytes, &image->data, err));
    }
    return STATUS_OK;
}

static bool tell_reading(void *context, uint64_t done, uint64_t all, double seconds) {
    const struct streaming *streaming = context;
    (void)done;
    (void)all;
    (void)seconds;
    streaming->reads_again(streaming->context);
    return true;
}

int streaming_open(struct model *model, const struct model_load_options *options, struct error *err) {
    struct stage *stage = &model->stages[0];
    struct device_description device;
    void *block;
    if (stage->weights.streamed == 0) {
        return STATUS_OK;
    }
    TRY(memory_zeroed(&block, 1, sizeof(struct streaming), err));
    struct streaming *streaming = model->streaming = block;
    device_describe(stage->device, &device);
    *streaming =
        (struct streaming){.model = model,
                           .loader = {.model = model},
                           .reading = {.timeout_seconds = options->timeout_seconds,
                                       .notice_seconds = notice_seconds,
                                       .log = options->log,
                                       .progress = options->reads_again == NULL ? NULL : tell_reading,
                                       .context = streaming},
                           .reads_again = options->reads_again,
                           .context = options->context,
                           .queues = device.queues,
                           .places = {.count = model->stage_count},
                           .next = stage->weights.streamed};
    for (size_t i = 0; i < model->stage_count; i++) {
        streaming->places.stages[i] = &model->stages[i];
    }
    size_t pieces;
    TRY(choose_ring(model, &stage->weights, stage->device, &streaming->reading, &pieces, err));
    TRY(take_images(streaming, stage, err));
    return list_all_ranges(streaming, &stage->weights, err);
}

void streaming_close(struct streaming *streaming) {
    if (streaming == NULL) {
        return;
    }
    reader_close(streaming->loader.reader);
    loader_destroy(&streaming->loader);
    buffer_destroy(&streaming->ranges);
    free(streaming->images);
    free(streaming->first_range);
    free(streaming);
}

// ---- reading ----

// A reader of the streamed blocks from number `first` on, to the last one.
static int begin_reading(struct streaming *streaming, size_t streamed, size_t first, struct error *err) {
    struct loader_range *ranges = (void *)streaming->ranges.data;
    size_t begin = streaming->first_range[first];
    size_t count = streaming->first_range[streamed] - begin;
    const struct model *model = streaming->model;
    reader_close(streaming->loader.reader);
    streaming->loader.reader = NULL;
    streaming->next = first;
    return load_ranges_start(&streaming->loader.reader, model, ranges + begin, count, model->hashes,
                             &streaming->reading, err);
}

static int load_block(struct streaming *streaming, size_t streamed, size_t block, struct error *err) {
    const struct model *model = streaming->model;
    const struct tensors *tensors = &model->checkpoint.tensors;
    size_t begin = streaming->first_range[streamed];
    streaming->loader.ranges = (const struct loader_range *)(const void *)streaming->ranges.data + begin;
    streaming->loader.range_count = streaming->first_range[streamed + 1] - begin;
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = tensors->in_files[i];
        if (is_of_block(&block, model, tensor)) {
            TRY(load_tensor(&streaming->loader, &streaming->places, tensor,
                            model->match.uses[tensor - tensors->entries], err));
        }
    }
    return STATUS_OK;
}

// What is read ahead for the next sweep comes while the last block computes. Of images nothing is read again.
static int read_on(struct streaming *streaming, size_t streamed, struct error *err) {
    if (streaming->next < streamed) {
        return STATUS_OK;
    }
    if (streaming->images == NULL) {
        return begin_reading(streaming, streamed, 0, err);
    }
    reader_close(streaming->loader.reader);
    streaming->loader.reader = NULL;
    return STATUS_OK;
}

static int read_block(struct streaming *streaming, size_t streamed, size_t number, size_t block,
                      struct error *err) {
    if (streaming->loader.reader == NULL || streaming->next != number) {
        TRY(begin_reading(streaming, streamed, number, err));
    }
    TRY(load_block(streaming, number, block, err));
    streaming->next = number + 1;
    return read_on(streaming, streamed, err);
}

// Once a block: waiting for it costs the first sweep alone.
static int save_image(struct image *image, struct device *device, const void *data, struct error *err) {
    struct device_fence fence;
    TRY(device_download(device, image->data, data, image->bytes, err));
    TRY(device_fence(device, &fence, err));
    TRY(device_wait(device, fence, NULL, err));
    image->holds = true;
    return STATUS_OK;
}

static int restore_image(const struct streaming *streaming, const struct image *image, size_t block,
                         struct error *err) {
    for (size_t i = 0; i < streaming->places.count; i++) {
        struct stage *stage = streaming->places.stages[i];
        int status = device_weights_restore(stage->device, weights_slot(&stage->weights, block)->data,
                                            image->data, image->bytes, err);
        TRY(stage_named(streaming->model, stage, status, err));
    }
    return STATUS_OK;
}

static int fill_slots(struct streaming *streaming, size_t block, struct error *err) {
    struct stage *stage = streaming->places.stages[0];
    struct model_weights *weights = &stage->weights;
    size_t number = block - weights_first_streamed(weights);
    struct image *image = streaming->images == NULL ? NULL : &streaming->images[number];
    if (image != NULL && image->holds) {
        return restore_image(streaming, image, block, err);
    }
    TRY(read_block(streaming, weights->streamed, number, block, err));
    return image == NULL ? STATUS_OK
                         : save_image(image, stage->device, weights_slot(weights, block)->data, err);
}

int streaming_bring(struct model *model, size_t block, struct error *err) {
    struct streaming *streaming = model->streaming;
    if (streaming == NULL || !weights_is_streamed(&model->stages[0].weights, block)) {
        return STATUS_OK;
    }
    const struct weight_slot *first = weights_slot(&model->stages[0].weights, block);
    if (first->holds && first->block == block) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < model->stage_count; i++) {
        weights_slot(&model->stages[i].weights, block)->holds = false;
    }
    TRY(fill_slots(streaming, block, err));
    for (size_t i = 0; i < model->stage_count; i++) {
        struct weight_slot *slot = weights_slot(&model->stages[i].weights, block);
        slot->holds = true;
        slot->block = block;
    }
    return STATUS_OK;
}

int streaming_ahead(struct model *model, size_t block, struct error *err) {
    const struct model_weights *weights = &model->stages[0].weights;
    size_t resident = weights->block_count - weights->streamed;
    if (model->streaming == NULL || !model->streaming->queues) {
        return STATUS_OK;
    }
    return streaming_bring(model, block + 1 < weights->block_count ? size_max(block + 1, resident) : resident,
                           err);
}

// SPDX-License-Identifier: MIT
#include "model/load_weight.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/size.h"
#include "kernels/weight_format.h"

void loader_destroy(struct loader *loader) {
    free(loader->gathered.data);
    free(loader->merged.data);
    free(loader->seen);
    free(loader->aligned.data);
    free(loader->whole.data);
    free(loader->part.data);
}

int loader_grow(struct loader_bytes *bytes, size_t size, struct error *err) {
    if (size > bytes->size) {
        void *block = bytes->data;
        TRY(memory_resize(&block, size, 1, err));
        bytes->data = block;
        bytes->size = size;
    }
    return STATUS_OK;
}

int loader_read(struct loader *loader, size_t file, size_t begin, size_t end, const unsigned char **out,
                struct error *err) {
    for (size_t i = 0; i < loader->range_count; i++) {
        const struct loader_range *range = &loader->ranges[i];
        if (range->file == file && range->begin <= begin && end <= range->end) {
            return reader_bytes(loader->reader, range->part, begin - range->begin, end - range->begin, out,
                                err);
        }
    }
    return error_set(err, STATUS_INTERNAL, "bytes %zu to %zu of file %zu are not being read", begin, end,
                     file);
}

int load_named(const struct item *item, int status, struct error *err) {
    const char *path = item->loader->model->checkpoint.files[item->tensor->file].path;
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "%s: tensor '%s'", path, item->tensor->name);
}

// ---- as it comes ----

// Rows that are put at a time: whole heads where a head's are interleaved, which no row leaves.
static size_t step_rows(const struct item *item) {
    enum { BLOCKS_STEP = 1 << 20 }; // whose scales were looked at: they are in the cache when they are copied
    size_t head = size_max(item->tensor->head_rows, 1);
    const struct weight_format *format = item->tensor->format;
    bool is_blocks = format != NULL && !weight_format_plain(format);
    size_t bytes = is_blocks ? BLOCKS_STEP : LOAD_STEP;
    return size_max(1, bytes / size_max(item->row_bytes, 1) / head) * head;
}

// Puts rows in the model's order. safetensors does not promise alignment; the device is promised it for
// numbers, and takes blocks bytewise.
static int align(const struct item *item, const unsigned char **source, size_t rows, struct error *err) {
    struct loader_bytes *aligned = &item->loader->aligned;
    const struct tensor *tensor = item->tensor;
    const struct weight_format *format =
        item->bound->is_quantised ? tensor->format : &item->bound->source.format;
    size_t row_bytes = item->row_bytes;
    size_t width = weight_format_plain(format) ? format->bytes : 1;
    if ((uintptr_t)*source % width == 0 && tensor->head_rows == 0) {
        return STATUS_OK;
    }
    TRY(loader_grow(aligned, rows * row_bytes, err));
    for (size_t row = 0; row < rows; row++) {
        memcpy(aligned->data + row * row_bytes, *source + tensor_file_row(tensor, row) * row_bytes,
               row_bytes);
    }
    *source = aligned->data;
    return STATUS_OK;
}

// A block that holds its own scale may hold one that makes no number of any of its codes.
static int check_blocks(const struct item *item, const unsigned char *blocks, size_t bytes,
                        struct error *err) {
    const struct weight_format *format = item->tensor->format;
    return format == NULL || weight_scales_finite(format, blocks, bytes)
               ? STATUS_OK
               : load_named(item, error_set(err, STATUS_DATA, "holds a scale that is not finite"), err);
}

int load_read_rows(const struct item *item, size_t row, size_t count, const unsigned char **source,
                   struct error *err) {
    size_t bytes = count * item->row_bytes;
    size_t begin = item->tensor->begin + row * item->row_bytes;
    TRY(loader_read(item->loader, item->tensor->file, begin, begin + bytes, source, err));
    TRY(check_blocks(item, *source, bytes, err));
    return align(item, source, count, err);
}

static int merge_rows(const struct item *item, size_t row, size_t count, const unsigned char *source,
                      struct error *err) {
    struct weight_view view;
    if (!weight_view_of(&item->bound->source.format, count, item->columns, source, &view)) {
        return load_named(item, error_set(err, STATUS_INTERNAL, "too large"), err);
    }
    return load_named(item, load_merged(item, &view, row, err), err);
}

static int put_rows(const struct item *item, size_t row, size_t count, struct error *err) {
    const struct model *model = item->loader->model;
    const unsigned char *source;
    int status = STATUS_OK;
    TRY(load_read_rows(item, row, count, &source, err));
    if (load_is_merged(item)) {
        return merge_rows(item, row, count, source, err);
    }
    for (size_t i = 0; i < item->places->count && status == STATUS_OK; i++) {
        struct stage *stage = item->places->stages[i];
        status = weights_put(stage->device, &stage->weights, &model->config, item->use, row, count, source,
                             &item->bound->source.format, err);
        status = stage_named(model, stage, status, err);
    }
    return load_named(item, status, err);
}

static int stream_rows(const struct item *item, struct error *err) {
    size_t step = step_rows(item);
    for (size_t row = 0; row < item->rows; row += step) {
        TRY(put_rows(item, row, size_min(step, item->rows - row), err));
    }
    return STATUS_OK;
}

static int gather_part(const struct item *item, enum weight_part part, size_t offset, const void *source,
                       size_t bytes, struct error *err) {
    struct loader_bytes *gathered = &item->loader->gathered;
    TRY(loader_grow(gathered, size_max(item->layout.bytes, 1), err));
    memcpy(gathered->data + item->layout.parts[part].offset + offset, source, bytes);
    return STATUS_OK;
}

int load_part(const struct item *item, enum weight_part part, size_t offset, const void *source, size_t bytes,
              struct error *err) {
    if (!item->is_kept) {
        return gather_part(item, part, offset, source, bytes, err);
    }
    const struct model *model = item->loader->model;
    int status = STATUS_OK;
    for (size_t i = 0; i < item->places->count && status == STATUS_OK; i++) {
        struct stage *stage = item->places->stages[i];
        status = weights_put_part(stage->device, &stage->weights, &model->config, item->use, part, offset,
                                  source, bytes, err);
        status = stage_named(model, stage, status, err);
    }
    return load_named(item, status, err);
}

int load_gathered(const struct item *item, struct error *err) {
    const unsigned char *parts = item->loader->gathered.data;
    struct weight_view view;
    if (!weight_view_of(&item->bound->source.format, item->rows, item->columns, parts, &view)) {
        return load_named(item, error_set(err, STATUS_INTERNAL, "too large"), err);
    }
    if (load_is_merged(item)) {
        return load_named(item, load_merged(item, &view, 0, err), err);
    }
    const struct model *model = item->loader->model;
    int status = STATUS_OK;
    for (size_t i = 0; i < item->places->count && status == STATUS_OK; i++) {
        struct stage *stage = item->places->stages[i];
        status = weights_put_view(stage->device, &stage->weights, &model->config, item->use, &view, err);
        status = stage_named(model, stage, status, err);
    }
    return load_named(item, status, err);
}

static int stream_part(const struct item *item, struct error *err) {
    size_t size = item->tensor->end - item->tensor->begin;
    for (size_t at = 0; at < size; at += LOAD_STEP) {
        size_t bytes = size_min(LOAD_STEP, size - at);
        size_t begin = item->tensor->begin + at;
        const unsigned char *source;
        TRY(loader_read(item->loader, item->tensor->file, begin, begin + bytes, &source, err));
        TRY(load_named(item, arrange_check(&item->component->how, source, bytes, err), err));
        TRY(load_part(item, item->component->part, at, source, bytes, err));
    }
    return STATUS_OK;
}

// The same of formats of one part, in whole rows, which may be interleaved.
static int stream_part_rows(const struct item *item, struct error *err) {
    size_t row_bytes = item->row_bytes;
    size_t step = step_rows(item);
    for (size_t row = 0; row < item->rows; row += step) {
        size_t count = size_min(step, item->rows - row);
        const unsigned char *source;
        TRY(load_read_rows(item, row, count, &source, err));
        TRY(load_part(item, item->component->part, row * row_bytes, source, count * row_bytes, err));
    }
    return STATUS_OK;
}

// ---- rearranged ----

static int read_whole(const struct item *item, struct error *err) {
    struct loader *loader = item->loader;
    size_t size = item->tensor->end - item->tensor->begin;
    TRY(loader_grow(&loader->whole, size_max(size, 1), err));
    for (size_t at = 0; at < size; at += LOAD_STEP) {
        size_t bytes = size_min(LOAD_STEP, size - at);
        size_t begin = item->tensor->begin + at;
        const unsigned char *source;
        TRY(loader_read(loader, item->tensor->file, begin, begin + bytes, &source, err));
        memcpy(loader->whole.data + at, source, bytes);
    }
    return STATUS_OK;
}

static size_t components_read(const struct weight_source *source) {
    size_t count = 0;
    for (size_t i = 0; i < source->component_count; i++) {
        count += source->components[i].is_read;
    }
    return count;
}

static int rearrange(const struct item *item, struct error *err) {
    struct loader *loader = item->loader;
    enum weight_part part = item->component->part;
    size_t bytes = item->layout.parts[part].bytes;
    size_t size = item->tensor->end - item->tensor->begin;
    TRY(loader_grow(&loader->part, size_max(bytes, 1), err));
    int status = arrange(loader->part.data, bytes, &item->component->how, loader->whole.data, size, err);
    TRY(load_named(item, status, err));
    return load_part(item, part, 0, loader->part.data, bytes, err);
}

// What is used must be what is hashed: the bytes in loader->whole are those of the tensor's other reading.
static int check_seen(const struct item *item, struct error *err) {
    struct loader *loader = item->loader;
    const struct tensors *tensors = &loader->model->checkpoint.tensors;
    unsigned char sha256[DIGEST_BYTES];
    struct digest *digest;
    int status;
    if (loader->seen == NULL) {
        void *seen;
        TRY(memory_zeroed(&seen, tensors->count, sizeof loader->seen[0], err));
        loader->seen = seen;
    }
    struct loader_seen *seen = &loader->seen[item->tensor - tensors->entries];
    TRY(digest_create(&digest, err));
    TRY_TO(done,
           status = digest_update(digest, loader->whole.data, item->tensor->end - item->tensor->begin, err));
    TRY_TO(done, status = digest_finish_bytes(digest, sha256, err));
    if (seen->once && memcmp(seen->sha256, sha256, sizeof sha256) != 0) {
        status = load_named(item, error_set(err, STATUS_DATA, "it changed while the model was read"), err);
    }
    memcpy(seen->sha256, sha256, sizeof sha256);
    seen->once = true;
done:
    digest_destroy(digest);
    return status;
}

// What lies beside codes that are expanded now: read from its own place, since the files' order may have it
// behind the codes of every other weight. It is small, and read again where the order has it.
static int gather_beside(const struct item *item, struct error *err) {
    struct loader *loader = item->loader;
    const struct weight_source *source = &item->bound->source;
    for (size_t i = 0; i < source->component_count; i++) {
        struct item other = *item;
        other.component = &source->components[i];
        other.tensor = other.component->tensor;
        if (!other.component->is_read || other.component->part == PART_CODES) {
            continue;
        }
        const struct checkpoint_file *file = &loader->model->checkpoint.files[other.tensor->file];
        size_t size = other.tensor->end - other.tensor->begin;
        TRY(loader_grow(&loader->whole, size_max(size, 1), err));
        TRY(file_read_at(file->descriptor, loader->whole.data, size, other.tensor->begin, file->path, err));
        TRY(check_seen(&other, err));
        TRY(rearrange(&other, err));
    }
    return load_gathered(item, err);
}

static int load_rearranged(const struct item *item, struct error *err) {
    TRY(read_whole(item, err));
    if (!item->is_kept && item->component->part != PART_CODES) {
        return check_seen(item, err); // gather_beside takes it
    }
    TRY(rearrange(item, err));
    return item->is_kept ? STATUS_OK : gather_beside(item, err);
}

// ---- any ----

static int load_item(const struct item *item, struct error *err) {
    if (item->bound->is_quantised) {
        return load_quantised(item, err);
    }
    bool is_alone = components_read(&item->bound->source) == 1;
    if (item->component->how.kind == ARRANGE_AS_IS && is_alone) {
        return item->is_kept ? stream_part_rows(item, err) : stream_rows(item, err);
    }
    if (item->component->how.kind == ARRANGE_AS_IS && item->is_kept) {
        return stream_part(item, err);
    }
    return load_rearranged(item, err);
}

static bool lay_out(struct item *item) {
    struct weight_layout file;
    const struct weight_format *format = &item->bound->source.format;
    const struct weight_format *stored = item->bound->is_quantised ? item->tensor->format : format;
    bool fits = weight_layout(format, item->rows, item->columns, &item->layout) &&
                weight_layout(stored, item->rows, item->columns, &file);
    item->row_bytes = fits ? file.parts[0].row : 0;
    return fits;
}

int load_tensor(struct loader *loader, const struct load_places *places, const struct tensor *tensor,
                struct weight_use use, struct error *err) {
    const struct model *model = loader->model;
    struct item item = {.loader = loader, .places = places, .tensor = tensor, .use = use};
    item.bound = &model->match.bound[use.bound];
    item.component = &item.bound->source.components[use.component];
    if (!item.component->is_read) {
        return STATUS_OK;
    }
    weights_rows(&model->config, use, &item.rows, &item.columns);
    item.is_kept = weights_are_kept(&places->stages[0]->weights, &model->config, use);
    if (!lay_out(&item)) {
        return load_named(&item, error_set(err, STATUS_INTERNAL, "too large"), err);
    }
    return load_item(&item, err);
}

// SPDX-License-Identifier: MIT
// An adapter's part of a weight, added while the weight is loaded.
#include "base/memory.h"
#include "base/size.h"
#include "kernels/weight_format.h"
#include "model/adapter.h"
#include "model/load_weight.h"

static const struct low_rank *delta_of(const struct item *item) {
    const struct adapter *adapter = item->loader->model->adapter;
    return adapter == NULL || adapter->deltas[item->use.bound].rank == 0 ? NULL
                                                                         : &adapter->deltas[item->use.bound];
}

bool load_is_merged(const struct item *item) {
    return delta_of(item) != NULL;
}

// Those that compute: they have nothing else to do while weights come.
static int threads_of(const struct item *item) {
    struct loader *loader = item->loader;
    if (loader->threads == 0) {
        struct device_description device;
        device_describe(item->places->stages[0]->device, &device);
        loader->threads = device.threads > 0 ? device.threads : 1;
    }
    return loader->threads;
}

int load_merge(const struct item *item, float *numbers, size_t row, size_t count, struct error *err) {
    const struct low_rank *delta = delta_of(item);
    if (delta != NULL && delta->a == NULL) {
        return error_set(err, STATUS_INTERNAL, "the adapter's numbers were given back");
    }
    if (delta == NULL || low_rank_add(numbers, delta, row, count, threads_of(item))) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_DATA, "what model.adapter adds to rows %zu to %zu is not finite", row,
                     row + count - 1);
}

static int put_numbers(const struct item *item, const float *numbers, size_t row, size_t count,
                       struct error *err) {
    const struct model *model = item->loader->model;
    int status = STATUS_OK;
    for (size_t i = 0; i < item->places->count && status == STATUS_OK; i++) {
        struct stage *stage = item->places->stages[i];
        status = weights_put(stage->device, &stage->weights, &model->config, item->use, row, count, numbers,
                             weight_format_of(DTYPE_F32), err);
        status = stage_named(model, stage, status, err);
    }
    return status;
}

int load_merged(const struct item *item, const struct weight_view *view, size_t row, struct error *err) {
    enum { SOME = 1 << 20 }; // numbers
    struct loader_bytes *merged = &item->loader->merged;
    size_t step = size_min(size_max(SOME / view->columns, 1), view->rows);
    TRY(loader_grow(merged, step * view->columns * sizeof(float), err));
    float *numbers = (float *)(void *)merged->data;
    for (size_t at = 0; at < view->rows; at += step) {
        size_t count = size_min(step, view->rows - at);
        for (size_t i = 0; i < count; i++) {
            weight_expand(numbers + i * view->columns, view, at + i, 0, view->columns);
        }
        TRY(load_merge(item, numbers, row + at, count, err));
        TRY(put_numbers(item, numbers, row + at, count, err));
    }
    return STATUS_OK;
}

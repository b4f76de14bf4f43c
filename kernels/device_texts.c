// SPDX-License-Identifier: MIT
#include "kernels/device_texts.h"

static const char *origin_fault(const struct device_texts *texts, size_t text) {
    struct device_origin origin = texts->host_origins[text];
    if (origin.before < 0 || origin.parent < DEVICE_HEAD || origin.parent >= (int64_t)text) {
        return "a text goes on from none before it";
    }
    if (origin.before == 0) {
        return NULL;
    }
    if (origin.parent == DEVICE_HEAD) {
        return texts->head == NULL || (size_t)origin.before > texts->head_tokens
                   ? "a text goes on from more than the head has"
                   : NULL;
    }
    int64_t own = (int64_t)texts->host_starts[origin.parent + 1] - texts->host_starts[origin.parent];
    return origin.before > texts->host_origins[origin.parent].before + own
               ? "a text goes on from more than another one has"
               : NULL;
}

const char *texts_origin_fault(const struct device_texts *texts) {
    if ((texts->origins == NULL) != (texts->host_origins == NULL)) {
        return "origins are in one memory alone";
    }
    if (texts->origins != NULL && texts->host_starts == NULL) {
        return "a buffer is missing";
    }
    const char *fault = NULL;
    for (size_t i = 0; texts->origins != NULL && fault == NULL && i < texts->count; i++) {
        fault = origin_fault(texts, i);
    }
    return fault;
}

const char *texts_state_fault(const struct device_texts *texts) {
    const char *fault = texts_origin_fault(texts);
    for (size_t i = 0; texts->origins != NULL && fault == NULL && i < texts->count; i++) {
        struct device_origin origin = texts->host_origins[i];
        if (origin.before > 0 &&
            (origin.parent != DEVICE_HEAD || (size_t)origin.before != texts->head_tokens)) {
            fault = "a text goes on from something else than all of the head";
        }
    }
    return fault;
}

bool texts_slice_begins(const struct device_texts *texts) {
    size_t before = texts->host_origins != NULL ? (size_t)texts->host_origins[0].before : 0;
    return texts->before >= before && (texts->before - before) % DEVICE_SLICE == 0;
}

// SPDX-License-Identifier: MIT
// A batch's texts: checks of them, and where the tokens of texts that go on from others lie.
#ifndef STRATA_KERNELS_DEVICE_TEXTS_H
#define STRATA_KERNELS_DEVICE_TEXTS_H

#include "kernels/shapes.h"

// NULL where every text goes on from tokens that the batch or the head has, else what is wrong.
const char *texts_origin_fault(const struct device_texts *texts);

// The same of operations that carry a state along, which go on from all of the head alone.
const char *texts_state_fault(const struct device_texts *texts);

// Whether a slice that begins at texts->before begins with a tile of its text.
bool texts_slice_begins(const struct device_texts *texts);

// The position of a text's first token in the batch.
static inline size_t texts_first(const struct device_texts *texts, size_t text) {
    size_t before = texts->host_origins != NULL ? (size_t)texts->host_origins[text].before : 0;
    return size_max(texts->before, before);
}

// Whether the batch goes on from what the slice before left; else its texts go on from their origins alone.
static inline bool texts_resume(const struct device_texts *texts) {
    return texts->before > (texts->host_origins != NULL ? (size_t)texts->host_origins[0].before : 0);
}

// The text that a token of the batch is of.
static inline size_t texts_find(const struct device_texts *texts, size_t token) {
    size_t low = 0;
    size_t high = texts->count;
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        if ((size_t)texts->host_starts[middle] <= token) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

struct texts_run { // positions of a text in rows one after another
    bool of_head;  // of the head's rows, else of the batch's
    size_t row;
    size_t count; // at least so many: the others may lie elsewhere
};

// From a position of a text on.
static inline struct texts_run texts_run(const struct device_texts *texts, size_t text, size_t position) {
    const struct device_origin *origins = texts->host_origins;
    size_t end = SIZE_MAX;
    if (origins == NULL) {
        return (struct texts_run){.row = (size_t)texts->host_starts[text] + position, .count = end};
    }
    while (position < (size_t)origins[text].before) {
        end = size_min(end, (size_t)origins[text].before);
        if (origins[text].parent == DEVICE_HEAD) {
            return (struct texts_run){.of_head = true, .row = position, .count = end - position};
        }
        text = (size_t)origins[text].parent;
    }
    size_t row = (size_t)texts->host_starts[text] + position - (size_t)origins[text].before;
    return (struct texts_run){.row = row, .count = end - position};
}

#endif

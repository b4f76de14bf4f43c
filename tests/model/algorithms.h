// SPDX-License-Identifier: MIT
// One choice of matmul algorithms for two models that are compared bit by bit.
#ifndef STRATA_TESTS_MODEL_ALGORITHMS_H
#define STRATA_TESTS_MODEL_ALGORITHMS_H

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/model.h"

static inline int replace_tokens(struct buffer *out, const char *text, size_t tokens, size_t other_tokens,
                                 struct error *err) {
    char wanted[32];
    char found[32];
    snprintf(wanted, sizeof wanted, " tokens=%zu ", tokens);
    snprintf(found, sizeof found, " tokens=%zu ", other_tokens);
    for (const char *next = strstr(text, found); next != NULL; next = strstr(text, found)) {
        TRY(buffer_append(out, text, (size_t)(next - text), err));
        TRY(buffer_append(out, wanted, strlen(wanted), err));
        text = next + strlen(found);
    }
    return buffer_append(out, text, strlen(text) + 1, err);
}

// Before model_tune: matmuls as the other model computes them, which were chosen for batches of another size.
static inline int take_algorithms(struct model *model, size_t tokens, const struct model *other,
                                  size_t other_tokens, struct error *err) {
    struct buffer text = {0};
    struct buffer here = {0};
    int status = model_algorithms(other, &text, err);
    if (status == STATUS_OK && text.size > 0) {
        status = replace_tokens(&here, (const char *)text.data, tokens, other_tokens, err);
    }
    if (status == STATUS_OK && here.size > 0) {
        status = model_set_algorithms(model, (const char *)here.data, true, err);
    }
    buffer_destroy(&here);
    buffer_destroy(&text);
    return status;
}

#endif

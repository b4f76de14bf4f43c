// SPDX-License-Identifier: MIT
#include "text/merge_text.h"

#include <string.h>

bool merge_text_split(struct merge_text *out, const char *text, size_t size) {
    const char *space = memchr(text, ' ', size);
    size_t left = space == NULL ? 0 : (size_t)(space - text);
    if (space == NULL || memchr(space + 1, ' ', size - left - 1) != NULL) {
        return false;
    }
    *out = (struct merge_text){text, left, space + 1, size - left - 1};
    return out->left_size > 0 && out->right_size > 0;
}

int merge_text_add(struct bpe *bpe, const struct merge_text *merge, uint32_t rank, struct buffer *joined,
                   struct error *err) {
    buffer_clear(joined);
    TRY(buffer_append(joined, merge->left, merge->left_size, err));
    TRY(buffer_append(joined, merge->right, merge->right_size, err));
    int32_t left = vocabulary_find(&bpe->vocabulary, merge->left, merge->left_size);
    int32_t right = vocabulary_find(&bpe->vocabulary, merge->right, merge->right_size);
    int32_t merged = vocabulary_find(&bpe->vocabulary, joined->data, joined->size);
    if (left == TOKEN_NONE || right == TOKEN_NONE || merged == TOKEN_NONE) {
        return error_set(err, STATUS_DATA, "merges: number %u ('%.100s') has a part that is not in vocab",
                         (unsigned)rank, joined->data);
    }
    bpe_add_merge(bpe, left, right, rank, merged);
    return STATUS_OK;
}

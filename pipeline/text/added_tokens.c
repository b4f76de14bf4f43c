// SPDX-License-Identifier: MIT
#include "text/added_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/unicode_tables.h"

struct token_node {
    uint32_t child;   // first child, 0: none
    uint32_t sibling; // next child of the same parent, 0: none
    int32_t token;    // index of the token that ends here, -1: none
    unsigned char byte;
};

static int new_node(struct added_set *set, unsigned char byte, uint32_t *out, struct error *err) {
    if (set->node_count + 2 > set->node_capacity) {
        size_t wanted = size_max(256, set->node_capacity * 2);
        void *nodes = set->nodes;
        int status = memory_resize(&nodes, wanted, sizeof(*set->nodes), err);
        set->nodes = nodes;
        if (status != STATUS_OK) {
            return status;
        }
        set->node_capacity = wanted;
    }
    if (set->node_count == 0) {
        set->node_count = 1; // node 0 means none
        set->only_first = byte;
    }
    *out = (uint32_t)set->node_count++;
    set->nodes[*out] = (struct token_node){.token = -1, .byte = byte};
    return STATUS_OK;
}

static uint32_t find_child(const struct added_set *set, uint32_t parent, unsigned char byte) {
    uint32_t child = set->nodes[parent].child;
    while (child != 0 && set->nodes[child].byte != byte) {
        child = set->nodes[child].sibling;
    }
    return child;
}

// The node for `text`, made where it is missing.
static int make_path(struct added_set *set, const char *text, size_t size, uint32_t *out, struct error *err) {
    unsigned char first = (unsigned char)text[0];
    uint32_t at = set->roots[first];
    if (at == 0) {
        int status = new_node(set, first, &at, err);
        if (status != STATUS_OK) {
            return status;
        }
        set->roots[first] = at;
    }
    for (size_t i = 1; i < size; i++) {
        uint32_t child = find_child(set, at, (unsigned char)text[i]);
        if (child == 0) {
            int status = new_node(set, (unsigned char)text[i], &child, err);
            if (status != STATUS_OK) {
                return status;
            }
            set->nodes[child].sibling = set->nodes[at].child;
            set->nodes[at].child = child;
        }
        at = child;
    }
    *out = at;
    return STATUS_OK;
}

int added_set_add(struct added_set *set, const char *text, size_t size, struct added_token token,
                  struct error *err) {
    if (size == 0) {
        return error_set(err, STATUS_DATA, "an added token is empty");
    }
    uint32_t node = 0;
    int status = make_path(set, text, size, &node, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (set->nodes[node].token >= 0) {
        return error_set(err, STATUS_DATA, "two added tokens are found by the same text");
    }
    if (set->count == set->token_capacity) {
        size_t wanted = size_max(16, set->token_capacity * 2);
        void *tokens = set->tokens;
        status = memory_resize(&tokens, wanted, sizeof(*set->tokens), err);
        set->tokens = tokens;
        if (status != STATUS_OK) {
            return status;
        }
        set->token_capacity = wanted;
    }
    if (set->only_first != (unsigned char)text[0]) {
        set->only_first = -1;
    }
    set->nodes[node].token = (int32_t)set->count;
    set->tokens[set->count++] = token;
    return STATUS_OK;
}

void added_set_destroy(struct added_set *set) {
    free(set->tokens);
    free(set->nodes);
    *set = (struct added_set){0};
}

// The longest token that starts at `from`, or NULL.
static const struct added_token *longest_at(const struct added_set *set, const struct added_walk *walk,
                                            size_t from, size_t *end) {
    const struct added_token *found = NULL;
    uint32_t node = set->roots[(unsigned char)walk->text[from]];
    for (size_t at = from + 1; node != 0; at++) {
        if (set->nodes[node].token >= 0) {
            found = &set->tokens[set->nodes[node].token];
            *end = at;
        }
        node = at < walk->size ? find_child(set, node, (unsigned char)walk->text[at]) : 0;
    }
    return found;
}

static const struct added_token *next_match(const struct added_set *set, struct added_walk *walk,
                                            size_t *start, size_t *end) {
    for (size_t at = walk->searched; at < walk->size; at++) {
        if (set->only_first >= 0) {
            const char *hit = memchr(walk->text + at, set->only_first, walk->size - at);
            at = hit == NULL ? walk->size : (size_t)(hit - walk->text);
        }
        if (at == walk->size || set->roots[(unsigned char)walk->text[at]] == 0) {
            continue;
        }
        const struct added_token *token = longest_at(set, walk, at, end);
        if (token != NULL) {
            *start = at;
            walk->searched = *end;
            return token;
        }
    }
    walk->searched = walk->size;
    return NULL;
}

// Start of the character that ends before `at` (at > 0), and its code point.
static size_t character_before(const char *text, size_t at, uint32_t *code) {
    size_t start = at - 1;
    while (utf8_is_continuation(text[start])) {
        start--;
    }
    utf8_decode(text + start, at - start, code);
    return start;
}

static bool touches_word(const struct added_walk *walk, size_t start, size_t end) {
    uint32_t code = 0;
    if (start > 0) {
        character_before(walk->text, start, &code);
        if (unicode_is_word(code)) {
            return true;
        }
    }
    return end < walk->size && utf8_decode(walk->text + end, walk->size - end, &code) > 0 &&
           unicode_is_word(code);
}

static size_t strip_left(const struct added_walk *walk, size_t start) {
    uint32_t code = 0;
    while (start > 0) {
        size_t before = character_before(walk->text, start, &code);
        if (!unicode_is_space(code)) {
            break;
        }
        start = before;
    }
    return start;
}

static size_t strip_right(const struct added_walk *walk, size_t end) {
    uint32_t code = 0;
    while (end < walk->size) {
        size_t step = utf8_decode(walk->text + end, walk->size - end, &code);
        if (!unicode_is_space(code)) {
            break;
        }
        end += step;
    }
    return end;
}

bool added_set_next(const struct added_set *set, struct added_walk *walk, struct added_part *part) {
    if (walk->pending.token != NULL) {
        *part = walk->pending;
        walk->pending.token = NULL;
        return true;
    }
    size_t start = 0;
    size_t end = 0;
    const struct added_token *token;
    while ((token = set->count == 0 ? NULL : next_match(set, walk, &start, &end)) != NULL) {
        if (token->single_word && touches_word(walk, start, end)) {
            continue; // its text stays ordinary, and is not searched again
        }
        if (token->left_strip) {
            start = size_max(strip_left(walk, start), walk->done);
        }
        if (token->right_strip) {
            end = strip_right(walk, end);
        }
        struct added_part found = {start, end, token};
        bool gap = walk->done < start;
        *part = gap ? (struct added_part){walk->done, start, NULL} : found;
        walk->pending = gap ? found : (struct added_part){0};
        walk->done = end;
        return true;
    }
    if (walk->done >= walk->size) {
        return false;
    }
    *part = (struct added_part){walk->done, walk->size, NULL};
    walk->done = walk->size;
    return true;
}

// SPDX-License-Identifier: MIT
// Merging: short words by repeated scans, long pieces with a heap (O(n log n)), and a cache of words seen.
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/aligned.h"
#include "text/bpe_internal.h"

enum {
    SHORT_WORD = 32,        // symbols; up to here a scan over all pairs is faster than a heap
    CACHED_WORD = 64,       // bytes; longer words seldom come back
    CACHE_SLOTS = 1 << 16,  // words are dropped all together when half of the slots are taken
    CACHE_TEXT = 1 << 20,   // bytes of all cached words
    CACHE_TOKENS = 1 << 18, // tokens of all cached words
    NO_SYMBOL = -1,
};

struct cached_word {
    uint64_t hash; // 0: free
    uint32_t text;
    uint32_t size;
    uint32_t tokens;
    uint32_t count;
};

// A linked list laid out in an array: merged symbols are unlinked, their size becomes 0.
struct symbol {
    int32_t id;
    uint32_t size; // bytes of the piece
    int64_t previous;
    int64_t next;
};

struct bpe_scratch {
    struct symbol *symbols;
    size_t symbol_count;
    size_t symbol_capacity;
    uint64_t *heap; // rank << 32 | position: smallest first
    size_t heap_count;
    size_t heap_capacity;
    struct bpe_token *tokens; // the last piece's
    size_t token_capacity;
    struct cached_word *words;     // [CACHE_SLOTS]
    char *word_text;               // [CACHE_TEXT]
    struct bpe_token *word_tokens; // [CACHE_TOKENS]
    size_t word_count;
    size_t word_text_used;
    size_t word_tokens_used;
};

int bpe_scratch_create(struct bpe_scratch **out, struct error *err) {
    void *block = NULL;
    TRY(memory_zeroed(&block, 1, sizeof(struct bpe_scratch), err));
    struct bpe_scratch *scratch = block;
    void *words = NULL;
    void *text = NULL;
    void *tokens = NULL;
    int status;
    TRY_TO(done, status = memory_zeroed(&words, CACHE_SLOTS, sizeof(*scratch->words), err));
    TRY_TO(done, status = memory_zeroed(&text, CACHE_TEXT, 1, err));
    TRY_TO(done, status = memory_zeroed(&tokens, CACHE_TOKENS, sizeof(*scratch->word_tokens), err));
done:
    scratch->words = words;
    scratch->word_text = text;
    scratch->word_tokens = tokens;
    if (status != STATUS_OK) {
        bpe_scratch_destroy(scratch);
        return status;
    }
    *out = scratch;
    return STATUS_OK;
}

void bpe_scratch_destroy(struct bpe_scratch *scratch) {
    if (scratch != NULL) {
        free(scratch->symbols);
        free(scratch->heap);
        free(scratch->tokens);
        free(scratch->words);
        free(scratch->word_text);
        free(scratch->word_tokens);
        free(scratch);
    }
}

// Grows an array to hold `count` elements, by at least half of what it had.
static int grow(void **array, size_t *capacity, size_t count, size_t element, struct error *err) {
    if (count <= *capacity) {
        return STATUS_OK;
    }
    size_t wanted = size_max(count, *capacity + *capacity / 2);
    TRY(memory_resize(array, wanted, element, err));
    *capacity = wanted;
    return STATUS_OK;
}

static void add_symbol(struct bpe_scratch *scratch, int32_t id, uint32_t size) {
    int64_t at = (int64_t)scratch->symbol_count++;
    scratch->symbols[at] = (struct symbol){id, size, at - 1, NO_SYMBOL};
    if (at > 0) {
        scratch->symbols[at - 1].next = at;
    }
}

// A run of characters without a token, not yet written because more may be fused into it.
struct unknown_run {
    bool open;
    uint32_t size;
};

static void flush_unknown(const struct bpe *bpe, struct bpe_scratch *scratch, struct unknown_run *run) {
    if (run->open) {
        add_symbol(scratch, bpe->unknown, run->size);
        *run = (struct unknown_run){0};
    }
}

static bool add_fallback_bytes(const struct bpe *bpe, struct bpe_scratch *scratch, const char *text,
                               size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bpe->fallback[(unsigned char)text[i]] == TOKEN_NONE) {
            return false;
        }
    }
    for (size_t i = 0; i < size; i++) {
        add_symbol(scratch, bpe->fallback[(unsigned char)text[i]], 1);
    }
    return true;
}

static int32_t character_id(const struct bpe *bpe, const char *text, size_t size) {
    if (bpe->byte_level) {
        return bpe->byte_ids[(unsigned char)*text];
    }
    return size == 1 ? bpe->ascii_ids[(unsigned char)*text & 127]
                     : vocabulary_find(&bpe->vocabulary, text, size);
}

// One symbol for each character (byte-level: each byte).
static int start_symbols(const struct bpe *bpe, struct bpe_scratch *scratch, const char *text, size_t size,
                         struct error *err) {
    void *symbols = scratch->symbols;
    int status = grow(&symbols, &scratch->symbol_capacity, size, sizeof(*scratch->symbols), err);
    scratch->symbols = symbols;
    if (status != STATUS_OK) {
        return status;
    }
    scratch->symbol_count = 0;
    struct unknown_run run = {0};
    size_t step;
    for (size_t at = 0; at < size; at += step) {
        step = bpe->byte_level ? 1 : utf8_lead_size(text[at]);
        int32_t id = character_id(bpe, text + at, step);
        if (id != TOKEN_NONE) {
            flush_unknown(bpe, scratch, &run);
            add_symbol(scratch, id, (uint32_t)step);
            continue;
        }
        // As in the library, fallback bytes do not close an open unknown run: it is written after them.
        if (bpe->byte_fallback && add_fallback_bytes(bpe, scratch, text + at, step)) {
            continue;
        }
        if (bpe->unknown == TOKEN_NONE) {
            return error_set(err, STATUS_DATA, "no token for '%.*s' (byte 0x%02x), and no unknown token",
                             (int)(bpe->byte_level ? 0 : step), text + at, (unsigned)(unsigned char)text[at]);
        }
        if (!bpe->fuse_unknown) {
            flush_unknown(bpe, scratch, &run);
        }
        run = (struct unknown_run){true, run.size + (uint32_t)step};
    }
    flush_unknown(bpe, scratch, &run);
    return STATUS_OK;
}

// Short words: keep each pair's rank beside it, merge the lowest, close the gap.
static void merge_short(const struct bpe *bpe, struct bpe_scratch *scratch) {
    struct symbol *symbols = scratch->symbols;
    size_t count = scratch->symbol_count;
    const struct bpe_merge *pairs[SHORT_WORD];
    for (size_t i = 0; i + 1 < count; i++) {
        pairs[i] = bpe_find_merge(bpe, symbols[i].id, symbols[i + 1].id);
    }
    while (count > 1) {
        size_t best = count;
        uint32_t rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < count; i++) {
            if (pairs[i] != NULL && pairs[i]->rank < rank) {
                rank = pairs[i]->rank;
                best = i;
            }
        }
        if (best == count) {
            break;
        }
        symbols[best].id = pairs[best]->merged;
        symbols[best].size += symbols[best + 1].size;
        memmove(symbols + best + 1, symbols + best + 2, (count - best - 2) * sizeof(*symbols));
        if (count - best > 2) {
            memmove(pairs + best, pairs + best + 1, (count - best - 2) * sizeof(*pairs));
        }
        count--;
        if (best + 1 < count) {
            pairs[best] = bpe_find_merge(bpe, symbols[best].id, symbols[best + 1].id);
        }
        if (best > 0) {
            pairs[best - 1] = bpe_find_merge(bpe, symbols[best - 1].id, symbols[best].id);
        }
    }
    scratch->symbol_count = count;
}

static int heap_push(struct bpe_scratch *scratch, uint64_t key, struct error *err) {
    void *heap = scratch->heap;
    int status = grow(&heap, &scratch->heap_capacity, scratch->heap_count + 1, sizeof(*scratch->heap), err);
    scratch->heap = heap;
    if (status != STATUS_OK) {
        return status;
    }
    size_t at = scratch->heap_count++;
    while (at > 0 && scratch->heap[(at - 1) / 2] > key) {
        scratch->heap[at] = scratch->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    scratch->heap[at] = key;
    return STATUS_OK;
}

static uint64_t heap_pop(struct bpe_scratch *scratch) {
    uint64_t *heap = scratch->heap;
    uint64_t top = heap[0];
    uint64_t last = heap[--scratch->heap_count];
    size_t count = scratch->heap_count;
    size_t at = 0;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child]) {
            child++;
        }
        if (heap[child] >= last) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static int push_pair(const struct bpe *bpe, struct bpe_scratch *scratch, int64_t left, struct error *err) {
    if (left == NO_SYMBOL || scratch->symbols[left].next == NO_SYMBOL) {
        return STATUS_OK;
    }
    const struct symbol *symbol = &scratch->symbols[left];
    const struct bpe_merge *merge = bpe_find_merge(bpe, symbol->id, scratch->symbols[symbol->next].id);
    return merge == NULL ? STATUS_OK : heap_push(scratch, (uint64_t)merge->rank << 32 | (uint64_t)left, err);
}

// Long pieces: a heap of pairs; an entry is stale when the pair at its place no longer has its rank.
static int merge_long(const struct bpe *bpe, struct bpe_scratch *scratch, struct error *err) {
    struct symbol *symbols = scratch->symbols;
    scratch->heap_count = 0;
    for (size_t i = 0; i < scratch->symbol_count; i++) {
        TRY(push_pair(bpe, scratch, (int64_t)i, err));
    }
    while (scratch->heap_count > 0) {
        uint64_t top = heap_pop(scratch);
        int64_t at = (int64_t)(top & UINT32_MAX);
        struct symbol *left = &symbols[at];
        if (left->size == 0 || left->next == NO_SYMBOL) {
            continue;
        }
        struct symbol *right = &symbols[left->next];
        const struct bpe_merge *merge = bpe_find_merge(bpe, left->id, right->id);
        if (merge == NULL || merge->rank != (uint32_t)(top >> 32)) {
            continue;
        }
        left->id = merge->merged;
        left->size += right->size;
        left->next = right->next;
        right->size = 0;
        if (left->next != NO_SYMBOL) {
            symbols[left->next].previous = at;
        }
        TRY(push_pair(bpe, scratch, left->previous, err));
        TRY(push_pair(bpe, scratch, at, err));
    }
    return STATUS_OK;
}

// Merges a piece into scratch->tokens.
static int merge_piece(const struct bpe *bpe, struct bpe_scratch *scratch, const char *text, size_t size,
                       size_t *count, struct error *err) {
    TRY(start_symbols(bpe, scratch, text, size, err));
    if (scratch->symbol_count <= SHORT_WORD) {
        merge_short(bpe, scratch);
    } else {
        TRY(merge_long(bpe, scratch, err));
    }
    void *tokens = scratch->tokens;
    TRY(grow(&tokens, &scratch->token_capacity, scratch->symbol_count, sizeof(*scratch->tokens), err));
    scratch->tokens = tokens;
    *count = 0;
    for (size_t i = 0; i < scratch->symbol_count; i++) {
        if (scratch->symbols[i].size > 0) {
            scratch->tokens[(*count)++] =
                (struct bpe_token){scratch->symbols[i].id, scratch->symbols[i].size};
        }
    }
    return STATUS_OK;
}

static struct cached_word *cache_slot(const struct bpe_scratch *scratch, uint64_t hash, const char *text,
                                      size_t size) {
    size_t slot = (size_t)hash & (CACHE_SLOTS - 1);
    for (;; slot = (slot + 1) & (CACHE_SLOTS - 1)) {
        struct cached_word *word = &scratch->words[slot];
        if (word->hash == 0 || (word->hash == hash && word->size == size &&
                                memcmp(scratch->word_text + word->text, text, size) == 0)) {
            return word;
        }
    }
}

static void cache_store(struct bpe_scratch *scratch, uint64_t hash, const char *text, size_t size,
                        size_t count) {
    if (scratch->word_count >= CACHE_SLOTS / 2 || scratch->word_text_used + size > CACHE_TEXT ||
        scratch->word_tokens_used + count > CACHE_TOKENS) {
        memset(scratch->words, 0, CACHE_SLOTS * sizeof(*scratch->words));
        scratch->word_count = 0;
        scratch->word_text_used = 0;
        scratch->word_tokens_used = 0;
    }
    struct cached_word *word = cache_slot(scratch, hash, text, size);
    *word = (struct cached_word){hash, (uint32_t)scratch->word_text_used, (uint32_t)size,
                                 (uint32_t)scratch->word_tokens_used, (uint32_t)count};
    memcpy(scratch->word_text + scratch->word_text_used, text, size);
    memcpy(scratch->word_tokens + scratch->word_tokens_used, scratch->tokens,
           count * sizeof(*scratch->tokens));
    scratch->word_text_used += size;
    scratch->word_tokens_used += count;
    scratch->word_count++;
}

// A token that is the whole piece, where the model looks for one before merging.
static bool take_whole(const struct bpe *bpe, struct bpe_scratch *scratch, const char *text, size_t size) {
    int32_t id = bpe->ignore_merges ? bpe_find_whole(bpe, text, size) : TOKEN_NONE;
    if (id == TOKEN_NONE) {
        return false;
    }
    scratch->tokens[0] = (struct bpe_token){id, (uint32_t)size};
    return true;
}

int bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *text, size_t size,
               const struct bpe_token **tokens, size_t *count, struct error *err) {
    if (size > UINT32_MAX) {
        return error_set(err, STATUS_DATA, "a piece of text is longer than 4 GiB");
    }
    bool cached = size <= CACHED_WORD;
    uint64_t hash = 0;
    if (cached) {
        hash = text_hash(text, size);
        hash += hash == 0; // 0 marks a free slot
        const struct cached_word *word = cache_slot(scratch, hash, text, size);
        if (word->hash != 0) {
            *tokens = scratch->word_tokens + word->tokens;
            *count = word->count;
            return STATUS_OK;
        }
    }
    void *block = scratch->tokens;
    TRY(grow(&block, &scratch->token_capacity, CACHED_WORD, sizeof(*scratch->tokens), err));
    scratch->tokens = block;
    *count = 1;
    if (!take_whole(bpe, scratch, text, size)) {
        TRY(merge_piece(bpe, scratch, text, size, count, err));
    }
    if (cached) {
        cache_store(scratch, hash, text, size, *count);
    }
    *tokens = scratch->tokens;
    return STATUS_OK;
}

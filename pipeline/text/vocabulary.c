// SPDX-License-Identifier: MIT
#include "text/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"

static inline uint64_t mix(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load_word(const char *text, size_t size) {
    uint64_t word = 0;
    memcpy(&word, text, size);
    return word;
}

uint64_t text_hash(const char *text, size_t size) {
    uint64_t hash = 0x9E3779B97F4A7C15ULL ^ size;
    while (size >= 8) {
        hash = mix(hash ^ load_word(text, 8), 0xD6E8FEB86659FD93ULL);
        text += 8;
        size -= 8;
    }
    uint64_t tail = 0;
    if (size >= 4) {
        tail = load_word(text, 4) | load_word(text + size - 4, 4) << 32;
    } else if (size > 0) {
        tail = (uint64_t)(unsigned char)text[0] << 16 | (uint64_t)(unsigned char)text[size / 2] << 8 |
               (unsigned char)text[size - 1];
    }
    return mix(hash ^ tail, 0xA0761D6478BD642FULL);
}

int vocabulary_create(struct vocabulary *vocabulary, size_t count, size_t bytes, size_t limit,
                      struct error *err) {
    *vocabulary = (struct vocabulary){.limit = limit, .slot_count = 64, .block_capacity = bytes};
    while (vocabulary->slot_count / 2 < count) {
        vocabulary->slot_count *= 2;
    }
    void *entries = NULL;
    void *slots = NULL;
    void *block = NULL;
    int status;
    TRY_TO(done, status = memory_zeroed(&entries, size_max(limit, 1), sizeof(*vocabulary->entries), err));
    TRY_TO(done, status = memory_zeroed(&slots, vocabulary->slot_count, sizeof(*vocabulary->slots), err));
    TRY_TO(done, status = memory_zeroed(&block, size_max(bytes, 1), 1, err));
done:
    vocabulary->entries = entries;
    vocabulary->slots = slots;
    vocabulary->block = block;
    if (status != STATUS_OK) {
        vocabulary_destroy(vocabulary);
        return status;
    }
    for (size_t i = 0; i < vocabulary->slot_count; i++) {
        vocabulary->slots[i] = TOKEN_NONE;
    }
    return STATUS_OK;
}

void vocabulary_destroy(struct vocabulary *vocabulary) {
    free(vocabulary->entries);
    free(vocabulary->slots);
    free(vocabulary->block);
    *vocabulary = (struct vocabulary){0};
}

// The slot that holds `text`, or the free one where it belongs.
static size_t vocabulary_slot(const struct vocabulary *vocabulary, const char *text, size_t size) {
    size_t mask = vocabulary->slot_count - 1;
    size_t slot = (size_t)text_hash(text, size) & mask;
    while (vocabulary->slots[slot] != TOKEN_NONE) {
        const struct vocabulary_entry *entry = &vocabulary->entries[vocabulary->slots[slot]];
        if (entry->size == size && memcmp(entry->text, text, size) == 0) {
            break;
        }
        slot = (slot + 1) & mask;
    }
    return slot;
}

int vocabulary_add(struct vocabulary *vocabulary, const char *text, size_t size, int32_t id,
                   struct error *err) {
    if (id < 0 || (size_t)id >= vocabulary->limit || vocabulary->count >= vocabulary->slot_count / 2 ||
        size > vocabulary->block_capacity - vocabulary->block_size) {
        return error_set(err, STATUS_INTERNAL, "a vocabulary is smaller than its tokens");
    }
    if (vocabulary->entries[id].text != NULL) {
        return error_set(err, STATUS_DATA, "id %d belongs to two tokens", (int)id);
    }
    size_t slot = vocabulary_slot(vocabulary, text, size);
    if (vocabulary->slots[slot] != TOKEN_NONE) {
        return error_set(err, STATUS_DATA, "token '%.*s' is there twice", (int)size_min(size, 200), text);
    }
    char *copy = vocabulary->block + vocabulary->block_size;
    memcpy(copy, text, size);
    vocabulary->block_size += size;
    vocabulary->entries[id] = (struct vocabulary_entry){copy, (uint32_t)size};
    vocabulary->slots[slot] = id;
    vocabulary->count++;
    return STATUS_OK;
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *text, size_t size) {
    return vocabulary->slots[vocabulary_slot(vocabulary, text, size)];
}

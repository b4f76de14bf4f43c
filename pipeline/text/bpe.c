// SPDX-License-Identifier: MIT
#include "text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/aligned.h"
#include "text/bpe_internal.h"

#define BPE_NO_PAIR UINT64_MAX

static inline size_t pair_slot(const struct bpe *bpe, uint64_t pair) {
    uint64_t hash = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15ULL;
    return (size_t)(hash >> 32) & (bpe->merge_slots - 1);
}

static inline uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

int bpe_create_merges(struct bpe *bpe, size_t count, struct error *err) {
    bpe->merge_slots = 64;
    while (bpe->merge_slots / 2 < count) {
        bpe->merge_slots *= 2;
    }
    void *merges = NULL;
    TRY(memory_zeroed(&merges, bpe->merge_slots, sizeof(*bpe->merges), err));
    bpe->merges = merges;
    for (size_t i = 0; i < bpe->merge_slots; i++) {
        bpe->merges[i].pair = BPE_NO_PAIR;
    }
    return STATUS_OK;
}

void bpe_add_merge(struct bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t merged) {
    uint64_t pair = pair_key(left, right);
    size_t slot = pair_slot(bpe, pair);
    while (bpe->merges[slot].pair != BPE_NO_PAIR && bpe->merges[slot].pair != pair) {
        slot = (slot + 1) & (bpe->merge_slots - 1);
    }
    bpe->merges[slot] = (struct bpe_merge){pair, rank, merged};
}

const struct bpe_merge *bpe_find_merge(const struct bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = pair_key(left, right);
    size_t slot = pair_slot(bpe, pair);
    while (bpe->merges[slot].pair != pair) {
        if (bpe->merges[slot].pair == BPE_NO_PAIR) {
            return NULL;
        }
        slot = (slot + 1) & (bpe->merge_slots - 1);
    }
    return &bpe->merges[slot];
}

uint32_t bpe_byte_character(unsigned char byte) {
    // Printable bytes stand for themselves; the other 68 follow in order from U+0100.
    if ((byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE) {
        return byte;
    }
    if (byte <= 0x20) {
        return 0x100U + byte;
    }
    return byte == 0xAD ? 0x143U : 0x121U + (byte - 0x7FU);
}

// Turns a byte-level text into raw bytes in `out` [size]; 0 when a character stands for no byte.
static size_t raw_bytes(const int16_t byte_of[0x144], const char *text, size_t size, char *out) {
    size_t count = 0;
    for (size_t at = 0; at < size;) {
        uint32_t code = 0;
        size_t step = utf8_decode(text + at, size - at, &code);
        if (step == 0 || code >= 0x144 || byte_of[code] < 0) {
            return 0;
        }
        out[count++] = (char)byte_of[code];
        at += step;
    }
    return count;
}

// The whole-piece lookup of ignore_merges: raw bytes to ids.
static int fill_raw(struct bpe *bpe, struct error *err) {
    int16_t byte_of[0x144];
    memset(byte_of, 0xFF, sizeof(byte_of));
    for (int byte = 0; byte < 256; byte++) {
        byte_of[bpe_byte_character((unsigned char)byte)] = (int16_t)byte;
    }
    const struct vocabulary *texts = &bpe->vocabulary;
    struct buffer bytes = {0};
    int status = STATUS_OK;
    TRY(vocabulary_create(&bpe->raw, texts->count, texts->block_size, texts->limit, err));
    for (size_t id = 0; id < texts->limit; id++) {
        const struct vocabulary_entry *entry = &texts->entries[id];
        if (entry->text == NULL || entry->size == 0) {
            continue;
        }
        TRY_TO(done, status = buffer_reserve(&bytes, entry->size, err));
        size_t size = raw_bytes(byte_of, entry->text, entry->size, bytes.data);
        if (size > 0) {
            TRY_TO(done, status = vocabulary_add(&bpe->raw, bytes.data, size, (int32_t)id, err));
        }
    }
done:
    buffer_destroy(&bytes);
    return status;
}

int bpe_finish(struct bpe *bpe, struct error *err) {
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        size_t size = utf8_write(bpe_byte_character((unsigned char)byte), text);
        bpe->byte_ids[byte] = vocabulary_find(&bpe->vocabulary, text, size);
        snprintf(text, sizeof(text), "<0x%02X>", (unsigned)byte);
        bpe->fallback[byte] = vocabulary_find(&bpe->vocabulary, text, 6);
        if (byte < 128) {
            text[0] = (char)byte;
            bpe->ascii_ids[byte] = vocabulary_find(&bpe->vocabulary, text, 1);
        }
    }
    if (bpe->byte_level && bpe->ignore_merges) {
        return fill_raw(bpe, err);
    }
    return STATUS_OK;
}

bool bpe_covers_bytes(const struct bpe *bpe) {
    const int32_t *ids = bpe->byte_level ? bpe->byte_ids : bpe->fallback;
    for (size_t i = 0; i < 256; i++) {
        if (ids[i] == TOKEN_NONE) {
            return false;
        }
    }
    return true;
}

void bpe_destroy(struct bpe *bpe) {
    vocabulary_destroy(&bpe->vocabulary);
    vocabulary_destroy(&bpe->raw);
    free(bpe->merges);
    *bpe = (struct bpe){0};
}

int32_t bpe_find_whole(const struct bpe *bpe, const char *text, size_t size) {
    return vocabulary_find(bpe->byte_level ? &bpe->raw : &bpe->vocabulary, text, size);
}

// SPDX-License-Identifier: MIT
// Memory: one arena a lifetime, and a growable byte buffer for text of unknown length.
#ifndef STRATA_BASE_MEMORY_H
#define STRATA_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

// A block of zeroed memory taken from the system once and handed out in pieces that live as long as the
// arena.
struct arena {
    unsigned char *data;
    size_t capacity;
    size_t used;
};

// Maps `capacity` bytes (zeroed, 64-byte aligned; huge pages asked for when large). STATUS_INTERNAL when it
// cannot be had.
int arena_create(struct arena *arena, size_t capacity, struct error *err);

// `bytes` at a multiple of `alignment` (a power of two), or NULL when the arena is too small.
void *arena_take(struct arena *arena, size_t bytes, size_t alignment);

// Forgets everything taken; the memory stays.
void arena_reset(struct arena *arena);

// Accepts an arena of zeros; leaves zeros.
void arena_destroy(struct arena *arena);

// Bytes that grow: data[0..size) is the content, data[size] is always 0 once anything was appended.
struct buffer {
    char *data;
    size_t size;
    size_t capacity;
};

int buffer_reserve(struct buffer *buffer, size_t capacity, struct error *err); // keeps the content
int buffer_append(struct buffer *buffer, const void *bytes, size_t size, struct error *err);
int buffer_printf(struct buffer *buffer, struct error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void buffer_clear(struct buffer *buffer);   // size = 0, memory kept
void buffer_destroy(struct buffer *buffer); // accepts zeros; leaves zeros

// calloc, realloc and strdup that check the product and report instead of returning NULL. `out` is the
// address of a pointer to any kind of object, which a void ** may not point to.
int memory_zeroed(void *out, size_t count, size_t size, struct error *err);
int memory_resize(void **block, size_t count, size_t size, struct error *err); // *block may be NULL
int memory_text(char **out, const char *text, struct error *err);

#endif

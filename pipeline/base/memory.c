// SPDX-License-Identifier: MIT
#include "base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/size.h"

enum { HUGE_PAGE = 2 << 20 };

int arena_create(struct arena *arena, size_t capacity, struct error *err) {
    *arena = (struct arena){0};
    if (capacity == 0) {
        return STATUS_OK;
    }
    void *data = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        return error_set_errno(err, STATUS_INTERNAL, "cannot map %zu bytes of memory", capacity);
    }
    if (capacity >= HUGE_PAGE) {
        madvise(data, capacity, MADV_HUGEPAGE); // advice only: worth 5-10 % of a GEMM, never needed
    }
    arena->data = data;
    arena->capacity = capacity;
    return STATUS_OK;
}

void *arena_take(struct arena *arena, size_t bytes, size_t alignment) {
    size_t start;
    size_t end;
    if (!size_round_up(arena->used, alignment, &start) || !size_add(start, bytes, &end) ||
        end > arena->capacity) {
        return NULL;
    }
    arena->used = end;
    return arena->data + start;
}

void arena_reset(struct arena *arena) {
    arena->used = 0;
}

void arena_destroy(struct arena *arena) {
    if (arena->data != NULL) {
        munmap(arena->data, arena->capacity);
    }
    *arena = (struct arena){0};
}

int buffer_reserve(struct buffer *buffer, size_t capacity, struct error *err) {
    if (capacity <= buffer->capacity) {
        return STATUS_OK;
    }
    size_t doubled = buffer->capacity < SIZE_MAX / 2 ? buffer->capacity * 2 : SIZE_MAX;
    size_t wanted = size_max(capacity, size_max(doubled, 256));
    char *data = realloc(buffer->data, wanted);
    if (data == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory: %zu bytes", wanted);
    }
    buffer->data = data;
    buffer->capacity = wanted;
    return STATUS_OK;
}

int buffer_append(struct buffer *buffer, const void *bytes, size_t size, struct error *err) {
    size_t needed;
    if (!size_add(buffer->size, size, &needed) || !size_add(needed, 1, &needed)) {
        return error_set(err, STATUS_INTERNAL, "out of memory: a buffer cannot hold %zu more bytes", size);
    }
    TRY(buffer_reserve(buffer, needed, err));
    if (size > 0) {
        memcpy(buffer->data + buffer->size, bytes, size);
    }
    buffer->size += size;
    buffer->data[buffer->size] = 0;
    return STATUS_OK;
}

int buffer_printf(struct buffer *buffer, struct error *err, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        return error_set(err, STATUS_INTERNAL, "cannot format text");
    }
    TRY(buffer_reserve(buffer, buffer->size + (size_t)length + 1, err));
    va_start(arguments, format);
    vsnprintf(buffer->data + buffer->size, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->size += (size_t)length;
    return STATUS_OK;
}

void buffer_clear(struct buffer *buffer) {
    buffer->size = 0;
}

void buffer_destroy(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}

int memory_zeroed(void *out, size_t count, size_t size, struct error *err) {
    void *block = calloc(size_max(count, 1), size_max(size, 1));
    memcpy(out, &block, sizeof block);
    if (block == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory: %zu items of %zu bytes", count, size);
    }
    return STATUS_OK;
}

int memory_resize(void **block, size_t count, size_t size, struct error *err) {
    size_t bytes;
    if (!size_mul(count, size, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "out of memory: %zu items of %zu bytes", count, size);
    }
    void *grown = realloc(*block, size_max(bytes, 1));
    if (grown == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory: %zu items of %zu bytes", count, size);
    }
    *block = grown;
    return STATUS_OK;
}

int memory_text(char **out, const char *text, struct error *err) {
    *out = strdup(text);
    if (*out == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory: text of %zu bytes", strlen(text));
    }
    return STATUS_OK;
}

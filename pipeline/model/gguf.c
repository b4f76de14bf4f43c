// SPDX-License-Identifier: MIT
#include "model/gguf.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/first_bytes.h"
#include "base/size.h"
#include "base/utf8.h"
#include "model/gguf_internal.h"

enum {
    FIRST_WINDOW = 1 << 20, // bytes that are read of a file at first
    STANDARD_ALIGNMENT = 32,
    LEAST_ALIGNMENT = 8,
    LARGEST_ALIGNMENT = 1 << 20, // far above a page, the largest that anybody has a use for
    NEWEST_VERSION = 3,
    OLDEST_VERSION = 2,
    SMALLEST_KEY = 8 + 1 + 4 + 1, // bytes: name, type, value
    SMALLEST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8,
};

// ---- a place in the header ----

int gguf_take(struct gguf_cursor *cursor, size_t bytes, const char *what, const unsigned char **out,
              struct error *err) {
    struct gguf_window *window = cursor->window;
    size_t end;
    if (!size_add(cursor->at, bytes, &end) || end > window->file_size) {
        return error_set(err, STATUS_DATA, "%s at byte %zu needs %zu bytes of a file of %zu: it is truncated",
                         what, cursor->at, bytes, window->file_size);
    }
    if (end > GGUF_HEADER) {
        return error_set(err, STATUS_DATA, "%s at byte %zu: the header is longer than the limit of %d bytes",
                         what, cursor->at, GGUF_HEADER);
    }
    if (end > window->size) {
        window->wanted = end;
        return error_set(err, STATUS_DATA, "%s at byte %zu needs more than %zu bytes of header", what,
                         cursor->at, window->size);
    }
    *out = window->bytes + cursor->at;
    cursor->at = end;
    return STATUS_OK;
}

int gguf_take_u32(struct gguf_cursor *cursor, const char *what, uint32_t *out, struct error *err) {
    const unsigned char *bytes = NULL;
    TRY(gguf_take(cursor, sizeof *out, what, &bytes, err));
    memcpy(out, bytes, sizeof *out);
    return STATUS_OK;
}

int gguf_take_u64(struct gguf_cursor *cursor, const char *what, uint64_t *out, struct error *err) {
    const unsigned char *bytes = NULL;
    TRY(gguf_take(cursor, sizeof *out, what, &bytes, err));
    memcpy(out, bytes, sizeof *out);
    return STATUS_OK;
}

int gguf_take_text(struct gguf_cursor *cursor, size_t longest, const char *what, const char **out,
                   size_t *length, struct error *err) {
    uint64_t wanted = 0;
    const unsigned char *bytes = NULL;
    size_t bad;
    TRY(gguf_take_u64(cursor, what, &wanted, err));
    if (wanted > longest) {
        return error_set(err, STATUS_DATA, "%s at byte %zu has %llu bytes; at most %zu are read", what,
                         cursor->at, (unsigned long long)wanted, longest);
    }
    TRY(gguf_take(cursor, (size_t)wanted, what, &bytes, err));
    if (!utf8_valid((const char *)bytes, (size_t)wanted, &bad)) {
        return error_set(err, STATUS_DATA, "%s is not valid UTF-8 at byte %zu", what,
                         cursor->at - (size_t)wanted + bad);
    }
    if (memchr(bytes, 0, (size_t)wanted) != NULL) {
        return error_set(err, STATUS_DATA, "%s at byte %zu holds a NUL", what, cursor->at - (size_t)wanted);
    }
    *out = (const char *)bytes;
    *length = (size_t)wanted;
    return STATUS_OK;
}

int gguf_check_count(const struct gguf_cursor *cursor, uint64_t count, size_t each, const char *what,
                     struct error *err) {
    size_t left = cursor->window->file_size - cursor->at;
    return count <= left / each
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "%llu %s do not fit into the %zu bytes behind byte %zu",
                           (unsigned long long)count, what, left, cursor->at);
}

// ---- the header ----

static int take_start(struct gguf_cursor *cursor, size_t *tensors, size_t *keys, struct error *err) {
    const unsigned char *magic = NULL;
    uint32_t version = 0;
    uint64_t counts[2] = {0};
    TRY(gguf_take(cursor, 4, "the magic", &magic, err));
    if (memcmp(magic, "GGUF", 4) != 0) {
        return error_set(err, STATUS_DATA, "does not start with GGUF");
    }
    TRY(gguf_take_u32(cursor, "the version", &version, err));
    if ((version & 0xFFFF) == 0 && version != 0) {
        return error_set(err, STATUS_DATA, "big-endian, which is not supported: get the little-endian file");
    }
    if (version < OLDEST_VERSION || version > NEWEST_VERSION) {
        return error_set(err, STATUS_DATA, "version %u is not supported, only %d and %d: %s", version,
                         OLDEST_VERSION, NEWEST_VERSION,
                         version == 1 ? "convert the model anew" : "get a file of those");
    }
    TRY(gguf_take_u64(cursor, "the number of tensors", &counts[0], err));
    TRY(gguf_take_u64(cursor, "the number of keys", &counts[1], err));
    if (counts[0] > GGUF_TENSORS) {
        return error_set(err, STATUS_DATA, "%llu tensors are more than the limit of %d",
                         (unsigned long long)counts[0], GGUF_TENSORS);
    }
    if (counts[1] > GGUF_KEYS) {
        return error_set(err, STATUS_DATA, "%llu keys are more than the limit of %d",
                         (unsigned long long)counts[1], GGUF_KEYS);
    }
    TRY(gguf_check_count(cursor, counts[1], SMALLEST_KEY, "keys", err));
    TRY(gguf_check_count(cursor, counts[0], SMALLEST_TENSOR, "tensors", err));
    *tensors = (size_t)counts[0];
    *keys = (size_t)counts[1];
    return STATUS_OK;
}

static int find_alignment(const struct gguf_metadata *metadata, size_t *out, struct error *err) {
    const struct gguf_value *value = gguf_metadata_find(metadata, "general.alignment");
    int64_t alignment = STANDARD_ALIGNMENT;
    if (value != NULL && (value->list || value->type != GGUF_UINT32)) {
        char type[GGUF_TYPE_TEXT];
        return error_set(err, STATUS_DATA, "'general.alignment' is %s, not uint32",
                         gguf_value_type(value, type));
    }
    if (value != NULL) {
        (void)gguf_value_integer(value, 0, &alignment);
    }
    if (alignment < LEAST_ALIGNMENT || alignment > LARGEST_ALIGNMENT || (alignment & (alignment - 1)) != 0) {
        return error_set(err, STATUS_DATA, "'general.alignment' is %lld, not a power of two from %d to %d",
                         (long long)alignment, LEAST_ALIGNMENT, LARGEST_ALIGNMENT);
    }
    *out = (size_t)alignment;
    return STATUS_OK;
}

static int parse(struct gguf_cursor *cursor, struct gguf_metadata *metadata, struct tensors *tensors,
                 size_t number, struct error *err) {
    size_t tensor_count = 0;
    size_t key_count = 0;
    size_t alignment = 0;
    TRY(take_start(cursor, &tensor_count, &key_count, err));
    TRY(gguf_take_values(cursor, metadata, key_count, err));
    TRY(find_alignment(metadata, &alignment, err));
    return gguf_take_tensors(cursor, tensors, number, tensor_count, alignment, err);
}

int gguf_parse(struct gguf_metadata *metadata, struct tensors *tensors, size_t number,
               struct gguf_window *window, struct error *err) {
    struct gguf_cursor cursor = {.window = window};
    size_t before = tensors->count;
    *metadata = (struct gguf_metadata){0};
    window->wanted = 0;
    if (parse(&cursor, metadata, tensors, number, err) != STATUS_OK) {
        tensors_truncate(tensors, before);
        gguf_metadata_destroy(metadata);
        return error_wrap(err, "%s", window->name);
    }
    return STATUS_OK;
}

// ---- from a file ----

// The header's length is known only behind it: what is read doubles until it is there.
static int read_header(struct gguf_metadata *metadata, struct tensors *tensors, size_t number, int descriptor,
                       struct gguf_window *window, struct buffer *bytes, struct error *err) {
    size_t wanted = FIRST_WINDOW;
    for (;;) {
        size_t size = size_min(window->file_size, wanted);
        TRY(buffer_reserve(bytes, size_max(size, 1), err));
        TRY(file_read_at(descriptor, bytes->data + window->size, size - window->size, window->size,
                         window->name, err));
        window->bytes = (const unsigned char *)bytes->data;
        window->size = size;
        int status = gguf_parse(metadata, tensors, number, window, err);
        if (status == STATUS_OK || window->wanted == 0) {
            return status;
        }
        wanted = size_max(window->wanted, 2 * window->size);
    }
}

int gguf_read(struct gguf_metadata *metadata, struct tensors *tensors, size_t number, int descriptor,
              size_t size, const char *path, struct error *err) {
    struct buffer bytes = {0};
    struct gguf_window window = {.file_size = size, .name = path};
    *metadata = (struct gguf_metadata){0};
    int status = read_header(metadata, tensors, number, descriptor, &window, &bytes, err);
    if (status != STATUS_OK) {
        bool other = bytes.data != NULL && (window.size < 4 || memcmp(bytes.data, "GGUF", 4) != 0);
        buffer_destroy(&bytes);
        return other && status == STATUS_DATA && first_bytes_check_file(path, FIRST_BYTES_PATH, err) != 0
                   ? STATUS_DATA
                   : status;
    }
    metadata->bytes = bytes;
    return STATUS_OK;
}

int gguf_metadata_read(struct gguf_metadata *out, const char *path, struct error *err) {
    int descriptor;
    size_t size;
    struct tensors tensors = {0};
    *out = (struct gguf_metadata){0};
    TRY(file_open(&descriptor, &size, path, err));
    int status = gguf_read(out, &tensors, 0, descriptor, size, path, err);
    tensors_destroy(&tensors);
    close(descriptor);
    return status;
}

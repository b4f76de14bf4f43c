// SPDX-License-Identifier: MIT
#include "model/gguf_open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/gguf.h"
#include "model/gguf_names.h"

enum { LARGEST_PARTS = 4096, DIGITS = 5 };

static const char end_of_name[] = ".gguf";

// What a file's name says: NAME-00001-of-00003.gguf.
struct part_name {
    size_t stem;   // bytes before "-00001"
    int64_t part;  // from 1 on
    int64_t parts; // 0: no part's name
};

static bool read_digits(const char *at, int64_t *out) {
    *out = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return false;
        }
        *out = 10 * *out + (at[i] - '0');
    }
    return true;
}

static struct part_name read_name(const char *path) {
    enum { LENGTH = sizeof "-00001-of-00003.gguf" - 1, SECOND = sizeof "-00001-of-" - 1 };
    struct part_name name = {0};
    size_t length = strlen(path);
    if (length <= LENGTH) {
        return name;
    }
    const char *at = path + length - LENGTH;
    int64_t part;
    int64_t parts;
    if (at[0] == '-' && read_digits(at + 1, &part) && strncmp(at + 1 + DIGITS, "-of-", 4) == 0 &&
        read_digits(at + SECOND, &parts) && strcmp(at + SECOND + DIGITS, end_of_name) == 0) {
        name = (struct part_name){length - LENGTH, part, parts};
    }
    return name;
}

// ---- what the files say of themselves ----

struct split {
    int64_t number; // from 0 on
    int64_t count;
    int64_t tensors; // of all parts; -1: not said
};

static int read_key(const struct gguf_metadata *metadata, const char *key, int64_t otherwise, int64_t *out,
                    struct error *err) {
    const struct gguf_value *value = gguf_metadata_find(metadata, key);
    *out = otherwise;
    if (value == NULL) {
        return STATUS_OK;
    }
    if (value->list || !gguf_value_integer(value, 0, out) || *out < 0) {
        return error_set(err, STATUS_DATA, "'%s' is not a whole number from 0 on", key);
    }
    return STATUS_OK;
}

static int read_split(const struct gguf_metadata *metadata, struct split *out, struct error *err) {
    TRY(read_key(metadata, "split.no", 0, &out->number, err));
    TRY(read_key(metadata, "split.count", 1, &out->count, err));
    TRY(read_key(metadata, "split.tensors.count", -1, &out->tensors, err));
    out->count = out->count == 0 ? 1 : out->count; // as some writers have it for a file that is whole
    return STATUS_OK;
}

// Part `number`, from 0 on, of so many as the first one's name says.
static int check_split(const struct split *split, const struct split *first, size_t number, int64_t parts,
                       struct error *err) {
    if (split->count != parts) {
        return error_set(err, STATUS_DATA, "'split.count' is %lld, and its name is that of %s",
                         (long long)split->count,
                         parts == 1 ? "a whole file (the first part of a split one is named "
                                      "NAME-00001-of-N.gguf, N with five digits)"
                                    : "a part of another number of files");
    }
    if (split->number != (int64_t)number) {
        return error_set(err, STATUS_DATA, "'split.no' is %lld, and its name is that of part %zu",
                         (long long)split->number, number + 1);
    }
    if (split->tensors >= 0 && first->tensors >= 0 && split->tensors != first->tensors) {
        return error_set(err, STATUS_DATA, "'split.tensors.count' is %lld here and %lld in the first part",
                         (long long)split->tensors, (long long)first->tensors);
    }
    return STATUS_OK;
}

// ---- opening ----

static int open_part(struct gguf_model *out, size_t number, const char *path, struct gguf_metadata *metadata,
                     struct error *err) {
    struct checkpoint *checkpoint = &out->checkpoint;
    struct checkpoint_file *file = &checkpoint->files[number];
    checkpoint->count++;
    file->descriptor = -1;
    TRY(memory_text(&file->path, path, err));
    TRY(file_open(&file->descriptor, &file->size, path, err));
    const char *slash = strrchr(file->path, '/');
    file->name = slash == NULL ? file->path : slash + 1;
    size_t first = checkpoint->tensors.count;
    TRY(gguf_read(metadata, &checkpoint->tensors, number, file->descriptor, file->size, path, err));
    return gguf_names_translate(&checkpoint->tensors, first, err);
}

static int open_other_part(struct gguf_model *out, size_t number, const char *path, const struct split *first,
                           int64_t parts, struct error *err) {
    struct gguf_metadata metadata = {0};
    struct split split;
    int status = open_part(out, number, path, &metadata, err);
    if (status == STATUS_OK) {
        status = read_split(&metadata, &split, err);
        status = status == STATUS_OK ? check_split(&split, first, number, parts, err) : status;
        status = status == STATUS_OK ? STATUS_OK : error_wrap(err, "%s", path);
    }
    gguf_metadata_destroy(&metadata);
    return status;
}

static int open_parts(struct gguf_model *out, const char *path, const struct part_name *name,
                      struct error *err) {
    int64_t parts = name->parts == 0 ? 1 : name->parts;
    struct split first;
    TRY(open_part(out, 0, path, &out->metadata, err));
    if (read_split(&out->metadata, &first, err) != STATUS_OK ||
        check_split(&first, &first, 0, parts, err) != STATUS_OK) {
        return error_wrap(err, "%s", path);
    }
    for (size_t i = 1; i < (size_t)parts; i++) {
        char other[PATH_SIZE];
        snprintf(other, sizeof other, "%.*s-%05zu-of-%05lld%s", (int)name->stem, path, i + 1,
                 (long long)parts, end_of_name);
        TRY(open_other_part(out, i, other, &first, parts, err));
    }
    size_t tensors = out->checkpoint.tensors.count;
    if (first.tensors >= 0 && (size_t)first.tensors != tensors) {
        return error_set(err, STATUS_DATA, "%s: 'split.tensors.count' is %lld, and there are %zu", path,
                         (long long)first.tensors, tensors);
    }
    return STATUS_OK;
}

// Takes the factors of the rotary embedding out of the directory.
static void take_rope_factors(struct gguf_model *out) {
    struct tensors *tensors = &out->checkpoint.tensors;
    for (size_t i = 0; i < tensors->count && out->rope_factors.name == NULL; i++) {
        if (strcmp(tensors->entries[i].name, GGUF_ROPE_FACTORS) == 0) {
            out->rope_factors = tensors->entries[i];
            tensors->entries[i] = tensors->entries[--tensors->count];
        }
    }
}

static int open_all(struct gguf_model *out, const char *path, struct error *err) {
    struct part_name name = read_name(path);
    void *files;
    if (name.parts > LARGEST_PARTS || (name.parts > 0 && (name.part < 1 || name.part > name.parts))) {
        return error_set(err, STATUS_DATA, "%s is named part %lld of %lld, outside 1 to %d", path,
                         (long long)name.part, (long long)name.parts, LARGEST_PARTS);
    }
    if (name.part > 1) {
        return error_set(err, STATUS_DATA,
                         "%s is part %lld of a model of %lld: give the path of the first one", path,
                         (long long)name.part, (long long)name.parts);
    }
    TRY(memory_zeroed(&files, name.parts == 0 ? 1 : (size_t)name.parts, sizeof out->checkpoint.files[0],
                      err));
    out->checkpoint.files = files;
    TRY(open_parts(out, path, &name, err));
    take_rope_factors(out);
    return checkpoint_order(&out->checkpoint, err);
}

int gguf_open(struct gguf_model *out, const char *path, struct error *err) {
    *out = (struct gguf_model){0};
    int status = open_all(out, path, err);
    if (status != STATUS_OK) {
        gguf_close(out);
    }
    return status;
}

void gguf_close(struct gguf_model *model) {
    checkpoint_close(&model->checkpoint);
    gguf_metadata_destroy(&model->metadata);
    free(model->rope_factors.name);
    *model = (struct gguf_model){0};
}

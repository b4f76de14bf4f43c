#include "model/checkpoint.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/first_bytes.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/size.h"
#include "model/beside.h"

enum { INDEX_LIMIT = 16 << 20, LARGEST_SHARDS = 4096 };

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

static int compare_names(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int compare_entries(const void *left, const void *right) {
    const struct checkpoint_entry *a = left;
    const struct checkpoint_entry *b = right;
    return strcmp(a->tensor->name, b->tensor->name);
}

// What the header may take, of what the file has: its length says so, and safetensors_parse judges it.
static int read_header(struct checkpoint_file *file, struct error *err) {
    struct buffer bytes = {0};
    unsigned char length[8];
    uint64_t wanted = 0;
    size_t first = size_min(file->size, sizeof length);
    int status = file_read_at(file->descriptor, length, first, 0, file->path, err);
    for (size_t i = 0; i < first; i++) {
        wanted |= (uint64_t)length[i] << (8 * i);
    }
    bool fits = first == sizeof length && wanted <= SAFETENSORS_HEADER && wanted <= file->size - first;
    size_t size = fits ? first + (size_t)wanted : first;
    if (status == STATUS_OK) {
        status = buffer_reserve(&bytes, size_max(size, 1), err);
    }
    if (status == STATUS_OK) {
        status = file_read_at(file->descriptor, bytes.data, size, 0, file->path, err);
    }
    // Of a header that is plausible the first bytes are a length, whatever else they look like.
    if (status == STATUS_OK && (!fits || wanted == 0 || bytes.data[first] != '{')) {
        status = first_bytes_check_file(file->path, FIRST_BYTES_SAFETENSORS, err);
    }
    if (status == STATUS_OK) {
        status =
            safetensors_parse(&file->header, (const unsigned char *)bytes.data, file->size, file->path, err);
    }
    buffer_destroy(&bytes);
    return status;
}

static int open_file(struct checkpoint_file *file, const char *folder, const char *name, struct error *err) {
    char path[PATH_SIZE];
    int status = path_join(path, sizeof path, folder, name, err);
    if (status == STATUS_OK) {
        status = memory_text(&file->path, path, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = file_open(&file->descriptor, &file->size, file->path, err);
    if (status != STATUS_OK) {
        return status;
    }
    const char *slash = strrchr(file->path, '/');
    file->name = slash == NULL ? file->path : slash + 1;
    return read_header(file, err);
}

static int open_files(struct checkpoint *out, const char *folder, const char *const *names, size_t count,
                      struct error *err) {
    void *files;
    int status = memory_zeroed(&files, count, sizeof out->files[0], err);
    if (status != STATUS_OK) {
        return status;
    }
    out->files = files;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        out->count++;
        out->files[i].descriptor = -1;
        status = open_file(&out->files[i], folder, names[i], err);
    }
    return status;
}

static int list_entries(struct checkpoint *out, struct error *err) {
    size_t total = 0;
    for (size_t i = 0; i < out->count; i++) {
        total += out->files[i].header.count;
    }
    void *entries;
    int status = memory_zeroed(&entries, size_max(total, 1), sizeof out->entries[0], err);
    if (status != STATUS_OK) {
        return status;
    }
    out->entries = entries;
    for (size_t i = 0; i < out->count; i++) {
        for (size_t k = 0; k < out->files[i].header.count; k++) {
            out->entries[out->entry_count++] = (struct checkpoint_entry){&out->files[i].header.tensors[k], i};
        }
    }
    qsort(out->entries, total, sizeof out->entries[0], compare_entries);
    for (size_t i = 1; i < total; i++) {
        if (compare_entries(&out->entries[i - 1], &out->entries[i]) == 0) {
            return error_set(err, STATUS_DATA, "tensor '%.200s' is both in %s and in %s",
                             out->entries[i].tensor->name, out->files[out->entries[i - 1].file].path,
                             out->files[out->entries[i].file].path);
        }
    }
    return STATUS_OK;
}

// A shard lies beside its index: a plain name, no way out of the folder.
static bool plain_name(const char *name) {
    return name != NULL && name[0] != 0 && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0 && strlen(name) < 256;
}

// The different file names of a weight map, ascending. The names belong to the map.
static int list_shards(json_t *map, const char ***out, size_t *count, struct error *err) {
    void *names;
    int status = memory_zeroed(&names, size_max(json_object_size(map), 1), sizeof(char *), err);
    if (status != STATUS_OK) {
        return status;
    }
    const char **list = names;
    size_t all = 0;
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value) {
        const char *name = json_string_value(value);
        if (!plain_name(name) || strlen(name) != json_string_length(value)) {
            free(names);
            return error_set(err, STATUS_DATA, "tensor '%.200s' is not mapped to a plain file name", key);
        }
        list[all++] = name;
    }
    qsort(list, all, sizeof list[0], compare_names);
    size_t kept = 0;
    for (size_t i = 0; i < all; i++) {
        if (kept == 0 || strcmp(list[kept - 1], list[i]) != 0) {
            list[kept++] = list[i];
        }
    }
    if (kept == 0 || kept > LARGEST_SHARDS) {
        free(names);
        return error_set(err, STATUS_DATA, "%zu shards, outside 1 to %d", kept, LARGEST_SHARDS);
    }
    *out = list;
    *count = kept;
    return STATUS_OK;
}

// Index and shards agree: each mapped tensor lies in the shard named for it, each tensor of a shard is
// mapped. Tensors beside the blocks may differ: nobody will ask for them.
static int check_map(struct checkpoint *checkpoint, const json_t *map, const struct model_config *config,
                     struct error *err) {
    const char *key;
    json_t *value;
    size_t differences = 0;
    const char *first = NULL;
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        size_t index;
        if (!checkpoint_find(checkpoint, key, &index) ||
            strcmp(checkpoint->files[checkpoint->entries[index].file].name, json_string_value(value)) != 0) {
            if (beside_tensor(key, config)) {
                first = differences++ == 0 ? key : first;
                continue;
            }
            return error_set(err, STATUS_DATA,
                             "tensor '%.200s' is missing from %.200s, where the index puts it", key,
                             json_string_value(value));
        }
    }
    for (size_t i = 0; i < checkpoint->entry_count; i++) {
        const struct checkpoint_entry *entry = &checkpoint->entries[i];
        if (json_object_get(map, entry->tensor->name) == NULL) {
            if (beside_tensor(entry->tensor->name, config)) {
                first = differences++ == 0 ? entry->tensor->name : first;
                continue;
            }
            return error_set(err, STATUS_DATA, "tensor '%.200s' of %s is not in the index",
                             entry->tensor->name, checkpoint->files[entry->file].name);
        }
    }
    return differences == 0
               ? STATUS_OK
               : buffer_printf(&checkpoint->notes, err,
                               "the index and the shards differ in %zu tensor%s that no hidden state needs "
                               "(%.200s)\n",
                               differences, differences == 1 ? "" : "s", first);
}

static bool holds_only_beside(const json_t *map, const char *shard, const struct model_config *config) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        if (strcmp(json_string_value(value), shard) == 0 && !beside_tensor(key, config)) {
            return false;
        }
    }
    return true;
}

// A shard that is not there is none where the index puts only tensors beside the blocks into it.
static int drop_absent(struct checkpoint *out, const char *folder, const struct model_config *config,
                       const json_t *map, const char **names, size_t *count, struct error *err) {
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        char path[PATH_SIZE];
        int status = path_join(path, sizeof path, folder, names[i], err);
        bool dropped = status == STATUS_OK && !file_exists(path) && holds_only_beside(map, names[i], config);
        if (dropped) {
            status = buffer_printf(&out->notes, err, "%s is not there; no hidden state needs its tensors\n",
                                   names[i]);
        }
        if (status != STATUS_OK) {
            return status;
        }
        names[kept] = names[i];
        kept += !dropped;
    }
    *count = kept;
    return STATUS_OK;
}

static int open_shards(struct checkpoint *out, const char *folder, const char *index_path,
                       const struct model_config *config, struct error *err) {
    json_t *index = NULL;
    const char **names = NULL;
    size_t count = 0;
    int status = json_parse_file(&index, index_path, INDEX_LIMIT, err);
    if (status != STATUS_OK) {
        return status;
    }
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map)) {
        status = error_set(err, STATUS_DATA, "'weight_map' is not an object");
        goto named;
    }
    status = list_shards(map, &names, &count, err);
    if (status != STATUS_OK) {
        goto named;
    }
    status = drop_absent(out, folder, config, map, names, &count, err);
    if (status == STATUS_OK && count == 0) {
        status = error_set(err, STATUS_DATA, "none of its shards is there");
    }
    if (status != STATUS_OK) {
        goto named;
    }
    status = open_files(out, folder, names, count, err);
    if (status != STATUS_OK) {
        goto done;
    }
    status = list_entries(out, err);
    if (status != STATUS_OK) {
        goto done;
    }
    status = check_map(out, map, config, err);
named:
    if (status != STATUS_OK) {
        error_wrap(err, "%s", index_path);
    }
done:
    free(names);
    json_decref(index);
    return status;
}

int checkpoint_open(struct checkpoint *out, const char *folder, const struct model_config *config,
                    struct error *err) {
    *out = (struct checkpoint){0};
    char single[PATH_SIZE];
    char index[PATH_SIZE];
    int status = path_join(single, sizeof single, folder, single_name, err);
    if (status == STATUS_OK) {
        status = path_join(index, sizeof index, folder, index_name, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (file_exists(single)) {
        const char *names[] = {single_name};
        status = open_files(out, folder, names, 1, err);
        if (status == STATUS_OK) {
            status = list_entries(out, err);
        }
    } else if (file_exists(index)) {
        status = open_shards(out, folder, index, config, err);
    } else {
        status = error_set(err, STATUS_DATA, "%s holds neither %s nor %s", folder, single_name, index_name);
    }
    if (status != STATUS_OK) {
        checkpoint_close(out);
    }
    return status;
}

void checkpoint_close(struct checkpoint *checkpoint) {
    for (size_t i = 0; i < checkpoint->count; i++) {
        safetensors_destroy(&checkpoint->files[i].header);
        if (checkpoint->files[i].descriptor >= 0) {
            close(checkpoint->files[i].descriptor);
        }
        free(checkpoint->files[i].path);
    }
    free(checkpoint->files);
    free(checkpoint->entries);
    buffer_destroy(&checkpoint->notes);
    *checkpoint = (struct checkpoint){0};
}

static int compare_to_name(const void *key, const void *entry) {
    return strcmp(key, ((const struct checkpoint_entry *)entry)->tensor->name);
}

bool checkpoint_find(const struct checkpoint *checkpoint, const char *name, size_t *index) {
    const struct checkpoint_entry *found = bsearch(name, checkpoint->entries, checkpoint->entry_count,
                                                   sizeof checkpoint->entries[0], compare_to_name);
    if (found == NULL) {
        return false;
    }
    *index = (size_t)(found - checkpoint->entries);
    return true;
}

uint64_t checkpoint_bytes(const struct checkpoint *checkpoint) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < checkpoint->count; i++) {
        bytes += checkpoint->files[i].size;
    }
    return bytes;
}

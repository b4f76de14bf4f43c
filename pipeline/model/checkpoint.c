// SPDX-License-Identifier: MIT
#include "model/checkpoint.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/size.h"
#include "model/beside.h"
#include "model/gguf_names.h"
#include "model/gguf_open.h"
#include "model/place.h"
#include "model/safetensors.h"

enum { INDEX_LIMIT = 16 << 20, LARGEST_SHARDS = 4096 };

static int compare_names(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int open_file(struct checkpoint *out, size_t number, const char *model, const char *name,
                     struct error *err) {
    struct checkpoint_file *file = &out->files[number];
    char path[PATH_SIZE];
    TRY(model_file_path(path, model, name, err));
    TRY(memory_text(&file->path, path, err));
    TRY(file_open(&file->descriptor, &file->size, file->path, err));
    const char *slash = strrchr(file->path, '/');
    file->name = slash == NULL ? file->path : slash + 1;
    return safetensors_read(&out->tensors, number, file->descriptor, file->size, file->path, err);
}

static int open_files(struct checkpoint *out, const char *model, const char *const *names, size_t count,
                      struct error *err) {
    void *files;
    TRY(memory_zeroed(&files, count, sizeof out->files[0], err));
    out->files = files;
    for (size_t i = 0; i < count; i++) {
        out->count++;
        out->files[i].descriptor = -1;
        TRY(open_file(out, i, model, names[i], err));
    }
    return checkpoint_order(out, err);
}

// A shard lies beside its index: a plain name, no way out of the folder.
static bool plain_name(const char *name) {
    return name != NULL && name[0] != 0 && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0 && strlen(name) < 256;
}

// The different file names of a weight map, ascending. The names belong to the map.
static int list_shards(json_t *map, const char ***out, size_t *count, struct error *err) {
    void *names;
    TRY(memory_zeroed(&names, size_max(json_object_size(map), 1), sizeof(char *), err));
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
        const struct tensor *tensor = tensors_find(&checkpoint->tensors, key);
        if (tensor == NULL || strcmp(checkpoint->files[tensor->file].name, json_string_value(value)) != 0) {
            if (beside_tensor(key, config)) {
                first = differences++ == 0 ? key : first;
                continue;
            }
            return error_set(err, STATUS_DATA,
                             "tensor '%.200s' is missing from %.200s, where the index puts it", key,
                             json_string_value(value));
        }
    }
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        const struct tensor *tensor = &checkpoint->tensors.entries[i];
        if (json_object_get(map, tensor->name) == NULL) {
            if (beside_tensor(tensor->name, config)) {
                first = differences++ == 0 ? tensor->name : first;
                continue;
            }
            return error_set(err, STATUS_DATA, "tensor '%.200s' of %s is not in the index", tensor->name,
                             checkpoint->files[tensor->file].name);
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
static int drop_absent(struct checkpoint *out, const char *model, const struct model_config *config,
                       const json_t *map, const char **names, size_t *count, struct error *err) {
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (!model_has_file(model, names[i]) && holds_only_beside(map, names[i], config)) {
            TRY(buffer_printf(&out->notes, err, "%s is missing; no hidden state needs its tensors\n",
                              names[i]));
            continue;
        }
        names[kept++] = names[i];
    }
    *count = kept;
    return STATUS_OK;
}

// The shards of the map that are there, ascending. *names belongs to the caller, its texts to the map.
static int choose_shards(struct checkpoint *out, const char *model, const struct model_config *config,
                         json_t *map, const char ***names, size_t *count, struct error *err) {
    if (!json_is_object(map)) {
        return error_set(err, STATUS_DATA, "'weight_map' is not an object");
    }
    TRY(list_shards(map, names, count, err));
    TRY(drop_absent(out, model, config, map, *names, count, err));
    return *count > 0 ? STATUS_OK : error_set(err, STATUS_DATA, "none of its shards exists");
}

// Behind the message of one that could not be opened: how many are not there.
static void add_absent(const char *model, const char **names, size_t count, struct error *err) {
    size_t absent = 0;
    for (size_t i = 0; i < count; i++) {
        absent += !model_has_file(model, names[i]);
    }
    if (absent > 0) {
        error_append(err,
                     "; %zu of the %zu shards that the index names are missing: was the download complete?",
                     absent, count);
    }
}

static int open_shards(struct checkpoint *out, const char *model, const struct model_config *config,
                       struct error *err) {
    int status;
    char index_path[PATH_SIZE];
    json_t *index = NULL;
    const char **names = NULL;
    size_t count = 0;
    TRY(model_part_path(index_path, model, MODEL_WEIGHTS_INDEX, err));
    TRY(json_parse_file(&index, index_path, INDEX_LIMIT, err));
    json_t *map = json_object_get(index, "weight_map");
    TRY_TO(named, status = choose_shards(out, model, config, map, &names, &count, err));
    status = open_files(out, model, names, count, err);
    if (status != STATUS_OK) {
        add_absent(model, names, count, err);
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

static int open_gguf(struct checkpoint *out, const char *model, const struct model_config *config,
                     struct error *err) {
    struct gguf_model opened;
    TRY(gguf_open(&opened, model, err));
    *out = opened.checkpoint;
    opened.checkpoint = (struct checkpoint){0};
    gguf_close(&opened);
    gguf_names_interleave(&out->tensors, config);
    return STATUS_OK;
}

// The container is chosen by what is there.
static int open_container(struct checkpoint *out, const char *model, const struct model_config *config,
                          struct error *err) {
    const char *const single = model_part_name(MODEL_WEIGHTS);
    enum model_form form;
    TRY(model_form(model, &form, err));
    if (form == MODEL_FORM_GGUF) {
        return open_gguf(out, model, config, err);
    }
    if (model_has_part(model, MODEL_WEIGHTS)) {
        return open_files(out, model, &single, 1, err);
    }
    return model_has_part(model, MODEL_WEIGHTS_INDEX)
               ? open_shards(out, model, config, err)
               : error_set(err, STATUS_DATA, "%s holds neither %s nor %s", model, single,
                           model_part_name(MODEL_WEIGHTS_INDEX));
}

int checkpoint_open(struct checkpoint *out, const char *model, const struct model_config *config,
                    struct error *err) {
    *out = (struct checkpoint){0};
    int status = open_container(out, model, config, err);
    if (status != STATUS_OK) {
        checkpoint_close(out);
    }
    return status;
}

int checkpoint_order(struct checkpoint *checkpoint, struct error *err) {
    const struct tensor *twice;
    TRY(tensors_order(&checkpoint->tensors, &twice, err));
    return twice == NULL
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "tensor '%.200s' is both in %s and in %s", twice->name,
                           checkpoint->files[twice[-1].file].path, checkpoint->files[twice->file].path);
}

void checkpoint_close(struct checkpoint *checkpoint) {
    for (size_t i = 0; i < checkpoint->count; i++) {
        if (checkpoint->files[i].descriptor >= 0) {
            close(checkpoint->files[i].descriptor);
        }
        free(checkpoint->files[i].path);
    }
    free(checkpoint->files);
    tensors_destroy(&checkpoint->tensors);
    buffer_destroy(&checkpoint->notes);
    *checkpoint = (struct checkpoint){0};
}

uint64_t checkpoint_bytes(const struct checkpoint *checkpoint) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < checkpoint->count; i++) {
        bytes += checkpoint->files[i].size;
    }
    return bytes;
}

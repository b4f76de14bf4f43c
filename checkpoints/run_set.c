// SPDX-License-Identifier: MIT
#include "checkpoints/run_set.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/aside.h"
#include "base/json.h"
#include "base/utf8.h"
#include "checkpoints/folder_content.h"
#include "checkpoints/ledger.h"
#include "checkpoints/run_folder.h"

#define IDENTITY_FILE "identity.json"

enum { FORMAT = 1, FILE_MOST = 64 << 20 };

// ---- names ----

void run_set_part_name(char out[RUN_SET_NAME], const struct run_part *part) {
    snprintf(out, RUN_SET_NAME, "part-%04" PRIu64 "-of-%04" PRIu64, part->index, part->count);
}

int run_set_part_path(char out[PATH_SIZE], const char *folder, const struct run_part *part,
                      struct error *err) {
    char name[RUN_SET_NAME];
    run_set_part_name(name, part);
    return path_join(out, PATH_SIZE, folder, name, err);
}

bool run_set_parse_name(const char *name, struct run_part *part) {
    char again[RUN_SET_NAME];
    if (sscanf(name, "part-%" SCNu64 "-of-%" SCNu64, &part->index, &part->count) != 2) {
        return false;
    }
    run_set_part_name(again, part);
    return strcmp(name, again) == 0 && part->index < part->count && part->count <= RUN_SET_PARTS;
}

bool run_set_parse_part(const char *text, struct run_part *part) {
    char again[RUN_SET_NAME];
    if (sscanf(text, "%" SCNu64 "/%" SCNu64, &part->index, &part->count) != 2) {
        return false;
    }
    snprintf(again, sizeof again, "%" PRIu64 "/%" PRIu64, part->index, part->count);
    return strcmp(text, again) == 0 && part->index < part->count && part->count <= RUN_SET_PARTS;
}

bool run_set_is_own(const char *key) {
    return strcmp(key, IDENTITY_PROBLEMS) == 0 || strcmp(key, IDENTITY_PART) == 0 ||
           strcmp(key, IDENTITY_PART_ROWS) == 0 || strcmp(key, IDENTITY_PREFIXES) == 0;
}

int run_set_copy_common(const struct identity *identity, struct identity *common, struct error *err) {
    for (size_t i = 0; i < identity->count; i++) {
        const struct identity_entry *entry = &identity->entries[i];
        if (!run_set_is_own(entry->key)) {
            TRY(identity_add(common, entry->key, entry->value, err));
        }
    }
    return STATUS_OK;
}

// ---- files that appear once ----

static int read_object(json_t **out, const char *path, bool *found, struct error *err) {
    struct buffer text = {0};
    int64_t format = 0;
    int status = STATUS_OK;
    *out = NULL;
    *found = file_exists(path);
    if (!*found) {
        return STATUS_OK;
    }
    TRY_TO(done, status = file_read_own(&text, path, FILE_MOST, err));
    TRY_TO(done, status = json_parse(out, text.data, text.size, path, err));
    if (!json_is_object(*out)) {
        status = error_set(err, STATUS_DATA, "%s is no JSON object", path);
        goto done;
    }
    TRY_TO(done, status = json_get_integer(*out, "format", 0, INT32_MAX, &format, err));
    if (format != FORMAT) {
        status = error_set(err, STATUS_DATA, "%s has format %lld; this program knows %d", path,
                           (long long)format, FORMAT);
    }
done:
    buffer_destroy(&text);
    if (status != STATUS_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

// Takes the object. `named`: what of it comes from outside.
static int write_first(const char *path, json_t *object, const char *named, bool *first, struct error *err) {
    size_t at;
    char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(2) | JSON_SORT_KEYS);
    int status = text != NULL ? file_write_first(path, text, strlen(text), first, err)
                 : utf8_valid(named, strlen(named), &at)
                     ? error_set(err, STATUS_INTERNAL, "out of memory: %s", path)
                     : error_set(err, STATUS_WRITE, "%s cannot name '%s': it has to be UTF-8", path, named);
    free(text);
    json_decref(object);
    return status;
}

// ---- set.json ----

int run_set_command(const char *folder, struct buffer *command, struct error *err) {
    char path[PATH_SIZE];
    json_t *object = NULL;
    const char *text = "strata run JOB.yaml --part";
    bool found = false;
    TRY(path_join(path, sizeof path, folder, RUN_SET_FILE, err));
    TRY(read_object(&object, path, &found, err));
    int status = found ? json_get_string(object, "command", &text, err) : STATUS_OK;
    if (status == STATUS_OK) {
        status = buffer_append(command, text, strlen(text), err);
    }
    json_decref(object);
    return status;
}

static int read_parts(const char *folder, uint64_t *parts, struct error *err) {
    char path[PATH_SIZE];
    json_t *object = NULL;
    int64_t count = 0;
    bool found = false;
    *parts = 0;
    TRY(path_join(path, sizeof path, folder, RUN_SET_FILE, err));
    TRY(read_object(&object, path, &found, err));
    if (!found) {
        return STATUS_OK;
    }
    int status = json_get_integer(object, "parts", 1, RUN_SET_PARTS, &count, err);
    json_decref(object);
    if (status == STATUS_OK && count == 0) {
        return error_set(err, STATUS_DATA, "%s does not say how many parts there are", path);
    }
    *parts = (uint64_t)count;
    return status;
}

// The folders of parts tell as well how many there are. They must agree: `parts` 0 takes what the first one
// says.
static int agree_with_folders(const char *folder, uint64_t *parts, struct error *err) {
    int status = STATUS_OK;
    DIR *listing = opendir(folder);
    const struct dirent *entry;
    while (listing != NULL && status == STATUS_OK && (entry = readdir(listing)) != NULL) {
        struct run_part part;
        bool is_part = run_set_parse_name(entry->d_name, &part);
        if (is_part && *parts != 0 && part.count != *parts) {
            status = error_set(err, STATUS_DATA,
                               "%s is divided into %" PRIu64
                               " parts and holds %s, which is none of them: restore " RUN_SET_FILE
                               ", or choose another run.output",
                               folder, *parts, entry->d_name);
        } else if (is_part) {
            *parts = part.count;
        }
    }
    if (listing != NULL) {
        closedir(listing);
    }
    return status;
}

int run_set_parts(const char *folder, uint64_t *parts, struct error *err) {
    TRY(read_parts(folder, parts, err));
    return agree_with_folders(folder, parts, err);
}

static int refuse_run(const char *folder, struct error *err) {
    return error_set(
        err, STATUS_JOB,
        "%s holds a run that is not divided into parts: resume it without --part, or choose another "
        "run.output",
        folder);
}

int run_set_admit(const char *folder, struct error *err) {
    uint64_t parts = 0;
    TRY(run_set_parts(folder, &parts, err));
    if (parts > 0) {
        return STATUS_OK;
    }
    if (!folder_content_lacks_ledger(folder)) {
        return refuse_run(folder, err);
    }
    int status = folder_content_admit_set(folder, err);
    struct error ignored; // another part may make set.json, and more, at this moment
    return status != STATUS_OK && run_set_parts(folder, &parts, &ignored) == STATUS_OK && parts > 0
               ? STATUS_OK
               : status;
}

// Whatever a part was killed while it wrote.
static void sweep(const char *folder) {
    static const char *const files[] = {RUN_SET_FILE, IDENTITY_FILE, RUN_SET_SURVEY, "latents.h5"};
    aside_sweep(folder, files, sizeof files / sizeof files[0]);
}

// A set.json that was lost is made again.
static int write_set(const char *folder, uint64_t parts, const char *command, struct error *err) {
    char path[PATH_SIZE];
    bool first = false;
    TRY(path_join(path, sizeof path, folder, RUN_SET_FILE, err));
    return file_exists(path) ? STATUS_OK
                             : write_first(path,
                                           json_pack("{s:i,s:I,s:s}", "format", FORMAT, "parts",
                                                     (json_int_t)parts, "command", command),
                                           command, &first, err);
}

int run_set_begin(const char *folder, uint64_t parts, const char *command, struct error *err) {
    uint64_t there = 0;
    TRY(file_make_folder(folder, err));
    TRY(run_set_parts(folder, &there, err));
    if (there == 0) {
        TRY(run_set_admit(folder, err));
    }
    if (there == 0 || there == parts) {
        TRY(write_set(folder, parts, command, err));
        TRY(run_set_parts(folder, &there, err));
    }
    sweep(folder);
    return there == parts
               ? STATUS_OK
               : error_set(err, STATUS_JOB,
                           "%s is divided into %" PRIu64 " parts, not %" PRIu64
                           ": what they have done is of those parts. Run them, or choose another run.output",
                           folder, there, parts);
}

// ---- identity.json ----

static json_t *describe(const struct run_set_shared *shared) {
    json_t *identity = json_array();
    for (size_t i = 0; identity != NULL && i < shared->identity.count; i++) {
        const struct identity_entry *entry = &shared->identity.entries[i];
        json_array_append_new(identity, json_pack("[ss]", entry->key, entry->value));
    }
    return json_pack("{s:i,s:o,s:s,s:s}", "format", FORMAT, "identity", identity, "cpu_path",
                     shared->cpu_path, "algorithms",
                     shared->algorithms.data == NULL ? "" : shared->algorithms.data);
}

static int read_identity(const json_t *list, const char *path, struct identity *identity, struct error *err) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *key = json_string_value(json_array_get(json_array_get(list, i), 0));
        const char *value = json_string_value(json_array_get(json_array_get(list, i), 1));
        if (key == NULL || value == NULL) {
            return error_set(err, STATUS_DATA, "%s: the identity is damaged", path);
        }
        TRY(identity_add(identity, key, value, err));
    }
    return identity->count > 0 ? STATUS_OK : error_set(err, STATUS_DATA, "%s has no identity", path);
}

static int read_shared(const json_t *object, const char *path, struct run_set_shared *shared,
                       struct error *err) {
    const char *cpu_path = "";
    const char *algorithms = "";
    TRY(read_identity(json_member(object, "identity"), path, &shared->identity, err));
    TRY(json_get_string(object, "cpu_path", &cpu_path, err));
    TRY(json_get_string(object, "algorithms", &algorithms, err));
    snprintf(shared->cpu_path, sizeof shared->cpu_path, "%s", cpu_path);
    return algorithms[0] == 0 ? STATUS_OK
                              : buffer_append(&shared->algorithms, algorithms, strlen(algorithms), err);
}

int run_set_shared(const char *folder, struct run_set_shared *shared, bool *found, struct error *err) {
    char path[PATH_SIZE];
    json_t *object = NULL;
    *shared = (struct run_set_shared){0};
    TRY(path_join(path, sizeof path, folder, IDENTITY_FILE, err));
    TRY(read_object(&object, path, found, err));
    int status = *found ? read_shared(object, path, shared, err) : STATUS_OK;
    json_decref(object);
    if (status != STATUS_OK) {
        run_set_shared_destroy(shared);
    }
    return status;
}

int run_set_share(const char *folder, struct run_set_shared *shared, bool *first, struct error *err) {
    char path[PATH_SIZE];
    bool found = false;
    TRY(path_join(path, sizeof path, folder, IDENTITY_FILE, err));
    TRY(write_first(path, describe(shared), "", first, err));
    if (*first) {
        return STATUS_OK;
    }
    run_set_shared_destroy(shared);
    return run_set_shared(folder, shared, &found, err);
}

void run_set_shared_destroy(struct run_set_shared *shared) {
    identity_destroy(&shared->identity);
    buffer_destroy(&shared->algorithms);
    *shared = (struct run_set_shared){0};
}

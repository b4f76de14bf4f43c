// SPDX-License-Identifier: MIT
#include "export/progress.h"

#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/memory.h"
#include "export/target.h"

// ---- what an earlier call left ----

bool export_progress_has(const char *folder, const json_t *file) {
    const char *below = json_string_value(json_object_get(file, "path"));
    json_int_t bytes = json_integer_value(json_object_get(file, "bytes"));
    char path[PATH_SIZE];
    uint64_t size = 0;
    struct error ignored;
    return below != NULL && path_join(path, sizeof path, folder, below, &ignored) == STATUS_OK &&
           file_exists(path) && file_size(path, &size, &ignored) == STATUS_OK && size == (uint64_t)bytes;
}

// Whether the piece's files are there as they were recorded; they were on the disk before that.
static bool files_are_there(const struct export_progress *progress, const json_t *files) {
    size_t i;
    json_t *file;
    json_array_foreach(files, i, file) {
        if (!export_progress_has(progress->folder, file)) {
            return false;
        }
    }
    return true;
}

static int keep_files(struct export_progress *progress, const json_t *files, struct error *err) {
    size_t i;
    json_t *file;
    json_array_foreach(files, i, file) {
        const char *below = json_string_value(json_object_get(file, "path"));
        if (below == NULL || json_object_set(progress->files, below, file) != 0) {
            return error_set(err, STATUS_INTERNAL, "out of memory: the list of finished files");
        }
    }
    return STATUS_OK;
}

static int take_piece(struct export_progress *progress, const json_t *line, struct error *err) {
    json_int_t piece = json_integer_value(json_object_get(line, "piece"));
    const json_t *files = json_object_get(line, "files");
    if (piece < 0 || (size_t)piece >= progress->pieces || !json_is_array(files) ||
        progress->finished[piece] || !files_are_there(progress, files)) {
        return STATUS_OK;
    }
    progress->finished[piece] = true;
    progress->count++;
    progress->saturated += (uint64_t)json_integer_value(json_object_get(line, "saturated"));
    return keep_files(progress, files, err);
}

static int take_line(struct export_progress *progress, const char *key, const json_t *line, bool first,
                     struct error *err) {
    const char *found = json_string_value(json_object_get(line, "key"));
    if (!first) {
        return take_piece(progress, line, err);
    }
    return found != NULL && strcmp(found, key) == 0
               ? STATUS_OK
               : error_set(
                     err, STATUS_USAGE,
                     "%s holds finished files of an export with other options, or of a run that has other "
                     "shards since: give the same options, or remove it",
                     progress->folder);
}

// Takes the whole lines; progress->size is where they end. One line alone is no reason to refuse another key.
static int take_lines(struct export_progress *progress, FILE *file, const char *key, struct error *err) {
    char *text = NULL;
    size_t room = 0;
    size_t lines = 0;
    int status = STATUS_OK;
    struct error refused;
    int refusal = STATUS_OK;
    ssize_t length;
    while (status == STATUS_OK && (length = getline(&text, &room, file)) > 0 && text[length - 1] == '\n') {
        json_t *line = json_loadb(text, (size_t)length, 0, NULL);
        if (line == NULL) {
            break;
        }
        if (lines == 0) {
            refusal = take_line(progress, key, line, true, &refused);
        } else if (refusal != STATUS_OK) {
            *err = refused;
            status = refusal;
        } else {
            status = take_line(progress, key, line, false, err);
        }
        lines++;
        progress->size += (uint64_t)length;
        json_decref(line);
    }
    free(text);
    progress->size = refusal == STATUS_OK ? progress->size : 0;
    return status;
}

static int read_left(struct export_progress *progress, const char *key, struct error *err) {
    int copy = dup(progress->descriptor);
    FILE *file = copy < 0 ? NULL : fdopen(copy, "r");
    if (file == NULL) {
        return error_set_errno(err, STATUS_WRITE, "cannot read %s", progress->path);
    }
    int status = take_lines(progress, file, key, err);
    fclose(file);
    progress->kept = progress->count;
    return status;
}

// Removes whatever is in the folder and was not finished. Folders stay.
static int sweep(const struct export_progress *progress, struct error *err) {
    char root[PATH_SIZE];
    char *const roots[] = {root, NULL};
    int status = STATUS_OK;
    TRY(path_join(root, sizeof root, "", progress->folder, err));
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;
    while (walk != NULL && (entry = fts_read(walk)) != NULL) {
        bool own = entry->fts_level == 1 && strcmp(entry->fts_name, ASIDE_MARK) == 0;
        bool folder = entry->fts_info == FTS_D || entry->fts_info == FTS_DP;
        if (!folder && !own && json_object_get(progress->files, entry->fts_path + strlen(root) + 1) == NULL) {
            TRY_TO(done, status = file_remove(entry->fts_path, err));
        }
    }
done:
    if (walk == NULL) {
        return error_set_errno(err, STATUS_WRITE, "cannot list %s", root);
    }
    fts_close(walk);
    return status;
}

// ---- adding to it ----

static int append(struct export_progress *progress, json_t *line, struct error *err) {
    char *text = line == NULL ? NULL : json_dumps(line, JSON_COMPACT);
    json_decref(line);
    if (text == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory: the list of finished files");
    }
    size_t length = strlen(text);
    text[length] = '\n'; // in place of the closing 0
    int status =
        placed_file_write(progress->descriptor, progress->path, progress->size, text, length + 1, err);
    free(text);
    if (status == STATUS_OK && fsync(progress->descriptor) != 0) {
        status = error_set_errno(err, STATUS_WRITE, "cannot sync %s", progress->path);
    }
    progress->size += length + 1;
    return status;
}

static int begin(struct export_progress *progress, const char *key, struct error *err) {
    // What is left behind a line that was cut off goes.
    if (ftruncate(progress->descriptor, (off_t)progress->size) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot shorten %s", progress->path);
    }
    if (progress->size > 0) {
        return STATUS_OK;
    }
    TRY(append(progress, json_pack("{s:s}", "key", key), err));
    return file_sync_folder(progress->folder, err);
}

int export_progress_open(struct export_progress *progress, const char *folder, const char *key, size_t pieces,
                         struct error *err) {
    *progress = (struct export_progress){.pieces = pieces, .files = json_object()};
    TRY(memory_zeroed(&progress->finished, pieces, sizeof *progress->finished, err));
    TRY(path_join(progress->folder, sizeof progress->folder, "", folder, err));
    TRY(path_join(progress->path, sizeof progress->path, folder, ASIDE_MARK, err));
    progress->descriptor = open(progress->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (progress->descriptor < 0 || progress->files == NULL) {
        return error_set_errno(err, STATUS_WRITE, "cannot open %s", progress->path);
    }
    TRY(read_left(progress, key, err));
    TRY(sweep(progress, err));
    return begin(progress, key, err);
}

static int sync_folder_of(const char *path, struct error *err) {
    char parent[PATH_SIZE];
    TRY(path_folder(parent, sizeof parent, path, err));
    return file_sync_folder(parent, err);
}

int export_progress_add(struct export_progress *progress, size_t piece, uint64_t saturated,
                        const char *const paths[2], struct error *err) {
    json_t *files = json_array();
    int status = STATUS_OK;
    for (size_t i = 0; i < 2; i++) {
        char path[PATH_SIZE];
        if (paths[i][0] != 0) {
            TRY_TO(done, status = path_join(path, sizeof path, progress->folder, paths[i], err));
            TRY_TO(done, status = sync_folder_of(path, err));
            TRY_TO(done, status = export_progress_describe(progress, paths[i], files, err));
        }
    }
    TRY_TO(done, status = keep_files(progress, files, err));
    TRY_TO(done, status = append(progress,
                                 json_pack("{s:I, s:I, s:O}", "piece", (json_int_t)piece, "saturated",
                                           (json_int_t)saturated, "files", files),
                                 err));
    progress->finished[piece] = true;
    progress->count++;
    progress->saturated += saturated;
done:
    json_decref(files);
    return status;
}

// ---- files ----

static int by_path(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int describe_file(const struct export_progress *progress, const FTSENT *entry, json_t *files,
                         struct error *err) {
    const char *below = entry->fts_path + strlen(progress->folder) + 1;
    json_t *known = json_object_get(progress->files, below);
    char hex[DIGEST_HEX];
    if (known == NULL) {
        TRY(digest_file(entry->fts_path, hex, err));
        known = json_pack("{s:s, s:I, s:s}", "path", below, "bytes", (json_int_t)entry->fts_statp->st_size,
                          "sha256", hex);
    } else {
        json_incref(known);
    }
    return json_array_append_new(files, known) == 0
               ? STATUS_OK
               : error_set(err, STATUS_INTERNAL, "out of memory: the list of files");
}

int export_progress_describe(const struct export_progress *progress, const char *below, json_t *files,
                             struct error *err) {
    char root[PATH_SIZE];
    char *const roots[] = {root, NULL};
    int status = STATUS_OK;
    TRY(path_join(root, sizeof root, below[0] == 0 ? "" : progress->folder,
                  below[0] == 0 ? progress->folder : below, err));
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_path);
    if (walk == NULL) {
        return error_set_errno(err, STATUS_WRITE, "cannot list %s", root);
    }
    FTSENT *entry;
    while ((entry = fts_read(walk)) != NULL) {
        if (entry->fts_info == FTS_F && entry->fts_name[0] != '.') {
            TRY_TO(done, status = describe_file(progress, entry, files, err));
        }
    }
done:
    fts_close(walk);
    return status;
}

void export_progress_close(struct export_progress *progress) {
    if (progress->descriptor > 0) {
        close(progress->descriptor);
    }
    free(progress->finished);
    json_decref(progress->files);
    *progress = (struct export_progress){0};
}

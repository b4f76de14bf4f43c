// SPDX-License-Identifier: MIT
// Names near a path at which nothing is.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "job/job.h"

enum { NAMES = 256, SHOWN = 3 };

static bool fits(const char *name, const char *const *endings) {
    size_t length = strlen(name);
    if (name[0] == '.') {
        return false;
    }
    for (size_t i = 0; endings != NULL && endings[i] != NULL; i++) {
        size_t wanted = strlen(endings[i]);
        if (length > wanted && strcmp(name + length - wanted, endings[i]) == 0) {
            return true;
        }
    }
    return endings == NULL;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// The first names that the folder gives, in the order of the alphabet. The caller frees each.
static size_t read_names(const char *folder, const char *const *endings, char *names[NAMES]) {
    DIR *stream = opendir(folder);
    size_t count = 0;
    if (stream == NULL) {
        return 0;
    }
    const struct dirent *entry;
    while (count < NAMES && (entry = readdir(stream)) != NULL) {
        if (fits(entry->d_name, endings) && (names[count] = strdup(entry->d_name)) != NULL) {
            count++;
        }
    }
    closedir(stream);
    qsort(names, count, sizeof *names, by_name);
    return count;
}

static void list_names(char out[JOB_PATH_HINT], const char *folder, char *const *names, size_t count) {
    size_t used = (size_t)snprintf(out, JOB_PATH_HINT, " (%.200s has ",
                                   strcmp(folder, ".") == 0 ? "the folder" : folder);
    for (size_t i = 0; i < count && i < SHOWN; i++) {
        used += (size_t)snprintf(out + used, JOB_PATH_HINT - used, "%s%.100s", i == 0 ? "" : ", ", names[i]);
    }
    snprintf(out + used, JOB_PATH_HINT - used, count > SHOWN ? ", ...)" : ")");
}

const char *job_path_hint(char out[JOB_PATH_HINT], const char *path, const char *const *endings) {
    char folder[PATH_SIZE];
    char *names[NAMES];
    struct error ignored;
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    out[0] = 0;
    if (path_folder(folder, sizeof folder, path, &ignored) != STATUS_OK) {
        return out;
    }
    if (!file_exists(folder)) {
        snprintf(out, JOB_PATH_HINT, " (there is no folder %.400s)", folder);
        return out;
    }
    size_t count = read_names(folder, endings, names);
    const char *nearest = job_nearest(name, (const char *const *)names, count);
    if (nearest != NULL) {
        snprintf(out, JOB_PATH_HINT, " (did you mean '%.*s%.200s'?)",
                 (int)(name - path < 400 ? name - path : 0), path, nearest);
    } else if (count > 0 && endings != NULL) {
        list_names(out, folder, names, count);
    }
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    return out;
}

// SPDX-License-Identifier: MIT
#include "checkpoints/folder_content.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/ledger_place.h"

struct listing {
    bool in_shards;
    char found[NAME_MAX + 1]; // the first name that is looked for, or empty
};

static bool is_shard(const char *name) {
    uint64_t number;
    bool partial;
    return run_folder_parse_shard(name, &number, &partial);
}

static bool is_one_of(const char *name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_token(const char *text) {
    size_t length = LEDGER_PLACE_TOKEN - 1;
    return strlen(text) == length && strspn(text, "0123456789abcdef") == length;
}

bool folder_content_is_aside(const char *name, bool in_shards) {
    static const char *const names[] = {"job.yaml", "latents.h5", "ledger.sqlite", LEDGER_PLACE_FILE};
    static const char end[] = ".tmp";
    char base[RUN_FOLDER_NAME + LEDGER_PLACE_TOKEN];
    size_t length = strlen(name);
    size_t tail = sizeof end - 1;
    if (length <= tail || length - tail >= sizeof base || strcmp(name + length - tail, end) != 0) {
        return false;
    }
    memcpy(base, name, length - tail);
    base[length - tail] = 0;
    char *last = strrchr(base, '.');
    if (last != NULL && is_token(last + 1)) {
        *last = 0;
    }
    return in_shards ? is_shard(base) : is_one_of(base, names, sizeof names / sizeof names[0]);
}

// What a first start may leave before its ledger holds anything. lost+found stands in the root of an empty
// disk.
static bool is_of_a_start(const char *name, bool in_shards) {
    static const char *const names[] = {
        "lock",           "run.log",   "shards", "ledger.sqlite", "ledger.sqlite-journal",
        "throughput.csv", "lost+found"};
    static const char place[] = LEDGER_PLACE_FILE ".";
    return in_shards
               ? folder_content_is_aside(name, true)
               : is_one_of(name, names, sizeof names / sizeof names[0]) ||
                     (strncmp(name, place, sizeof place - 1) == 0 && folder_content_is_aside(name, false));
}

static bool is_strange(const char *name, bool in_shards) {
    return !is_of_a_start(name, in_shards);
}

static bool is_kept(const char *name, bool in_shards) {
    return in_shards && is_shard(name);
}

// Fills *listing with the first name that `wanted` accepts. A folder that is not there has none.
static int look(struct listing *listing, const char *folder, bool (*wanted)(const char *name, bool in_shards),
                struct error *err) {
    int status = STATUS_OK;
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        return errno == ENOENT || errno == ENOTDIR
                   ? STATUS_OK
                   : error_set_errno(err, STATUS_WRITE, "cannot list %s", folder);
    }
    while (listing->found[0] == 0) {
        errno = 0;
        const struct dirent *entry = readdir(entries);
        if (entry == NULL) {
            if (errno != 0) {
                status = error_set_errno(err, STATUS_WRITE, "cannot list %s", folder);
            }
            break;
        }
        const char *name = entry->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && wanted(name, listing->in_shards)) {
            snprintf(listing->found, sizeof listing->found, "%s", name);
        }
    }
    closedir(entries);
    return status;
}

bool folder_content_lacks_ledger(const char *folder) {
    char path[PATH_SIZE];
    uint64_t bytes = 0;
    struct error ignored;
    bool lacks = run_folder_file(path, folder, "ledger.sqlite", &ignored) == STATUS_OK &&
                 (file_size(path, &bytes, &ignored) != STATUS_OK || bytes == 0);
    // It may be elsewhere.
    return lacks && run_folder_file(path, folder, LEDGER_PLACE_FILE, &ignored) == STATUS_OK &&
           !file_exists(path);
}

int folder_content_shard(char name[RUN_FOLDER_NAME], const char *folder, struct error *err) {
    char path[PATH_SIZE];
    struct listing shards = {.in_shards = true};
    int status;
    TRY_TO(done, status = run_folder_file(path, folder, "shards", err));
    TRY_TO(done, status = look(&shards, path, is_kept, err));
done:
    snprintf(name, RUN_FOLDER_NAME, "%.*s", RUN_FOLDER_NAME - 1, shards.found);
    return status;
}

// What a set may hold before set.json is there: its survey, and what is written aside for either.
static bool is_no_set(const char *name, bool in_shards) {
    static const char *const begins[] = {"set.json", "survey.", "lost+found"};
    (void)in_shards;
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        if (strncmp(name, begins[i], strlen(begins[i])) == 0) {
            return false;
        }
    }
    return true;
}

int folder_content_admit_set(const char *folder, struct error *err) {
    struct listing top = {0};
    TRY(look(&top, folder, is_no_set, err));
    return top.found[0] == 0
               ? STATUS_OK
               : error_set(err, STATUS_WRITE,
                           "%s holds %s and no set.json: it is no folder of parts; choose an empty "
                           "folder or one that does not exist yet",
                           folder, top.found);
}

int folder_content_admit(const char *folder, struct error *err) {
    char path[PATH_SIZE];
    char shard[RUN_FOLDER_NAME];
    struct listing top = {0};
    struct listing shards = {.in_shards = true};
    TRY(folder_content_shard(shard, folder, err));
    if (shard[0] != 0) {
        return STATUS_OK;
    }
    TRY(run_folder_file(path, folder, "shards", err));
    TRY(look(&top, folder, is_strange, err));
    TRY(look(&shards, path, is_strange, err));
    bool strange = top.found[0] != 0 || shards.found[0] != 0;
    // Looked for last: a runner that is making its first files at this moment makes the ledger before any
    // other.
    if (!strange || !folder_content_lacks_ledger(folder)) {
        return STATUS_OK;
    }
    return error_set(
        err, STATUS_WRITE,
        "%s holds %s%s and no ledger: it is not a run directory; choose an empty folder or one that "
        "does not exist yet",
        folder, top.found[0] != 0 ? "" : "shards/", top.found[0] != 0 ? top.found : shards.found);
}

// SPDX-License-Identifier: MIT
#include "checkpoints/recovery.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/digest.h"
#include "base/file.h"
#include "checkpoints/folder_content.h"
#include "checkpoints/run_folder.h"

struct recovery {
    const struct run_folder *folder;
    struct log *log;
    struct recovery_report *report;
    struct error *err;
    uint64_t shards;     // acknowledged
    const char *partial; // name of the usable partial shard, or empty
};

// Acknowledged shards are numbered without a gap, so a name is known by its number.
static bool is_known(const struct recovery *recovery, const char *name) {
    uint64_t number;
    bool partial;
    if (!run_folder_parse_shard(name, &number, &partial)) {
        return false;
    }
    return partial ? strcmp(name, recovery->partial) == 0 : number < recovery->shards;
}

static int discard(struct recovery *recovery, const char *folder, const char *name) {
    char path[PATH_SIZE];
    TRY(path_join(path, sizeof path, folder, name, recovery->err));
    TRY(file_remove(path, recovery->err));
    recovery->report->removed++;
    log_write(recovery->log, LOG_LEVEL_INFO, "recovery: discarded %s, which was never acknowledged", path);
    return STATUS_OK;
}

// Whatever does not bear a name of ours is somebody else's, and is left alone (invariant 6).
static bool is_garbage(const struct recovery *recovery, const char *name, bool shards) {
    uint64_t number;
    bool partial;
    if (folder_content_is_aside(name, shards)) {
        return true;
    }
    return shards && run_folder_parse_shard(name, &number, &partial) && !is_known(recovery, name);
}

static int sweep(struct recovery *recovery, const char *folder, bool shards) {
    DIR *listing = opendir(folder);
    if (listing == NULL) {
        return error_set_errno(recovery->err, STATUS_WRITE, "cannot list %s", folder);
    }
    int status = STATUS_OK;
    while (status == STATUS_OK) {
        errno = 0;
        const struct dirent *entry = readdir(listing);
        if (entry == NULL) {
            if (errno != 0) {
                status = error_set_errno(recovery->err, STATUS_WRITE, "cannot list %s", folder);
            }
            break;
        }
        if (is_garbage(recovery, entry->d_name, shards)) {
            status = discard(recovery, folder, entry->d_name);
        }
    }
    closedir(listing);
    return status;
}

// A run directory that was removed to start anew leaves a ledger that is apart, and has a copy of it again
// after this launch.
static int refuse_missing(const struct recovery *recovery, const char *path) {
    return recovery->folder->apart
               ? error_set(
                     recovery->err, STATUS_DATA,
                     "shard %s is acknowledged in the ledger in %s (run.ledger) and is missing: restore "
                     "it; to start anew, remove %s and %s",
                     path, recovery->folder->ledger, recovery->folder->path, recovery->folder->ledger)
               : error_set(recovery->err, STATUS_DATA,
                           "shard %s is acknowledged in the ledger and is missing", path);
}

static int check_shard(void *context, const struct ledger_shard *shard) {
    struct recovery *recovery = context;
    char path[PATH_SIZE];
    char name[RUN_FOLDER_NAME];
    uint64_t bytes = 0;
    bool there = false;
    run_folder_shard_name(name, shard->number, false);
    if (shard->number != recovery->shards || strcmp(name, shard->sealed.name) != 0) {
        return error_set(recovery->err, STATUS_DATA, "the ledger lists shard %s where %s was expected",
                         shard->sealed.name, name);
    }
    recovery->shards++;
    TRY(run_folder_shard(path, recovery->folder->path, shard->number, false, recovery->err));
    TRY(file_look(path, &there, recovery->err));
    if (!there) {
        return refuse_missing(recovery, path);
    }
    TRY(file_check_own(path, recovery->err));
    TRY(file_size(path, &bytes, recovery->err));
    if (bytes != shard->sealed.bytes) {
        return error_set(recovery->err, STATUS_DATA,
                         "shard %s has %" PRIu64 " bytes, the ledger says %" PRIu64, path, bytes,
                         shard->sealed.bytes);
    }
    return STATUS_OK;
}

// A partial shard is a cache: whatever is wrong with it, the run goes on without it (invariant 7).
static bool partial_is_good(const struct recovery *recovery, const struct ledger_partial *partial) {
    char path[PATH_SIZE];
    char name[RUN_FOLDER_NAME];
    char hex[DIGEST_HEX];
    struct error ignored;
    run_folder_shard_name(name, recovery->shards, true);
    return partial->shard == recovery->shards && strcmp(name, partial->name) == 0 &&
           run_folder_shard(path, recovery->folder->path, partial->shard, true, &ignored) == STATUS_OK &&
           file_exists(path) && digest_file(path, hex, &ignored) == STATUS_OK &&
           strcmp(hex, partial->sha256) == 0;
}

static int check_partial(struct recovery *recovery, struct ledger *ledger, struct ledger_partial *partial) {
    struct buffer memory = {0};
    bool found = false;
    int status = ledger_partial(ledger, partial, &memory, &found, recovery->err);
    buffer_destroy(&memory);
    partial->record = NULL;
    if (status != STATUS_OK || !found) {
        return status;
    }
    recovery->report->partial_usable = partial_is_good(recovery, partial);
    if (recovery->report->partial_usable) {
        recovery->partial = partial->name;
        return STATUS_OK;
    }
    log_write(recovery->log, LOG_LEVEL_WARN,
              "recovery: the partial shard %s cannot be used; its batches run again", partial->name);
    return ledger_drop_partial(ledger, recovery->err);
}

static int sweep_folder(struct recovery *recovery, const char *folder) {
    char shards[PATH_SIZE];
    TRY(run_folder_file(shards, folder, "shards", recovery->err));
    TRY(sweep(recovery, shards, true));
    TRY(sweep(recovery, folder, false));
    return file_sync_folder(shards, recovery->err);
}

int recovery_run(const struct run_folder *folder, struct ledger *ledger, struct log *log,
                 struct recovery_report *report, struct error *err) {
    struct ledger_partial partial = {0};
    struct recovery recovery = {.folder = folder, .log = log, .report = report, .err = err, .partial = ""};
    *report = (struct recovery_report){0};
    int status = ledger_each_shard(ledger, check_shard, &recovery, err);
    report->shards = recovery.shards; // how far it came, also when it failed
    TRY(status);
    TRY(check_partial(&recovery, ledger, &partial));
    TRY(sweep_folder(&recovery, folder->path));
    return folder->apart ? sweep_folder(&recovery, folder->ledger) : STATUS_OK;
}

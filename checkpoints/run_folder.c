// SPDX-License-Identifier: MIT
#include "checkpoints/run_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "checkpoints/folder_content.h"
#include "checkpoints/ledger_place.h"

// A new folder's name lies in its parent: without a sync of that parent a power cut takes the whole run away.
// All folders above, on the same file system, are synced, since an earlier launch may have made them and died
// before its sync. Those that this user may not open were not made by us.
static int sync_parents(const char *path, struct error *err) {
    char folder[PATH_SIZE];
    struct stat start;
    struct stat here;
    if (realpath(path, folder) == NULL || stat(folder, &start) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot resolve %s", path);
    }
    for (;;) {
        int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (descriptor >= 0) {
            int result = fsync(descriptor);
            int number = errno;
            close(descriptor);
            if (result != 0 && number != EINVAL && number != EROFS) {
                errno = number;
                return error_set_errno(err, STATUS_WRITE, "cannot sync %s", folder);
            }
        } else if (errno != EACCES) {
            return error_set_errno(err, STATUS_WRITE, "cannot open %s to sync it", folder);
        }
        char *slash = strrchr(folder, '/');
        if (slash == NULL || folder[1] == 0) {
            return STATUS_OK;
        }
        slash[slash == folder ? 1 : 0] = 0;
        if (stat(folder, &here) != 0 || here.st_dev != start.st_dev) {
            return STATUS_OK;
        }
    }
}

int run_folder_check(const char *folder, struct error *err) {
    char path[PATH_SIZE];
    struct stat info;
    int status = run_folder_file(path, folder, "shards", err);
    return status == STATUS_OK && lstat(path, &info) == 0 && !S_ISDIR(info.st_mode)
               ? error_set(
                     err, STATUS_DATA,
                     "%s is %s: the folder of a run's shards is a real one (the run directory itself may "
                     "be a link)",
                     path, S_ISLNK(info.st_mode) ? "a symbolic link" : "not a folder")
               : status;
}

static int refuse(const char *path, const char *lock, struct error *err) {
    char holder[128] = "";
    size_t size;
    int descriptor;
    if (file_open_own(&descriptor, &size, lock, err) == STATUS_OK) {
        ssize_t count = read(descriptor, holder, sizeof holder - 1);
        holder[count > 0 ? count : 0] = 0;
        holder[strcspn(holder, "\n")] = 0;
        close(descriptor);
    }
    return error_set(err, STATUS_WRITE, "another runner is active in %s (%s)", path,
                     holder[0] != 0 ? holder : "process unknown");
}

// The holder's name is for people, those on other machines among them: a lock file without it locks as well.
static void sign(int lock) {
    char host[64] = "";
    char text[128];
    gethostname(host, sizeof host - 1);
    int length = snprintf(text, sizeof text, "process %ld on %s\n", (long)getpid(), host);
    if (ftruncate(lock, 0) == 0 && pwrite(lock, text, (size_t)length, 0) == length) {
        fsync(lock);
    }
}

// *other: somebody else holds it.
static int take_lock(int *lock, const char *folder, bool *other, struct error *err) {
    enum { TRIES = 10 };
    char path[PATH_SIZE];
    bool held = false;
    int status;
    TRY_TO(done, status = run_folder_file(path, folder, "lock", err));
    // verify looks at the lock by taking it for an instant, so one refusal is not yet another runner.
    for (int i = 0; !held && i < TRIES; i++) {
        clock_sleep(i > 0 ? 0.05 : 0);
        TRY_TO(done, status = file_lock(path, lock, &held, err));
    }
    *other = !held;
    status = held ? STATUS_OK : refuse(folder, path, err);
done:
    if (held) {
        sign(*lock);
    } else {
        *lock = -1;
    }
    return status;
}

// Its file system may have no locks, or none between machines: only another holder counts.
static int take_output_lock(struct run_folder *folder, struct error *err) {
    bool other = false;
    int status = take_lock(&folder->output_lock, folder->path, &other, err);
    return other ? status : STATUS_OK;
}

int run_folder_refuse_network(const char *folder, bool apart, struct error *err) {
    const char *network = file_network_system(folder);
    if (network == NULL) {
        return STATUS_OK;
    }
    return apart ? error_set(err, STATUS_WRITE,
                             "%s (run.ledger) is on a network file system (%s), where locks and syncs are "
                             "unreliable; name a folder on a local disk, or force it",
                             folder, network)
                 : error_set(
                       err, STATUS_WRITE,
                       "%s is on a network file system (%s), where locks and syncs are unreliable; keep the "
                       "ledger on a local disk (run.ledger), use a local disk for all, or force it",
                       folder, network);
}

static int make_folders(const char *path, struct error *err) {
    char shards[PATH_SIZE];
    TRY(run_folder_file(shards, path, "shards", err));
    TRY(run_folder_check(path, err));
    TRY(file_make_folder(shards, err));
    TRY(file_sync_folder(shards, err));
    return sync_parents(path, err);
}

// Without links, as far as the path is there.
static int resolve(char out[PATH_SIZE], const char *path, struct error *err) {
    char there[PATH_SIZE];
    char real[PATH_SIZE];
    TRY(path_join(there, sizeof there, "", path, err));
    while (realpath(there, real) == NULL) {
        char above[PATH_SIZE];
        TRY(path_folder(above, sizeof above, there, err));
        memcpy(there, above, sizeof there);
    }
    const char *rest = path + (strcmp(there, ".") == 0 ? 0 : strlen(there));
    return path_join(out, PATH_SIZE, real, rest + strspn(rest, "/"), err);
}

int run_folder_check_ledger(const char *output, const char *ledger, struct error *err) {
    char outer[PATH_SIZE];
    char inner[PATH_SIZE];
    TRY(resolve(outer, output, err));
    TRY(resolve(inner, ledger, err));
    size_t length = strlen(outer);
    bool inside = strncmp(inner, outer, length) == 0 && (inner[length] == 0 || inner[length] == '/');
    return inside
               ? error_set(err, STATUS_JOB,
                           "run.ledger (%s) is run.output, or lies in it (%s): it is a folder of its own, on "
                           "a local disk, elsewhere",
                           ledger, output)
               : STATUS_OK;
}

static int name_folders(struct run_folder *folder, const char *path, const char *ledger, struct error *err) {
    if (snprintf(folder->path, sizeof folder->path, "%s", path) >= (int)sizeof folder->path) {
        return error_set(err, STATUS_WRITE, "the run directory's name is too long: %.200s", path);
    }
    TRY(path_join(folder->ledger, sizeof folder->ledger, "", ledger == NULL ? path : ledger, err));
    folder->apart = ledger != NULL;
    return STATUS_OK;
}

// The lock keeps a second runner out (invariant 1).
int run_folder_open(struct run_folder *folder, const char *path, const char *ledger, bool force,
                    struct error *err) {
    *folder = (struct run_folder){.lock = -1, .output_lock = -1};
    TRY(name_folders(folder, path, ledger, err));
    TRY(folder_content_admit(path, err));
    TRY(file_make_folder(path, err));
    TRY(file_make_folder(folder->ledger, err));
    if (!force) {
        TRY(run_folder_refuse_network(folder->ledger, folder->apart, err));
    }
    bool other = false;
    int status;
    TRY_TO(done, status = take_lock(&folder->lock, folder->ledger, &other, err));
    if (folder->apart) {
        TRY_TO(done, status = take_output_lock(folder, err));
        TRY_TO(done, status = make_folders(folder->ledger, err));
    }
    TRY_TO(done, status = make_folders(path, err));
done:
    if (status != STATUS_OK) {
        run_folder_close(folder);
    }
    return status;
}

static void let_go(int *lock) {
    if (*lock >= 0) {
        close(*lock);
    }
    *lock = -1;
}

void run_folder_close(struct run_folder *folder) {
    let_go(&folder->lock);
    let_go(&folder->output_lock);
}

static bool is_locked(const char *folder) {
    char path[PATH_SIZE];
    struct error ignored;
    if (run_folder_file(path, folder, "lock", &ignored) != STATUS_OK) {
        return false;
    }
    size_t size;
    int descriptor;
    if (file_open_own(&descriptor, &size, path, &ignored) != STATUS_OK) {
        return false;
    }
    bool busy = flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(descriptor);
    return busy;
}

bool run_folder_busy(const char *folder) {
    char path[PATH_SIZE];
    struct error ignored;
    return is_locked(folder) ||
           (ledger_place_here(path, folder, &ignored) == STATUS_OK && path[0] != 0 && is_locked(path));
}

int run_folder_file(char out[PATH_SIZE], const char *folder, const char *name, struct error *err) {
    return path_join(out, PATH_SIZE, folder, name, err);
}

void run_folder_shard_name(char out[RUN_FOLDER_NAME], uint64_t number, bool partial) {
    snprintf(out, RUN_FOLDER_NAME, "part-%06" PRIu64 "%s.h5", number, partial ? ".partial" : "");
}

bool run_folder_parse_shard(const char *name, uint64_t *number, bool *partial) {
    char again[RUN_FOLDER_NAME];
    if (sscanf(name, "part-%" SCNu64, number) != 1) {
        return false;
    }
    *partial = strstr(name, ".partial") != NULL;
    run_folder_shard_name(again, *number, *partial);
    return strcmp(name, again) == 0;
}

int run_folder_shard(char out[PATH_SIZE], const char *folder, uint64_t number, bool partial,
                     struct error *err) {
    char name[RUN_FOLDER_NAME];
    char relative[RUN_FOLDER_NAME + 8];
    run_folder_shard_name(name, number, partial);
    snprintf(relative, sizeof relative, "shards/%s", name);
    return run_folder_file(out, folder, relative, err);
}

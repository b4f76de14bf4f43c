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

// The holder's name is for people: a lock file without it locks as well.
static void sign(int lock) {
    char host[64] = "";
    char text[128];
    gethostname(host, sizeof host - 1);
    int length = snprintf(text, sizeof text, "process %ld on %s\n", (long)getpid(), host);
    if (ftruncate(lock, 0) == 0 && pwrite(lock, text, (size_t)length, 0) != length) {
        return;
    }
}

static int take_lock(struct run_folder *folder, struct error *err) {
    enum { TRIES = 10 };
    char path[PATH_SIZE];
    bool held = false;
    int status;
    TRY_TO(done, status = run_folder_file(path, folder->path, "lock", err));
    // verify looks at the lock by taking it for an instant, so one refusal is not yet another runner.
    for (int i = 0; !held && i < TRIES; i++) {
        clock_sleep(i > 0 ? 0.05 : 0);
        TRY_TO(done, status = file_lock(path, &folder->lock, &held, err));
    }
    if (!held) {
        return refuse(folder->path, path, err);
    }
done:
    if (held) {
        sign(folder->lock);
    }
    return status;
}

// The lock keeps a second runner out (invariant 1).
int run_folder_open(struct run_folder *folder, const char *path, bool force, struct error *err) {
    char shards[PATH_SIZE];
    *folder = (struct run_folder){.lock = -1};
    if (snprintf(folder->path, sizeof folder->path, "%s", path) >= (int)sizeof folder->path) {
        return error_set(err, STATUS_WRITE, "the run directory's name is too long: %.200s", path);
    }
    TRY(run_folder_file(shards, path, "shards", err));
    TRY(folder_content_admit(path, err));
    TRY(file_make_folder(path, err));
    const char *network = file_network_system(path);
    if (network != NULL && !force) {
        return error_set(err, STATUS_WRITE,
                         "%s is on a network file system (%s), where locks and syncs are unreliable; use a "
                         "local disk, or force it",
                         path, network);
    }
    int status;
    TRY_TO(done, status = take_lock(folder, err));
    TRY_TO(done, status = run_folder_check(path, err));
    TRY_TO(done, status = file_make_folder(shards, err));
    TRY_TO(done, status = file_sync_folder(shards, err));
    TRY_TO(done, status = sync_parents(path, err));
done:
    if (status != STATUS_OK) {
        run_folder_close(folder);
    }
    return status;
}

void run_folder_close(struct run_folder *folder) {
    if (folder->lock >= 0) {
        close(folder->lock);
    }
    folder->lock = -1;
}

bool run_folder_busy(const char *folder) {
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

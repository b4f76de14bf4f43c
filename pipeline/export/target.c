// SPDX-License-Identifier: MIT
#include "export/target.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

// ---- the folder ----

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

static int remove_tree(const char *path, struct error *err) {
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot remove %s", path);
    }
    return STATUS_OK;
}

static int take_mark(struct aside_folder *folder, const char *path, struct error *err) {
    bool held = false;
    TRY(file_lock(path, &folder->lock, &held, err));
    return held ? STATUS_OK : error_set(err, STATUS_WRITE, "another export is writing %s", folder->target);
}

int target_clear(const char *path, struct error *err) {
    struct stat info;
    return lstat(path, &info) != 0 && errno == ENOENT ? STATUS_OK : remove_tree(path, err);
}

// There is a TARGET.tmp: it is taken over, or was an empty folder and is gone.
static int take_leftover(struct aside_folder *folder, const char *path, const char *mark_path,
                         struct error *err) {
    if (file_exists(mark_path)) {
        char request_path[PATH_SIZE];
        TRY(path_join(request_path, sizeof request_path, path, COMPANION_REQUEST, err));
        folder->keep = true;
        return file_exists(request_path)
                   ? error_set(err, STATUS_USAGE,
                               "%s is of an export that strata-export has begun: give that command again, or "
                               "remove it",
                               path)
                   : STATUS_OK;
    }
    // An export killed before it made its mark left an empty folder.
    return rmdir(path) == 0
               ? STATUS_OK
               : error_set(err, STATUS_WRITE,
                           "%s is in the way and is not from an export; remove or rename it", path);
}

int aside_folder_open(struct aside_folder *folder, const char *target, bool may_exist, struct error *err) {
    *folder = (struct aside_folder){.lock = -1};
    char path[PATH_SIZE];
    char mark_path[PATH_SIZE];
    size_t length = strlen(target);
    while (length > 1 && target[length - 1] == '/') {
        length--;
    }
    snprintf(folder->target, sizeof folder->target, "%.*s", (int)length, target);
    if (snprintf(path, sizeof path, "%s.tmp", folder->target) >= (int)sizeof path) {
        return error_set(err, STATUS_USAGE, "path too long: %.200s", target);
    }
    bool there = false;
    TRY(file_look(folder->target, &there, err)); // a link that leads nowhere is there
    if (there && !may_exist) {
        return error_set(err, STATUS_USAGE, "%s exists; an export never overwrites anything", folder->target);
    }
    TRY(path_join(mark_path, sizeof mark_path, path, ASIDE_MARK, err));
    if (file_exists(path)) {
        TRY(take_leftover(folder, path, mark_path, err));
    }
    TRY(file_make_folder(path, err));
    TRY(take_mark(folder, mark_path, err));
    strcpy(folder->path, path);
    return STATUS_OK;
}

int aside_folder_tidy(const struct aside_folder *folder, struct error *err) {
    char path[PATH_SIZE];
    TRY(path_join(path, sizeof path, folder->target, ASIDE_MARK, err));
    return file_remove(path, err);
}

int aside_folder_publish(struct aside_folder *folder, struct error *err) {
    char parent[PATH_SIZE];
    TRY(file_sync_folder(folder->path, err));
    TRY(path_folder(parent, sizeof parent, folder->target, err));
    // rename() alone would replace an empty folder that appeared meanwhile.
    if (renameat2(AT_FDCWD, folder->path, AT_FDCWD, folder->target, RENAME_NOREPLACE) != 0) {
        if (errno != EINVAL || file_exists(folder->target) || rename(folder->path, folder->target) != 0) {
            return error_set_errno(err, STATUS_WRITE, "cannot rename %s to %s", folder->path, folder->target);
        }
    }
    folder->path[0] = 0;
    TRY(file_sync_folder(parent, err));
    // The mark goes last: until the rename it is what tells a leftover from a stranger's folder.
    return aside_folder_tidy(folder, err);
}

void aside_folder_close(struct aside_folder *folder) {
    struct error ignored;
    if (folder->path[0] != 0 && !folder->keep) {
        remove_tree(folder->path, &ignored);
    }
    folder->path[0] = 0;
    if (folder->lock >= 0) {
        close(folder->lock);
        folder->lock = -1;
    }
}

// ---- a file by position ----

int placed_file_create(int *descriptor, const char *path, uint64_t size, struct error *err) {
    *descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (*descriptor < 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot create %s", path);
    }
    if (size > INT64_MAX) {
        return error_set(err, STATUS_WRITE, "%s would be too large for any file system", path);
    }
    if (ftruncate(*descriptor, (off_t)size) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot make %s %llu bytes long", path,
                               (unsigned long long)size);
    }
    return STATUS_OK;
}

int placed_file_write(int descriptor, const char *path, uint64_t offset, const void *bytes, size_t size,
                      struct error *err) {
    const char *next = bytes;
    while (size > 0) {
        ssize_t count = pwrite(descriptor, next, size, (off_t)offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return error_set_errno(err, STATUS_WRITE, "cannot write %s", path);
        }
        next += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return STATUS_OK;
}

int placed_file_read(int descriptor, const char *path, uint64_t offset, void *bytes, size_t size,
                     struct error *err) {
    char *next = bytes;
    while (size > 0) {
        ssize_t count = pread(descriptor, next, size, (off_t)offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            errno = count < 0 ? errno : EIO; // it is as long as it was made
            return error_set_errno(err, STATUS_WRITE, "cannot read %s", path);
        }
        next += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return STATUS_OK;
}

int placed_file_finish(int *descriptor, const char *path, struct error *err) {
    int status = STATUS_OK;
    if (fsync(*descriptor) != 0) {
        status = error_set_errno(err, STATUS_WRITE, "cannot sync %s", path);
    }
    if (close(*descriptor) != 0 && status == STATUS_OK) {
        status = error_set_errno(err, STATUS_WRITE, "cannot close %s", path);
    }
    *descriptor = -1;
    return status;
}

void placed_file_abandon(int *descriptor) {
    if (*descriptor >= 0) {
        close(*descriptor);
    }
    *descriptor = -1;
}

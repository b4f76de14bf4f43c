#include "export/aside_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char mark[] = ".writing"; // tells an export's folder from any other; holds the lock

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
    int status = file_lock(path, &folder->lock, &held, err);
    if (status == STATUS_OK && !held) {
        status = error_set(err, STATUS_WRITE, "another export is writing %s", folder->target);
    }
    return status;
}

static int clear_leftover(struct aside_folder *folder, const char *path, const char *mark_path,
                          struct error *err) {
    // An export killed before it made its mark left an empty folder.
    if (!file_exists(mark_path) && rmdir(path) == 0) {
        return STATUS_OK;
    }
    if (!file_exists(mark_path)) {
        return error_set(err, STATUS_WRITE,
                         "%s is in the way and was not left by an export; remove or rename it", path);
    }
    int status = take_mark(folder, mark_path, err);
    if (status == STATUS_OK) {
        status = remove_tree(path, err);
    }
    if (folder->lock >= 0) {
        close(folder->lock);
        folder->lock = -1;
    }
    return status;
}

int aside_folder_open(struct aside_folder *folder, const char *target, struct error *err) {
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
    if (file_exists(folder->target)) {
        return error_set(err, STATUS_USAGE, "%s exists; an export never writes over anything",
                         folder->target);
    }
    int status = path_join(mark_path, sizeof mark_path, path, mark, err);
    if (status == STATUS_OK && file_exists(path)) {
        status = clear_leftover(folder, path, mark_path, err);
    }
    if (status == STATUS_OK) {
        status = file_make_folder(path, err);
    }
    if (status == STATUS_OK) {
        status = take_mark(folder, mark_path, err);
    }
    if (status == STATUS_OK) {
        strcpy(folder->path, path);
    }
    return status;
}

int aside_folder_publish(struct aside_folder *folder, struct error *err) {
    char mark_path[PATH_SIZE];
    char parent[PATH_SIZE];
    int status = file_sync_folder(folder->path, err);
    if (status == STATUS_OK) {
        status = path_folder(parent, sizeof parent, folder->target, err);
    }
    if (status == STATUS_OK) {
        status = path_join(mark_path, sizeof mark_path, folder->target, mark, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    // rename() alone would replace an empty folder that appeared meanwhile.
    if (renameat2(AT_FDCWD, folder->path, AT_FDCWD, folder->target, RENAME_NOREPLACE) != 0) {
        if (errno != EINVAL || file_exists(folder->target) || rename(folder->path, folder->target) != 0) {
            return error_set_errno(err, STATUS_WRITE, "cannot rename %s to %s", folder->path, folder->target);
        }
    }
    folder->path[0] = 0;
    status = file_sync_folder(parent, err);
    // The mark goes last: until the rename it is what tells a leftover from a stranger's folder.
    return status == STATUS_OK ? file_remove(mark_path, err) : status;
}

void aside_folder_close(struct aside_folder *folder) {
    struct error ignored;
    if (folder->path[0] != 0) {
        remove_tree(folder->path, &ignored);
        folder->path[0] = 0;
    }
    if (folder->lock >= 0) {
        close(folder->lock);
        folder->lock = -1;
    }
}

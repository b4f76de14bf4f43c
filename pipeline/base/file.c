// SPDX-License-Identifier: MIT
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/aside.h"
#include "base/mount.h"
#include "base/size.h"

enum { FILE_MODE = 0644, FOLDER_MODE = 0755 }; // of what is made; the umask may take away from it

// ---- opening what is a file ----
//
// A FIFO without a writer, or a device, must not hold an open for ever: O_NONBLOCK, a look at what it is, and
// then blocking again.

enum links { FOLLOW_LINKS, REFUSE_LINKS };

static int refuse_link(const char *path, int status, struct error *err) {
    return error_set(err, status, "%s is a symbolic link, which is not followed here", path);
}

static int refuse_kind(const char *path, mode_t mode, int status, struct error *err) {
    const char *kind = S_ISDIR(mode)                    ? "a folder"
                       : S_ISFIFO(mode)                 ? "a pipe (FIFO)"
                       : S_ISCHR(mode) || S_ISBLK(mode) ? "a device"
                       : S_ISSOCK(mode)                 ? "a socket"
                                                        : "something else";
    return error_set(err, status, "%s is not a regular file: it is %s", path, kind);
}

static bool is_link(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 && S_ISLNK(info.st_mode);
}

// `what` is in the message: "open", "create". Fails with `status`.
static int open_file(int *descriptor, struct stat *info, const char *path, int flags, enum links links,
                     const char *what, int status, struct error *err) {
    flags |= O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (links == REFUSE_LINKS ? O_NOFOLLOW : 0);
    *descriptor = open(path, flags, FILE_MODE);
    if (*descriptor < 0) {
        bool leads_nowhere = errno == ENOENT && is_link(path);
        if (errno == ELOOP && links == REFUSE_LINKS && is_link(path)) {
            return refuse_link(path, status, err);
        }
        status = error_set_errno(err, status, "cannot %s %s", what, path);
        return leads_nowhere ? error_append(err, " (it is a link to something that is not there)") : status;
    }
    if (fstat(*descriptor, info) != 0) {
        return error_set_errno(err, status, "cannot stat %s", path);
    }
    int now = fcntl(*descriptor, F_GETFL);
    if (now < 0 || fcntl(*descriptor, F_SETFL, now & ~O_NONBLOCK) != 0) {
        return error_set_errno(err, status, "cannot %s %s", what, path);
    }
    return STATUS_OK;
}

static int keep_or_close(int *descriptor, int status) {
    if (status != STATUS_OK && *descriptor >= 0) {
        close(*descriptor);
        *descriptor = -1;
    }
    return status;
}

static int open_regular(int *descriptor, struct stat *info, const char *path, int flags, enum links links,
                        const char *what, int status, struct error *err) {
    int result = open_file(descriptor, info, path, flags, links, what, status, err);
    if (result == STATUS_OK && !S_ISREG(info->st_mode)) {
        result = refuse_kind(path, info->st_mode, status, err);
    }
    return keep_or_close(descriptor, result);
}

static int open_to_read(int *descriptor, size_t *size, const char *path, enum links links,
                        struct error *err) {
    struct stat info;
    int status = open_regular(descriptor, &info, path, O_RDONLY, links, "open", STATUS_DATA, err);
    *size = status == STATUS_OK ? (size_t)info.st_size : 0;
    return status;
}

int file_open(int *descriptor, size_t *size, const char *path, struct error *err) {
    return open_to_read(descriptor, size, path, FOLLOW_LINKS, err);
}

int file_open_own(int *descriptor, size_t *size, const char *path, struct error *err) {
    return open_to_read(descriptor, size, path, REFUSE_LINKS, err);
}

// A name of what this process was given open: a pipe that somebody holds the other end of.
static bool names_descriptor(const char *path) {
    static const char *const names[] = {"/dev/fd/", "/proc/self/fd/"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(path, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return strcmp(path, "/dev/stdin") == 0;
}

int file_open_stream(int *descriptor, const char *path, struct error *err) {
    struct stat info;
    if (!names_descriptor(path)) {
        size_t size;
        int result = file_open(descriptor, &size, path, err);
        return result != STATUS_OK && stat(path, &info) == 0 && S_ISFIFO(info.st_mode)
                   ? error_set(err, result,
                               "%s is not a regular file: it is a pipe (FIFO); give it as standard input: "
                               "/dev/stdin < %s",
                               path, path)
                   : result;
    }
    int status = open_file(descriptor, &info, path, O_RDONLY, FOLLOW_LINKS, "open", STATUS_DATA, err);
    return keep_or_close(descriptor, status);
}

int file_append(FILE **out, const char *path, struct error *err) {
    struct stat info;
    int descriptor;
    *out = NULL;
    int status;
    TRY_TO(done, status = open_regular(&descriptor, &info, path, O_RDWR | O_APPEND | O_CREAT, REFUSE_LINKS,
                                       "open", STATUS_WRITE, err));
    if ((*out = fdopen(descriptor, "a+")) == NULL) {
        status = error_set_errno(err, STATUS_WRITE, "cannot open %s", path);
    }
done:
    return keep_or_close(&descriptor, status);
}

int file_create(int *descriptor, const char *path, struct error *err) {
    struct stat info;
    *descriptor = -1;
    TRY(file_remove(path, err));
    return open_regular(descriptor, &info, path, O_WRONLY | O_CREAT | O_EXCL, REFUSE_LINKS, "create",
                        STATUS_WRITE, err);
}

static int check_kind(const char *path, enum links links, struct error *err) {
    struct stat info;
    if ((links == REFUSE_LINKS ? lstat : stat)(path, &info) != 0) {
        return STATUS_OK;
    }
    return S_ISREG(info.st_mode)   ? STATUS_OK
           : S_ISLNK(info.st_mode) ? refuse_link(path, STATUS_DATA, err)
                                   : refuse_kind(path, info.st_mode, STATUS_DATA, err);
}

int file_check_own(const char *path, struct error *err) {
    return check_kind(path, REFUSE_LINKS, err);
}

static int check_database(const char *path, enum links links, struct error *err) {
    static const char *const beside[] = {"-journal", "-wal", "-shm"};
    char name[PATH_SIZE];
    TRY(check_kind(path, links, err));
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        if (snprintf(name, sizeof name, "%s%s", path, beside[i]) >= (int)sizeof name) {
            return error_set(err, STATUS_DATA, "path too long: %.200s", path);
        }
        TRY(check_kind(name, links, err));
    }
    return STATUS_OK;
}

int file_check_database(const char *path, struct error *err) {
    return check_database(path, FOLLOW_LINKS, err);
}

int file_check_own_database(const char *path, struct error *err) {
    return check_database(path, REFUSE_LINKS, err);
}

// ---- reading ----

int file_read_at(int descriptor, void *out, size_t size, uint64_t begin, const char *path,
                 struct error *err) {
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(descriptor, (char *)out + done, size - done, (off_t)(begin + done));
        if (got == 0) {
            return error_set(err, STATUS_DATA, "%s ends at byte %llu: it was cut while it was read", path,
                             (unsigned long long)(begin + done));
        }
        if (got < 0 && errno != EINTR) {
            return error_set_errno(err, STATUS_DATA, "cannot read %s at byte %llu", path,
                                   (unsigned long long)(begin + done));
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return STATUS_OK;
}

int file_map(struct file_map *map, const char *path, struct error *err) {
    int descriptor;
    size_t size = 0;
    *map = (struct file_map){0};
    int status = file_open(&descriptor, &size, path, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (size > 0) {
        void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (data == MAP_FAILED) {
            status = error_set_errno(err, STATUS_DATA, "cannot map %s", path);
        } else {
            map->data = data;
            map->size = size;
        }
    }
    close(descriptor);
    return status;
}

void file_unmap(struct file_map *map) {
    if (map->data != NULL) {
        munmap((void *)(uintptr_t)map->data, map->size);
    }
    *map = (struct file_map){0};
}

// Closes the descriptor.
static int read_all(struct buffer *out, int descriptor, const char *path, size_t limit, struct error *err) {
    int status = STATUS_OK;
    size_t total = 0;
    char block[1 << 16];
    for (;;) {
        ssize_t count = read(descriptor, block, sizeof block);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            status = error_set_errno(err, STATUS_DATA, "cannot read %s", path);
            break;
        }
        if (count == 0) {
            break;
        }
        total += (size_t)count;
        if (total > limit) {
            status = error_set(err, STATUS_DATA, "%s is longer than the limit of %zu bytes", path, limit);
            break;
        }
        TRY_TO(done, status = buffer_append(out, block, (size_t)count, err));
    }
done:
    close(descriptor);
    return status;
}

int file_read(struct buffer *out, const char *path, size_t limit, struct error *err) {
    int descriptor;
    size_t size;
    TRY(file_open(&descriptor, &size, path, err));
    return read_all(out, descriptor, path, limit, err);
}

int file_read_own(struct buffer *out, const char *path, size_t limit, struct error *err) {
    int descriptor;
    size_t size;
    TRY(file_open_own(&descriptor, &size, path, err));
    return read_all(out, descriptor, path, limit, err);
}

int file_read_stream(struct buffer *out, const char *path, size_t limit, struct error *err) {
    int descriptor;
    TRY(file_open_stream(&descriptor, path, err));
    return read_all(out, descriptor, path, limit, err);
}

int file_write(int descriptor, const void *data, size_t size, const char *path, struct error *err) {
    const char *bytes = data;
    while (size > 0) {
        ssize_t count = write(descriptor, bytes, size);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return error_set_errno(err, STATUS_WRITE, "cannot write %s", path);
        }
        bytes += count;
        size -= (size_t)count;
    }
    return STATUS_OK;
}

static int write_aside(const char *aside, const void *bytes, size_t size, struct error *err) {
    int descriptor;
    TRY(file_create(&descriptor, aside, err));
    int status = file_write(descriptor, bytes, size, aside, err);
    if (status == STATUS_OK && fsync(descriptor) != 0) {
        status = error_set_errno(err, STATUS_WRITE, "cannot sync %s", aside);
    }
    if (close(descriptor) != 0 && status == STATUS_OK) {
        status = error_set_errno(err, STATUS_WRITE, "cannot close %s", aside);
    }
    return status;
}

int file_write_atomic(const char *path, const void *bytes, size_t size, struct error *err) {
    char aside[PATH_SIZE];
    if (snprintf(aside, sizeof aside, "%s.tmp", path) >= (int)sizeof aside) {
        return error_set(err, STATUS_WRITE, "path too long: %s", path);
    }
    TRY(write_aside(aside, bytes, size, err));
    return file_publish(aside, path, err);
}

// A file system without hard links may know the other way.
static int link_first(const char *aside, const char *path) {
    int result = link(aside, path);
    if (result != 0 && errno != EEXIST) {
        result = renameat2(AT_FDCWD, aside, AT_FDCWD, path, RENAME_NOREPLACE);
    }
    return result;
}

int file_write_first(const char *path, const void *bytes, size_t size, bool *first, struct error *err) {
    char aside[PATH_SIZE];
    char folder[PATH_SIZE];
    *first = false;
    TRY(aside_name(aside, path, err));
    TRY(path_folder(folder, sizeof folder, path, err));
    int status = write_aside(aside, bytes, size, err);
    if (status == STATUS_OK) {
        *first = link_first(aside, path) == 0;
        if (!*first && errno != EEXIST) {
            status = error_set_errno(err, STATUS_WRITE, "cannot make %s", path);
        }
    }
    unlink(aside);
    return status == STATUS_OK ? file_sync_folder(folder, err) : status;
}

int file_write_shared(const char *path, const void *bytes, size_t size, struct error *err) {
    char aside[PATH_SIZE];
    TRY(aside_name(aside, path, err));
    int status = write_aside(aside, bytes, size, err);
    status = status == STATUS_OK ? file_publish(aside, path, err) : status;
    if (status != STATUS_OK) {
        unlink(aside);
    }
    return status;
}

static int sync_opened(const char *path, int flags, struct error *err) {
    int descriptor = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot open %s to sync it", path);
    }
    int status = STATUS_OK;
    if (fsync(descriptor) != 0) {
        status = error_set_errno(err, STATUS_WRITE, "cannot sync %s", path);
    }
    if (close(descriptor) != 0 && status == STATUS_OK) {
        status = error_set_errno(err, STATUS_WRITE, "cannot close %s after syncing it", path);
    }
    return status;
}

int file_sync(const char *path, struct error *err) {
    return sync_opened(path, O_RDWR | O_NOFOLLOW, err);
}

int file_sync_folder(const char *path, struct error *err) {
    return sync_opened(path, O_RDONLY | O_DIRECTORY, err);
}

int file_publish(const char *from, const char *to, struct error *err) {
    char folder[PATH_SIZE];
    TRY(path_folder(folder, sizeof folder, to, err));
    if (rename(from, to) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot rename %s to %s", from, to);
    }
    return file_sync_folder(folder, err);
}

bool file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

int file_look(const char *path, bool *there, struct error *err) {
    struct stat info;
    *there = lstat(path, &info) == 0;
    return *there || errno == ENOENT || errno == ENOTDIR
               ? STATUS_OK
               : error_set_errno(err, STATUS_WRITE, "cannot look at %s", path);
}

int file_refusal(const char *path, bool to_write) {
    char folder[PATH_SIZE];
    struct error ignored;
    if (access(path, to_write ? R_OK | W_OK : R_OK) != 0 && (errno != ENOENT || !to_write)) {
        return errno;
    }
    bool checked = to_write && path_folder(folder, sizeof folder, path, &ignored) == STATUS_OK;
    return checked && access(folder, W_OK | X_OK) != 0 ? errno : 0;
}

const char *file_limit_words(char out[FILE_LIMIT_TEXT]) {
    struct rlimit limit;
    out[0] = 0;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        snprintf(out, FILE_LIMIT_TEXT, " (files may have %llu bytes at most here: ulimit -f)",
                 (unsigned long long)limit.rlim_cur);
    }
    return out;
}

int file_size(const char *path, uint64_t *out, struct error *err) {
    struct stat info;
    if (stat(path, &info) != 0) {
        return error_set_errno(err, STATUS_DATA, "cannot stat %s", path);
    }
    *out = (uint64_t)info.st_size;
    return STATUS_OK;
}

int file_make_folder(const char *path, struct error *err) {
    char partial[PATH_SIZE];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof partial) {
        return error_set(err, STATUS_WRITE, "bad folder name '%s'", path);
    }
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != 0) {
            continue;
        }
        memcpy(partial, path, i);
        partial[i] = 0;
        if (mkdir(partial, FOLDER_MODE) != 0 && errno != EEXIST) {
            return error_set_errno(err, STATUS_WRITE, "cannot create the folder %s", partial);
        }
    }
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return error_set(err, STATUS_WRITE, "%s is not a folder", path);
    }
    return STATUS_OK;
}

int file_remove(const char *path, struct error *err) {
    if (unlink(path) != 0 && errno != ENOENT) {
        return error_set_errno(err, STATUS_WRITE, "cannot remove %s", path);
    }
    return STATUS_OK;
}

int file_lock(const char *path, int *descriptor, bool *held, struct error *err) {
    struct stat info;
    *held = false;
    int status = open_regular(descriptor, &info, path, O_RDWR | O_CREAT, REFUSE_LINKS, "open the lock file",
                              STATUS_WRITE, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (flock(*descriptor, LOCK_EX | LOCK_NB) == 0) {
        *held = true;
        return STATUS_OK;
    }
    if (errno != EWOULDBLOCK) {
        status = error_set_errno(err, STATUS_WRITE, "cannot lock %s", path);
    }
    close(*descriptor);
    *descriptor = -1;
    return status;
}

int file_space(const char *path, uint64_t *free_bytes, struct error *err) {
    struct statvfs info;
    if (statvfs(path, &info) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot read the free space of %s", path);
    }
    *free_bytes = (uint64_t)info.f_bavail * (uint64_t)info.f_frsize;
    return STATUS_OK;
}

// Numbers from linux/magic.h and the file systems' own sources.
struct file_system {
    unsigned long magic;
    const char *name;
};

static const char *system_among(const char *path, const struct file_system *systems, size_t count) {
    struct statfs info;
    if (statfs(path, &info) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (((unsigned long)info.f_type & 0xFFFFFFFFUL) == systems[i].magic) {
            return systems[i].name;
        }
    }
    return NULL;
}

const char *file_network_system(const char *path) {
    static const struct file_system systems[] = {
        {0x6969, "nfs"},         {0xFF534D42, "cifs"},   {0xFE534D42, "smb2"}, {0x517B, "smb"},
        {0x00C36400, "ceph"},    {0x0BD00BD0, "lustre"}, {0x01021997, "9p"},   {0x47504653, "gpfs"},
        {0x19830326, "beegfs"},  {0x5346414F, "afs"},    {0x6B414653, "afs"},  {0x7461636F, "ocfs2"},
        {0x20030528, "orangefs"}};
    char type[MOUNT_TYPE];
    mount_type(type, path);
    const char *network = mount_network(type);
    return network != NULL ? network : system_among(path, systems, sizeof systems / sizeof systems[0]);
}

const char *file_kernel_system(const char *path) {
    static const struct file_system systems[] = {
        {0x9FA0, "proc"},        {0x62656572, "sysfs"},      {0x27E0EB, "cgroup"},
        {0x63677270, "cgroup2"}, {0x64626720, "debugfs"},    {0x74726163, "tracefs"},
        {0x1CD1, "devpts"},      {0x73636673, "securityfs"}, {0xCAFE4A11, "bpf"}};
    return system_among(path, systems, sizeof systems / sizeof systems[0]);
}

int path_join(char *out, size_t size, const char *folder, const char *name, struct error *err) {
    bool alone = folder[0] == 0 || name[0] == '/';
    int length = alone ? snprintf(out, size, "%s", name) : snprintf(out, size, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= size) {
        return error_set(err, STATUS_INTERNAL, "path too long: %.200s/%.200s", folder, name);
    }
    return STATUS_OK;
}

int path_folder(char *out, size_t size, const char *path, struct error *err) {
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
    if (length + 1 > size) {
        return error_set(err, STATUS_INTERNAL, "path too long: %.200s", path);
    }
    memcpy(out, slash == NULL ? "." : path, length);
    out[length] = 0;
    return STATUS_OK;
}

#include "export/placed_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

int placed_file_create(int *descriptor, const char *path, uint64_t size, struct error *err) {
    *descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
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

int placed_file_open(int *descriptor, const char *path, struct error *err) {
    *descriptor = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return *descriptor < 0 ? error_set_errno(err, STATUS_WRITE, "cannot open %s", path) : STATUS_OK;
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

// SPDX-License-Identifier: MIT
#include "export/paged_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/size.h"

int paged_file_open(struct paged_file *file, const char *path, struct error *err) {
    *file = (struct paged_file){.descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
    if (file->descriptor < 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot create %s", path);
    }
    return unlink(path) == 0 ? STATUS_OK : error_set_errno(err, STATUS_WRITE, "cannot unlink %s", path);
}

static int take_space(const struct paged_file *file, size_t size, struct error *err) {
    int failed;
    do {
        failed = posix_fallocate(file->descriptor, (off_t)file->size, (off_t)(size - file->size));
    } while (failed == EINTR);
    errno = failed;
    return failed == 0 ? STATUS_OK
                       : error_set_errno(err, STATUS_WRITE,
                                         "cannot take %zu bytes of disk for the export's plan", size);
}

int paged_file_reserve(struct paged_file *file, size_t count, size_t width, struct error *err) {
    size_t size;
    if (!size_mul(count, width, &size) || size > INT64_MAX / 2) {
        return error_set(err, STATUS_INTERNAL, "the export's plan is too large");
    }
    if (size <= file->size) {
        return STATUS_OK;
    }
    size = size_max(size, size_max((size_t)64 << 10, file->size + file->size / 4)); // a few calls in all
    TRY(take_space(file, size, err));
    void *data = file->data == NULL
                     ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file->descriptor, 0)
                     : mremap(file->data, file->size, size, MREMAP_MAYMOVE);
    if (data == MAP_FAILED) {
        return error_set_errno(err, STATUS_INTERNAL, "cannot map %zu bytes of the export's plan", size);
    }
    file->data = data;
    file->size = size;
    return STATUS_OK;
}

void paged_file_release(const struct paged_file *file) {
    if (file->data != NULL) {
        madvise(file->data, file->size, MADV_DONTNEED); // advice only: of a shared file nothing is lost
    }
}

void paged_file_close(struct paged_file *file) {
    if (file->data != NULL) {
        munmap(file->data, file->size);
        close(file->descriptor);
    } else if (file->descriptor > 0) {
        close(file->descriptor);
    }
    *file = (struct paged_file){0};
}

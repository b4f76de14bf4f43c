// SPDX-License-Identifier: MIT
// An array in a file without a name instead of memory: the kernel keeps of it what is in use, and takes the
// rest back when memory is wanted. For arrays that are gone through nearly in order and may be larger than
// the memory. Their disk space is taken beforehand; a disk that then fails to give back what it took ends the
// process (SIGBUS).
#ifndef STRATA_EXPORT_PAGED_FILE_H
#define STRATA_EXPORT_PAGED_FILE_H

#include <stddef.h>

#include "base/error.h"

struct paged_file {
    void *data; // [size] bytes, zeroed where never written; NULL before there are any
    size_t size;
    int descriptor; // above 0 when open: 0 is standard input
};

// Makes it under the path, at which nothing is left. STATUS_WRITE.
int paged_file_open(struct paged_file *file, const char *path, struct error *err);

// Makes it at least `count` elements of `width` bytes long; data may move. STATUS_WRITE when the disk has not
// the room.
int paged_file_reserve(struct paged_file *file, size_t count, size_t width, struct error *err);

// The process lets go of the pages: they are read again, from memory while there is enough, when they are
// touched next.
void paged_file_release(const struct paged_file *file);
void paged_file_close(struct paged_file *file); // accepts zeros and one that failed to open; leaves zeros

#endif

// A file written by position: descriptors, short writes and EINTR are dealt with here.
#ifndef STRATA_EXPORT_PLACED_FILE_H
#define STRATA_EXPORT_PLACED_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

// Makes a new file of `size` bytes (the blocks are not reserved). STATUS_WRITE when it exists or cannot be
// made.
int placed_file_create(int *descriptor, const char *path, uint64_t size, struct error *err);
int placed_file_open(int *descriptor, const char *path, struct error *err); // an existing one, to write
int placed_file_write(int descriptor, const char *path, uint64_t offset, const void *bytes, size_t size,
                      struct error *err);

// fsync and close; *descriptor becomes -1 whatever happens.
int placed_file_finish(int *descriptor, const char *path, struct error *err);
void placed_file_abandon(int *descriptor); // close without sync; accepts -1

#endif

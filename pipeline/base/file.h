// SPDX-License-Identifier: MIT
// Files as a crash-safe program needs them: mapped reads, synced writes, publishing by rename, locks, free
// space. The order "write aside, sync the file, rename, sync the folder" is the caller's (checkpoints/);
// these are its steps.
#ifndef STRATA_BASE_FILE_H
#define STRATA_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"

// A whole file mapped read-only. An empty file has data == NULL and size 0.
struct file_map {
    const unsigned char *data;
    size_t size;
};

int file_map(struct file_map *map, const char *path, struct error *err); // STATUS_DATA when it cannot be read
void file_unmap(struct file_map *map);                                   // accepts zeros; leaves zeros

// Opens a regular file for reading (close-on-exec). STATUS_DATA when it cannot be had, or is a pipe, a device
// or a folder, none of which is waited for.
int file_open(int *descriptor, size_t *size, const char *path, struct error *err);

// As file_open, for a file that the program made, in a folder that others may have written to: a symbolic
// link is refused.
int file_open_own(int *descriptor, size_t *size, const char *path, struct error *err);

// As file_open; a pipe or terminal too when its name says that this process was given it open: /dev/stdin,
// /dev/fd/N
// (`<(...)` of a shell), /proc/self/fd/N.
int file_open_stream(int *descriptor, const char *path, struct error *err);

// Opens a file to append to, and to read, making it when missing. STATUS_WRITE; a symbolic link is refused.
int file_append(FILE **out, const char *path, struct error *err);

// Makes a new file to write, in the place of whatever had the name. STATUS_WRITE. What this and all others
// here make has the mode 0644, folders 0755, less what the umask takes away.
int file_create(int *descriptor, const char *path, struct error *err);

// Before a library opens a file by its name: STATUS_DATA when there is something other than a regular file;
// missing is fine. Own: a symbolic link is refused. A database has its journals beside it.
int file_check_own(const char *path, struct error *err);
int file_check_database(const char *path, struct error *err);
int file_check_own_database(const char *path, struct error *err);

// Bytes [begin, begin + size) of an open file; `path` stands for it in messages. STATUS_DATA when they cannot
// be read or the file ends before.
int file_read_at(int descriptor, void *out, size_t size, uint64_t begin, const char *path, struct error *err);

// Appends the whole file to `out`. STATUS_DATA when it is longer than `limit` bytes or cannot be read.
int file_read(struct buffer *out, const char *path, size_t limit, struct error *err);
int file_read_own(struct buffer *out, const char *path, size_t limit,
                  struct error *err); // opened as the functions
int file_read_stream(struct buffer *out, const char *path, size_t limit,
                     struct error *err); // of these names do

// Writes all of `size` bytes to an open file; `path` stands for it in messages. STATUS_WRITE.
int file_write(int descriptor, const void *data, size_t size, const char *path, struct error *err);

// Writes `size` bytes to `path` + ".tmp", syncs, renames to `path` and syncs the folder. STATUS_WRITE on
// failure.
int file_write_atomic(const char *path, const void *bytes, size_t size, struct error *err);

// The same for a file that many may want to make and only the first does: *first is false, and nothing is
// changed, when it is there already or comes to be meanwhile. Written aside under a name of its own
// (aside.h).
int file_write_first(const char *path, const void *bytes, size_t size, bool *first, struct error *err);

// As file_write_atomic where several processes may write the file at once: each aside under a name of its own
// (aside.h), and the last one's stays. A failure leaves nothing aside.
int file_write_shared(const char *path, const void *bytes, size_t size, struct error *err);

// fsync of a file or folder, opened by name. A failed sync is final: never call it again for the same data.
int file_sync(const char *path, struct error *err);
int file_sync_folder(const char *path, struct error *err);

// rename(from, to) followed by a sync of the folder that holds `to`.
int file_publish(const char *from, const char *to, struct error *err);

bool file_exists(const char *path);

// The same where a file server may be gone: STATUS_WRITE when it cannot be told.
int file_look(const char *path, bool *there, struct error *err);

// Why a library that does not say could not open the file, or, to write, make it or its journal beside it: an
// errno, or 0.
int file_refusal(const char *path, bool to_write);

// " (files may have 20480 bytes at most here: ulimit -f)", or "" when there is no such limit. For a write
// that failed.
enum { FILE_LIMIT_TEXT = 96 };
const char *file_limit_words(char out[FILE_LIMIT_TEXT]);
int file_size(const char *path, uint64_t *out, struct error *err);
int file_make_folder(const char *path, struct error *err); // with its parents; existing is fine
int file_remove(const char *path, struct error *err);      // missing is fine

// Takes an exclusive lock on `path` (made when missing, close-on-exec) that the kernel drops with the
// process. *held is false, without an error, when another process has it. The descriptor stays open in
// *descriptor.
int file_lock(const char *path, int *descriptor, bool *held, struct error *err);

// Bytes an ordinary user may still write on the file system that holds `path`.
int file_space(const char *path, uint64_t *free_bytes, struct error *err);

// Name of the network file system `path` lies on ("nfs", "cifs", ...), or NULL when it is local.
const char *file_network_system(const char *path);

// Name of the kernel's own file system `path` lies on ("proc", "sysfs", ...), where no file can be made
// whatever its permissions say, or NULL.
const char *file_kernel_system(const char *path);

// folder + "/" + name, or `name` alone when it is absolute or folder is empty. STATUS_INTERNAL when longer
// than size.
int path_join(char *out, size_t size, const char *folder, const char *name, struct error *err);

// The folder part of `path` ("." when it has none).
int path_folder(char *out, size_t size, const char *path, struct error *err);

enum { PATH_SIZE = 4096 };

#endif

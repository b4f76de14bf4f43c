// SPDX-License-Identifier: MIT
// What an export puts on the disk: a folder that appears whole or not at all, and files in it that are
// written by position.
#ifndef STRATA_EXPORT_TARGET_H
#define STRATA_EXPORT_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"

// ---- the folder: written as TARGET.tmp, then renamed ----

// Its file that tells an export's folder from any other, is locked while one writes, and records what is
// finished (progress.h). It goes last.
#define ASIDE_MARK ".writing"

// Beside the mark in a folder that strata-export makes (tools/python/strata_export/output.py).
#define COMPANION_REQUEST ".request.json"

struct aside_folder {
    char target[PATH_SIZE];
    char path[PATH_SIZE]; // TARGET.tmp; empty when it was not made
    int lock;             // of TARGET.tmp/.writing, -1 when not held
    bool keep;            // what was not published stays: a killed or failed export left something in it
};

// A target that exists is refused (STATUS_USAGE) unless it `may_exist`. A TARGET.tmp left by a killed export
// is taken over with what is in it; one that another export is writing, or that was not made by one, is
// refused (STATUS_WRITE).
int aside_folder_open(struct aside_folder *folder, const char *target, bool may_exist, struct error *err);

// Of a target that is there: removes the mark that an export left which was killed once it had its name.
int aside_folder_tidy(const struct aside_folder *folder, struct error *err);

// Syncs the folder and renames it to its target. The files in it have been synced.
int aside_folder_publish(struct aside_folder *folder, struct error *err);

// Removes what was not published, unless it is to be kept. Accepts a folder that failed to open.
void aside_folder_close(struct aside_folder *folder);

// Removes what has the path, a folder with all that is in it. Nothing there is fine.
int target_clear(const char *path, struct error *err);

// ---- a file by position: descriptors, short writes and EINTR are dealt with here ----

// Makes a new file of `size` bytes (the blocks are not reserved). STATUS_WRITE when it exists or cannot be
// made.
int placed_file_create(int *descriptor, const char *path, uint64_t size, struct error *err);
int placed_file_write(int descriptor, const char *path, uint64_t offset, const void *bytes, size_t size,
                      struct error *err);

// Bytes that were written there. STATUS_WRITE: it is the target's disk that fails.
int placed_file_read(int descriptor, const char *path, uint64_t offset, void *bytes, size_t size,
                     struct error *err);

// fsync and close; *descriptor becomes -1 whatever happens.
int placed_file_finish(int *descriptor, const char *path, struct error *err);
void placed_file_abandon(int *descriptor); // close without sync; accepts -1

#endif

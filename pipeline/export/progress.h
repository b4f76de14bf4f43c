// SPDX-License-Identifier: MIT
// What is finished of an export: a file FOLDER/.writing (ASIDE_MARK) that grows by a line for each piece,
// after the piece's files are on the disk. An export that was killed goes on with the pieces that have no
// line; a line that was cut off counts for nothing.
#ifndef STRATA_EXPORT_PROGRESS_H
#define STRATA_EXPORT_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

struct export_progress {
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    int descriptor; // above 0 when open
    uint64_t size;  // of the file
    bool *finished; // [pieces]
    size_t pieces;
    size_t count; // finished
    size_t kept;  // of them by an earlier call
    uint64_t saturated;
    json_t *files; // path below the folder -> {"path", "bytes", "sha256"}
};

// Reads what an earlier call left in the folder and removes what it had not finished, or begins. `key` names
// the request and what it is made from. STATUS_USAGE when finished pieces of another key are there; other
// leftovers are passed over, and files of finished pieces that are not there as they were make these
// unfinished.
int export_progress_open(struct export_progress *progress, const char *folder, const char *key, size_t pieces,
                         struct error *err);

// Syncs the folders of the piece's files (`paths` below the folder, "" is passed over; all in a folder that
// is named; on the disk already) and records it.
int export_progress_add(struct export_progress *progress, size_t piece, uint64_t saturated,
                        const char *const paths[2], struct error *err);

// Adds what is known of a file or all files of a folder to `files`: finished files by what was recorded,
// others by reading them.
int export_progress_describe(const struct export_progress *progress, const char *below, json_t *files,
                             struct error *err);

void export_progress_close(struct export_progress *progress); // accepts zeros; leaves zeros

// Whether a file is there as it was described, with its size.
bool export_progress_has(const char *folder, const json_t *file);

#endif

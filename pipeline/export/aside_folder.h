// A folder that appears whole or not at all: written as TARGET.tmp, then renamed.
#ifndef STRATA_EXPORT_ASIDE_FOLDER_H
#define STRATA_EXPORT_ASIDE_FOLDER_H

#include "base/error.h"
#include "base/file.h"

struct aside_folder {
    char target[PATH_SIZE];
    char path[PATH_SIZE]; // TARGET.tmp; empty when it was not made
    int lock;             // of TARGET.tmp/.writing, -1 when not held
};

// Refuses a target that exists (STATUS_USAGE). A TARGET.tmp left by a killed export is removed; one that
// another export is writing, or that was not made by one, is refused (STATUS_WRITE).
int aside_folder_open(struct aside_folder *folder, const char *target, struct error *err);

// Syncs the folder and renames it to its target. The files in it have been synced.
int aside_folder_publish(struct aside_folder *folder, struct error *err);

// Removes what was not published. Accepts a folder that failed to open.
void aside_folder_close(struct aside_folder *folder);

#endif

// SPDX-License-Identifier: MIT
// export.json: what an export holds, where it came from, how its numbers are spread, and the hash of every
// file.
#ifndef STRATA_EXPORT_SIDECAR_H
#define STRATA_EXPORT_SIDECAR_H

#include "base/digest.h"
#include "export/export_plan.h"
#include "export/figures.h"
#include "export/normalization.h"
#include "export/progress.h"

struct sidecar_source {
    const struct export_plan *plan;
    const struct export_request *request;
    const struct export_figures *figures;
    const struct normalization *normalization;
    const struct export_progress *progress;
    const char *key; // of the request
};

// Writes FOLDER/export.json and counts all files into the report. The other files are closed and synced.
int export_sidecar_write(const struct sidecar_source *source, const char *folder,
                         struct export_report *report, struct error *err);

// Whether `folder` is an export, and then the key of the request that it was made for (export.c).
bool export_sidecar_key(const char *folder, char key[DIGEST_HEX]);

// Whether the files that its export.json lists are there with their sizes; STATUS_DATA otherwise.
int export_sidecar_check(const char *folder, struct error *err);

// Whether one of those files has a name that ends so.
bool export_sidecar_lists(const char *folder, const char *ending);

#endif

// SPDX-License-Identifier: MIT
// Which member names a problem, when nobody says it, for this room only.
#ifndef STRATA_PROBLEMS_IMPORT_ID_H
#define STRATA_PROBLEMS_IMPORT_ID_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

enum { IMPORT_ID = 128 };

// The member of `object` that has one of the usual names of an id (problem_id, id, idx, task_id ...) and a
// value that can be one: the `place`-th of them, best first. False when there are no more.
bool import_id_candidate(char out[IMPORT_ID], const json_t *object, size_t place);

// Whether the member `id` is in every line of the file and unique there. Lines that are no objects are other
// faults.
int import_id_fits(const char *path, const char *id, bool *fits, struct error *err);

// STATUS_DATA that names --id and the members of `object`; `tried` is one that does not fit, or "".
int import_id_ask(const char *path, const json_t *object, const char *tried, struct error *err);

#endif

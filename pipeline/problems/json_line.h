// SPDX-License-Identifier: MIT
// One line of a JSONL file, for this room only.
#ifndef STRATA_PROBLEMS_JSON_LINE_H
#define STRATA_PROBLEMS_JSON_LINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/json.h"

enum { JSON_LINE_WORDS = 512 };

struct json_line {
    json_t *object;             // the caller's (json_decref), or NULL
    struct json_mended mended;  // what was put in the place of what only Python's JSON has
    char what[JSON_LINE_WORDS]; // is wrong, when there is no object
};

bool json_line_blank(const char *text, size_t size);

// The line's object, mended where need be (json.h), but for the value of `id` (NULL: of no member), which is
// taken as it is written or not at all. The file's first line may begin with a byte order mark.
// STATUS_INTERNAL when there is no memory, which is no fault of the line.
int json_line_parse(struct json_line *out, const char *text, size_t size, bool is_first, const char *id,
                    struct error *err);

// What a file is whose first line this is, when that line shows that it holds no JSON lines: one JSON array,
// one object over several lines, CSV. NULL otherwise; *advice is what to do.
const char *json_line_shape(const char *text, size_t size, const char **advice);

#endif

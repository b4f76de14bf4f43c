// One line of a JSONL file, for this room only.
#ifndef STRATA_PROBLEMS_JSON_LINE_H
#define STRATA_PROBLEMS_JSON_LINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { JSON_LINE_WORDS = 512 };

bool json_line_blank(const char *text, size_t size);

// The line's object in *out (the caller's, json_decref), or NULL with what is wrong in `what`. The file's
// first line may begin with a byte order mark. STATUS_INTERNAL when there is no memory, which is no fault of
// the line.
int json_line_parse(json_t **out, const char *text, size_t size, bool is_first, char what[JSON_LINE_WORDS],
                    struct error *err);

// What a file is whose first line this is, and what to do, when that line shows that it holds no JSON lines:
// one JSON array, one object over several lines, CSV. NULL otherwise.
const char *json_line_shape(const char *text, size_t size);

#endif

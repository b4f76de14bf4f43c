// SPDX-License-Identifier: MIT
// Reading the blocks of tokenizer.json: their type, keys, texts and patterns, with errors that name the key.
#ifndef STRATA_TEXT_COMPONENT_H
#define STRATA_TEXT_COMPONENT_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"
#include "text/pattern.h"

enum { COMPONENT_DEPTH = 8 }; // Sequences within Sequences

// The "type" of a block at this depth.
int component_type(const char **type, const json_t *json, int depth, struct error *err);

// Refuses every member that is not named; the list ends with NULL.
int component_keys(const json_t *json, struct error *err, ...);

// A member that is a list.
int component_list(const json_t **list, const json_t *json, const char *key, struct error *err);

// A text member that must be there, copied; *out is the caller's (free).
int component_text(char **out, size_t *size, const json_t *json, const char *key, struct error *err);

// The member "pattern": {"String": ...} or {"Regex": ...}.
int component_pattern(struct pattern **out, const json_t *json, struct error *err);

#endif

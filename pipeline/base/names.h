// SPDX-License-Identifier: MIT
// Names for people, one behind another: "llama, mistral and qwen3".
#ifndef STRATA_BASE_NAMES_H
#define STRATA_BASE_NAMES_H

#include <stddef.h>

// Appends name number `i` of `count` to the text in out[size), which is cut where it has no room.
void names_append(char *out, size_t size, const char *name, size_t i, size_t count);

#endif

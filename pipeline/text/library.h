// SPDX-License-Identifier: MIT
// PCRE2 for this room, its machine code, and the releases of what texts are split and normalised with.
//
// The interpreter gives up on other texts than machine code does. So that memory never decides which of them
// matches, a pattern without machine code for want of memory is an error; that the system allows none
// (EACCES, EPERM), or that PCRE2 has none for this processor, is not.
#ifndef STRATA_TEXT_LIBRARY_H
#define STRATA_TEXT_LIBRARY_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>

#include "base/error.h"

// *compiled: whether there is machine code now.
int library_compile(pcre2_code *code, bool *compiled, struct error *err);

#endif

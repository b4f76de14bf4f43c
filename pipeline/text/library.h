// PCRE2 for this room, and its machine code.
//
// The interpreter gives up on other texts than machine code does. So that memory never decides which of them
// matches, a pattern without machine code for want of memory is an error; that the system allows none
// (EACCES, EPERM), or that PCRE2 has none for this processor, is not.
#ifndef STRATA_TEXT_MACHINE_CODE_H
#define STRATA_TEXT_MACHINE_CODE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>

#include "base/error.h"

// *compiled: whether there is machine code now.
int machine_code_compile(pcre2_code *code, bool *compiled, struct error *err);

#endif

// What of Oniguruma's syntax means the same to PCRE2.
#ifndef STRATA_TEXT_PATTERN_SYNTAX_H
#define STRATA_TEXT_PATTERN_SYNTAX_H

#include "base/error.h"

// STATUS_DATA, naming the part and its place, when a pattern holds anything outside the common ground.
int pattern_check_syntax(const char *regex, struct error *err);

#endif

// SPDX-License-Identifier: MIT
#include "base/names.h"

#include <stdio.h>
#include <string.h>

void names_append(char *out, size_t size, const char *name, size_t i, size_t count) {
    const char *between = i == 0 ? "" : i + 1 < count ? ", " : " and ";
    size_t used = strlen(out);
    snprintf(out + used, size - used, "%s%s", between, name);
}

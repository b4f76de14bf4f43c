// SPDX-License-Identifier: MIT
// Files that several processes write aside at once for the same path, each under a name of its own:
// PATH.HOST.PID.RANDOM.tmp. The host and the process are for people; they are not unique where containers
// share a host's name, the random digits are.
#ifndef STRATA_BASE_ASIDE_H
#define STRATA_BASE_ASIDE_H

#include "base/file.h"

// STATUS_WRITE when the name is too long, STATUS_INTERNAL without random numbers.
int aside_name(char out[PATH_SIZE], const char *path, struct error *err);

// Removes what killed processes left in the folder of files aside for the names in `of`. That their process
// is gone cannot be known from another host or container: they are those that nobody has written to for a
// day. What cannot be removed stays.
void aside_sweep(const char *folder, const char *const *of, size_t count);

// `size` - 1 random hexadecimal digits, an even number, and a NUL. STATUS_INTERNAL.
int aside_token(char *out, size_t size, struct error *err);

#endif

// SPDX-License-Identifier: MIT
// Copies of files from one file system to another, of which nothing is believed that was not read back.
#ifndef STRATA_BASE_COPY_H
#define STRATA_BASE_COPY_H

#include "base/digest.h"
#include "base/error.h"

// Where others may come to write the same file. What is lent outlives the claim.
struct copy_claim {
    const char *mark; // part of the name aside, so that it is nobody else's; NULL: none
    // Whether the copy may still take its place, asked right before it does.
    int (*check)(const void *context, struct error *err);
    const void *context;
};

// Copies a file of the program's own to `to` + ".tmp", or ".MARK.tmp", syncs it, drops its pages from memory
// and reads it back; only when it has the hash of what was read is it renamed to `to` and the folder synced.
// `sha256`: what the hash has to be; NULL: whatever it is. `claim` may be NULL. STATUS_WRITE; a failed sync
// is final. What was written aside is removed after a failure, as far as that can be done.
int copy_publish(const char *from, const char *to, const char *sha256, const struct copy_claim *claim,
                 struct error *err);

#endif

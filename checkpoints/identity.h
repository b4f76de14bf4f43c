// SPDX-License-Identifier: MIT
// A run's identity: every named value that may change a byte of its output. Resuming under another identity
// is refused with the differences printed.
#ifndef STRATA_CHECKPOINTS_IDENTITY_H
#define STRATA_CHECKPOINTS_IDENTITY_H

#include <stddef.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/memory.h"

struct identity_entry {
    char *key;   // "model.dtype", "problems.sha256", "device.path", "library.hdf5" ...
    char *value; // text
};

struct identity {
    struct identity_entry *entries; // in the order they were added; keys are unique
    size_t count;
};

int identity_add(struct identity *identity, const char *key, const char *value,
                 struct error *err); // copies both
int identity_add_number(struct identity *identity, const char *key, long long value, struct error *err);
// Gives a key that is there another value.
int identity_replace(struct identity *identity, const char *key, const char *value, struct error *err);
const char *identity_get(const struct identity *identity, const char *key); // NULL when missing
int identity_hash(const struct identity *identity, char hex[DIGEST_HEX], struct error *err);

// Appends a line "key: stored 'a', now 'b'" for each difference; returns their number through *differences.
int identity_compare(const struct identity *stored, const struct identity *now, struct buffer *lines,
                     size_t *differences, struct error *err);
void identity_destroy(struct identity *identity); // accepts zeros; leaves zeros

#endif

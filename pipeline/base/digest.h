// SPDX-License-Identifier: MIT
// SHA-256 (OpenSSL), streamed: files, rows and identities are named by it.
#ifndef STRATA_BASE_DIGEST_H
#define STRATA_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { DIGEST_BYTES = 32, DIGEST_HEX = 65 };

struct digest; // a hash in progress

int digest_create(struct digest **out, struct error *err);
int digest_update(struct digest *digest, const void *bytes, size_t size, struct error *err);

// Hashes `size` as 8 little-endian bytes, then the bytes: a sequence of fields cannot be split differently
// unseen.
int digest_field(struct digest *digest, const void *bytes, size_t size, struct error *err);
int digest_number(struct digest *digest, uint64_t value, struct error *err); // 8 little-endian bytes

// Writes 64 lower-case hex digits and a 0; the digest starts anew afterwards.
int digest_finish(struct digest *digest, char hex[DIGEST_HEX], struct error *err);
int digest_finish_bytes(struct digest *digest, unsigned char out[DIGEST_BYTES],
                        struct error *err); // not in hex
void digest_destroy(struct digest *digest); // accepts NULL

// SHA-256 of a whole file of the program's own (file_open_own), read through the page cache.
int digest_file(const char *path, char hex[DIGEST_HEX], struct error *err);

#endif

// SPDX-License-Identifier: MIT
// Hashes of weight files, kept on the machine from one launch to the next, so that a file which is as it was
// is not hashed again: of eight parts of a job on a node one hashes its weights, if it starts before the
// others. Parts that start together, where nothing is kept yet, each hash them.
//
// What stands for "as it was" is the file's stamp: device, inode, size, and the times of the last change of
// its content and of its inode, to the nanosecond. Nobody sets the second one back, as is done with the
// first. It is believed of file systems that keep it themselves (not of FUSE, whose times may be another
// store's, nor of images that are built with given times), and hashes are kept only of a file that had not
// changed for a minute when it was read: a later change then has another time, also one through a mapping of
// a page that was dirty already, which is not told before it is written back.
//
// One file a machine and start of it (the kernel's boot_id), in $XDG_CACHE_HOME/strata/weights or
// ~/.cache/strata/weights, which may be shared between machines. Others must not be able to write it: it
// belongs to this user, and neither it nor its folder is writable for group or others; otherwise, and where a
// byte of it is wrong, it counts as missing. Nothing here fails a load: what cannot be kept or read is
// hashed.
#ifndef STRATA_MODEL_HASH_CACHE_H
#define STRATA_MODEL_HASH_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/digest.h"
#include "base/log.h"

enum { HASH_STAMP_TEXT = 192 };

struct hash_stamp {
    char text[HASH_STAMP_TEXT]; // "" for a file whose stamp says nothing
    bool settled;               // had not changed for a minute
};

// Of an open file of `size` bytes; one that has another size by now says nothing.
void hash_stamp_take(struct hash_stamp *out, int descriptor, size_t size);
bool hash_stamp_same(const struct hash_stamp *left, const struct hash_stamp *right); // and says something

struct hash_cache; // NULL: nothing is known, nothing is kept

// Reads what is kept. The caller closes it.
struct hash_cache *hash_cache_open(void);

// The hashes of a file's pieces (reader.h), [pieces] into `out`. False when they are not known.
bool hash_cache_find(const struct hash_cache *cache, const char *path, const struct hash_stamp *stamp,
                     unsigned char (*out)[DIGEST_BYTES], size_t pieces);

// Puts a file's hashes in, or takes out what is known of it; hash_cache_save writes what was changed, among
// what other launches have written meanwhile. The log says where they are kept, or why they are not.
void hash_cache_put(struct hash_cache *cache, const char *path, const struct hash_stamp *stamp,
                    const unsigned char (*hashes)[DIGEST_BYTES], size_t pieces);
void hash_cache_drop(struct hash_cache *cache, const char *path);
void hash_cache_save(struct hash_cache *cache, struct log *log);
void hash_cache_close(struct hash_cache *cache);

#endif

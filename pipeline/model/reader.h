// SPDX-License-Identifier: MIT
// Reads files, or ranges of them, once, from front to back, with several threads: each takes the next piece,
// reads it into a ring of buffers in host memory and hashes it there, so that what was hashed is what the
// caller gets. The caller asks for the bytes in order and waits for them here.
//
// A read that hangs inside the kernel cannot be interrupted, which is why the waiting side and not the
// reading side notices that nothing arrives. A file that becomes shorter while it is read is an error like
// any other.
//
// The ring is all the memory taken: a model is never in host memory twice.
//
// What is read again is held to what was read first: a part may name the hashes that its pieces must have.
// Where they are known from an earlier launch (hash_cache.h) a few are looked at and the others taken as they
// are.
#ifndef STRATA_MODEL_READER_H
#define STRATA_MODEL_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/log.h"

// Bytes hashed for themselves; part of what a fingerprint is (model.h).
enum { READER_PIECE = 4 << 20 };

struct reader_part {  // one file, or a range of one
    int descriptor;   // of a regular file; its offset is not used
    size_t size;      // of the file, or of the range
    const char *name; // for messages
    size_t begin;     // of the range, a multiple of READER_PIECE; positions below count from it
    // [pieces of the range] NULL: any. Must live until reader_close.
    const unsigned char (*expected)[DIGEST_BYTES];
    // Of a part whose hashes are expected and believed: only every so many-th piece of the file is hashed and
    // compared. 0: all are.
    size_t hashed_every;
};

struct reader_options {
    int threads;            // 0: one a CPU, at most 16
    size_t ring;            // bytes that are read ahead at least; 0: what keeps the threads busy
    double timeout_seconds; // without a byte: reader_bytes fails; 0: never
    double notice_seconds;  // without a byte: a line in the log, once a stall
    struct log *log;        // may be NULL
    // False ends the load (STATUS_STOPPED). May be NULL.
    bool (*progress)(void *context, uint64_t bytes_done, uint64_t bytes_all, double seconds);
    void *context;
};

struct reader;

// Starts reading. Parts are copied; descriptors and names must live until reader_close.
int reader_start(struct reader **out, const struct reader_part *parts, size_t count,
                 const struct reader_options *options, struct error *err);

// Blocks until bytes [begin, end) of the part were read, begin < end <= size. *out stays valid until the next
// call; it lies on a boundary of 4096 bytes plus `begin`, or on one of 64 bytes. Positions must not go
// backwards: what lies before `begin` is over with (all of it is read and hashed, asked for or not).
// STATUS_DATA when reading fails, STATUS_DEVICE after the timeout.
int reader_bytes(struct reader *reader, size_t part, size_t begin, size_t end, const unsigned char **out,
                 struct error *err);

// Waits for the rest.
int reader_finish(struct reader *reader, struct error *err);

// The SHA-256 of each piece of a part, of READER_PIECE bytes (the last one may be shorter), all read:
// reader_finish waited for them. Theirs is the reader's life.
const unsigned char (*reader_hashes(const struct reader *reader, size_t part, size_t *count))[DIGEST_BYTES];

// Bytes of the ring of a reader with these options over so many pieces.
size_t reader_ring_bytes(const struct reader_options *options, size_t pieces);

// Stops and frees the reader, also before the end. A thread that hangs in a read is left behind after two
// seconds, with the reader's memory; it touches nothing else any more. Accepts NULL.
void reader_close(struct reader *reader);

#endif

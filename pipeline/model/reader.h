// Reads mapped files once, from front to back, on its own thread, and hashes them on the way; whoever wants
// the bytes waits for them here. A read of a mapped page blocks inside the kernel and cannot be interrupted,
// which is why the waiting side and not the reading side notices that nothing arrives.
//
// The reader stays a bounded distance ahead of what was released, so that pages it brought in are still there
// when the caller reads them; released pages are dropped from this process, so that a model is never in
// memory twice.
#ifndef STRATA_MODEL_READER_H
#define STRATA_MODEL_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/log.h"

struct reader_part { // one mapped file
    const unsigned char *data;
    size_t size;
    const char *name; // for messages
};

struct reader_options {
    double timeout_seconds; // without a byte: reader_wait fails; 0: never
    double notice_seconds;  // without a byte: a line in the log, once a stall
    struct log *log;        // may be NULL
    // False ends the load (STATUS_STOPPED). May be NULL.
    bool (*progress)(void *context, uint64_t bytes_done, uint64_t bytes_all, double seconds);
    void *context;
};

struct reader;

// Starts reading. `digest` already holds what comes before the files; the reader finishes it and the caller
// keeps owning it. Parts and their memory must live until reader_close returned true.
int reader_start(struct reader **out, const struct reader_part *parts, size_t count, struct digest *digest,
                 const struct reader_options *options, struct error *err);

// Blocks until bytes [0, end) of the part were read. Positions must not go backwards. STATUS_DATA after the
// timeout.
int reader_wait(struct reader *reader, size_t part, size_t end, struct error *err);

// The caller is done with bytes [0, end) of the part and all parts before it.
void reader_release(struct reader *reader, size_t part, size_t end);

// Waits for the rest and gives the digest.
int reader_finish(struct reader *reader, char hex[DIGEST_HEX], struct error *err);

// Stops and frees the reader. False when its thread hangs in a read: parts, digest and mappings must then be
// left alone until the process ends.
bool reader_close(struct reader *reader); // accepts NULL (true)

#endif

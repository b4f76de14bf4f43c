// SPDX-License-Identifier: MIT
#include "model/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/size.h"

enum {
    BLOCK = 1 << 20,   // bytes of one read: hashed while they are in the cache
    MOST_THREADS = 16, // about 25 GB/s of SHA-256
    SPARE_SLOTS = 12,  // pieces of the ring beside two a thread
};

static const double tick_seconds = 0.5;  // between two looks of a waiting caller
static const double grace_seconds = 2.0; // a thread that does not end in this time hangs in a read

// Pieces of all parts are numbered through; piece p is read into slot p % slots of the ring.
struct reader {
    struct reader_part *parts;
    size_t count;
    size_t *offsets;                       // [count + 1] of the parts in the stream of all bytes
    size_t *first_pieces;                  // [count + 1]
    unsigned char (*hashes)[DIGEST_BYTES]; // [pieces]
    struct reader_options options;
    struct arena ring;
    size_t slots;
    unsigned char *stitched; // a range that crosses the ring's end is put together here
    size_t stitched_size;
    pthread_t threads[MOST_THREADS];
    size_t thread_count;
    double started;
    double reported; // when the caller's progress was last called

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool *read;      // [pieces]
    size_t claimed;  // pieces given to threads
    size_t front;    // every piece before it was read
    size_t released; // the caller is done with every piece before it
    size_t running;  // threads
    double moved;    // when bytes last came
    bool stop;
    int status; // of the first piece that failed
    size_t failed;
    struct error err;
};

static size_t pieces_of(const struct reader *reader) {
    return reader->first_pieces[reader->count];
}

// The part of a piece: the last one that begins at or before it (parts may be empty).
static size_t part_of(const struct reader *reader, size_t piece) {
    size_t low = 0;
    size_t high = reader->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (reader->first_pieces[middle] <= piece) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static unsigned char *slot_of(const struct reader *reader, size_t piece) {
    return reader->ring.data + piece % reader->slots * READER_PIECE;
}

static size_t bytes_before(const struct reader *reader, size_t piece) {
    if (piece >= pieces_of(reader)) {
        return reader->offsets[reader->count];
    }
    size_t part = part_of(reader, piece);
    return reader->offsets[part] + (piece - reader->first_pieces[part]) * READER_PIECE;
}

// ---- the reading threads ----

// Takes the next piece as soon as its slot is free: the caller is done with the slot's last piece, and so is
// the thread that read it. False when reading shall stop or is done.
static bool claim(struct reader *reader, size_t *piece) {
    pthread_mutex_lock(&reader->lock);
    while (!reader->stop && reader->claimed < pieces_of(reader) &&
           reader->claimed >= size_min(reader->released, reader->front) + reader->slots) {
        pthread_cond_wait(&reader->changed, &reader->lock);
    }
    bool has = !reader->stop && reader->claimed < pieces_of(reader);
    if (has) {
        *piece = reader->claimed++;
    }
    pthread_mutex_unlock(&reader->lock);
    return has;
}

// Bytes came. False when reading shall stop.
static bool note_bytes(struct reader *reader) {
    pthread_mutex_lock(&reader->lock);
    reader->moved = clock_seconds();
    bool goes_on = !reader->stop;
    pthread_mutex_unlock(&reader->lock);
    return goes_on;
}

static void note_piece(struct reader *reader, size_t piece) {
    pthread_mutex_lock(&reader->lock);
    reader->read[piece] = true;
    while (reader->front < pieces_of(reader) && reader->read[reader->front]) {
        reader->front++;
    }
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
}

// One read, whole. After a stop nothing outside the reader may be touched, the part's name among it.
static int read_block(struct reader *reader, const struct reader_part *part, unsigned char *out, size_t begin,
                      size_t size, struct error *err) {
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(part->descriptor, out + done, size - done, (off_t)(part->begin + begin + done));
        int problem = errno;
        if (!note_bytes(reader)) {
            return error_set(err, STATUS_STOPPED, "stopped");
        }
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0) {
            return error_set(err, STATUS_DATA, "%s ends at byte %zu of %zu: it was cut while it was read",
                             part->name, part->begin + begin + done, part->begin + part->size);
        } else if (problem != EINTR) {
            errno = problem;
            return error_set_errno(err, STATUS_DATA, "cannot read %s at byte %zu", part->name,
                                   part->begin + begin + done);
        }
    }
    return STATUS_OK;
}

// What is used must be what was read first.
static int check_piece(const struct reader *reader, size_t piece, size_t begin, size_t end,
                       struct error *err) {
    size_t number = part_of(reader, piece);
    const struct reader_part *part = &reader->parts[number];
    const unsigned char *hash = reader->hashes[piece];
    if (part->expected == NULL ||
        memcmp(hash, part->expected[piece - reader->first_pieces[number]], DIGEST_BYTES) == 0) {
        return STATUS_OK;
    }
    return error_set(
        err, STATUS_DATA,
        part->hashed_every > 0
            ? "%s: bytes %zu to %zu are not those that an earlier launch hashed, and the file's times "
              "are the same; the same command hashes all of it again"
            : "%s changed while the run was using it: bytes %zu to %zu are not those that were read "
              "at the start",
        part->name, part->begin + begin, part->begin + end);
}

static bool is_hashed(const struct reader_part *part, size_t begin) {
    return part->hashed_every == 0 || (part->begin + begin) / READER_PIECE % part->hashed_every == 0;
}

static int read_piece(struct reader *reader, struct digest *digest, size_t piece, struct error *err) {
    size_t number = part_of(reader, piece);
    const struct reader_part *part = &reader->parts[number];
    size_t begin = (piece - reader->first_pieces[number]) * READER_PIECE;
    size_t end = size_min(begin + READER_PIECE, part->size);
    size_t first = begin;
    unsigned char *out = slot_of(reader, piece);
    bool hashed = is_hashed(part, begin);
    (void)posix_fadvise(part->descriptor, (off_t)(part->begin + begin), (off_t)(end - begin),
                        POSIX_FADV_WILLNEED);
    while (begin < end) {
        size_t size = size_min(BLOCK, end - begin);
        TRY(read_block(reader, part, out, begin, size, err));
        if (hashed) {
            TRY(digest_update(digest, out, size, err));
        }
        begin += size;
        out += size;
    }
    if (!hashed) {
        memcpy(reader->hashes[piece], part->expected[piece - reader->first_pieces[number]], DIGEST_BYTES);
        return STATUS_OK;
    }
    TRY(digest_finish_bytes(digest, reader->hashes[piece], err));
    return check_piece(reader, piece, first, end, err);
}

static int read_pieces(struct reader *reader, size_t *piece, struct error *err) {
    int status = STATUS_OK;
    struct digest *digest;
    TRY(digest_create(&digest, err));
    while (claim(reader, piece)) {
        TRY_TO(done, status = read_piece(reader, digest, *piece, err));
        note_piece(reader, *piece);
    }
done:
    digest_destroy(digest);
    return status;
}

static void *reader_thread(void *context) {
    struct reader *reader = context;
    struct error err = {0};
    size_t piece = 0;
    int status = read_pieces(reader, &piece, &err);
    pthread_mutex_lock(&reader->lock);
    if (status != STATUS_OK && !reader->stop && (reader->status == STATUS_OK || piece < reader->failed)) {
        reader->status = status;
        reader->err = err;
        reader->failed = piece;
    }
    reader->running--;
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

// ---- start ----

static void free_reader(struct reader *reader) {
    pthread_cond_destroy(&reader->changed);
    pthread_mutex_destroy(&reader->lock);
    arena_destroy(&reader->ring);
    free(reader->parts);
    free(reader->offsets);
    free(reader->first_pieces);
    free(reader->hashes);
    free(reader->read);
    free(reader->stitched);
    free(reader);
}

static void init_lock(struct reader *reader) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&reader->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&reader->lock, NULL);
}

static int take_lists(struct reader *reader, const struct reader_part *parts, struct error *err) {
    size_t count = reader->count;
    void *list;
    TRY(memory_zeroed(&list, size_max(count, 1), sizeof reader->parts[0], err));
    reader->parts = list;
    TRY(memory_zeroed(&list, count + 1, sizeof reader->offsets[0], err));
    reader->offsets = list;
    TRY(memory_zeroed(&list, count + 1, sizeof reader->first_pieces[0], err));
    reader->first_pieces = list;
    for (size_t i = 0; i < count; i++) {
        reader->parts[i] = parts[i];
        reader->offsets[i + 1] = reader->offsets[i] + parts[i].size;
        reader->first_pieces[i + 1] = reader->first_pieces[i] + parts[i].size / READER_PIECE +
                                      (parts[i].size % READER_PIECE > 0 ? 1 : 0);
    }
    return STATUS_OK;
}

static size_t count_threads(const struct reader_options *options) {
    cpu_set_t set;
    int threads = options->threads;
    if (threads <= 0) {
        threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                              : (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    return size_min((size_t)(threads > 0 ? threads : 1), MOST_THREADS);
}

static size_t ring_slots(const struct reader_options *options, size_t threads, size_t pieces) {
    size_t ahead = options->ring / READER_PIECE + (options->ring % READER_PIECE > 0);
    return size_min(pieces, size_max(2 * threads + SPARE_SLOTS, ahead));
}

size_t reader_ring_bytes(const struct reader_options *options, size_t pieces) {
    return ring_slots(options, count_threads(options), size_max(pieces, 1)) * READER_PIECE;
}

static int take_ring(struct reader *reader, size_t threads, struct error *err) {
    void *list;
    size_t pieces = size_max(pieces_of(reader), 1);
    reader->slots = ring_slots(&reader->options, threads, pieces);
    TRY(memory_zeroed(&list, pieces, DIGEST_BYTES, err));
    reader->hashes = list;
    TRY(memory_zeroed(&list, pieces, sizeof reader->read[0], err));
    reader->read = list;
    return arena_create(&reader->ring, reader->slots * READER_PIECE, err);
}

// At least one thread; fewer than wanted do it as well.
static int start_threads(struct reader *reader, size_t threads, struct error *err) {
    int problem = 0;
    pthread_mutex_lock(&reader->lock);
    while (reader->thread_count < threads && problem == 0) {
        problem = pthread_create(&reader->threads[reader->thread_count], NULL, reader_thread, reader);
        reader->thread_count += problem == 0 ? 1 : 0;
    }
    reader->running = reader->thread_count;
    pthread_mutex_unlock(&reader->lock);
    if (reader->thread_count == 0) {
        errno = problem;
        return error_set_errno(err, STATUS_INTERNAL, "cannot start a thread that reads the weights");
    }
    return STATUS_OK;
}

int reader_start(struct reader **out, const struct reader_part *parts, size_t count,
                 const struct reader_options *options, struct error *err) {
    int status;
    void *block;
    size_t threads = count_threads(options);
    *out = NULL;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct reader *reader = block;
    init_lock(reader);
    reader->count = count;
    reader->options = *options;
    TRY_TO(failed, status = take_lists(reader, parts, err));
    TRY_TO(failed, status = take_ring(reader, threads, err));
    reader->started = clock_seconds();
    reader->moved = reader->started;
    TRY_TO(failed, status = start_threads(reader, threads, err));
    *out = reader;
    return STATUS_OK;
failed:
    free_reader(reader);
    return status;
}

// ---- the waiting caller ----

static struct timespec tick_end(void) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)(tick_seconds * 1e9);
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    return end;
}

static int report_progress(struct reader *reader, size_t front, struct error *err) {
    reader->reported = clock_seconds();
    if (reader->options.progress == NULL ||
        reader->options.progress(reader->options.context, bytes_before(reader, front),
                                 reader->offsets[reader->count], clock_seconds() - reader->started)) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_STOPPED, "stopped while loading the model; run the same command to resume");
}

// Says what is waited for, once a stall, and ends the wait after the timeout.
static int look_at_stall(const struct reader *reader, size_t front, double stalled, bool *noticed,
                         struct error *err) {
    size_t number = part_of(reader, front);
    const struct reader_part *part = &reader->parts[number];
    size_t begin = part->begin + (front - reader->first_pieces[number]) * READER_PIECE;
    size_t end = part->begin + part->size;
    if (reader->options.timeout_seconds > 0 && stalled >= reader->options.timeout_seconds) {
        return error_set(err, STATUS_DEVICE, "%s: no byte for %.0f s after byte %zu of %zu; giving up",
                         part->name, stalled, begin, end);
    }
    if (!*noticed && stalled >= reader->options.notice_seconds) {
        *noticed = true;
        if (reader->options.log != NULL) {
            log_write(reader->options.log, LOG_LEVEL_WARN,
                      "loading is waiting for %s: no byte for %.0f s after byte %zu of %zu", part->name,
                      stalled, begin, end);
        }
    }
    return STATUS_OK;
}

// Between two waits; no byte came after `since`.
static int look_around(struct reader *reader, size_t front, double since, bool *noticed, struct error *err) {
    TRY(report_progress(reader, front, err));
    return look_at_stall(reader, front, clock_seconds() - since, noticed, err);
}

// Pieces before the failed one were claimed before it: they still come.
static bool failed_before(const struct reader *reader, size_t piece) {
    return reader->status != STATUS_OK && reader->failed < piece;
}

// Once the caller has to wait it waits for half a ring, so that it works in long turns: OpenMP's threads,
// which convert weights for a GPU, spin for some milliseconds after each of its turns, on processors that the
// reading threads could use. Measured on 2 cores: turns of 8 MB cost 2.4 s of spinning beside 1.1 s of work.
static size_t turn_end(const struct reader *reader, size_t released, size_t wanted) {
    size_t front = size_min(released + reader->slots / 2, pieces_of(reader));
    return reader->front >= wanted ? wanted : size_max(wanted, front);
}

// A read failed, and what is wanted has come or will not come.
static bool is_over(const struct reader *reader, size_t wanted, size_t goal) {
    return failed_before(reader, wanted) || (failed_before(reader, goal) && reader->front >= wanted);
}

// Gives the pieces before `released` back and waits until those before `wanted` were read.
static int wait_until(struct reader *reader, size_t released, size_t wanted, struct error *err) {
    int status = STATUS_OK;
    bool noticed = false;
    pthread_mutex_lock(&reader->lock);
    reader->released = size_max(reader->released, released);
    pthread_cond_broadcast(&reader->changed);
    double begun = clock_seconds();
    double seen = reader->moved;
    size_t goal = turn_end(reader, reader->released, wanted);
    while (status == STATUS_OK && reader->front < goal && !is_over(reader, wanted, goal)) {
        struct timespec end = tick_end();
        bool quiet = pthread_cond_timedwait(&reader->changed, &reader->lock, &end) == ETIMEDOUT;
        if (!quiet && clock_seconds() - reader->reported < tick_seconds) {
            continue; // a long wait in which pieces come is reported, and can be stopped, as one without any
        }
        size_t front = reader->front;
        double moved = reader->moved;
        noticed = noticed && moved <= seen;
        seen = moved;
        pthread_mutex_unlock(&reader->lock); // not held while the caller's code runs
        status = look_around(reader, front, fmax(moved, begun), &noticed, err);
        pthread_mutex_lock(&reader->lock);
    }
    if (status == STATUS_OK && reader->front < wanted) {
        *err = reader->err;
        status = reader->status;
    }
    size_t front = reader->front;
    pthread_mutex_unlock(&reader->lock);
    if (status == STATUS_OK && clock_seconds() - reader->reported >= tick_seconds) {
        status = report_progress(reader, front, err);
    }
    return status;
}

// Bytes [begin, end) of a part, piece by piece, into memory of their own.
static int stitch(struct reader *reader, size_t first, size_t begin, size_t end, struct error *err) {
    size_t size = end - begin;
    if (size > reader->stitched_size) {
        free(reader->stitched);
        reader->stitched_size = 0;
        reader->stitched = aligned_alloc(64, (size + 63) / 64 * 64);
        if (reader->stitched == NULL) {
            return error_set(err, STATUS_INTERNAL, "no memory for %zu bytes of a tensor", size);
        }
        reader->stitched_size = size;
    }
    size_t done = 0;
    for (size_t piece = first; done < size; piece++) {
        TRY(wait_until(reader, piece, piece + 1, err));
        size_t from = (begin + done) % READER_PIECE;
        size_t bytes = size_min(READER_PIECE - from, size - done);
        memcpy(reader->stitched + done, slot_of(reader, piece) + from, bytes);
        done += bytes;
    }
    return STATUS_OK;
}

int reader_bytes(struct reader *reader, size_t part, size_t begin, size_t end, const unsigned char **out,
                 struct error *err) {
    size_t first = reader->first_pieces[part] + begin / READER_PIECE;
    size_t last = reader->first_pieces[part] + (end - 1) / READER_PIECE;
    *out = NULL;
    if (begin >= end || end > reader->parts[part].size) {
        return error_set(err, STATUS_INTERNAL, "%s: bytes %zu to %zu of %zu were asked for",
                         reader->parts[part].name, begin, end, reader->parts[part].size);
    }
    bool together = last - first < reader->slots && first % reader->slots <= last % reader->slots;
    TRY(together ? wait_until(reader, first, last + 1, err) : stitch(reader, first, begin, end, err));
    *out = together ? slot_of(reader, first) + begin % READER_PIECE : reader->stitched;
    return STATUS_OK;
}

int reader_finish(struct reader *reader, struct error *err) {
    TRY(wait_until(reader, pieces_of(reader), pieces_of(reader), err));
    return report_progress(reader, pieces_of(reader), err);
}

const unsigned char (*reader_hashes(const struct reader *reader, size_t part, size_t *count))[DIGEST_BYTES] {
    size_t first = reader->first_pieces[part];
    *count = reader->first_pieces[part + 1] - first;
    return (const unsigned char(*)[DIGEST_BYTES])reader->hashes + first;
}

void reader_close(struct reader *reader) {
    if (reader == NULL) {
        return;
    }
    pthread_mutex_lock(&reader->lock);
    reader->stop = true;
    pthread_cond_broadcast(&reader->changed);
    double deadline = clock_seconds() + grace_seconds;
    while (reader->running > 0 && clock_seconds() < deadline) {
        struct timespec end = tick_end();
        pthread_cond_timedwait(&reader->changed, &reader->lock, &end);
    }
    bool ended = reader->running == 0;
    pthread_mutex_unlock(&reader->lock);
    for (size_t i = 0; i < reader->thread_count; i++) {
        if (ended) {
            pthread_join(reader->threads[i], NULL);
        } else {
            pthread_detach(reader->threads[i]);
        }
    }
    if (ended) {
        free_reader(reader);
    }
}

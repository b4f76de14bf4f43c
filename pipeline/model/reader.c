#include "model/reader.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/size.h"

enum {
    CHUNK = 4 << 20,  // bytes between two looks at the state
    AHEAD = 16 << 20, // asked of the kernel before they are read
    LEAD = 256 << 20, // most bytes read and not yet released
};

static const double tick_seconds = 0.5;  // between two looks of a waiting caller
static const double grace_seconds = 2.0; // a thread that does not end in this time hangs in a read

struct reader {
    const struct reader_part *parts;
    size_t count;
    size_t *offsets; // [count + 1] of the parts in the stream of all bytes
    struct digest *digest;
    struct reader_options options;
    pthread_t thread;
    double started;
    double reported; // when the caller's progress was last called

    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t position; // bytes of the stream read so far
    size_t released;
    size_t wanted;  // by the caller; the reader may go this far whatever was released
    size_t dropped; // bytes of the stream whose pages were given back
    double moved;   // when position last changed
    bool stop;
    bool ended;
    int status;
    struct error err;
    char hex[DIGEST_HEX];
};

static size_t find_part(const struct reader *reader, size_t position) {
    size_t part = 0;
    while (part + 1 < reader->count && position >= reader->offsets[part + 1]) {
        part++;
    }
    return part;
}

// Hints take whole pages; an address is rounded down into its page, which the mapping covers.
static void advise(const struct reader_part *part, size_t begin, size_t end, int advice) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)part->data + begin) & ~(uintptr_t)(page - 1);
    uintptr_t last = ((uintptr_t)part->data + end) & ~(uintptr_t)(page - 1);
    if (end == part->size) {
        last = (uintptr_t)part->data + end;
    }
    if (last > first) {
        madvise((void *)first, last - first, advice);
    }
}

// Waits until the next chunk may be read; 0 when reading shall stop or is done.
static size_t next_chunk(struct reader *reader, size_t *position) {
    size_t all = reader->offsets[reader->count];
    pthread_mutex_lock(&reader->lock);
    while (!reader->stop && reader->position < all &&
           reader->position >= size_max(reader->wanted, reader->released + LEAD)) {
        pthread_cond_wait(&reader->changed, &reader->lock);
    }
    *position = reader->position;
    size_t size = reader->stop ? 0 : size_min(CHUNK, all - reader->position);
    pthread_mutex_unlock(&reader->lock);
    return size;
}

static void advance(struct reader *reader, size_t size) {
    pthread_mutex_lock(&reader->lock);
    reader->position += size;
    reader->moved = clock_seconds();
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
}

static int read_all(struct reader *reader, struct error *err) {
    size_t position;
    size_t size;
    while ((size = next_chunk(reader, &position)) > 0) {
        size_t number = find_part(reader, position);
        const struct reader_part *part = &reader->parts[number];
        size_t begin = position - reader->offsets[number];
        size = size_min(size, part->size - begin);
        advise(part, begin, size_min(part->size, begin + AHEAD), MADV_WILLNEED);
        int status = STATUS_OK;
        if (begin == 0) {
            status = digest_number(reader->digest, part->size, err);
        }
        if (status == STATUS_OK) {
            status = digest_update(reader->digest, part->data + begin, size, err);
        }
        if (status != STATUS_OK) {
            return error_wrap(err, "%s", part->name);
        }
        advance(reader, size);
    }
    return reader->position < reader->offsets[reader->count]
               ? STATUS_OK
               : digest_finish(reader->digest, reader->hex, err);
}

static void *reader_thread(void *context) {
    struct reader *reader = context;
    struct error err = {0};
    int status = read_all(reader, &err);
    pthread_mutex_lock(&reader->lock);
    reader->status = status;
    reader->err = err;
    reader->ended = true;
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

static void free_reader(struct reader *reader) {
    pthread_cond_destroy(&reader->changed);
    pthread_mutex_destroy(&reader->lock);
    free(reader->offsets);
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

int reader_start(struct reader **out, const struct reader_part *parts, size_t count, struct digest *digest,
                 const struct reader_options *options, struct error *err) {
    void *block;
    *out = NULL;
    int status = memory_zeroed(&block, 1, sizeof **out, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct reader *reader = block;
    init_lock(reader);
    reader->parts = parts;
    reader->count = count;
    reader->digest = digest;
    reader->options = *options;
    status = memory_zeroed(&block, count + 1, sizeof reader->offsets[0], err);
    if (status != STATUS_OK) {
        free_reader(reader);
        return status;
    }
    reader->offsets = block;
    for (size_t i = 0; i < count; i++) {
        reader->offsets[i + 1] = reader->offsets[i] + parts[i].size;
    }
    reader->started = clock_seconds();
    reader->moved = reader->started;
    int problem = pthread_create(&reader->thread, NULL, reader_thread, reader);
    if (problem != 0) {
        free_reader(reader);
        errno = problem;
        return error_set_errno(err, STATUS_INTERNAL, "cannot start the thread that reads the weights");
    }
    *out = reader;
    return STATUS_OK;
}

static struct timespec tick_end(void) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)(tick_seconds * 1e9);
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    return end;
}

static int report_progress(struct reader *reader, size_t position, struct error *err) {
    reader->reported = clock_seconds();
    if (reader->options.progress == NULL ||
        reader->options.progress(reader->options.context, position, reader->offsets[reader->count],
                                 clock_seconds() - reader->started)) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_STOPPED, "stopped while loading the model; run the same command to go on");
}

// Says what is waited for, once a stall, and ends the wait after the timeout.
static int look_at_stall(const struct reader *reader, size_t position, double stalled, bool *noticed,
                         struct error *err) {
    size_t number = find_part(reader, position);
    const char *name = reader->parts[number].name;
    size_t begin = position - reader->offsets[number];
    if (reader->options.timeout_seconds > 0 && stalled >= reader->options.timeout_seconds) {
        return error_set(err, STATUS_DATA, "%s: no byte for %.0f s at byte %zu of %zu; giving up", name,
                         stalled, begin, reader->parts[number].size);
    }
    if (!*noticed && stalled >= reader->options.notice_seconds) {
        *noticed = true;
        if (reader->options.log != NULL) {
            log_write(reader->options.log, LOG_LEVEL_WARN,
                      "loading waits for %s: no byte for %.0f s at byte %zu of %zu", name, stalled, begin,
                      reader->parts[number].size);
        }
    }
    return STATUS_OK;
}

static int wait_until(struct reader *reader, size_t wanted, bool ended, struct error *err) {
    int status = STATUS_OK;
    bool noticed = false;
    pthread_mutex_lock(&reader->lock);
    reader->wanted = wanted;
    pthread_cond_broadcast(&reader->changed);
    size_t seen = reader->position;
    double begun = clock_seconds();
    while (status == STATUS_OK && !reader->ended && (ended || reader->position < wanted)) {
        struct timespec end = tick_end();
        if (pthread_cond_timedwait(&reader->changed, &reader->lock, &end) != ETIMEDOUT) {
            continue;
        }
        size_t position = reader->position;
        double stalled = clock_seconds() - fmax(reader->moved, begun);
        noticed = noticed && position == seen;
        seen = position;
        pthread_mutex_unlock(&reader->lock); // not held while the caller's code runs
        status = report_progress(reader, position, err);
        if (status == STATUS_OK) {
            status = look_at_stall(reader, position, stalled, &noticed, err);
        }
        pthread_mutex_lock(&reader->lock);
    }
    if (status == STATUS_OK && reader->ended && reader->status != STATUS_OK) {
        *err = reader->err;
        status = reader->status;
    }
    size_t position = reader->position;
    pthread_mutex_unlock(&reader->lock);
    if (status == STATUS_OK && clock_seconds() - reader->reported >= tick_seconds) {
        status = report_progress(reader, position, err);
    }
    return status;
}

int reader_wait(struct reader *reader, size_t part, size_t end, struct error *err) {
    return wait_until(reader, reader->offsets[part] + end, false, err);
}

void reader_release(struct reader *reader, size_t part, size_t end) {
    size_t released = reader->offsets[part] + end;
    pthread_mutex_lock(&reader->lock);
    size_t before = reader->released;
    reader->released = size_max(released, before);
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
    for (size_t i = find_part(reader, reader->dropped); i <= part; i++) {
        size_t from = reader->dropped - reader->offsets[i];
        size_t until = i == part ? end : reader->parts[i].size;
        if (until > from && (until - from >= CHUNK || until == reader->parts[i].size)) {
            advise(&reader->parts[i], from, until, MADV_DONTNEED);
            reader->dropped = reader->offsets[i] + until;
        }
    }
}

int reader_finish(struct reader *reader, char hex[DIGEST_HEX], struct error *err) {
    size_t all = reader->offsets[reader->count];
    int status = wait_until(reader, all, true, err);
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(hex, reader->hex, DIGEST_HEX);
    return report_progress(reader, all, err);
}

bool reader_close(struct reader *reader) {
    if (reader == NULL) {
        return true;
    }
    pthread_mutex_lock(&reader->lock);
    reader->stop = true;
    pthread_cond_broadcast(&reader->changed);
    double deadline = clock_seconds() + grace_seconds;
    while (!reader->ended && clock_seconds() < deadline) {
        struct timespec end = tick_end();
        pthread_cond_timedwait(&reader->changed, &reader->lock, &end);
    }
    bool ended = reader->ended;
    pthread_mutex_unlock(&reader->lock);
    if (!ended) {
        pthread_detach(reader->thread); // it hangs in the kernel; what it may still touch stays
        return false;
    }
    pthread_join(reader->thread, NULL);
    free_reader(reader);
    return true;
}

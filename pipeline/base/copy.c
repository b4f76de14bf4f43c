// SPDX-License-Identifier: MIT
#include "base/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { BLOCK = 1 << 20 };

// What cannot be opened here is no bad data of the run's.
static int open_own(int *descriptor, const char *path, struct error *err) {
    size_t size;
    int status = file_open_own(descriptor, &size, path, err);
    return status == STATUS_DATA ? (err->status = STATUS_WRITE) : status;
}

// Reads an open file to its end, hashes it and writes it to `out` (negative: nowhere). What cannot be read is
// a failure of the copy, not of the run's data.
static int pass_on(int in, const char *from, int out, const char *to, char hex[DIGEST_HEX],
                   struct error *err) {
    struct digest *digest = NULL;
    void *block = NULL;
    int status;
    TRY_TO(done, status = digest_create(&digest, err));
    TRY_TO(done, status = memory_zeroed(&block, 1, BLOCK, err));
    for (;;) {
        ssize_t count = read(in, block, BLOCK);
        if (count == 0) {
            break;
        }
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            status = error_set_errno(err, STATUS_WRITE, "cannot read %s", from);
            goto done;
        }
        TRY_TO(done, status = digest_update(digest, block, (size_t)count, err));
        if (out >= 0) {
            TRY_TO(done, status = file_write(out, block, (size_t)count, to, err));
        }
    }
    status = digest_finish(digest, hex, err);
done:
    free(block);
    digest_destroy(digest);
    return status;
}

// Pages that were synced are dropped here, so that what is read afterwards comes from the file system.
static int settle(int out, const char *path, struct error *err) {
    int status = STATUS_OK;
    if (fsync(out) != 0) {
        status = error_set_errno(err, STATUS_WRITE, "cannot sync %s", path);
    } else {
        posix_fadvise(out, 0, 0, POSIX_FADV_DONTNEED); // only advice: a file system may have no pages to drop
    }
    if (close(out) != 0 && status == STATUS_OK) { // quotas and full servers may speak up as late as here
        status = error_set_errno(err, STATUS_WRITE, "cannot close %s", path);
    }
    return status;
}

static int write_aside(const char *from, const char *aside, char hex[DIGEST_HEX], struct error *err) {
    int in;
    int out = -1;
    TRY(open_own(&in, from, err));
    int status;
    TRY_TO(done, status = file_create(&out, aside, err));
    status = pass_on(in, from, out, aside, hex, err);
    if (status == STATUS_OK) {
        status = settle(out, aside, err);
    } else {
        close(out);
    }
done:
    close(in);
    return status;
}

static int read_back(const char *aside, const char *wanted, struct error *err) {
    int in;
    char hex[DIGEST_HEX] = "";
    TRY(open_own(&in, aside, err));
    posix_fadvise(in, 0, 0, POSIX_FADV_DONTNEED);
    int status = pass_on(in, aside, -1, NULL, hex, err);
    close(in);
    return status == STATUS_OK && strcmp(hex, wanted) != 0
               ? error_set(
                     err, STATUS_WRITE,
                     "%s reads back other bytes than were written (SHA-256 %.16s..., not %.16s...): its file "
                     "system does not keep what it is given",
                     aside, hex, wanted)
               : status;
}

int copy_publish(const char *from, const char *to, const char *sha256, const struct copy_claim *claim,
                 struct error *err) {
    char aside[PATH_SIZE];
    char hex[DIGEST_HEX] = "";
    bool marked = claim != NULL && claim->mark != NULL;
    if (snprintf(aside, sizeof aside, "%s%s%s.tmp", to, marked ? "." : "", marked ? claim->mark : "") >=
        (int)sizeof aside) {
        return error_set(err, STATUS_WRITE, "path too long: %.200s", to);
    }
    int status;
    TRY_TO(done, status = write_aside(from, aside, hex, err));
    if (sha256 != NULL && strcmp(hex, sha256) != 0) {
        status =
            error_set(err, STATUS_WRITE, "%s changed since it was synced (SHA-256 %.16s..., not %.16s...)",
                      from, hex, sha256);
        goto done;
    }
    TRY_TO(done, status = read_back(aside, hex, err));
    if (claim != NULL) {
        TRY_TO(done, status = claim->check(claim->context, err));
    }
    return file_publish(aside, to, err);
done:
    if (status != STATUS_OK) {
        struct error ignored;
        file_remove(aside, &ignored);
    }
    return status;
}

// SPDX-License-Identifier: MIT
#include "checkpoints/ledger_rescue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int journal_path(char out[PATH_SIZE], const char *path, struct error *err) {
    if (snprintf(out, PATH_SIZE, "%s-journal", path) >= PATH_SIZE) {
        return error_set(err, STATUS_DATA, "path too long: %.200s", path);
    }
    return STATUS_OK;
}

bool ledger_rescue_needed(struct ledger *ledger) {
    char journal[PATH_SIZE];
    struct error ignored;
    if (ledger->db == NULL || journal_path(journal, ledger->path, &ignored) != STATUS_OK ||
        !file_exists(journal)) {
        return false;
    }
    int primary = sqlite3_errcode(ledger->db) & 0xff;
    return primary == SQLITE_READONLY || primary == SQLITE_CANTOPEN;
}

bool ledger_rescue_permitted(const struct ledger *ledger) {
    char folder[PATH_SIZE];
    struct error ignored;
    return access(ledger->path, W_OK) == 0 &&
           path_folder(folder, sizeof folder, ledger->path, &ignored) == STATUS_OK &&
           access(folder, W_OK) == 0;
}

// Copies what is in the file now; it may be larger than the memory.
static int copy_bytes(int in, int out, const char *from, const char *to, struct error *err) {
    char block[1 << 16];
    for (;;) {
        ssize_t count = read(in, block, sizeof block);
        if (count == 0) {
            return STATUS_OK;
        }
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return error_set_errno(err, STATUS_DATA, "cannot read %s", from);
        }
        TRY(file_write(out, block, (size_t)count, to, err));
    }
}

static int copy_file(const char *from, const char *to, struct error *err) {
    int in;
    int out = -1;
    size_t size;
    TRY(file_open_own(&in, &size, from, err));
    int status;
    TRY_TO(done, status = file_create(&out, to, err));
    TRY_TO(done, status = copy_bytes(in, out, from, to, err));
done:
    if (out >= 0 && close(out) != 0 && status == STATUS_OK) {
        status = error_set_errno(err, STATUS_WRITE, "cannot close %s", to);
    }
    close(in);
    return status;
}

// Both files, in the folder for copies: said before gigabytes are written in vain.
static int check_space(const char *path, const char *journal, const char *folder, struct error *err) {
    uint64_t space = 0;
    uint64_t bytes = 0;
    uint64_t journal_bytes = 0;
    TRY(file_size(path, &bytes, err));
    TRY(file_size(journal, &journal_bytes, err));
    TRY(file_space(folder, &space, err));
    bytes += journal_bytes;
    return space < bytes
               ? error_set(err, STATUS_WRITE,
                           "%s was left in the middle of a commit, which strata status of a user who may "
                           "write takes "
                           "back; a copy of its %.2f GB does not fit in %s (%.2f GB free): set TMPDIR to a "
                           "larger folder",
                           path, (double)bytes * 1e-9, folder, (double)space * 1e-9)
               : STATUS_OK;
}

static bool same_state(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

// The two files belong together only if nobody wrote between: a runner may have come back to life meanwhile.
static int copy_pair(const char *path, const char *journal, const char *to, const char *to_journal,
                     struct error *err) {
    struct stat before[2];
    struct stat after[2];
    if (stat(path, &before[0]) != 0 || stat(journal, &before[1]) != 0) {
        return error_set_errno(err, STATUS_DATA, "cannot stat %s and its journal", path);
    }
    TRY(copy_file(path, to, err));
    TRY(copy_file(journal, to_journal, err));
    if (stat(path, &after[0]) != 0 || stat(journal, &after[1]) != 0 || !same_state(&before[0], &after[0]) ||
        !same_state(&before[1], &after[1])) {
        return error_set(err, STATUS_DATA, "%s changed while it was copied: try again", path);
    }
    return STATUS_OK;
}

int ledger_rescue_copy(struct ledger *ledger, struct error *err) {
    char journal[PATH_SIZE];
    char to[PATH_SIZE];
    char to_journal[PATH_SIZE];
    const char *folder = getenv("TMPDIR");
    folder = folder == NULL ? "/tmp" : folder;
    TRY(journal_path(journal, ledger->path, err));
    TRY(check_space(ledger->path, journal, folder, err));
    TRY(path_join(ledger->copy, sizeof ledger->copy, folder, "strata-ledger-XXXXXX", err));
    if (mkdtemp(ledger->copy) == NULL) {
        int status =
            error_set_errno(err, STATUS_WRITE, "cannot make a folder for a copy of %s", ledger->path);
        ledger->copy[0] = 0;
        return status;
    }
    TRY(path_join(to, sizeof to, ledger->copy, "ledger.sqlite", err));
    TRY(journal_path(to_journal, to, err));
    TRY(copy_pair(ledger->path, journal, to, to_journal, err));
    memcpy(ledger->path, to, sizeof ledger->path);
    return STATUS_OK;
}

void ledger_rescue_end(struct ledger *ledger) {
    static const char *const names[] = {"ledger.sqlite", "ledger.sqlite-journal"};
    struct error ignored;
    char path[PATH_SIZE];
    if (ledger->copy[0] == 0) {
        return;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (path_join(path, sizeof path, ledger->copy, names[i], &ignored) == STATUS_OK) {
            file_remove(path, &ignored);
        }
    }
    rmdir(ledger->copy);
    ledger->copy[0] = 0;
}

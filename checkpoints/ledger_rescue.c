#include "checkpoints/ledger_rescue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LEDGER_MOST = 1 << 30
}; // bytes of a ledger that are worth copying; a million problems take about 150 MB

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

static int copy_file(const char *from, const char *to, struct error *err) {
    struct buffer bytes = {0};
    int status = file_read(&bytes, from, LEDGER_MOST, err);
    FILE *out = status == STATUS_OK ? fopen(to, "wxe") : NULL;
    if (status == STATUS_OK && out == NULL) {
        status = error_set_errno(err, STATUS_WRITE, "cannot create %s", to);
    }
    if (out != NULL) {
        bool written = fwrite(bytes.data, 1, bytes.size, out) == bytes.size;
        if (fclose(out) != 0 || !written) {
            status = error_set_errno(err, STATUS_WRITE, "cannot write %s", to);
        }
    }
    buffer_destroy(&bytes);
    return status;
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
    int status = copy_file(path, to, err);
    if (status == STATUS_OK) {
        status = copy_file(journal, to_journal, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
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
    int status = journal_path(journal, ledger->path, err);
    if (status == STATUS_OK) {
        status = path_join(ledger->copy, sizeof ledger->copy, folder == NULL ? "/tmp" : folder,
                           "strata-ledger-XXXXXX", err);
    }
    if (status == STATUS_OK && mkdtemp(ledger->copy) == NULL) {
        status = error_set_errno(err, STATUS_WRITE, "cannot make a folder for a copy of %s", ledger->path);
        ledger->copy[0] = 0;
    }
    if (status == STATUS_OK) {
        status = path_join(to, sizeof to, ledger->copy, "ledger.sqlite", err);
    }
    if (status == STATUS_OK) {
        status = journal_path(to_journal, to, err);
    }
    if (status == STATUS_OK) {
        status = copy_pair(ledger->path, journal, to, to_journal, err);
    }
    if (status == STATUS_OK) {
        memcpy(ledger->path, to, sizeof ledger->path);
    }
    return status;
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

// SPDX-License-Identifier: MIT
// Who may have the newest ledger. ledger.json of the run directory names the last launch that was announced,
// by a token that the launch alone has; the same file beside a local ledger (its own) says whose that is.
//
//  the run directory says  the newest ledger is
//  nothing                 the run directory's, if it has one
//  T, not copied           the local one whose own token is T, or whose token before (previous) is T; while
//                          there is neither copy nor shard, it has acknowledged nothing (choose_elsewhere)
//  T, copied               the copy; the local one whose own token is T is as far, and so is one whose token
//                          before is T, which counts where the copy was removed
//
// Any other local ledger is older, was left behind (--from-copy), is of a launch that was never announced, or
// of a run that was here before.
//
// A launch goes through these steps; nothing is acknowledged before the last one:
//
//  1. chooses (choose). The copy is put into a local folder only after that folder's own token is a new one,
//     which no run directory names (claim): a failure here or below leaves a ledger that is never the newest.
//  2. gives itself a number in the local ledger (ledger_launch). That number says nothing yet: a launch that
//     fails here counts up again with each try, and elsewhere another one gets the same number. Hence
//     launches and checkpoints are compared only where the tokens say that one ledger came from the other.
//  3. writes its token beside the local ledger, and there the token before it if that ledger was the newest.
//     A failure here leaves T, not copied, with the newest ledger known by what came before it; with T,
//     copied, the next try takes the copy, which is the same.
//  4. writes its token into the run directory, not copied: from here on its ledger is the newest.
//
// At its end the copy is complete before the run directory says so: a failure in between leaves 4. A ledger
// that comes home (come_home) does so from T, copied, or is refused; then the run directory's is the newest,
// whatever local folders hold.
#include "checkpoints/ledger_apart.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "checkpoints/folder_content.h"
#include "checkpoints/ledger_sql.h"

#define COPY_SECONDS 60.0 // between copies of a ledger at work
#define COPY_SHARE 50.0   // ... and at least so many times what the last one took

// How far a ledger has come, compared with one that it came from or that came from it.
struct mark {
    bool there;
    bool begun; // with the identity of a run
    int64_t launch;
    int64_t checkpoint;
};

static bool is_behind(const struct mark *a, const struct mark *b) {
    return a->launch != b->launch ? a->launch < b->launch : a->checkpoint < b->checkpoint;
}

static int read_mark(struct mark *mark, const char *folder, bool is_copy, struct error *err) {
    struct ledger_source source = {.is_copy = is_copy, .for_runner = true};
    struct ledger *ledger = NULL;
    char path[PATH_SIZE];
    int64_t tables = 0;
    bool there = false;
    *mark = (struct mark){0};
    TRY(path_join(source.folder, sizeof source.folder, "", folder, err));
    TRY(run_folder_file(path, folder, "ledger.sqlite", err));
    TRY(file_look(path, &there, err));
    if (!there) {
        return STATUS_OK;
    }
    TRY(ledger_open_file(&ledger, &source, &tables, err));
    int status = STATUS_OK;
    if (tables > 0) {
        TRY_TO(done, status = ledger_number(ledger, "SELECT ifnull(max(epoch), 0) FROM launch", &mark->launch,
                                            err));
        TRY_TO(done, status = ledger_number(ledger, "SELECT ifnull(max(number), -1) FROM checkpoint",
                                            &mark->checkpoint, err));
        mark->there = true;
        mark->begun = mark->checkpoint >= 0;
    }
done:
    ledger_close(ledger);
    return status;
}

// ---- which ledger to go on with ----

struct choice {
    struct mark local;
    struct mark copy;
    struct ledger_place own; // beside the local ledger
    bool has_own;
    bool takes_copy;  // the local ledger is replaced by the copy
    bool starts_anew; // ... or by none
    bool leaves_lost; // ... and so is left what the last launch acknowledged elsewhere
};

static int refuse_elsewhere(const struct ledger_apart *apart, const struct choice *choice, const char *shard,
                            struct error *err) {
    const struct ledger_place *place = &apart->found;
    const char *path = apart->folder->path;
    if (shard[0] != 0 && !choice->copy.there) {
        return error_set(err, STATUS_DATA,
                         "%s has shards/%s and no copy of the ledger, which launch %" PRIu64
                         " has on %s, in %s: restore the copy, or run the same command there; if both are "
                         "lost, move %s away to start anew",
                         path, shard, place->launch, place->host, place->path, path);
    }
    if (!choice->copy.there) {
        return error_set(err, STATUS_WRITE,
                         "%s: launch %" PRIu64
                         " has the ledger on %s, in %s, and there is no copy of it yet: run the "
                         "same command there; if that folder is lost, --from-copy starts anew: no shard was "
                         "acknowledged",
                         path, place->launch, place->host, place->path);
    }
    return error_set(
        err, STATUS_WRITE,
        "%s: launch %" PRIu64 " has the ledger on %s, in %s, and works, or was killed: run the same "
        "command there; if that folder is lost, --from-copy goes on from the ledger's last copy and "
        "computes what was acknowledged since again",
        path, place->launch, place->host, place->path);
}

static int refuse_other(const struct ledger_apart *apart, struct error *err) {
    return error_set(
        err, STATUS_WRITE,
        "%s (run.ledger) has the ledger of another run than %s: name another folder, or remove its "
        "ledger.sqlite",
        apart->folder->ledger, apart->folder->path);
}

// The ledger that counts is elsewhere. A launch makes its first copy before the first batch: as long as there
// is none, no shard was acknowledged, and one that begins anew loses nothing. It is begun by permission
// alone, for two reasons: that there is no copy may be what a file server's client remembers of an earlier
// moment, and a launch that reads a model for minutes is not to be superseded by another that nobody meant to
// start.
static int choose_elsewhere(const struct ledger_apart *apart, struct choice *choice, bool from_copy,
                            struct error *err) {
    char shard[RUN_FOLDER_NAME];
    TRY(folder_content_shard(shard, apart->folder->path, err));
    if (!from_copy || (!choice->copy.there && shard[0] != 0)) {
        return refuse_elsewhere(apart, choice, shard, err);
    }
    choice->leaves_lost = true;
    choice->takes_copy = choice->copy.there;
    choice->starts_anew = !choice->copy.there;
    return STATUS_OK;
}

// The run directory tells of a place (invariant 13).
static int choose_by_place(struct ledger_apart *apart, struct choice *choice, bool from_copy,
                           struct error *err) {
    const struct ledger_place *place = &apart->found;
    bool is_ours = choice->local.there && choice->has_own && ledger_place_is(&choice->own, place);
    bool same_run = choice->has_own && strcmp(choice->own.run, place->run) == 0;
    if (choice->local.begun && !same_run) {
        return refuse_other(apart, err);
    }
    if (place->copied && !choice->copy.there && !is_ours) {
        return error_set(err, STATUS_DATA,
                         "%s should have a copy of its ledger, which is not there: restore it, or run the "
                         "same command on %s, where launch %" PRIu64 " had the ledger in %s",
                         apart->folder->path, place->host, place->launch, place->path);
    }
    if (!place->copied && !is_ours) {
        return choose_elsewhere(apart, choice, from_copy, err);
    }
    bool is_newest = place->copied ? strcmp(choice->own.token, place->token) == 0 : is_ours;
    bool is_behind_copy = !choice->local.there || !is_newest || is_behind(&choice->local, &choice->copy);
    choice->takes_copy = choice->copy.there && is_behind_copy;
    return STATUS_OK;
}

// The run directory does not tell of one: the run begins, or had its ledger there, or was killed before it
// told.
static int choose_without_place(const struct ledger_apart *apart, struct choice *choice, struct error *err) {
    char *real = realpath(apart->folder->path, NULL);
    bool is_ours = choice->has_own && real != NULL && strcmp(choice->own.output, real) == 0;
    free(real);
    if (choice->local.begun && !is_ours) {
        return refuse_other(apart, err);
    }
    choice->takes_copy = choice->copy.there;
    return STATUS_OK;
}

// Shards are never there before the identity is (invariant 8): what has them and no run lost its ledger.
static int check_not_lost(const struct ledger_apart *apart, const struct choice *choice, struct error *err) {
    char shard[RUN_FOLDER_NAME];
    const char *path = apart->folder->path;
    bool begun = choice->takes_copy ? choice->copy.begun : choice->local.begun;
    TRY(folder_content_shard(shard, path, err));
    return shard[0] != 0 && !begun
               ? error_set(
                     err, STATUS_DATA,
                     "%s has shards/%s and no record of a run: its ledger was lost; restore it, or move the "
                     "folder away to start anew",
                     path, shard)
               : STATUS_OK;
}

static int choose(struct ledger_apart *apart, struct choice *choice, bool from_copy, struct error *err) {
    const struct run_folder *folder = apart->folder;
    *choice = (struct choice){0};
    TRY(ledger_place_of_run(&apart->found, folder->path, &apart->was_found, err));
    TRY(ledger_place_read(&choice->own, folder->ledger, &choice->has_own, err));
    TRY(read_mark(&choice->local, folder->ledger, false, err));
    TRY(read_mark(&choice->copy, folder->path, apart->was_found, err));
    TRY(apart->was_found ? choose_by_place(apart, choice, from_copy, err)
                         : choose_without_place(apart, choice, err));
    return choice->leaves_lost ? STATUS_OK : check_not_lost(apart, choice, err);
}

// The ledger is to lie in the run directory, which may tell of another place.
static int check_home(struct ledger_apart *apart, struct error *err) {
    const struct ledger_place *place = &apart->found;
    TRY(ledger_place_of_run(&apart->found, apart->folder->path, &apart->was_found, err));
    return !apart->was_found || place->copied
               ? STATUS_OK
               : error_set(err, STATUS_WRITE,
                           "%s: launch %" PRIu64
                           " has the ledger on %s, in %s: run the job there with run.ledger, as it "
                           "was",
                           apart->folder->path, place->launch, place->host, place->path);
}

int ledger_apart_check(struct ledger_apart *apart, const struct run_folder *folder, bool from_copy,
                       struct error *err) {
    struct choice choice;
    *apart = (struct ledger_apart){.folder = folder};
    return folder->apart ? choose(apart, &choice, from_copy, err) : check_home(apart, err);
}

// ---- the start ----

static int remove_in(const char *folder, const char *name, struct error *err) {
    char path[PATH_SIZE];
    TRY(run_folder_file(path, folder, name, err));
    return file_remove(path, err);
}

static int name_place(struct ledger_apart *apart, uint64_t launch, struct error *err) {
    struct ledger_place *place = &apart->place;
    *place = (struct ledger_place){.launch = launch};
    TRY(ledger_place_token(place->token, err));
    if (apart->continues) {
        memcpy(place->previous, apart->found.token, sizeof place->previous);
    }
    if (apart->was_found) {
        memcpy(place->run, apart->found.run, sizeof place->run);
    } else {
        TRY(ledger_place_token(place->run, err));
    }
    gethostname(place->host, sizeof place->host - 1);
    if (realpath(apart->folder->ledger, place->path) == NULL ||
        realpath(apart->folder->path, place->output) == NULL) {
        return error_set_errno(err, STATUS_WRITE, "cannot resolve %s and %s", apart->folder->ledger,
                               apart->folder->path);
    }
    return STATUS_OK;
}

// A local folder that is about to get another ledger is said to be this run's first: a crash in between
// leaves a ledger that is known again.
static int claim(struct ledger_apart *apart, struct error *err) {
    TRY(name_place(apart, 0, err));
    return ledger_place_write(&apart->place, apart->folder->ledger, err);
}

// In this order: a journal without its ledger is dropped by SQLite, one beside another ledger would spoil it.
static int replace_ledger(struct ledger_apart *apart, bool by_copy, struct error *err) {
    const struct run_folder *folder = apart->folder;
    char from[PATH_SIZE];
    char to[PATH_SIZE];
    TRY(claim(apart, err));
    TRY(run_folder_file(from, folder->path, "ledger.sqlite", err));
    TRY(run_folder_file(to, folder->ledger, "ledger.sqlite", err));
    TRY(file_remove(to, err));
    TRY(remove_in(folder->ledger, "ledger.sqlite-journal", err));
    TRY(file_sync_folder(folder->ledger, err));
    return by_copy ? copy_publish(from, to, NULL, NULL, err) : STATUS_OK;
}

// Shards of the run directory from number `first` on.
static int count_shards(const char *folder, uint64_t first, uint64_t *count, struct error *err) {
    char path[PATH_SIZE];
    *count = 0;
    TRY(run_folder_file(path, folder, "shards", err));
    DIR *listing = opendir(path);
    if (listing == NULL) {
        return error_set_errno(err, STATUS_WRITE, "cannot list %s", path);
    }
    errno = 0;
    for (const struct dirent *entry; (entry = readdir(listing)) != NULL; errno = 0) {
        uint64_t number;
        bool partial;
        *count += run_folder_parse_shard(entry->d_name, &number, &partial) && !partial && number >= first;
    }
    int status = errno == 0 ? STATUS_OK : error_set_errno(err, STATUS_WRITE, "cannot list %s", path);
    closedir(listing);
    return status;
}

// The launch whose ledger is left behind gets its row, so that whatever it recorded has a lower number than
// what comes now.
static int lose_launch(struct ledger_apart *apart, struct error *err) {
    struct ledger *ledger = NULL;
    struct ledger_position position;
    int status;
    TRY_TO(done, status = ledger_open(&ledger, apart->folder->ledger, err));
    TRY_TO(done, status = ledger_position(ledger, &position, err));
    TRY_TO(done, status = count_shards(apart->folder->path, position.shards, &apart->again, err));
    status = ledger_launch_lost(ledger, apart->found.launch, apart->found.host, err);
done:
    ledger_close(ledger);
    return status;
}

// The run directory has its ledger again. Its file no longer tells of a place, before anybody writes to the
// ledger.
static int come_home(const struct ledger_apart *apart, struct error *err) {
    if (!apart->was_found) {
        return STATUS_OK;
    }
    TRY(remove_in(apart->folder->path, LEDGER_PLACE_FILE, err));
    return file_sync_folder(apart->folder->path, err);
}

int ledger_apart_begin(struct ledger_apart *apart, const struct run_folder *folder, bool from_copy,
                       struct log *log, struct error *err) {
    struct choice choice;
    *apart = (struct ledger_apart){.folder = folder};
    if (!folder->apart) {
        TRY(check_home(apart, err));
        return come_home(apart, err);
    }
    TRY(choose(apart, &choice, from_copy, err));
    bool replaces = choice.takes_copy || choice.starts_anew;
    apart->continues = apart->was_found && !replaces;
    if (replaces) {
        TRY(replace_ledger(apart, choice.takes_copy, err));
    }
    if (choice.takes_copy) {
        log_write(log, LOG_LEVEL_INFO, "the ledger's copy in %s was put into %s", folder->path,
                  folder->ledger);
    }
    if (choice.leaves_lost) {
        TRY(lose_launch(apart, err));
        log_write(log, LOG_LEVEL_WARN,
                  "launch %" PRIu64 " on %s is left behind (--from-copy): at most %" PRIu64
                  " shards that it sealed are computed again",
                  apart->found.launch, apart->found.host, apart->again);
    }
    return STATUS_OK;
}

// Between reading what the run directory says and this, a launch on another machine may have done the same.
static int check_unchanged(const void *context, struct error *err) {
    const struct ledger_apart *apart = context;
    struct ledger_place now;
    bool found = false;
    TRY(ledger_place_read(&now, apart->folder->path, &found, err));
    return found == apart->was_found && (!found || strcmp(now.token, apart->found.token) == 0)
               ? STATUS_OK
               : error_set(err, STATUS_WRITE, "another runner has started in %s (on %s): this one ends",
                           apart->folder->path, now.host);
}

// Writes what this launch says beside the local ledger, and copies it into the run directory.
static int tell(const struct ledger_apart *apart, int (*check)(const void *apart, struct error *err),
                struct error *err) {
    const struct copy_claim claim = {.mark = apart->place.token, .check = check, .context = apart};
    char from[PATH_SIZE];
    char to[PATH_SIZE];
    TRY(run_folder_file(from, apart->folder->ledger, LEDGER_PLACE_FILE, err));
    TRY(run_folder_file(to, apart->folder->path, LEDGER_PLACE_FILE, err));
    TRY(ledger_place_write(&apart->place, apart->folder->ledger, err));
    return copy_publish(from, to, NULL, &claim, err);
}

int ledger_apart_announce(struct ledger_apart *apart, uint64_t launch, struct error *err) {
    if (!apart->folder->apart) {
        return STATUS_OK;
    }
    TRY(name_place(apart, launch, err));
    TRY(tell(apart, check_unchanged, err));
    apart->announced = true;
    return STATUS_OK;
}

int ledger_apart_fence(const struct ledger_apart *apart, struct error *err) {
    struct ledger_place now;
    bool found = false;
    if (!apart->announced) {
        return STATUS_OK;
    }
    TRY(ledger_place_read(&now, apart->folder->path, &found, err));
    if (!found) {
        return error_set(err, STATUS_WRITE,
                         "%s has no " LEDGER_PLACE_FILE " any more: it was removed, or a launch without "
                         "run.ledger has started there; this runner is superseded",
                         apart->folder->path);
    }
    return strcmp(now.token, apart->place.token) == 0
               ? STATUS_OK
               : error_set(err, STATUS_WRITE,
                           "launch %" PRIu64 " has started in %s on %s; this runner is superseded",
                           now.launch, apart->folder->path, now.host);
}

static int ask_fence(const void *apart, struct error *err) {
    return ledger_apart_fence(apart, err);
}

struct copy_claim ledger_apart_claim(const struct ledger_apart *apart) {
    return (struct copy_claim){.mark = apart->place.token, .check = ask_fence, .context = apart};
}

// ---- the end ----

static int has_journal(const char *folder, bool *there, struct error *err) {
    char path[PATH_SIZE];
    TRY(run_folder_file(path, folder, "ledger.sqlite-journal", err));
    return file_look(path, there, err);
}

static int check_settled(const char *folder, struct error *err) {
    bool there = false;
    TRY(has_journal(folder, &there, err));
    return there ? error_set(err, STATUS_WRITE, "a transaction of the ledger in %s is not settled", folder)
                 : STATUS_OK;
}

// A record that failed at last, such as that of the end, leaves a journal: whoever opens the ledger takes it
// back.
static int settle(const char *folder, struct error *err) {
    struct ledger *ledger = NULL;
    bool there = false;
    TRY(has_journal(folder, &there, err));
    if (there) {
        TRY(ledger_open(&ledger, folder, err));
        ledger_close(ledger);
    }
    return STATUS_OK;
}

// Whoever copies a file closes it, which lets go of the locks that SQLite holds on it in this process: none
// without a transaction.
static int copy_ledger(struct ledger_apart *apart, struct error *err) {
    char from[PATH_SIZE];
    char to[PATH_SIZE];
    double began = clock_seconds();
    TRY(ledger_apart_fence(apart, err));
    TRY(check_settled(apart->folder->ledger, err));
    TRY(run_folder_file(from, apart->folder->ledger, "ledger.sqlite", err));
    TRY(run_folder_file(to, apart->folder->path, "ledger.sqlite", err));
    const struct copy_claim claim = ledger_apart_claim(apart);
    TRY(copy_publish(from, to, NULL, &claim, err));
    double now = clock_seconds();
    apart->due = now + fmax(COPY_SECONDS, COPY_SHARE * (now - began));
    return STATUS_OK;
}

int ledger_apart_refresh(struct ledger_apart *apart, bool now, struct error *err) {
    return apart->announced && (now || clock_seconds() > apart->due) ? copy_ledger(apart, err) : STATUS_OK;
}

int ledger_apart_end(struct ledger_apart *apart, struct error *err) {
    if (!apart->announced) {
        return STATUS_OK;
    }
    struct ledger_place *place = &apart->place;
    int status;
    TRY_TO(done, status = settle(apart->folder->ledger, err));
    TRY_TO(done, status = copy_ledger(apart, err));
    place->copied = true;
    status = tell(apart, ask_fence, err);
done:
    apart->announced = false;
    return status == STATUS_OK
               ? STATUS_OK
               : error_wrap(err, "the ledger in %s was not copied to %s, where the run goes on", place->path,
                            apart->folder->path);
}

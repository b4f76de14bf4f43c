// SPDX-License-Identifier: MIT
// Where the ledger of a run is, when it does not lie in the run directory (run.ledger): a small file of the
// run directory, ledger.json, names host and folder. While a launch works the ledger is there; at its end a
// copy is put into the run directory, and ledger.json says so. The same file lies beside the ledger itself,
// so that both know each other: a token, new with each launch, tells whether what is in a folder is what a
// run directory means.
#ifndef STRATA_CHECKPOINTS_LEDGER_PLACE_H
#define STRATA_CHECKPOINTS_LEDGER_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"

#define LEDGER_PLACE_FILE "ledger.json"

enum { LEDGER_PLACE_TOKEN = 33, LEDGER_PLACE_HOST = 128 };

struct ledger_place {
    char run[LEDGER_PLACE_TOKEN];      // of all launches
    char token[LEDGER_PLACE_TOKEN];    // of the launch
    char previous[LEDGER_PLACE_TOKEN]; // of the launch whose ledger it goes on with here, or empty
    char host[LEDGER_PLACE_HOST];      // that the launch works on
    char path[PATH_SIZE];              // of the folder there, without links
    char output[PATH_SIZE];            // of the run directory, as the launch saw it
    uint64_t launch;                   // its epoch
    bool copied;                       // the launch has ended, and the run directory has a copy of all
};

// Reads FOLDER/ledger.json. STATUS_WRITE where the file system does not answer, STATUS_DATA where it is
// damaged.
int ledger_place_read(struct ledger_place *place, const char *folder, bool *found, struct error *err);

// The same of a run directory: an error says what to do about a damaged one.
int ledger_place_of_run(struct ledger_place *place, const char *folder, bool *found, struct error *err);

// Writes FOLDER/ledger.json, aside and renamed.
int ledger_place_write(const struct ledger_place *place, const char *folder, struct error *err);

int ledger_place_token(char out[LEDGER_PLACE_TOKEN], struct error *err); // random

// Whether what lies beside the ledger in a folder (`own`) belongs to what a run directory says (`place`). A
// launch writes its own first: a crash in between leaves the run directory with the token before.
bool ledger_place_is(const struct ledger_place *own, const struct ledger_place *place);

// The folder with the ledger that a launch works with, or worked with when it was killed: where run directory
// FOLDER says, if that can be reached from here. Empty: there is none apart from it, or it cannot be reached.
int ledger_place_here(char out[PATH_SIZE], const char *folder, struct error *err);

// What a reader opens.
struct ledger_source {
    char folder[PATH_SIZE]; // that ledger.sqlite is in
    bool is_copy;           // which nobody writes to
    bool for_runner;        // what cannot be read is a failed write (STATUS_WRITE), not bad data
    bool none;              // it is elsewhere, and there is no copy of it
    // "launch 3 works on node17 with the ledger in /scratch/x", of which the copy knows nothing, or "launch 3
    // ended on ...", of which the copy was removed; or empty
    char elsewhere[PATH_SIZE + LEDGER_PLACE_HOST + 96];
};

int ledger_place_find(struct ledger_source *source, const char *folder, struct error *err);

#endif

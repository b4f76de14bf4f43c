// SPDX-License-Identifier: MIT
// Reading a ledger whose runner was killed within a transaction: its journal is hot, and a read-only
// connection may not roll it back.
#ifndef STRATA_CHECKPOINTS_LEDGER_RESCUE_H
#define STRATA_CHECKPOINTS_LEDGER_RESCUE_H

#include "checkpoints/ledger_sql.h"

// True when the connection's last error is about a journal that a reader may not roll back.
bool ledger_rescue_needed(struct ledger *ledger);

// True when this user may roll back in place: the file and its folder can be written.
bool ledger_rescue_permitted(const struct ledger *ledger);

// Copies database and journal to a private folder and points ledger->path there. Reading the pages as they
// lie (SQLite's immutable mode) could show half a transaction, so that is never done.
int ledger_rescue_copy(struct ledger *ledger, struct error *err);
void ledger_rescue_end(struct ledger *ledger); // removes the copy, if any

#endif

// SPDX-License-Identifier: MIT
// A hash chained over what the ledger acknowledges. Link 0 covers the identity and the survey; link n covers
// link n - 1 and the rows of checkpoint n: its position, shard, problems (by ordinal; also those whose
// outcome a retry has set aside since), batches, and the problems of the retry that it begins. A row changed,
// added or taken away, by a hand or a flipped bit, breaks its link; SQLite's own integrity_check finds such
// changes only by luck.
#ifndef STRATA_CHECKPOINTS_LEDGER_CHAIN_H
#define STRATA_CHECKPOINTS_LEDGER_CHAIN_H

#include "checkpoints/ledger_sql.h"

// Computes the link of a checkpoint from the rows in the database; `previous` is ignored for checkpoint 0.
int ledger_link(struct ledger *ledger, uint64_t checkpoint, const char previous[DIGEST_HEX],
                char hex[DIGEST_HEX], struct error *err);

// Recomputes the last link only: cheap, at every opening.
int ledger_check_tail(struct ledger *ledger, struct error *err);

#endif

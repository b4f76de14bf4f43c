// SPDX-License-Identifier: MIT
// Retries, for ledger*.c only: which one is open, and how a new outcome takes the place of a failed one.
#ifndef STRATA_CHECKPOINTS_LEDGER_RETRY_H
#define STRATA_CHECKPOINTS_LEDGER_RETRY_H

#include "checkpoints/ledger_sql.h"

// The checkpoint that began the open retry, or 0.
int ledger_retry_number(struct ledger *ledger, uint64_t *checkpoint, struct error *err);

// Hash of the rows that the last retry reads; empty when there was none.
int ledger_retry_source(struct ledger *ledger, char problems_sha256[DIGEST_HEX], struct error *err);

// How many problems of a retry have no outcome newer than its beginning.
int ledger_retry_waiting(struct ledger *ledger, uint64_t checkpoint, uint64_t *waiting, struct error *err);

// Within the transaction of a retry's commit: sets the failed outcome of a problem aside. STATUS_INTERNAL
// when the retry does not try this problem, or has its outcome already: nothing is acknowledged twice.
int ledger_retry_supersede(struct ledger *ledger, uint64_t checkpoint, const struct ledger_problem *problem,
                           struct error *err);

// Within the transaction that begins a retry at `checkpoint`: lists its problems. STATUS_INTERNAL when one is
// not failed.
int ledger_retry_insert(struct ledger *ledger, uint64_t checkpoint, const struct ledger_retry *retry,
                        struct error *err);

#endif

// SPDX-License-Identifier: MIT
// What texts have in common and is computed once (batch.prefix): what the job and its model allow, what the
// survey made of it, and how a run that has begun goes on with that. Every batch depends on it: the ledger
// has the head's tokens, and the run's identity says which they are.
#ifndef STRATA_START_REUSE_H
#define STRATA_START_REUSE_H

#include "checkpoints/ledger.h"
#include "start/inputs.h"

// Before anything is opened: a run that has begun (`stored`: its identity) goes on from the head that it has,
// or from nothing. It is not asked of the survey again.
int reuse_settle(struct inputs *inputs, const struct identity *stored, struct ledger *ledger,
                 struct error *err);

// The model is open: STATUS_JOB when batch.prefix.keep is nothing for its keys. Completes inputs->limits.
int reuse_check_model(struct inputs *inputs, struct error *err);

// What the survey may look for; nothing where a run has begun. The model is open.
struct prefix_wish reuse_wish(const struct inputs *inputs);

// Surveys the problems of inputs that are open, for who only looks.
int reuse_survey(struct inputs *inputs, struct error *err);

// The survey is there: the limits of all plans from here on, and the head, which inputs keep.
void reuse_take_survey(struct inputs *inputs);

// What the run goes on from, for its identity; nothing where texts are computed whole.
int reuse_add_identity(const struct inputs *inputs, struct identity *identity, struct error *err);

// A run that began without computes texts whole, whatever the keys say: their values are then those of its
// identity (`stored`), which reuse_carry adds to what inputs_identity leaves out.
bool reuse_is_moot(const struct inputs *inputs);
bool reuse_is_key(const char *key); // "batch.prefix.reuse" ...
int reuse_carry(const struct inputs *inputs, const struct identity *stored, struct identity *now,
                struct error *err);

// Notes that carry it across launches; before the identity is there, and only where there is something.
int reuse_store(const struct inputs *inputs, struct ledger *ledger, struct error *err);

// Completes a survey of an earlier launch.
int reuse_load(struct inputs *inputs, struct survey *survey, struct ledger *ledger, struct error *err);

// The texts' own tokens of a run, or *found false where those are what it computes.
int reuse_text_tokens(struct ledger *ledger, uint64_t *tokens, bool *found, struct error *err);

// How the head is kept, and what that is called: "bfloat16", "q8_0".
enum device_keeping reuse_keeping(const struct inputs *inputs);
const char *reuse_keeping_name(const struct inputs *inputs);

// Appends one line without its end: what is saved, or why nothing is, and what the head takes.
int reuse_describe(const struct inputs *inputs, struct buffer *text, struct error *err);

#endif

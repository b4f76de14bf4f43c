// SPDX-License-Identifier: MIT
// The steps of a launch, a subject a file; launch.c takes them in their order. Private to the launch.
#ifndef STRATA_START_LAUNCH_STEPS_H
#define STRATA_START_LAUNCH_STEPS_H

#include "start/launch.h"

// ---- launch_record.c: what the launch says of itself ----

// STATUS_STOPPED when a signal asked for it.
int launch_heed_stop(const struct launch *launch, struct error *err);

// What ends the reading of the problems knows of no signal: names it.
int launch_name_stop(const struct launch *launch, int status, struct error *err);

int launch_enter_stage(struct launch *launch, const char *stage, struct error *err); // heeds a stop

// A part of a stage that ends when it makes no progress for model.load_timeout (guard_phase_begins). It ends
// with guard_batch_ends.
void launch_begin_phase(struct launch *launch, enum guard_phase phase, const char *name);

// Facts for people and for strata show, status and export; and the job as launched.
int launch_write_notes(struct launch *launch, struct error *err);

// ---- launch_identity.c ----

// How much of the identity is known: the hash of the problems takes reading them, the model's fingerprint
// reading its files, the device's algorithms its load. What is not known yet is taken as the run has it.
enum known { KNOWN_BEFORE_PROBLEMS, KNOWN_BEFORE_FILES, KNOWN_BEFORE_LOAD, KNOWN_ALL };

// STATUS_JOB, with the differences, when the ledger holds a run of another identity.
int launch_check_identity(struct launch *launch, enum known known, struct error *err);

// The ledger gets its identity once everything is known and checked; a resume must find the same.
int launch_settle_identity(struct launch *launch, struct error *err);

// ---- launch_part.c ----

// Of a part: makes or finds its set, the survey of all parts and its own rows, and gives the job the part's
// run directory. A job that is not asked for a part is refused where its output is a set.
int launch_part_begin(struct launch *launch, struct error *err);

// The inputs are open: the survey must be of this job.
int launch_part_check(struct launch *launch, struct error *err);

// What parts before settled, with this one's own keys, as the identity that a new part has to have; *found
// false when there is none yet, or this is no part.
int launch_part_stored(const struct launch *launch, const struct identity *now, struct identity *stored,
                       bool *found, struct error *err);

// Gives this part's identity to the others. *again: another part was first, whose algorithms are taken, and
// everything has to be compared again.
int launch_part_share(struct launch *launch, const struct identity *now, bool *again, struct error *err);

// ---- launch_survey.c ----

int launch_survey_begin(struct launch *launch, struct error *err);

// The survey has ended, and what it found refuses the launch. Asked while something else goes on.
bool launch_survey_refuses(struct launch *launch);

// Waits for the survey, unless it was waited for, and judges what it found.
int launch_survey_end(struct launch *launch, struct error *err);

// That this run is finished already, what is foretold of it, and whether its shards will have room.
int launch_look_ahead(struct launch *launch, struct error *err);

// ---- launch_load.c ----

// Reads the weights while the problems are surveyed, where nothing that is known by then speaks against it:
// the run is not finished, the identity is that of the ledger as far as it is known, and there is memory.
int launch_load_early(struct launch *launch, struct error *err);

// Makes sure that the files of the model are those of the run, without loading anything.
int launch_compare_model(struct launch *launch, struct error *err);

// What the run takes of the device's memory, from the survey on.
int launch_plan_memory(struct launch *launch, struct model_plan *plan, struct error *err);

// The rest of the load, and all that is left to do before the first batch but the head and the calibration.
int launch_load(struct launch *launch, struct error *err);

// The head that texts go on from is computed, on the algorithms that are settled now.
int launch_compute_head(struct launch *launch, struct error *err);

#endif

// SPDX-License-Identifier: MIT
// Names that other programs give to what a job file calls otherwise, or has not; for this room only.
#ifndef STRATA_JOB_HABITS_H
#define STRATA_JOB_HABITS_H

// What to write in place of a key that does not exist ("it is called batch.problems"), or NULL.
const char *job_habit_key(const char *word);

// What a value of a key is called here ("float16" for "fp16"), or NULL.
const char *job_habit_value(const char *text);

#endif

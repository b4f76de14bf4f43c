// SPDX-License-Identifier: MIT
// The survey of a set of parts: what reading the whole query found, kept in the set's folder, by which every
// part finds its rows and knows them again (checkpoints/survey_file.h).
#ifndef STRATA_START_SET_SURVEY_H
#define STRATA_START_SET_SURVEY_H

#include "start/inputs.h"

struct set_survey_options {
    struct inputs_options inputs;                                     // part: none
    const char *folder;                                               // of the set
    bool (*progress)(void *context, uint64_t problems, uint64_t all); // may be NULL; false stops
    void *context;
};

// Reads the survey of the set, or makes it when there is none yet. While another part makes it, this one
// waits, and takes over when that one ends without it. STATUS_STOPPED as inputs.watch or progress says. *made
// may be NULL. The caller destroys *survey.
int set_survey_ensure(struct survey_file *survey, const struct set_survey_options *options, bool *made,
                      struct error *err);

// STATUS_JOB with the differences when the survey is of another query than the job's.
int set_survey_compare(const struct survey_file *survey, const struct inputs *inputs, const char *folder,
                       struct error *err);

#endif

// SPDX-License-Identifier: MIT
// What `strata plan` is asked beside the job: for which machine, and in which form.
#ifndef STRATA_COMMANDS_PLAN_OPTIONS_H
#define STRATA_COMMANDS_PLAN_OPTIONS_H

#include "commands/options.h"
#include "model/cards.h"
#include "model/generation.h"

struct plan_options {
    const char *model;       // without a job; NULL: of the job
    const struct card *card; // of --gpu; NULL: the device that is here
    bool card_is_guessed;    // --gpu is a size: the card has as much
    uint64_t card_memory;
    int gpus; // 0: as many as the job has
    bool in_use_given;
    uint64_t in_use;
    double target;
    uint64_t host_memory; // 0: not given, as those below
    double link;          // bytes a second
    double disk;
    size_t tokens;  // a batch
    size_t context; // 0: generating is not asked for
    enum generation_cache cache;
    uint64_t file;
    bool details;
    bool json;
};

// STATUS_USAGE naming the option that is wrong.
int plan_options_read(struct plan_options *out, const struct arguments *arguments, struct error *err);

#endif

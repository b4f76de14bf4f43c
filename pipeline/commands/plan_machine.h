// SPDX-License-Identifier: MIT
// The machine that a plan is for: the card that the user named, the GPU that is here, or this machine's
// processor, whose rate is measured.
#ifndef STRATA_COMMANDS_PLAN_MACHINE_H
#define STRATA_COMMANDS_PLAN_MACHINE_H

#include "commands/plan_options.h"
#include "model/forecast.h"
#include "start/inputs.h"

struct plan_machine {
    struct forecast_machine figures;
    const struct card *card; // whose rates these are; NULL: a processor's
    bool card_is_guessed;
    bool is_here;
    char name[160];
    char note[256]; // what was not found or could not be measured; "" otherwise
    bool disk_is_assumed;
};

struct plan_device {
    char name[INPUTS_DEVICE_NAME]; // "cpu", "cuda:N" or "auto"
    uint64_t limit;                // of its own memory; 0: none
};

struct plan_subject { // what the machine is to run
    const struct model_config *config;
    struct device_options options;             // of the processor
    struct plan_device devices[MODEL_DEVICES]; // of the job, at least one
    size_t device_count;
    uint64_t reserve; // of a GPU's memory
    uint64_t limit;   // of host memory that the process may take; 0: none
    size_t tokens;    // of a batch
    size_t length;    // of its texts
};

int plan_machine_find(struct plan_machine *out, const struct plan_options *options,
                      const struct plan_subject *subject, struct error *err);

#endif

// SPDX-License-Identifier: MIT
// What follows from the end of a part's process: the part is finished, is started again, or has failed.
//
// Started again is what another launch may cure: a crash (a signal, 70, a code that is none of ours), a
// database that was locked (75 that nobody asked for), a device that was not there (69, the driver or the
// model's disk). Never again what a person has to look at: 64, 65, 73, 78, 80.
#ifndef STRATA_PARTS_POLICY_H
#define STRATA_PARTS_POLICY_H

#include <stddef.h>

struct restart_policy {
    size_t most;    // restarts of one part
    double pause;   // seconds before the first one; each further one waits twice as long
    double longest; // pause
};

enum part_verdict { VERDICT_FINISHED, VERDICT_AGAIN, VERDICT_FAILED };

// ended: as waitpid tells it. restarts: that the part had so far.
enum part_verdict policy_judge(const struct restart_policy *policy, int ended, size_t restarts);
double policy_pause(const struct restart_policy *policy, size_t restarts);

// The exit code that stands for such an end: a signal is a crash, INTERNAL.
int policy_exit_code(int ended);

// The graver of two exit codes: what a person has to look at comes before what another launch may cure.
int policy_worse(int a, int b);

int policy_status(int exit_code); // as error.h has it; STATUS_INTERNAL for one that is none of ours

#endif

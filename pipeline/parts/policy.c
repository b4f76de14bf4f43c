// SPDX-License-Identifier: MIT
#include "parts/policy.h"

#include <sys/wait.h>

#include "base/error.h"

// The gravest last. Another launch may cure the first ones.
static const int by_gravity[] = {STATUS_OK,    STATUS_STOPPED, STATUS_INTERNAL, STATUS_DEVICE, STATUS_DRIFT,
                                 STATUS_WRITE, STATUS_DATA,    STATUS_USAGE,    STATUS_JOB};
enum { GRAVITIES = sizeof by_gravity / sizeof by_gravity[0] };

// A code that is none of ours counts as a crash.
static size_t gravity_of(int exit_code) {
    for (size_t i = 0; i < GRAVITIES; i++) {
        if (error_exit_code(by_gravity[i]) == exit_code) {
            return i;
        }
    }
    return gravity_of(error_exit_code(STATUS_INTERNAL));
}

int policy_exit_code(int ended) {
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : error_exit_code(STATUS_INTERNAL);
}

static bool may_be_cured(int exit_code) {
    return gravity_of(exit_code) <= gravity_of(error_exit_code(STATUS_DEVICE));
}

enum part_verdict policy_judge(const struct restart_policy *policy, int ended, size_t restarts) {
    int exit_code = policy_exit_code(ended);
    if (exit_code == 0) {
        return VERDICT_FINISHED;
    }
    return may_be_cured(exit_code) && restarts < policy->most ? VERDICT_AGAIN : VERDICT_FAILED;
}

double policy_pause(const struct restart_policy *policy, size_t restarts) {
    double pause = policy->pause;
    for (size_t i = 0; i < restarts && pause < policy->longest; i++) {
        pause *= 2;
    }
    return pause < policy->longest ? pause : policy->longest;
}

int policy_status(int exit_code) {
    return by_gravity[gravity_of(exit_code)];
}

int policy_worse(int a, int b) {
    return gravity_of(a) >= gravity_of(b) ? a : b;
}

// SPDX-License-Identifier: MIT
// Linked into tests/strata_not_finite, which is the program with a fault of the hardware: the hidden states
// of the problems that STRATA_NOT_FINITE names ("p-00003,p-00007") come out as not finite. Same model, same
// job, so that the plain program may try them again.
#include <stdlib.h>
#include <string.h>

#include "stages/open_shard.h"

int __real_open_shard_add(struct open_shard *open, const struct work *work, struct batch_result *result,
                          struct error *err);
int __wrap_open_shard_add(struct open_shard *open, const struct work *work, struct batch_result *result,
                          struct error *err);

static bool is_named(const char *names, const char *id, size_t size) {
    for (const char *at = names; at != NULL && *at != 0;
         at = strchr(at, ',') == NULL ? NULL : strchr(at, ',') + 1) {
        if (strcspn(at, ",") == size && memcmp(at, id, size) == 0) {
            return true;
        }
    }
    return false;
}

int __wrap_open_shard_add(struct open_shard *open, const struct work *work, struct batch_result *result,
                          struct error *err) {
    struct model_output output;
    size_t row = 0;
    model_outputs(open->model, work->batch.slot, &output);
    for (size_t i = 0; work->computes && i < work->batch.texts; i++) {
        const struct window_problem *problem = window_batch_problem(work->window, work->index, i);
        if (is_named(getenv("STRATA_NOT_FINITE"), window_text(work->window, problem->id_at),
                     problem->id_size)) {
            struct device_row_check *check = (struct device_row_check *)(uintptr_t)&output.checks[0][row];
            check->not_finite = 3;
        }
        row += problem->row_count;
    }
    return __real_open_shard_add(open, work, result, err);
}

// SPDX-License-Identifier: MIT
#include "start/batching.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/size.h"
#include "start/reuse.h"

// Problems of a window that ends where its batches are full. Of the real set 512 would do at 8,192 tokens a
// batch; of texts of 2 tokens these still fill one. They take 5 MB a window of the real set (computed) and
// 0.2 s before the first batch (one core of an Intel Xeon).
enum { FULL_WINDOW = 4096 };

struct plan_limits batching_limits(const struct job *job) {
    size_t problems = (size_t)job->batch_problems;
    size_t window = (size_t)job->batch_window;
    bool full = window == 0;
    if (full) {
        window = size_max(FULL_WINDOW, problems);
    }
    return (struct plan_limits){.problems = problems == 0 ? window : problems,
                                .tokens = (size_t)job->batch_tokens,
                                .window = window,
                                .full = full};
}

// A value that no version wrote is left to the comparison of identities.
static void take_number(const struct identity *stored, const char *key, int64_t *value) {
    const char *text = identity_get(stored, key);
    int64_t number;
    int length = 0;
    if (*value == 0 && text != NULL && sscanf(text, "%" SCNd64 "%n", &number, &length) == 1 &&
        text[length] == 0 && number > 0 && number <= 1 << 20) {
        *value = number;
    }
}

int batching_settle(struct inputs *inputs, struct ledger *ledger, struct error *err) {
    struct job *job = &inputs->job;
    struct identity stored = {0};
    bool found = false;
    int64_t problems = job->batch_problems;
    int64_t window = job->batch_window;
    int status = ledger_identity(ledger, &stored, &found, err);
    if (status == STATUS_OK && found) {
        take_number(&stored, "batch.problems", &job->batch_problems);
        take_number(&stored, "batch.window", &job->batch_window);
        inputs->limits = batching_limits(job);
        status = reuse_settle(inputs, &stored, ledger, err);
    }
    if (status == STATUS_OK && (problems != job->batch_problems || window != job->batch_window)) {
        status = buffer_printf(&inputs->notes, err,
                               "the run started with batch.problems: %" PRId64 " and batch.window: %" PRId64
                               ", and keeps them: what the job file leaves open is the run's\n",
                               job->batch_problems, job->batch_window);
    }
    identity_destroy(&stored);
    return status;
}

// SPDX-License-Identifier: MIT
// Fuzz target: a job file. What is accepted must be within its bounds and survive being printed; what is
// refused must say where.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "job/job.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

static int see(void *context, const char *key, const char *value) {
    *(size_t *)context += strlen(key) + strlen(value);
    return 0;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    struct error err = {0};
    struct job job;
    if (job_parse(&job, (const char *)data, size, "fuzz.yaml", "folder", &err) != STATUS_OK) {
        if (err.status == STATUS_JOB && strncmp(err.message, "fuzz.yaml:", 10) != 0) {
            abort();
        }
        return 0;
    }
    fuzz_accepted++;
    size_t seen = 0;
    int steps = (job.steps_column != NULL) + (job.steps_spans != NULL) + (job.steps_pattern != NULL);
    if (job.max_tokens < 1 || job.batch_tokens < 1 ||
        (job.batch_window > 0 && job.batch_window < job.batch_problems) || job.id[0] == 0 || steps != 1 ||
        (job.loss_mask && !job.token_ids) || job_each_identity_key(&job, see, &seen) != STATUS_OK ||
        seen == 0) {
        abort();
    }
    job_destroy(&job);
    return 0;
}

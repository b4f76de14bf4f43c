// SPDX-License-Identifier: MIT
#include "commands/part_option.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int read_variable(const char *name, uint64_t *out, struct error *err) {
    const char *text = getenv(name);
    char *end;
    if (text == NULL || text[0] == 0) {
        return error_set(err, STATUS_USAGE, "--part auto: %s is not set", name);
    }
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (errno != 0 || *end != 0 || strspn(text, "0123456789") != strlen(text)) {
        return error_set(err, STATUS_USAGE, "--part auto: %s is '%.40s', which is no whole number", name,
                         text);
    }
    return STATUS_OK;
}

static int accept(struct run_part *part, uint64_t index, uint64_t count, const char *what,
                  struct error *err) {
    if (count == 0 || count > RUN_SET_PARTS || index >= count) {
        return error_set(err, STATUS_USAGE,
                         "--part auto: %s says part %" PRIu64 " of %" PRIu64
                         "; parts are 0/N to N-1/N, of at most %d. Name the part: --part I/N",
                         what, index, count, RUN_SET_PARTS);
    }
    *part = (struct run_part){.index = index, .count = count};
    return STATUS_OK;
}

// An array of which some numbers are run again has another count: those are named by --part I/N.
static int ask_slurm(struct run_part *part, struct error *err) {
    uint64_t id = 0;
    uint64_t count = 0;
    uint64_t least = 0;
    uint64_t step = 1;
    uint64_t most = 0;
    TRY(read_variable("SLURM_ARRAY_TASK_ID", &id, err));
    TRY(read_variable("SLURM_ARRAY_TASK_COUNT", &count, err));
    TRY(read_variable("SLURM_ARRAY_TASK_MIN", &least, err));
    if (getenv("SLURM_ARRAY_TASK_STEP") != NULL) {
        TRY(read_variable("SLURM_ARRAY_TASK_STEP", &step, err));
    }
    TRY(read_variable("SLURM_ARRAY_TASK_MAX", &most, err));
    bool even = step > 0 && count > 0 && most >= least && (most - least) / step == count - 1 &&
                (most - least) % step == 0;
    if (!even) {
        return error_set(
            err, STATUS_USAGE,
            "--part auto: the array has %" PRIu64 " numbers from %" PRIu64 " to %" PRIu64
            ", and not each in between: its tasks are no 0/N to N-1/N. Name the part: --part I/N",
            count, least, most);
    }
    if (id < least || (id - least) % step != 0) {
        return error_set(
            err, STATUS_USAGE,
            "--part auto: SLURM_ARRAY_TASK_ID is none of the array's numbers: name the part: --part "
            "I/N");
    }
    return accept(part, (id - least) / step, count, "Slurm", err);
}

static int ask_kubernetes(struct run_part *part, struct error *err) {
    uint64_t index = 0;
    uint64_t count = 0;
    TRY(read_variable("JOB_COMPLETION_INDEX", &index, err));
    TRY(read_variable("JOB_COMPLETIONS", &count, err));
    return accept(part, index, count, "Kubernetes", err);
}

int part_option_parse(struct run_part *part, const char *text, struct error *err) {
    *part = (struct run_part){0};
    if (text == NULL) {
        return STATUS_OK;
    }
    if (strcmp(text, "auto") == 0) {
        if (getenv("SLURM_ARRAY_TASK_ID") != NULL) {
            return ask_slurm(part, err);
        }
        if (getenv("JOB_COMPLETION_INDEX") != NULL) {
            return ask_kubernetes(part, err);
        }
        return error_set(
            err, STATUS_USAGE,
            "--part auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set: this is no "
            "array of a batch system");
    }
    return run_set_parse_part(text, part)
               ? STATUS_OK
               : error_set(err, STATUS_USAGE, "--part must be I/N, of 0/N to N-1/N, or auto, not '%s'", text);
}

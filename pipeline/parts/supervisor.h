// SPDX-License-Identifier: MIT
// Runs the parts of a set as processes on this machine, a few at a time.
//
// A slot is a place to compute, a GPU or a share of the processors, with one process at most. A free slot
// takes the first part that may start; a part whose process crashed starts again after a pause (policy.h). A
// slot whose device was not there (69) for two processes in a row takes no more: it would fail all parts that
// the others have not begun.
//
// The first stop signal goes to every process, once, as a clean stop; the supervisor waits for them. The same
// signal again, or another one more than 3 s later, kills them (signals that machines repeat never do), and
// so does the time to stop when it is over. If the supervisor itself is killed, the kernel stops the
// processes (child.h). What a kill loses of a part is batches that were not sealed: they are computed again.
//
// One thread, no handlers: it looks around ten times a second.
#ifndef STRATA_PARTS_SUPERVISOR_H
#define STRATA_PARTS_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "parts/child.h"
#include "parts/policy.h"

enum supervised_state { SUPERVISED_WAITING, SUPERVISED_RUNNING, SUPERVISED_ENDED };

struct supervised {
    enum supervised_state state;
    int exit_code;       // of its last process; 0 before one ended
    size_t restarts;     // so far
    double not_before;   // may start then (clock_seconds)
    char last_line[256]; // of what its last process said, where that ended badly
};

struct supervisor_options {
    const char *program;
    const char *const
        *arguments; // behind argv[0], NULL behind the last; "--part I/N" follows, and the device's
    size_t parts;
    const struct place *places; // of each slot
    const char *const *devices; // of each slot, "cuda:1", given as --device; NULL: the job's own
    size_t slots;
    struct restart_policy restarts;
    double stop_seconds; // from a stop to the death of the last process
    // Whether what all parts share is there, which the first one to run makes: until then one runs alone, and
    // when it fails the others do not begin. May be NULL: it is.
    bool (*ready)(void *context);
    // One event in words, and the lines that a process said last (NULL: none). May be NULL, as the next.
    void (*say)(void *context, const char *text, const char *lines);
    void (*look)(void *context, const struct supervised *parts); // about once a second, and at the end
    void *context;
};

// *parts: options->parts of them, filled also after a failure; the caller frees them. STATUS_OK: all parts
// are finished. STATUS_STOPPED: a signal came before that. Otherwise the gravest status of a part, with how
// many failed.
int supervisor_run(const struct supervisor_options *options, struct supervised **parts, struct error *err);

#endif

// SPDX-License-Identifier: MIT
#include "parts/supervisor.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/size.h"

#define TICK 0.1
#define LOOK_SECONDS 1.0
#define TOGETHER_SECONDS 3.0 // as the guard of a run has it
#define DEATH_SECONDS 5.0    // for the kernel to end a killed process; one in a driver may never end
#define LAST_LINES 5

enum { SLOT_REFUSALS = 2, ARGUMENTS_MOST = 64, PART_NAME = 48 };

struct slot {
    struct child child;
    size_t part;     // of the child
    size_t refusals; // processes in a row whose device was not there
};

struct supervisor {
    const struct supervisor_options *options;
    struct supervised *parts;
    struct slot *slots;
    bool ready;
    int stop;      // the first stop signal; 0: none
    double asked;  // when it came
    double killed; // when the time to stop was over, or somebody was in a hurry; 0: not yet
    double looked; // at
};

__attribute__((format(printf, 3, 4))) static void say(const struct supervisor *supervisor, const char *lines,
                                                      const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (supervisor->options->say != NULL) {
        supervisor->options->say(supervisor->options->context, text, lines);
    }
}

// ---- the end of a process ----

static void set_last_line(struct supervised *part, const char *line) {
    snprintf(part->last_line, sizeof part->last_line, "%.*s",
             (int)size_min(strcspn(line, "\n"), sizeof part->last_line - 1), line);
}

// A device that is not there is the slot's misfortune; any other end shows that it was there.
static void judge_slot(struct supervisor *supervisor, struct slot *slot, int exit_code) {
    slot->refusals = exit_code == error_exit_code(STATUS_DEVICE) ? slot->refusals + 1 : 0;
    if (slot->refusals == SLOT_REFUSALS) {
        const char *device = supervisor->options->devices[slot - supervisor->slots];
        say(supervisor, NULL, "%s takes no more parts: it failed %d in a row (exit code %d)",
            device != NULL ? device : "this slot of the job's device", SLOT_REFUSALS, exit_code);
    }
}

// For the same reason as the one that should have made what all share.
static void fail_waiting(struct supervisor *supervisor, const struct supervised *failed) {
    for (size_t i = 0; i < supervisor->options->parts; i++) {
        struct supervised *part = &supervisor->parts[i];
        if (part->state == SUPERVISED_WAITING) {
            part->state = SUPERVISED_ENDED;
            part->exit_code = failed->exit_code;
            set_last_line(part, failed->last_line);
        }
    }
}

static bool is_ready(struct supervisor *supervisor) {
    const struct supervisor_options *options = supervisor->options;
    supervisor->ready = supervisor->ready || options->ready == NULL || options->ready(options->context);
    return supervisor->ready;
}

static void judge_part(struct supervisor *supervisor, struct slot *slot, int ended) {
    const struct restart_policy *policy = &supervisor->options->restarts;
    struct supervised *part = &supervisor->parts[slot->part];
    char end[CHILD_END];
    child_describe_end(end, ended);
    part->exit_code = policy_exit_code(ended);
    set_last_line(part, part->exit_code != 0 ? child_reason(&slot->child) : "");
    if (supervisor->stop != 0) { // stopped, or finished at the last moment
        part->state = part->exit_code == 0 ? SUPERVISED_ENDED : SUPERVISED_WAITING;
        return;
    }
    const char *lines = child_last_lines(&slot->child, LAST_LINES);
    switch (policy_judge(policy, ended, part->restarts)) {
    case VERDICT_FINISHED:
        part->state = SUPERVISED_ENDED;
        break;
    case VERDICT_AGAIN: {
        double pause = policy_pause(policy, part->restarts);
        part->state = SUPERVISED_WAITING;
        part->not_before = clock_seconds() + pause;
        part->restarts++;
        say(supervisor, lines, "part %zu/%zu %s; it starts again in %.0f s (restart %zu of %zu)", slot->part,
            supervisor->options->parts, end, pause, part->restarts, policy->most);
        break;
    }
    case VERDICT_FAILED:
        part->state = SUPERVISED_ENDED;
        say(supervisor, lines, "part %zu/%zu %s and has failed", slot->part, supervisor->options->parts, end);
        if (!is_ready(supervisor)) {
            fail_waiting(supervisor, part);
        }
        break;
    }
    judge_slot(supervisor, slot, part->exit_code);
}

// ---- the beginning of a process ----

static bool is_closed(const struct slot *slot) {
    return slot->refusals >= SLOT_REFUSALS;
}

// The first part that may start now; false when there is none.
static bool next_part(const struct supervisor *supervisor, size_t *part) {
    double now = clock_seconds();
    for (size_t i = 0; i < supervisor->options->parts; i++) {
        if (supervisor->parts[i].state == SUPERVISED_WAITING && supervisor->parts[i].not_before <= now) {
            *part = i;
            return true;
        }
    }
    return false;
}

static int start_child(const struct supervisor *supervisor, struct slot *slot, struct error *err) {
    const struct supervisor_options *options = supervisor->options;
    size_t number = (size_t)(slot - supervisor->slots);
    char part[PART_NAME];
    char *argv[ARGUMENTS_MOST + 6] = {(char *)"strata"};
    size_t count = 1;
    for (const char *const *at = options->arguments; *at != NULL; at++) {
        if (count > ARGUMENTS_MOST) {
            return error_set(err, STATUS_INTERNAL, "more than %d arguments", ARGUMENTS_MOST);
        }
        argv[count++] = (char *)*at; // execv does not change them
    }
    snprintf(part, sizeof part, "%zu/%zu", slot->part, options->parts);
    argv[count++] = (char *)"--part";
    argv[count++] = part;
    if (options->devices[number] != NULL) {
        argv[count++] = (char *)"--device";
        argv[count++] = (char *)options->devices[number];
    }
    return child_start(&slot->child, options->program, argv, &options->places[number], err);
}

// A process that could not be had counts as one that crashed.
static void start_part(struct supervisor *supervisor, struct slot *slot) {
    struct error err;
    supervisor->parts[slot->part].state = SUPERVISED_RUNNING;
    if (start_child(supervisor, slot, &err) != STATUS_OK) {
        say(supervisor, NULL, "part %zu/%zu: %s", slot->part, supervisor->options->parts, err.message);
        judge_part(supervisor, slot, W_EXITCODE(error_exit_code(STATUS_INTERNAL), 0));
    }
}

// ---- stopping ----

static size_t running(const struct supervisor *supervisor) {
    size_t count = 0;
    for (size_t i = 0; i < supervisor->options->slots; i++) {
        count += supervisor->slots[i].child.id > 0;
    }
    return count;
}

static void stop_all(struct supervisor *supervisor, int number) {
    supervisor->stop = number;
    supervisor->asked = clock_seconds();
    say(supervisor, NULL, "%s: stopping %zu parts; computed batches are kept", process_signal_name(number),
        running(supervisor));
    for (size_t i = 0; i < supervisor->options->slots; i++) {
        child_stop(&supervisor->slots[i].child);
    }
}

static void kill_all(struct supervisor *supervisor, const char *why) {
    supervisor->killed = clock_seconds();
    say(supervisor, NULL, "%s: ending at once; unsealed batches are dropped", why);
    for (size_t i = 0; i < supervisor->options->slots; i++) {
        child_kill(&supervisor->slots[i].child);
    }
}

static void on_signal(struct supervisor *supervisor, int number) {
    bool same_request =
        process_signal_repeats(number) ||
        (number != supervisor->stop && clock_seconds() - supervisor->asked < TOGETHER_SECONDS);
    if (supervisor->stop == 0) {
        stop_all(supervisor, number);
    } else if (!same_request && supervisor->killed == 0) {
        kill_all(supervisor, process_signal_name(number));
    }
}

static void heed_signals(struct supervisor *supervisor) {
    int number = process_take_stop(TICK);
    if (number > 0) {
        on_signal(supervisor, number);
    }
    double since = clock_seconds() - supervisor->asked;
    if (supervisor->stop != 0 && supervisor->killed == 0 && since > supervisor->options->stop_seconds &&
        running(supervisor) > 0) {
        kill_all(supervisor, "the time to stop is over");
    }
}

// ---- the loop ----

static void tend_slot(struct supervisor *supervisor, struct slot *slot) {
    int ended;
    if (slot->child.id > 0 && child_ended(&slot->child, &ended)) {
        judge_part(supervisor, slot, ended);
    }
    if (slot->child.id == 0 && supervisor->stop == 0 && !is_closed(slot) &&
        (is_ready(supervisor) || running(supervisor) == 0) && next_part(supervisor, &slot->part)) {
        start_part(supervisor, slot);
    }
}

static void look(struct supervisor *supervisor, bool now) {
    double moment = clock_seconds();
    if (supervisor->options->look != NULL && (now || moment - supervisor->looked >= LOOK_SECONDS)) {
        supervisor->options->look(supervisor->options->context, supervisor->parts);
        supervisor->looked = clock_seconds();
    }
}

static bool has_more(const struct supervisor *supervisor) {
    bool open = false;
    bool waiting = false;
    for (size_t i = 0; i < supervisor->options->slots; i++) {
        open = open || !is_closed(&supervisor->slots[i]);
    }
    for (size_t i = 0; i < supervisor->options->parts; i++) {
        waiting = waiting || supervisor->parts[i].state == SUPERVISED_WAITING;
    }
    if (supervisor->killed > 0 && clock_seconds() - supervisor->killed > DEATH_SECONDS) {
        return false;
    }
    return running(supervisor) > 0 || (waiting && open && supervisor->stop == 0);
}

// Of those that no slot was left for.
static void give_up_waiting(struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->options->parts; i++) {
        struct supervised *part = &supervisor->parts[i];
        if (part->state == SUPERVISED_WAITING && supervisor->stop == 0) {
            part->state = SUPERVISED_ENDED;
            part->exit_code = part->exit_code == 0 ? error_exit_code(STATUS_DEVICE) : part->exit_code;
        }
    }
}

static int sum_up(const struct supervisor *supervisor, struct error *err) {
    size_t failed = 0;
    size_t unfinished = 0;
    int worst = 0;
    for (size_t i = 0; i < supervisor->options->parts; i++) {
        const struct supervised *part = &supervisor->parts[i];
        unfinished += part->state != SUPERVISED_ENDED;
        failed += part->state == SUPERVISED_ENDED && part->exit_code != 0;
        worst = part->state == SUPERVISED_ENDED ? policy_worse(worst, part->exit_code) : worst;
    }
    if (unfinished > 0) {
        return error_set(err, STATUS_STOPPED, "stopped by %s; run the same command to resume",
                         process_signal_name(supervisor->stop));
    }
    if (failed > 0) {
        return error_set(err, policy_status(worst), "%zu of %zu parts failed", failed,
                         supervisor->options->parts);
    }
    return STATUS_OK;
}

static void run_all(struct supervisor *supervisor) {
    process_hold_stop_signals();
    signal(SIGCHLD, SIG_DFL); // ignored, which is inherited, no end of a process is told
    signal(SIGPIPE, SIG_IGN); // a reader of the progress that goes away must not end the parts
    do {
        heed_signals(supervisor);
        for (size_t i = 0; i < supervisor->options->slots; i++) {
            tend_slot(supervisor, &supervisor->slots[i]);
        }
        look(supervisor, false);
    } while (has_more(supervisor));
    give_up_waiting(supervisor);
    look(supervisor, true);
}

int supervisor_run(const struct supervisor_options *options, struct supervised **parts, struct error *err) {
    struct supervisor supervisor = {.options = options};
    *parts = NULL;
    TRY(memory_zeroed(parts, options->parts, sizeof **parts, err));
    supervisor.parts = *parts;
    TRY(memory_zeroed(&supervisor.slots, options->slots, sizeof *supervisor.slots, err));
    run_all(&supervisor);
    free(supervisor.slots);
    return sum_up(&supervisor, err);
}

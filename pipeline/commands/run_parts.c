// SPDX-License-Identifier: MIT
#include "commands/run_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/printable.h"
#include "base/process.h"
#include "base/size.h"
#include "checkpoints/run_folder.h"
#include "checkpoints/run_set.h"
#include "commands/parts_progress.h"
#include "job/job.h"
#include "parts/gpus.h"
#include "parts/supervisor.h"
#include "start/inputs.h"

#define PAUSE_SECONDS 2.0 // before the first restart
#define PAUSE_LONGEST 60.0
#define STOP_SECONDS 40.0 // a run ends within 25
#define BUSY_SECONDS 50.0 // for processes that an earlier launch left behind

enum { DEVICE_NAME = 16, WORDS_MOST = 4 + 2 * ARGUMENTS_MAXIMUM, FLAG = 64 };

struct parts_launch {
    struct job job;
    const char *output; // the set
    size_t parts;
    char devices[RUN_PARTS_AT_ONCE][DEVICE_NAME]; // those of the job by name; none: it has one of its own
    size_t device_count;
    struct place places[RUN_PARTS_AT_ONCE]; // of each slot, as the two that follow
    const char *slot_devices[RUN_PARTS_AT_ONCE];
    int nodes[RUN_PARTS_AT_ONCE];
    size_t slots;
    const char *words[WORDS_MOST]; // of every part: "run", JOB.yaml, ...
    char flags[ARGUMENTS_MAXIMUM][FLAG];
    struct parts_progress progress;
};

// ---- devices and slots ----

static bool is_all(const struct job *job) {
    return strcmp(job->devices[0], "cuda:all") == 0;
}

// Parts go to single GPUs, unless the model lies on all of them together.
static bool has_one_device(const struct job *job) {
    return job->split == JOB_SPLIT_LAYERS || (job->device_count == 1 && !is_all(job));
}

static int name_devices(struct parts_launch *launch, const struct gpus *gpus, struct error *err) {
    const struct job *job = &launch->job;
    if (has_one_device(job)) {
        return STATUS_OK;
    }
    if (is_all(job) && gpus->count == 0) {
        return error_set(err, STATUS_DEVICE, "model.device: cuda:all: %s", gpus->why);
    }
    launch->device_count = is_all(job) ? gpus->count : job->device_count;
    for (size_t i = 0; i < launch->device_count; i++) {
        if (is_all(job)) {
            snprintf(launch->devices[i], DEVICE_NAME, "cuda:%u", (unsigned)i);
        } else {
            snprintf(launch->devices[i], DEVICE_NAME, "%s", job->devices[i]);
        }
    }
    return STATUS_OK;
}

// The memory node of "cuda:N".
static int node_of(const char *device, const struct gpus *gpus) {
    unsigned number;
    bool is_gpu = sscanf(device, "cuda:%u", &number) == 1;
    return is_gpu && number < gpus->count ? gpus->nodes[number] : PLACES_NO_NODE;
}

static int make_slots(struct parts_launch *launch, size_t at_once, struct error *err) {
    struct gpus gpus = {0};
    struct processor *processors;
    if (strncmp(launch->job.devices[0], "cuda:", 5) == 0) {
        TRY(gpus_ask(&gpus, err));
    }
    TRY(name_devices(launch, &gpus, err));
    TRY(memory_zeroed(&processors, PROCESSORS_MOST, sizeof *processors, err));
    launch->slots = at_once > 0 ? at_once : size_max(launch->device_count, 1);
    launch->slots = size_min(launch->slots, launch->parts);
    for (size_t i = 0; i < launch->slots; i++) {
        bool named = launch->device_count > 0;
        launch->slot_devices[i] = named ? launch->devices[i % launch->device_count] : NULL;
        launch->nodes[i] = node_of(named ? launch->slot_devices[i] : launch->job.devices[0], &gpus);
    }
    places_share(launch->places, launch->nodes, launch->slots, processors, places_processors(processors));
    free(processors);
    return STATUS_OK;
}

// ---- what each part is told ----

static void add_word(struct parts_launch *launch, const char *word) {
    for (size_t i = 0; i + 1 < WORDS_MOST; i++) {
        if (launch->words[i] == NULL) {
            launch->words[i] = word;
            return;
        }
    }
}

static bool is_own(const char *name) {
    static const char *const own[] = {"--parts", "--at-once", "--restarts", "--quiet"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (strcmp(name, own[i]) == 0) {
            return true;
        }
    }
    return false;
}

// As this command was told it, but for what is about all parts.
static void set_words(struct parts_launch *launch, const struct arguments *arguments) {
    const struct command *command = arguments->command;
    add_word(launch, command->name);
    add_word(launch, argument_text(arguments, "JOB.yaml", NULL));
    for (size_t i = 0; i < command->option_count; i++) {
        const char *name = command->options[i].name;
        const char *value = arguments->options[i].text;
        if (!arguments->options[i].given || is_own(name)) {
            continue;
        }
        if (command->options[i].kind == OPTION_FLAG && value != NULL) {
            snprintf(launch->flags[i], FLAG, "%s=%s", name, value);
            add_word(launch, launch->flags[i]);
            continue;
        }
        add_word(launch, name);
        if (value != NULL) {
            add_word(launch, value);
        }
    }
    add_word(launch, "--quiet");
}

// ---- before and after ----

// One refusal, not one of each part.
static int check_set(const struct parts_launch *launch, struct error *err) {
    uint64_t parts = 0;
    TRY(run_set_parts(launch->output, &parts, err));
    return parts == 0 || parts == launch->parts
               ? STATUS_OK
               : error_set(err, STATUS_JOB,
                           "%s is divided into %" PRIu64 " parts: run them with --parts %" PRIu64,
                           launch->output, parts, parts);
}

// Parts that an earlier launch left behind when it was killed stop by themselves.
static int await_others(struct parts_launch *launch, struct error *err) {
    double began = clock_seconds();
    bool told = false;
    for (size_t i = 0; i < launch->parts; i++) {
        char folder[PATH_SIZE];
        TRY(parts_folder_of(folder, launch->output, i, launch->parts, err));
        while (run_folder_busy(folder)) {
            if (clock_seconds() - began > BUSY_SECONDS) {
                return error_set(err, STATUS_WRITE,
                                 "part %zu/%zu is run by another process (%s/lock names it)", i,
                                 launch->parts, folder);
            }
            if (!told) {
                parts_progress_say(&launch->progress, "waiting for the end of parts that run already", NULL);
                told = true;
            }
            int number = process_take_stop(0.2);
            if (number > 0) {
                return error_set(err, STATUS_STOPPED, "stopped by %s; run the same command to resume",
                                 process_signal_name(number));
            }
        }
    }
    return STATUS_OK;
}

static void say(void *context, const char *text, const char *lines) {
    parts_progress_say(&((struct parts_launch *)context)->progress, text, lines);
}

static void look(void *context, const struct supervised *parts) {
    parts_progress_take(&((struct parts_launch *)context)->progress, parts);
}

// The survey, by which the parts find their rows.
static bool is_surveyed(void *context) {
    char path[PATH_SIZE];
    struct error ignored;
    return path_join(path, sizeof path, ((struct parts_launch *)context)->output, RUN_SET_SURVEY, &ignored) ==
               STATUS_OK &&
           file_exists(path);
}

// What runs one of them; "" when the set does not say.
static const char *command_of(const struct parts_launch *launch, struct buffer *memory) {
    struct error ignored;
    return run_set_command(launch->output, memory, &ignored) == STATUS_OK ? memory->data : "";
}

static void print_failed(const struct parts_launch *launch, const struct supervised *parts) {
    struct buffer memory = {0};
    const char *command = command_of(launch, &memory);
    for (size_t i = 0; i < launch->parts; i++) {
        const struct supervised *part = &parts[i];
        if (part->state != SUPERVISED_ENDED || part->exit_code == 0) {
            continue;
        }
        fprintf(stderr, "strata: part %zu/%zu failed with exit code %d", i, launch->parts, part->exit_code);
        fputs(part->last_line[0] != 0 ? ": " : "", stderr);
        printable_write(stderr, part->last_line);
        if (command[0] != 0) {
            fputs("\n  again: ", stderr);
            printable_write(stderr, command);
            fprintf(stderr, " %zu/%zu", i, launch->parts);
        }
        fputc('\n', stderr);
    }
    buffer_destroy(&memory);
}

static void print_sums(FILE *out, const struct parts_launch *launch, const struct supervised *parts,
                       const struct part_figures *sums) {
    size_t finished = 0;
    for (size_t i = 0; i < launch->parts; i++) {
        finished += parts[i].state == SUPERVISED_ENDED && parts[i].exit_code == 0;
    }
    printable_write(out, launch->output);
    fprintf(out, ": %zu parts, %zu finished", launch->parts, finished);
    if (launch->progress.planned) {
        fprintf(out, "; %" PRIu64 " problems", launch->progress.problems);
    }
    fprintf(out, ": %" PRIu64 " done, %" PRIu64 " failed, %" PRIu64 " skipped\n", sums->done, sums->failed,
            sums->skipped);
    fprintf(out, "%" PRIu64 " rows in %" PRIu64 " shards, %" PRIu64 " bytes\n", sums->rows, sums->shards,
            sums->bytes);
}

// ---- the command ----

static int refuse_options(const struct arguments *arguments, struct error *err) {
    static const char *const others[] = {"--part", "--device", "--stop-after"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (argument_given(arguments, others[i])) {
            return error_set(err, STATUS_USAGE, "%s is for one run, --parts for several", others[i]);
        }
    }
    return STATUS_OK;
}

static int supervise(struct parts_launch *launch, const struct arguments *arguments, FILE *out,
                     struct error *err) {
    struct supervised *parts = NULL;
    struct part_figures sums;
    const struct supervisor_options options = {
        .program = "/proc/self/exe",
        .arguments = launch->words,
        .parts = launch->parts,
        .places = launch->places,
        .devices = launch->slot_devices,
        .slots = launch->slots,
        .restarts = {.most = (size_t)argument_integer(arguments, "--restarts", RUN_PARTS_RESTARTS),
                     .pause = PAUSE_SECONDS,
                     .longest = PAUSE_LONGEST},
        .stop_seconds = STOP_SECONDS,
        .ready = is_surveyed,
        .say = say,
        .look = look,
        .context = launch};
    TRY(parts_progress_start(&launch->progress, launch->output, launch->parts,
                             argument_given(arguments, "--quiet") ? NULL : stderr, err));
    TRY(await_others(launch, err));
    int status = supervisor_run(&options, &parts, err);
    if (parts != NULL) {
        if (parts_progress_end(&launch->progress, &sums)) {
            print_sums(out, launch, parts, &sums);
        }
        print_failed(launch, parts);
    }
    free(parts);
    return status;
}

int run_parts(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    struct parts_launch *launch;
    int status;
    TRY(refuse_options(arguments, err));
    TRY(memory_zeroed(&launch, 1, sizeof *launch, err));
    launch->parts = (size_t)argument_integer(arguments, "--parts", 1);
    set_words(launch, arguments);
    TRY_TO(done, status = job_read(&launch->job, argument_text(arguments, "JOB.yaml", NULL), err));
    launch->output = argument_text(arguments, "--output", launch->job.output);
    TRY_TO(done, status = check_set(launch, err));
    TRY_TO(done, status = make_slots(launch, (size_t)argument_integer(arguments, "--at-once", 0), err));
    status = supervise(launch, arguments, context->out, err);
done:
    if (parts_progress_destroy(&launch->progress)) {
        job_destroy(&launch->job);
        free(launch);
    }
    return status;
}

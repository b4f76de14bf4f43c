// SPDX-License-Identifier: MIT
// A launch of one part of a job: its place in the set, and what it has in common with the other parts.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "start/algorithms.h"
#include "start/launch_steps.h"
#include "start/set_survey.h"

// ---- the part's place ----

static bool show_survey(void *context, uint64_t problems, uint64_t all) {
    struct launch *launch = context;
    struct display_state state = {
        .stage = "surveying all parts", .done = problems, .all = all, .unit = "problems"};
    display_update(&launch->display, &state, false);
    return !guard_stop_requested(&launch->guard);
}

static int find_rows(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct part_of_set *part = &inputs->part;
    struct set_survey_options options = {.inputs = launch->options->inputs,
                                         .folder = part->folder,
                                         .progress = show_survey,
                                         .context = launch};
    options.inputs.part = (struct run_part){0};
    options.inputs.watch = inputs->watch;
    options.inputs.phases = inputs->phases;
    int status = set_survey_ensure(&part->survey, &options, NULL, err);
    TRY(launch_name_stop(launch, status, err));
    survey_file_part(&part->survey, part->number.index, part->number.count, &part->first, &part->end);
    return STATUS_OK;
}

// A part computes as the first one does: on its instruction set, where the job leaves that open.
static int take_shared(struct inputs *inputs, struct error *err) {
    struct part_of_set *part = &inputs->part;
    TRY(run_set_shared(part->folder, &part->shared, &part->is_shared, err));
    bool open = part->is_shared && part->shared.cpu_path[0] != 0 && inputs->job.cpu_path == NULL;
    return open ? memory_text(&inputs->job.cpu_path, part->shared.cpu_path, err) : STATUS_OK;
}

// A word of a shell's command line.
static int add_word(struct buffer *command, const char *word, struct error *err) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:@%,";
    if (word[strspn(word, plain)] == 0) {
        return buffer_printf(command, err, " %s", word);
    }
    TRY(buffer_printf(command, err, " '"));
    for (; *word != 0; word++) {
        TRY(*word == '\'' ? buffer_printf(command, err, "'\\''") : buffer_append(command, word, 1, err));
    }
    return buffer_printf(command, err, "'");
}

static int add_path(struct buffer *command, const char *path, struct error *err) {
    char *real = realpath(path, NULL);
    int status = add_word(command, real == NULL ? path : real, err);
    free(real);
    return status;
}

// What runs a part, for people, from anywhere. The output is there: it is the set's folder.
static int write_command(const struct launch *launch, struct buffer *command, struct error *err) {
    const struct inputs_options *options = &launch->options->inputs;
    TRY(buffer_printf(command, err, "strata run"));
    TRY(add_path(command, options->job_path, err));
    if (options->output != NULL) {
        TRY(buffer_printf(command, err, " --output"));
        TRY(add_path(command, launch->inputs.part.folder, err));
    }
    if (options->limit > 0) {
        TRY(buffer_printf(command, err, " --limit %" PRIu64, options->limit));
    }
    return buffer_printf(command, err, " --part");
}

static int begin_set(const struct launch *launch, struct error *err) {
    const struct part_of_set *part = &launch->inputs.part;
    const struct job *job = &launch->inputs.job;
    struct buffer command = {0};
    int status;
    TRY_TO(done, status = file_make_folder(part->folder, err));
    if (job->ledger == NULL && !job->force_network_output) {
        TRY_TO(done, status = run_folder_refuse_network(part->folder, false, err));
    }
    TRY_TO(done, status = write_command(launch, &command, err));
    status = run_set_begin(part->folder, part->number.count, command.data, err);
done:
    buffer_destroy(&command);
    return status;
}

static int replace(char **text, const char *with, struct error *err) {
    char *copy;
    TRY(memory_text(&copy, with, err));
    free(*text);
    *text = copy;
    return STATUS_OK;
}

static int enter_set(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct part_of_set *part = &inputs->part;
    char path[PATH_SIZE];
    TRY(path_join(part->folder, sizeof part->folder, "", inputs->job.output, err));
    TRY(begin_set(launch, err));
    TRY(run_set_part_path(path, part->folder, &part->number, err));
    TRY(replace(&inputs->job.output, path, err));
    if (inputs->job.ledger == NULL) {
        return STATUS_OK;
    }
    TRY(run_set_part_path(path, inputs->job.ledger, &part->number, err)); // parts may share a machine
    return replace(&inputs->job.ledger, path, err);
}

int launch_part_begin(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    uint64_t parts = 0;
    if (inputs->part.number.count == 0) {
        TRY(run_set_parts(inputs->job.output, &parts, err));
        return parts == 0 ? STATUS_OK
                          : error_set(err, STATUS_JOB,
                                      "%s is divided into %" PRIu64 " parts: run each with --part I/%" PRIu64
                                      ", or all of them with --parts %" PRIu64,
                                      inputs->job.output, parts, parts, parts);
    }
    TRY(enter_set(launch, err));
    TRY(find_rows(launch, err));
    // Whether anything can be computed was judged of all parts.
    inputs->job.allow_empty = true;
    return take_shared(inputs, err);
}

int launch_part_check(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct identity stored = {0};
    bool begun = false;
    if (inputs->part.number.count == 0) {
        return STATUS_OK;
    }
    const struct part_of_set *part = &inputs->part;
    log_write(&launch->log, LOG_LEVEL_INFO,
              "part %" PRIu64 "/%" PRIu64 ": rows %" PRIu64 " to %" PRIu64 " of %" PRIu64 ", %s",
              part->number.index, part->number.count, part->first, part->end, part->survey.blocks.rows,
              part->survey.blocks.enters ? "entered by rowid" : "after those before them");
    // A part that has begun is held against its own identity, which knows of rows that were mended.
    TRY(ledger_identity(launch->journal.ledger, &stored, &begun, err));
    identity_destroy(&stored);
    if (begun) {
        source_accept_changes(inputs->source);
    }
    return set_survey_compare(&inputs->part.survey, inputs, inputs->part.folder, err);
}

// ---- the parts' common identity ----

int launch_part_stored(const struct launch *launch, const struct identity *now, struct identity *stored,
                       bool *found, struct error *err) {
    const struct part_of_set *part = &launch->inputs.part;
    *found = part->is_shared;
    for (size_t i = 0; part->is_shared && i < now->count; i++) {
        if (run_set_is_own(now->entries[i].key)) {
            TRY(identity_add(stored, now->entries[i].key, now->entries[i].value, err));
        }
    }
    return part->is_shared ? run_set_copy_common(&part->shared.identity, stored, err) : STATUS_OK;
}

int launch_part_share(struct launch *launch, const struct identity *now, bool *again, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct part_of_set *part = &inputs->part;
    struct run_set_shared mine = {0};
    bool first = true;
    int status = STATUS_OK;
    *again = false;
    if (part->number.count == 0 || part->is_shared) {
        return STATUS_OK;
    }
    if (strcmp(inputs->device.kind, "cpu") == 0) {
        snprintf(mine.cpu_path, sizeof mine.cpu_path, "%s", inputs->device.path);
    }
    TRY_TO(done, status = run_set_copy_common(now, &mine.identity, err));
    TRY_TO(done, status = model_algorithms(inputs->model, &mine.algorithms, err));
    TRY_TO(done, status = run_set_share(part->folder, &mine, &first, err));
    part->is_shared = true;
    part->shared = mine;
    *again = !first;
    return first ? STATUS_OK : algorithms_adopt(inputs, &launch->guard, err);
done:
    run_set_shared_destroy(&mine);
    return status;
}

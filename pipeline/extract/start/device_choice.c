// SPDX-License-Identifier: MIT
#include "start/device_choice.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "checkpoints/run_folder.h"
#include "journal/journal.h"

struct choice {
    struct inputs *inputs;
    struct device *device; // the last one opened, until the model has it
};

_Static_assert(JOB_DEVICES <= (int)MODEL_DEVICES, "a model takes as many devices as a job names");

static int open_device(struct choice *choice, const char *name, const char *cpu_path, struct error *err) {
    const struct job *job = &choice->inputs->job;
    struct device_options options = {.dtype = job->dtype,
                                     .threads = (int)job->threads,
                                     .cpu_path = cpu_path,
                                     .memory_reserve = (size_t)(job->memory_reserve_gb * 1e9),
                                     .memory_limit = (size_t)(job->memory_gb * 1e9),
                                     .device_limit = (size_t)job_device_limit(job, name)};
    device_close(choice->device);
    choice->device = NULL;
    choice->inputs->device = (struct device_description){0};
    const struct inputs_phases *phases = &choice->inputs->phases;
    if (phases->begin != NULL) {
        phases->begin(phases->context, "opening the device", false);
    }
    int status = device_open(&choice->device, name, &options, err);
    if (phases->begin != NULL) {
        phases->end(phases->context);
    }
    if (status != STATUS_OK) {
        return error_wrap(err, "model.device");
    }
    device_describe(choice->device, &choice->inputs->device);
    return STATUS_OK;
}

// `auto` goes past a GPU that has no kernels for the model.
static int pass_over(struct choice *choice, const char *why, struct error *err) {
    struct inputs *inputs = choice->inputs;
    TRY(open_device(choice, "cpu", inputs->job.cpu_path, err));
    snprintf(inputs->device.reason, sizeof inputs->device.reason, "auto took the CPU: %.220s", why);
    return buffer_printf(&inputs->notes, err, "model.device: auto takes the CPU, not the GPU: %s\n", why);
}

// A device for the model: one that cannot compute its shapes is refused here, before any weight is read.
static int open_for_model(struct choice *choice, const char *name, struct error *err) {
    const struct inputs *inputs = choice->inputs;
    struct error why;
    TRY(open_device(choice, name, inputs->job.cpu_path, err));
    if (inputs->model == NULL) {
        return STATUS_OK;
    }
    int status = model_check_device(inputs->model, choice->device, &why);
    if (status == STATUS_OK) {
        return STATUS_OK;
    }
    bool is_cpu = strcmp(inputs->device.kind, "cpu") == 0;
    if (!is_cpu && strcmp(name, "auto") == 0) {
        return pass_over(choice, why.message, err);
    }
    return error_set(err, status, "model.device: %.900s%s", why.message,
                     is_cpu ? "" : "; model.device: cpu computes it");
}

// `auto` chooses once: at the start of the run.
static const char *wanted_name(const struct inputs *inputs) {
    const struct device_trail_entry *last = device_trail_last(&inputs->trail);
    if (last == NULL || strcmp(inputs->device_names[0], "auto") != 0) {
        return inputs->device_names[0];
    }
    return strncmp(last->identity, "cuda", 4) == 0 ? "cuda:0" : "cpu";
}

static void allow_change(struct inputs *inputs, const char *from, const char *to) {
    inputs->path_changes = true;
    snprintf(inputs->device.reason, sizeof inputs->device.reason,
             "the run computed on %s; run.allow_cpu_path_change lets it resume with %s", from, to);
}

// The job leaves the path open: the run's own, whatever this processor would choose.
static int keep_path(struct choice *choice, const char *own, const char *chosen, struct error *err) {
    struct inputs *inputs = choice->inputs;
    int status = open_device(choice, "cpu", own, err);
    if (status == STATUS_OK) {
        snprintf(inputs->device.reason, sizeof inputs->device.reason,
                 "the run computes on %s; a new run would choose %s here", own, chosen);
        return STATUS_OK;
    }
    if (status != STATUS_DEVICE) {
        return status;
    }
    if (!inputs->job.allow_cpu_path_change) {
        char why[256]; // the processor lacks it, or the kernel refuses what it needs
        snprintf(why, sizeof why, "%.*s", (int)sizeof why - 1, err->message);
        return error_set(
            err, status,
            "the run in %s computes on the CPU path %s, which this machine does not support (%s; a new run "
            "would choose %s). Resume where %s is supported, or set run.allow_cpu_path_change: true, after "
            "which latents may differ in bits from those before",
            inputs->job.output, own, why, chosen, own);
    }
    TRY(open_device(choice, "cpu", NULL, err));
    allow_change(inputs, own, chosen);
    return STATUS_OK;
}

static int reconcile(struct choice *choice, struct ledger *ledger, const struct device_trail_entry *last,
                     struct error *err) {
    struct inputs *inputs = choice->inputs;
    const struct device_description now = inputs->device;
    struct ledger_totals totals;
    char own[DEVICE_TRAIL_PATH];
    if (!device_trail_only_path_differs(last->identity, now.identity)) {
        return STATUS_OK; // the same, or so different that the identity tells
    }
    TRY(ledger_totals(ledger, &totals, err));
    if (totals.finished && !inputs->retries) { // it computes nothing more, on any path
        inputs->path_changes = true;
        return STATUS_OK;
    }
    device_trail_path(last->identity, own);
    if (inputs->job.cpu_path == NULL) {
        return keep_path(choice, own, now.path, err);
    }
    if (!inputs->job.allow_cpu_path_change) {
        return error_set(err, STATUS_JOB,
                         "the run in %s computes on the CPU path %s and model.cpu_path asks for %s. Remove "
                         "model.cpu_path, or set run.allow_cpu_path_change: true, after which latents may "
                         "differ in bits from those before",
                         inputs->job.output, own, now.path);
    }
    allow_change(inputs, own, now.path);
    return STATUS_OK;
}

static int name_all_gpus(struct inputs *inputs, struct error *err) {
    struct error why;
    size_t count = device_gpus(&why);
    if (count == 0) {
        return error_set(err, STATUS_DEVICE, "model.device: cuda:all: %.900s", why.message);
    }
    if (count > MODEL_DEVICES) {
        return error_set(err, STATUS_DEVICE,
                         "model.device: cuda:all: %zu GPUs are here, and a run takes %d at most; name them",
                         count, MODEL_DEVICES);
    }
    inputs->device_count = count;
    for (size_t i = 0; i < count; i++) {
        snprintf(inputs->device_names[i], INPUTS_DEVICE_NAME, "cuda:%u", (unsigned)i);
    }
    return STATUS_OK;
}

// As the job has them, all GPUs by name.
static int name_devices(struct inputs *inputs, struct error *err) {
    const struct job *job = &inputs->job;
    if (strcmp(job->devices[0], "cuda:all") == 0) {
        return name_all_gpus(inputs, err);
    }
    inputs->device_count = job->device_count;
    for (size_t i = 0; i < job->device_count; i++) {
        snprintf(inputs->device_names[i], INPUTS_DEVICE_NAME, "%s", job->devices[i]);
    }
    return STATUS_OK;
}

// Of names that the job file alone could not judge: `auto` may have taken the CPU.
static int check_memory_names(const struct inputs *inputs, struct error *err) {
    const struct job *job = &inputs->job;
    bool judged = strcmp(job->devices[0], "cuda:all") != 0;
    for (size_t i = 0; i < job->device_memory_count && !judged; i++) {
        bool used = false;
        for (size_t k = 0; k < inputs->device_count; k++) {
            used = used || strcmp(inputs->device_names[k], job->device_memory[i].device) == 0;
        }
        if (!used) {
            return error_set(err, STATUS_JOB, "run.memory_gb names %s, which this run does not use",
                             job->device_memory[i].device);
        }
    }
    return STATUS_OK;
}

static int give_to_model(struct choice *choice, const char *name, struct error *err) {
    struct inputs *inputs = choice->inputs;
    if (inputs->model == NULL) { // a check in which it was refused
        return STATUS_OK;
    }
    if (model_add_device(inputs->model, choice->device, name, err) != STATUS_OK) {
        return error_wrap(err, "model.device");
    }
    choice->device = NULL;
    return STATUS_OK;
}

// The others, which the model takes if they are of the first one's kind.
static int open_others(struct choice *choice, struct error *err) {
    struct inputs *inputs = choice->inputs;
    const struct device_description first = inputs->device;
    int status = STATUS_OK;
    for (size_t i = 1; i < inputs->device_count && status == STATUS_OK; i++) {
        status = open_for_model(choice, inputs->device_names[i], err);
        if (status == STATUS_OK) {
            status = give_to_model(choice, inputs->device_names[i], err);
        }
    }
    inputs->device = first;
    return status;
}

static int note_split(struct inputs *inputs, struct error *err) {
    if (inputs->job.split != JOB_SPLIT_LAYERS || inputs->device_count > 1) {
        return STATUS_OK;
    }
    return buffer_printf(&inputs->notes, err, "model.split: layers changes nothing on one device (%s)\n",
                         inputs->device_names[0]);
}

static int choose(struct choice *choice, struct ledger *ledger, struct error *err) {
    struct inputs *inputs = choice->inputs;
    if (ledger != NULL) {
        TRY(device_trail_read(&inputs->trail, ledger, err));
    }
    TRY(name_devices(inputs, err));
    TRY(open_for_model(choice, wanted_name(inputs), err));
    const struct device_trail_entry *last = device_trail_last(&inputs->trail);
    if (last != NULL) {
        TRY(reconcile(choice, ledger, last, err));
    }
    if (strcmp(inputs->device_names[0], "auto") == 0) {
        snprintf(inputs->device_names[0], INPUTS_DEVICE_NAME, "%s",
                 strcmp(inputs->device.kind, "cpu") == 0 ? "cpu" : "cuda:0");
    }
    TRY(check_memory_names(inputs, err));
    TRY(note_split(inputs, err));
    TRY(give_to_model(choice, inputs->device_names[0], err));
    return open_others(choice, err);
}

int device_choice_open(struct inputs *inputs, struct ledger *ledger, struct error *err) {
    struct choice choice = {.inputs = inputs};
    if (inputs->model != NULL) {
        model_set_split(inputs->model,
                        inputs->job.split == JOB_SPLIT_LAYERS ? MODEL_SPLIT_LAYERS : MODEL_SPLIT_BATCHES);
    }
    int status = choose(&choice, ledger, err);
    device_close(choice.device);
    return status;
}

const char *device_choice_identity(const struct inputs *inputs) {
    const char *identity = inputs->device.identity;
    const struct device_trail_entry *last = device_trail_last(&inputs->trail);
    bool permitted = last != NULL && (inputs->path_changes || strcmp(last->identity, identity) == 0);
    return permitted ? inputs->trail.entries[0].identity : identity;
}

// Nothing refers to the file once its record is gone, so that a crash in between leaves only garbage.
static int drop_partial(struct ledger *ledger, const char *folder, uint64_t shard, struct error *err) {
    char path[PATH_SIZE];
    TRY(ledger_drop_partial(ledger, err));
    TRY(run_folder_shard(path, folder, shard, true, err));
    return file_exists(path) ? file_remove(path, err) : STATUS_OK;
}

static int tell_change(struct inputs *inputs, struct journal *journal, uint64_t batch, bool dropped,
                       struct error *err) {
    char own[DEVICE_TRAIL_PATH];
    char text[320];
    device_trail_path(device_trail_last(&inputs->trail)->identity, own);
    snprintf(text, sizeof text,
             "the CPU path changes from %s to %s with batch %" PRIu64
             ": latents from there on may differ in bits from those before%s",
             own, inputs->device.path, batch,
             dropped ? "; the partial shard is dropped, its batches run again" : "");
    journal_event(journal, LOG_LEVEL_WARN, "device", text);
    return journal_check(journal, err);
}

int device_choice_settle(struct inputs *inputs, struct journal *journal, const char *folder,
                         bool *has_partial, struct error *err) {
    struct ledger *ledger = journal->ledger;
    struct ledger_position position;
    if (!inputs->path_changes) {
        return STATUS_OK;
    }
    // In this order: with the change noted first, a crash would leave batches of the other path in a shard of
    // this one.
    TRY(ledger_position(ledger, &position, err));
    if (*has_partial) {
        TRY(drop_partial(ledger, folder, position.shards, err));
    }
    TRY(tell_change(inputs, journal, position.batches, *has_partial, err));
    *has_partial = false;
    TRY(device_trail_follow(&inputs->trail, position.batches, inputs->device.identity, err));
    return device_trail_write(&inputs->trail, ledger, err);
}

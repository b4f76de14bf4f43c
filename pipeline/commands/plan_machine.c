// SPDX-License-Identifier: MIT
#include "commands/plan_machine.h"

#include <stdio.h>
#include <string.h>

#include "base/process.h"
#include "bench/block_rate.h"

// Rates of a card; what the user said of the machine comes before them.
static void take_card(struct plan_machine *out, const struct card *card, bool is_guessed, enum dtype dtype) {
    out->card = card;
    out->card_is_guessed = is_guessed;
    forecast_take_card(&out->figures, card, dtype);
}

static void take_options(struct plan_machine *out, const struct plan_options *options) {
    struct forecast_machine *figures = &out->figures;
    figures->target = options->target;
    figures->in_use = options->in_use_given ? options->in_use : figures->in_use;
    figures->link = options->link > 0 ? options->link : figures->link;
    figures->host_memory = options->host_memory > 0 ? options->host_memory : figures->host_memory;
    out->disk_is_assumed = options->disk <= 0;
    figures->disk = out->disk_is_assumed ? FORECAST_DISK_ASSUMED : options->disk;
}

static void take_memory(struct plan_machine *out, const struct device_description *about) {
    out->figures.memory = about->memory;
    out->figures.in_use = about->memory > about->memory_free ? about->memory - about->memory_free : 0;
    out->is_here = true;
    snprintf(out->name, sizeof out->name, "%s", about->name);
}

static int describe(struct device_description *about, const char *name, const struct device_options *options,
                    struct error *err) {
    struct device *device;
    TRY(device_open(&device, name, options, err));
    device_describe(device, about);
    device_close(device);
    return STATUS_OK;
}

static int describe_host(struct device_description *about, struct error *err) {
    const struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    return describe(about, "cpu", &options, err);
}

static int use_processor(struct plan_machine *out, const struct plan_subject *subject, struct error *err) {
    struct device_description about;
    struct bench_block_rate rate;
    TRY(describe_host(&about, err));
    take_memory(out, &about);
    int status =
        bench_block_rate(&rate, subject->config, &subject->options, subject->tokens, subject->length, err);
    if (status == STATUS_DEVICE) { // no room for a block of it, or a CPU path that is not here
        snprintf(out->note, sizeof out->note, "the rate was not measured: %.200s", err->message);
        return STATUS_OK;
    }
    out->figures.rate = rate.operations;
    out->figures.conversion = rate.conversion;
    out->figures.bandwidth = rate.expansion;
    return status;
}

// As much of a GPU's memory as the job leaves to the run.
static void limit_memory(struct device_description *about, uint64_t limit) {
    if (limit > 0) {
        about->memory = limit < about->memory ? limit : about->memory;
        about->memory_free = limit < about->memory_free ? limit : about->memory_free;
    }
}

// The job's GPU that has the least memory to take.
static int describe_gpus(struct device_description *least, struct plan_machine *out,
                         const struct plan_subject *subject, struct error *err) {
    for (size_t i = 0; i < subject->device_count; i++) {
        const struct plan_device *device = &subject->devices[i];
        struct device_description about;
        int status = describe(&about, device->name, &subject->options, err);
        if (i > 0 && status == STATUS_DEVICE) {
            snprintf(out->note, sizeof out->note, "%s is not here, and is planned for as if it were %s",
                     device->name, subject->devices[0].name);
            continue;
        }
        TRY(status);
        limit_memory(&about, device->limit);
        *least = i == 0 || about.memory_free < least->memory_free ? about : *least;
    }
    return STATUS_OK;
}

// The GPU of the job, if there is one; *found is false where the processor is to be taken.
static int use_gpu(struct plan_machine *out, const struct plan_subject *subject, bool *found,
                   struct error *err) {
    struct device_description about = {0};
    struct device_description host;
    struct error refusal;
    *found = false;
    if (strcmp(subject->devices[0].name, "cpu") == 0) {
        return STATUS_OK;
    }
    int status = describe_gpus(&about, out, subject, &refusal);
    if (status == STATUS_DEVICE) {
        snprintf(out->note, sizeof out->note,
                 "%s is not here, so this is for the CPU; --gpu NAME plans for a GPU",
                 subject->devices[0].name);
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        *err = refusal;
        return status;
    }
    *found = strcmp(about.kind, "cuda") == 0;
    if (!*found) {
        return STATUS_OK;
    }
    TRY(describe_host(&host, err));
    take_memory(out, &about);
    const struct card *card = card_find(about.name);
    bool known = card != NULL && card_is_supported(card);
    take_card(out, known ? card : card_of_memory(about.memory), !known, subject->options.dtype);
    out->figures.host_memory = host.memory_free;
    return STATUS_OK;
}

// A limit that the job sets leaves of the host what this process has not taken already.
static void take_limit(struct forecast_machine *figures, uint64_t limit) {
    if (limit == 0) {
        return;
    }
    if (figures->has_own_memory) {
        figures->host_memory =
            figures->host_memory == 0 || limit < figures->host_memory ? limit : figures->host_memory;
    } else if (limit < figures->memory - figures->in_use) {
        figures->memory = limit;
        figures->in_use = process_memory();
    }
}

// Of a card that is not here, the least that the job leaves of any of its GPUs.
static void limit_card(struct plan_machine *out, const struct plan_subject *subject) {
    for (size_t i = 0; i < subject->device_count; i++) {
        uint64_t limit = subject->devices[i].limit;
        out->figures.memory = limit > 0 && limit < out->figures.memory ? limit : out->figures.memory;
    }
}

int plan_machine_find(struct plan_machine *out, const struct plan_options *options,
                      const struct plan_subject *subject, struct error *err) {
    bool found = false;
    *out = (struct plan_machine){0};
    if (options->card != NULL) {
        take_card(out, options->card, options->card_is_guessed, subject->options.dtype);
        out->figures.memory = options->card_memory;
        limit_card(out, subject);
        snprintf(out->name, sizeof out->name, "%s",
                 options->card_is_guessed ? "a GPU of that size" : options->card->name);
    } else {
        TRY(use_gpu(out, subject, &found, err));
        if (!found) {
            TRY(use_processor(out, subject, err));
        }
    }
    out->figures.reserve = out->figures.has_own_memory ? subject->reserve : 0;
    take_limit(&out->figures, subject->limit);
    take_options(out, options);
    return STATUS_OK;
}

// SPDX-License-Identifier: MIT
#include "commands/plan_options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "job/job.h"

#define TARGET 0.9

// Decimal digits with a point, nothing else, and where they end.
static bool parse_number(const char *text, double *out, const char **end) {
    size_t digits = strspn(text, "0123456789.");
    char copy[32];
    if (digits == 0 || digits >= sizeof copy || text[0] == '.') {
        return false;
    }
    memcpy(copy, text, digits);
    copy[digits] = 0;
    char *stop;
    *out = strtod(copy, &stop);
    *end = text + digits;
    return *stop == 0 && isfinite(*out);
}

// Memory as cards are sold and nvidia-smi tells it: a GB is 2^30 bytes.
static bool parse_size(const char *text, uint64_t *out) {
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"", 0x1p30},   {"GB", 0x1p30},  {"GiB", 0x1p30}, {"G", 0x1p30},
                 {"MB", 0x1p20}, {"MiB", 0x1p20}, {"TB", 0x1p40},  {"TiB", 0x1p40}};
    double number;
    const char *unit;
    if (!parse_number(text, &number, &unit)) {
        return false;
    }
    unit += strspn(unit, " ");
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        double bytes = number * units[i].bytes;
        if (strcasecmp(unit, units[i].unit) == 0 && bytes < 0x1p60) {
            *out = (uint64_t)bytes;
            return true;
        }
    }
    return false;
}

static int read_size(const struct arguments *arguments, const char *name, uint64_t *out, struct error *err) {
    const char *text = argument_text(arguments, name, NULL);
    return text == NULL || parse_size(text, out)
               ? STATUS_OK
               : error_set(err, STATUS_USAGE, "%s is a size such as 24GB or 857MB, not '%s'", name, text);
}

static int read_rate(const struct arguments *arguments, const char *name, double *out, struct error *err) {
    const char *text = argument_text(arguments, name, NULL);
    const char *end;
    if (text == NULL) {
        return STATUS_OK;
    }
    if (!parse_number(text, out, &end) || *end != 0 || *out < 1e-3 || *out > 1e6) {
        return error_set(err, STATUS_USAGE, "%s is a rate in GB/s, 0.001 to 1000000, not '%s'", name, text);
    }
    *out *= 1e9;
    return STATUS_OK;
}

static int read_target(const struct arguments *arguments, double *out, struct error *err) {
    const char *text = argument_text(arguments, "--target", NULL);
    const char *end;
    *out = TARGET;
    if (text != NULL && (!parse_number(text, out, &end) || *end != 0 || *out < 0.01 || *out > 1)) {
        return error_set(err, STATUS_USAGE, "--target is a share of the memory, 0.01 to 1, not '%s'", text);
    }
    return STATUS_OK;
}

static int refuse_card(const char *name, struct error *err) {
    const char *names[64];
    size_t count = 0;
    char list[512] = "";
    for (size_t i = 0; i < card_count() && count < sizeof names / sizeof names[0]; i++) {
        size_t used = strlen(list);
        names[count++] = card_at(i)->name;
        snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : ", ", card_at(i)->name);
    }
    const char *nearest = job_nearest(name, names, count);
    if (nearest != NULL) {
        return error_set(err, STATUS_USAGE, "--gpu '%.60s' is not known (did you mean '%s'?)", name, nearest);
    }
    return error_set(err, STATUS_USAGE, "--gpu is a size such as 8GB or one of %s, not '%.60s'", list, name);
}

static int read_card(struct plan_options *out, const char *name, struct error *err) {
    if (name == NULL) {
        return STATUS_OK;
    }
    // A number alone is a name: "4090".
    bool is_number = name[strspn(name, "0123456789.")] == 0;
    out->card_is_guessed = !is_number && parse_size(name, &out->card_memory);
    if (out->card_is_guessed && out->card_memory == 0) {
        return error_set(err, STATUS_USAGE, "--gpu %s has no memory", name);
    }
    if (out->card_is_guessed) {
        out->card = card_of_memory(out->card_memory);
        return STATUS_OK;
    }
    out->card = card_find(name);
    if (out->card == NULL) {
        return refuse_card(name, err);
    }
    if (!card_is_supported(out->card)) {
        return error_set(
            err, STATUS_USAGE,
            "%s has compute capability %d.%d, and strata runs on GPUs from %d.%d on: leave --gpu "
            "out to plan for the CPU",
            out->card->name, out->card->capability / 10, out->card->capability % 10, CARD_CAPABILITY / 10,
            CARD_CAPABILITY % 10);
    }
    out->card_memory = (uint64_t)out->card->memory_gib << 30;
    return STATUS_OK;
}

static int read_context(struct plan_options *out, const struct arguments *arguments, struct error *err) {
    const char *cache = argument_text(arguments, "--kv", "f16");
    bool asked = argument_given(arguments, "--context");
    out->context = (size_t)argument_integer(arguments, "--context", 0);
    (void)generation_cache_find(cache, &out->cache); // one of the option's choices
    if (!asked && (argument_given(arguments, "--kv") || argument_given(arguments, "--file-size"))) {
        return error_set(err, STATUS_USAGE, "--kv and --file-size go with --context");
    }
    return read_size(arguments, "--file-size", &out->file, err);
}

int plan_options_read(struct plan_options *out, const struct arguments *arguments, struct error *err) {
    *out = (struct plan_options){.model = argument_text(arguments, "--model", NULL),
                                 .gpus = (int)argument_integer(arguments, "--gpus", 0),
                                 .in_use_given = argument_given(arguments, "--in-use"),
                                 .tokens = (size_t)argument_integer(arguments, "--tokens", 0),
                                 .details = argument_given(arguments, "--details"),
                                 .json = argument_given(arguments, "--json")};
    if ((out->model != NULL) == argument_given(arguments, "JOB.yaml")) {
        return error_set(err, STATUS_USAGE, "%s",
                         out->model != NULL ? "a job has its own model: leave --model out"
                                            : "JOB.yaml is missing (or --model PATH, for a model alone)");
    }
    if (out->model != NULL && argument_given(arguments, "--limit")) {
        return error_set(err, STATUS_USAGE, "--limit is for the rows of a job");
    }
    TRY(read_card(out, argument_text(arguments, "--gpu", NULL), err));
    TRY(read_size(arguments, "--in-use", &out->in_use, err));
    TRY(read_size(arguments, "--host-memory", &out->host_memory, err));
    TRY(read_target(arguments, &out->target, err));
    TRY(read_rate(arguments, "--pcie", &out->link, err));
    TRY(read_rate(arguments, "--disk-rate", &out->disk, err));
    return read_context(out, arguments, err);
}

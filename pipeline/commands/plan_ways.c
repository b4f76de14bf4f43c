// SPDX-License-Identifier: MIT
#include "commands/plan_ways.h"

#include <inttypes.h>
#include <string.h>

#include "base/amount.h"
#include "base/size.h"
#include "commands/readable.h"
#include "start/placement.h"

static const struct {
    const char *name;
    enum forecast_way way;
    enum model_quantize quantize;
} kinds[PLAN_WAYS] = {
    {"resident", FORECAST_RESIDENT, MODEL_QUANTIZE_NONE},
    {"host", FORECAST_HOST, MODEL_QUANTIZE_NONE},
    {"disk", FORECAST_DISK, MODEL_QUANTIZE_NONE},
    {"nf4", FORECAST_RESIDENT, MODEL_QUANTIZE_NF4},
    {"nf4_double", FORECAST_RESIDENT, MODEL_QUANTIZE_NF4_DOUBLE},
};

// ---- making ----

static int count_way(struct plan_way *way, size_t kind, const struct plan_work *work, struct error *err) {
    size_t last = model_blocks_wanted(work->config, work->limits);
    way->name = kinds[kind].name;
    way->way = kinds[kind].way;
    return work->model != NULL ? footprint_of_model(&way->footprint, work->model, last, work->dtype,
                                                    kinds[kind].quantize, err)
                               : footprint_of_config(&way->footprint, work->config, last, work->dtype,
                                                     kinds[kind].quantize, err);
}

static void count_generation(struct plan_ways *ways) {
    const struct plan_options *options = ways->options;
    const struct plan_work *work = ways->work;
    const struct forecast_machine *machine = &ways->machine->figures;
    uint64_t file = options->file > 0 ? options->file
                    : work->file > 0  ? work->file
                                      : footprint_of_all(work->config, MODEL_QUANTIZE_NONE);
    const struct generation_request request = {.config = work->config,
                                               .file = (double)file,
                                               .context = options->context,
                                               .cache = options->cache,
                                               .memory = (double)machine->memory,
                                               .in_use = (double)machine->in_use,
                                               .target = machine->target};
    generation_count(&ways->generation, &request);
}

// Of a device, as a run has it: all of them take no more batches than there are.
static size_t group_tokens(const struct plan_work *work, const struct forecast_machine *machine,
                           size_t devices) {
    size_t tokens =
        work->group > 0 ? work->group * work->limits->tokens : placement_tokens(machine->has_own_memory);
    size_t share = (size_t)((work->work.tokens + devices - 1) / devices);
    return work->has_problems ? size_max(1, size_min(tokens, share)) : tokens;
}

int plan_ways_make(struct plan_ways *out, const struct plan_work *work, const struct plan_machine *machine,
                   const struct plan_options *options, struct error *err) {
    *out = (struct plan_ways){.work = work, .machine = machine, .options = options};
    for (size_t kind = 0; kind < PLAN_WAYS; kind++) {
        bool idle = kinds[kind].way == FORECAST_HOST && !machine->figures.has_own_memory;
        bool as_it_is = work->is_held || !footprint_can_quantise(work->config);
        if (idle || (as_it_is && kinds[kind].quantize != MODEL_QUANTIZE_NONE)) {
            continue;
        }
        struct plan_way *way = &out->way[out->count++];
        TRY(count_way(way, kind, work, err));
        forecast_make(&way->forecast, kinds[kind].way, &way->footprint, work->limits, &machine->figures,
                      &work->work, group_tokens(work, &machine->figures, 1));
    }
    if (options->context > 0) {
        count_generation(out);
    }
    return STATUS_OK;
}

void plan_ways_destroy(struct plan_ways *ways) {
    for (size_t i = 0; i < ways->count; i++) {
        footprint_destroy(&ways->way[i].footprint);
    }
    *ways = (struct plan_ways){0};
}

// ---- the table ----

static const char *amount(uint64_t bytes, char out[AMOUNT_TEXT]) {
    return amount_text((double)bytes, out);
}

static void write_rate(FILE *out, const struct plan_machine *machine) {
    const struct forecast_machine *figures = &machine->figures;
    if (machine->card == NULL) {
        if (figures->rate > 0) {
            fprintf(out, "; %.1f GFLOP/s measured on a block", figures->rate * 1e-9);
        }
        return;
    }
    fprintf(out, "; %.1f TFLOP/s (%.0f %% of the data sheet's %.1f%s%s, an assumption)",
            figures->rate * 1e-12, 100 * CARD_ASSUMED_SHARE, figures->rate * 1e-12 / CARD_ASSUMED_SHARE,
            machine->card_is_guessed ? " of a " : "", machine->card_is_guessed ? machine->card->name : "");
    fprintf(out, ", PCIe %.1f GB/s", figures->link * 1e-9);
}

static void write_head(FILE *out, const struct plan_ways *ways) {
    const struct plan_machine *machine = ways->machine;
    const struct forecast_machine *figures = &machine->figures;
    char free_text[AMOUNT_TEXT];
    uint64_t left = figures->memory > figures->in_use ? figures->memory - figures->in_use : 0;
    const struct model_config *config = ways->work->config;
    if (config->experts.count > 0) {
        fprintf(out, "parameters    %.3f billion, of which %.3f billion compute a token\n",
                (double)footprint_parameters(config) * 1e-9,
                (double)footprint_active_parameters(config) * 1e-9);
    }
    fprintf(out, "ways          on %s: %.0f %% of %s", machine->name, 100 * figures->target,
            amount(left, free_text));
    write_rate(out, machine);
    fprintf(out, ", disk %.1f GB/s%s\n", figures->disk * 1e-9, machine->disk_is_assumed ? " (assumed)" : "");
    if (machine->note[0] != 0) {
        fprintf(out, "note          %s\n", machine->note);
    }
}

static void write_refused(FILE *out, const struct plan_way *way) {
    const struct forecast *f = &way->forecast;
    char needed[AMOUNT_TEXT];
    char budget[AMOUNT_TEXT];
    if (f->bound == FORECAST_HOST_MEMORY) {
        fprintf(out, "  %-11s does not fit: %s of host memory are needed", way->name,
                amount(f->host, needed));
    } else {
        fprintf(out, "  %-11s does not fit: %s are needed, %s may be taken", way->name,
                amount(f->used, needed), amount(f->budget, budget));
    }
    if (f->most_tokens > 0 && f->bound == FORECAST_DEVICE_MEMORY) {
        fprintf(out, "; with batch.tokens: %zu it fits", f->most_tokens);
    }
    fputc('\n', out);
}

static void write_time(FILE *out, const struct plan_ways *ways, const struct forecast *f) {
    char rate[READABLE_TEXT] = "-";
    char time[READABLE_TEXT] = "-";
    bool known = f->tokens_per_second > 0;
    if (known) {
        readable_rate(f->tokens_per_second, rate);
    }
    if (known && ways->work->has_problems) {
        readable_duration(f->seconds, time);
    }
    fprintf(out, " %9s %13s  %s", rate, time, known ? forecast_bound_name(f->bound) : "-");
}

static void write_way(FILE *out, const struct plan_ways *ways, const struct plan_way *way) {
    const struct forecast *f = &way->forecast;
    char used[AMOUNT_TEXT];
    char blocks[32];
    char hiding[READABLE_TEXT] = "-";
    char most[READABLE_TEXT];
    if (!f->fits) {
        write_refused(out, way);
        return;
    }
    snprintf(blocks, sizeof blocks, "%zu/%zu", f->resident, way->footprint.blocks);
    if (f->hiding_tokens > 0) {
        readable_count(f->hiding_tokens, hiding);
    }
    fprintf(out, "  %-10s %11s %8s %10s %10s", way->name, amount(f->used, used), blocks,
            readable_count(f->most_tokens, most), hiding);
    write_time(out, ways, f);
    if (f->host > f->batch.staging) {
        fprintf(out, "; %s of host memory", amount(f->host, used));
    }
    fputc('\n', out);
}

bool plan_ways_is_told(const struct plan_ways *ways, const struct plan_way *way) {
    bool streams = strcmp(way->name, "host") == 0 || strcmp(way->name, "disk") == 0;
    bool asked = ways->work->work.streamed_least > 0 && ways->work->way != NULL &&
                 strcmp(ways->work->way, way->name) == 0;
    return !streams || asked || !ways->way[0].forecast.fits;
}

int plan_ways_gpus(const struct plan_ways *ways, int index) {
    int most = ways->machine->figures.has_own_memory ? ways->options->gpus : 1;
    int gpus = index < 10 ? 2 << index : 0;
    int before = index > 0 ? 1 << index : 1;
    return before >= most ? 0 : gpus < most && gpus > 0 ? gpus : most;
}

bool plan_ways_several(const struct plan_ways *ways, const struct plan_way *way, enum job_split split,
                       size_t gpus, struct forecast_several *out) {
    const struct plan_work *work = ways->work;
    const struct forecast_machine *machine = &ways->machine->figures;
    if (split == JOB_SPLIT_LAYERS) {
        forecast_layers(out, &way->footprint, work->limits, machine, &work->work, gpus);
        return way->way == FORECAST_RESIDENT;
    }
    struct forecast one;
    forecast_make(&one, way->way, &way->footprint, work->limits, machine, &work->work,
                  group_tokens(work, machine, gpus));
    forecast_copies(out, &one, &work->work, gpus);
    return true;
}

static void write_several(FILE *out, const struct plan_ways *ways, int gpus, const char *name,
                          const char *split, const struct forecast_several *several) {
    char rate[READABLE_TEXT] = "-";
    char time[READABLE_TEXT] = "-";
    char used[AMOUNT_TEXT];
    if (!several->fits) {
        return;
    }
    if (several->tokens_per_second > 0) {
        readable_rate(several->tokens_per_second, rate);
    }
    if (several->seconds > 0 && ways->work->has_problems) {
        readable_duration(several->seconds, time);
    }
    fprintf(out, "  %-5d %-10s %9s %10s %10zu %9s %13s\n", gpus, name, split, amount(several->used, used),
            several->blocks, rate, time);
}

static void write_gpus(FILE *out, const struct plan_ways *ways) {
    if (plan_ways_gpus(ways, 0) == 0) {
        return;
    }
    fprintf(out,
            "several       of these GPUs, by model.split; memory of each, and the blocks that stay there\n"
            "  %-5s %-10s %9s %10s %10s %9s %13s\n",
            "GPUs", "way", "split", "memory", "blocks", "tokens/s", "time");
    for (int index = 0, gpus; (gpus = plan_ways_gpus(ways, index)) != 0; index++) {
        for (size_t i = 0; i < ways->count; i++) {
            const struct plan_way *way = &ways->way[i];
            struct forecast_several several;
            for (int split = JOB_SPLIT_BATCHES; split <= JOB_SPLIT_LAYERS; split++) {
                if (plan_ways_is_told(ways, way) &&
                    plan_ways_several(ways, way, (enum job_split)split, (size_t)gpus, &several)) {
                    write_several(out, ways, gpus, way->name, job_split_name((enum job_split)split),
                                  &several);
                }
            }
        }
    }
}

// ---- details ----

// Memory that a way takes, by number of a purpose.
static uint64_t bytes_of(const struct plan_way *way, int purpose) {
    const struct forecast *f = &way->forecast;
    const uint64_t bytes[] = {f->resident_bytes,
                              f->streaming_bytes,
                              way->footprint.embedding + way->footprint.final_norm,
                              f->batch.activations,
                              f->head,
                              f->residuals,
                              way->footprint.expansion,
                              f->batch.scratch,
                              f->used,
                              f->host,
                              f->batch.keys_values};
    return bytes[purpose];
}

static void write_purposes(FILE *out, const struct plan_ways *ways, const struct plan_way *const *told,
                           size_t count) {
    static const char *const names[] = {
        "blocks that stay",  "slots to stream through", "embedding, final norm",    "activations",
        "head of the texts", "residuals in flight",     "room to expand into",      "scratch",
        "together",          "in host memory",          "keys, values of one block"};
    char text[AMOUNT_TEXT];
    fprintf(out, "by purpose    at %zu tokens a batch%s\n  %-26s", ways->work->limits->tokens,
            ways->machine->figures.reserve > 0 ? "; model.memory_reserve_gb stays free beside it" : "", "");
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%12s", told[i]->name);
    }
    for (int purpose = 0; purpose < (int)(sizeof names / sizeof names[0]); purpose++) {
        fprintf(out, "\n  %-26s", names[purpose]);
        for (size_t i = 0; i < count; i++) {
            fprintf(out, "%12s", amount(bytes_of(told[i], purpose), text));
        }
    }
    fputc('\n', out);
}

// Blocks of a size, one behind another.
static void write_blocks(FILE *out, const struct plan_way *way) {
    const struct footprint *f = &way->footprint;
    char held[AMOUNT_TEXT];
    char file[AMOUNT_TEXT];
    for (size_t i = 0; i < f->blocks;) {
        size_t end = i + 1;
        while (end < f->blocks && f->block[end].held == f->block[i].held &&
               f->block[end].file == f->block[i].file) {
            end++;
        }
        fprintf(out, "  %-11s block %zu to %zu: %s each, %s in the files\n", way->name, i, end - 1,
                amount(f->block[i].held, held), amount(f->block[i].file, file));
        i = end;
    }
}

static void write_details(FILE *out, const struct plan_ways *ways) {
    const struct plan_way *told[PLAN_WAYS];
    size_t count = 0;
    for (size_t i = 0; i < ways->count; i++) {
        if (ways->way[i].forecast.fits && plan_ways_is_told(ways, &ways->way[i])) {
            told[count++] = &ways->way[i];
        }
    }
    if (count == 0) {
        return;
    }
    write_purposes(out, ways, told, count);
    fputs("by layer      weights as they are held\n", out);
    for (size_t i = 0; i < count; i++) {
        write_blocks(out, told[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (told[i]->forecast.group_tokens > 0) {
            fprintf(out, "  %-11s a sweep takes %zu tokens through all blocks\n", told[i]->name,
                    told[i]->forecast.group_tokens);
        }
    }
}

// ---- generating ----

static void write_account(FILE *out, const char *name, const struct generation_account *account,
                          size_t layers) {
    fprintf(out, "  %-22s%10.1f MiB%16.1f MiB%12zu of %zu\n", name, account->weights * 0x1p-20,
            account->keys_values * 0x1p-20, account->layers, layers);
}

static void write_generation(FILE *out, const struct plan_ways *ways) {
    static const char *const caches[] = {"f16", "q8_0", "q4_0"};
    const struct forecast_machine *machine = &ways->machine->figures;
    const struct model_config *config = ways->work->config;
    const struct generation *g = &ways->generation;
    char whole[AMOUNT_TEXT];
    char packed[AMOUNT_TEXT];
    fprintf(
        out,
        "generating    what llama.cpp needs at %zu tokens, keys and values in %s: %.0f %% of %.0f MiB, of "
        "which others have %.0f\n",
        ways->options->context, caches[ways->options->cache], 100 * machine->target,
        (double)machine->memory * 0x1p-20, (double)machine->in_use * 0x1p-20);
    fprintf(out, "  %-22s%14s%20s%18s\n", "", "layer", "its keys, values", "layers that fit");
    write_account(out, "as is published", &g->published, config->layers);
    write_account(out, "with grouped queries", &g->actual, config->layers);
    fprintf(out,
            "  published figures count keys and values as wide as hidden_size (%zu); %s make them %.0f\n",
            config->hidden,
            config->latent.key > 0         ? "latents"
            : config->layer_mixers != NULL ? "grouped queries and layers without attention"
            : config->key_sharers > 0      ? "grouped queries and shared ones"
                                           : "grouped queries",
            g->cached / 2);
    fprintf(out,
            "  strata computes a layer after the other: keys and values of one, %.1f MiB at that length, "
            "once; beside them the text's residual stream, %.1f MiB\n",
            g->own * 0x1p-20, g->own_residual * 0x1p-20);
    fprintf(out, "  the whole model, %.2f billion parameters: %s at 16 bits, %s in 4 (nf4)\n",
            (double)footprint_parameters(config) * 1e-9,
            amount(footprint_of_all(config, MODEL_QUANTIZE_NONE), whole),
            amount(footprint_of_all(config, MODEL_QUANTIZE_NF4), packed));
}

void plan_ways_write(FILE *out, const struct plan_ways *ways) {
    write_head(out, ways);
    fprintf(out, "  %-10s %11s %8s %10s %10s %9s %13s  %s\n", "way", "memory", "blocks", "largest",
            "in flight", "tokens/s", "time", "limit");
    for (size_t i = 0; i < ways->count; i++) {
        if (plan_ways_is_told(ways, &ways->way[i])) {
            write_way(out, ways, &ways->way[i]);
        }
    }
    if (ways->work->way != NULL && strcmp(ways->work->way, "resident") != 0) {
        fprintf(out, "  this job has model.weights: %s\n", ways->work->way);
    }
    if (ways->work->split != NULL && ways->work->devices > 1) {
        fprintf(out, "  this job has %zu GPUs and model.split: %s\n", ways->work->devices, ways->work->split);
    }
    write_gpus(out, ways);
    if (ways->options->details) {
        write_details(out, ways);
    }
    if (ways->options->context > 0) {
        write_generation(out, ways);
    }
}

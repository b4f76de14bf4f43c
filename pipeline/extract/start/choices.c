// SPDX-License-Identifier: MIT
#include "start/choices.h"

#include <string.h>

#include "base/process.h"
#include "base/size.h"
#include "bench/block_rate.h"
#include "model/footprint.h"
#include "model/forecast.h"
#include "start/fill.h"
#include "start/placement.h"

// A processor that takes longer than this for the whole job is no choice.
#define REASONABLE_SECONDS (30 * 86400.0)

struct choices {
    struct buffer *out;
    const struct inputs *inputs;
    const struct model_limits *limits;
    struct forecast_machine machine;
    struct forecast_work work;
    bool has_head;
};

static size_t last_of(const struct choices *c) {
    return inputs_blocks(c->inputs);
}

// ---- the table ----

static void tell_time(double seconds, char out[32]) {
    if (seconds < 120) {
        snprintf(out, 32, "%.1f s", seconds);
    } else if (seconds < 5400) {
        snprintf(out, 32, "%.1f min", seconds / 60);
    } else if (seconds < 172800) {
        snprintf(out, 32, "%.1f h", seconds / 3600);
    } else {
        snprintf(out, 32, "%.1f days", seconds / 86400);
    }
}

static int add_row(struct choices *c, const char *key, const char *value, const struct forecast *f,
                   struct error *err) {
    char what[64];
    char rate[32] = "-";
    char time[32] = "-";
    if (!c->has_head) {
        TRY(buffer_printf(c->out, err, "\n  %-28s%12s%12s  %s", "what would run", "tokens/s", "time",
                          "limit (predicted)"));
        c->has_head = true;
    }
    snprintf(what, sizeof what, "%s: %s", key, value);
    if (f->tokens_per_second > 0) {
        snprintf(rate, sizeof rate, "%.1f", f->tokens_per_second);
        tell_time(f->seconds, time);
    }
    return buffer_printf(c->out, err, "\n  %-28s%12s%12s  %s", what, rate, time,
                         f->tokens_per_second > 0 ? forecast_bound_name(f->bound) : "-");
}

// ---- speeds ----

static int foretell(const struct choices *c, struct forecast *out, enum forecast_way way,
                    const struct model_limits *limits, enum model_quantize quantize, size_t resident,
                    size_t group, struct error *err) {
    struct footprint footprint;
    TRY(footprint_of_model(&footprint, c->inputs->model, last_of(c), c->inputs->job.dtype, quantize, err));
    forecast_speed(out, way, &footprint, limits, &c->machine, &c->work, size_min(resident, footprint.blocks),
                   group * limits->tokens);
    footprint_destroy(&footprint);
    return STATUS_OK;
}

// Appends a row where the device has room.
static int add_streamed(struct choices *c, const struct model_limits *limits, enum job_weights weights,
                        const char *key, const char *value, struct error *err) {
    struct placement_found found;
    struct forecast f;
    struct error refusal;
    int status = placement_foresee(c->inputs, limits, weights, &found, &refusal);
    if (status == STATUS_DEVICE) {
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        *err = refusal;
        return status;
    }
    TRY(foretell(c, &f, weights == JOB_WEIGHTS_HOST ? FORECAST_HOST : FORECAST_DISK, limits,
                 MODEL_QUANTIZE_NONE, found.resident, found.group, err));
    return add_row(c, key, value, &f, err);
}

static int add_smaller_batch(struct choices *c, size_t tokens, struct error *err) {
    struct model_limits smaller = *c->limits;
    struct forecast f;
    char value[32];
    if (tokens == 0) {
        return STATUS_OK;
    }
    smaller.tokens = tokens;
    smaller.texts = size_min(smaller.texts, tokens);
    smaller.rows = size_min(smaller.rows, tokens);
    snprintf(value, sizeof value, "%zu", tokens);
    if (placement_streams(c->inputs)) {
        return add_streamed(c, &smaller, (enum job_weights)c->inputs->job.weights, "batch.tokens", value,
                            err);
    }
    TRY(foretell(c, &f, FORECAST_RESIDENT, &smaller, MODEL_QUANTIZE_NONE, last_of(c), 0, err));
    return add_row(c, "batch.tokens", value, &f, err);
}

static int add_streaming(struct choices *c, struct error *err) {
    static const struct {
        enum job_weights weights;
        const char *name;
    } ways[] = {{JOB_WEIGHTS_HOST, "host"}, {JOB_WEIGHTS_DISK, "disk"}};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0] && c->inputs->job.weights != JOB_WEIGHTS_DISK; i++) {
        if (c->inputs->job.weights != (int)ways[i].weights) {
            TRY(add_streamed(c, c->limits, ways[i].weights, "model.weights", ways[i].name, err));
        }
    }
    return STATUS_OK;
}

static int add_quantised(struct choices *c, struct error *err) {
    static const struct {
        enum model_quantize how;
        const char *name;
    } ways[] = {{MODEL_QUANTIZE_NF4, "nf4"}, {MODEL_QUANTIZE_NF4_DOUBLE, "nf4_double"}};
    const struct model_placement resident = {.at = MODEL_WEIGHTS_RESIDENT};
    if (model_is_packed(c->inputs->model) || !footprint_can_quantise(model_config_of(c->inputs->model))) {
        return STATUS_OK;
    }
    model_set_placement(c->inputs->model, &resident);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct model_plan plan;
        struct forecast f;
        struct error ignored;
        TRY(model_plan_quantised(c->inputs->model, c->limits, ways[i].how, &plan, err));
        if (model_check_fits(c->inputs->model, &plan, &ignored) == STATUS_OK) {
            TRY(foretell(c, &f, FORECAST_RESIDENT, c->limits, ways[i].how, last_of(c), 0, err));
            TRY(add_row(c, "model.quantize", ways[i].name, &f, err));
        }
    }
    return STATUS_OK;
}

// ---- several GPUs ----

static int add_layers(struct choices *c, const char *value, const struct forecast_machine *machine,
                      size_t devices, struct error *err) {
    struct footprint footprint;
    struct forecast_several several;
    TRY(footprint_of_model(&footprint, c->inputs->model, last_of(c), c->inputs->job.dtype,
                           MODEL_QUANTIZE_NONE, err));
    forecast_layers(&several, &footprint, c->limits, machine, &c->work, devices);
    footprint_destroy(&footprint);
    const struct forecast f = {.bound = FORECAST_COMPUTE,
                               .tokens_per_second = several.tokens_per_second,
                               .seconds = several.seconds};
    return several.fits ? add_row(c, "model.split", value, &f, err) : STATUS_OK;
}

// Whether the run's own GPUs have room for it.
static int find_fits_split(const struct choices *c, bool *fits, struct error *err) {
    struct model *model = c->inputs->model;
    const struct model_placement resident = {.at = MODEL_WEIGHTS_RESIDENT};
    struct model_plan plan;
    struct error ignored;
    model_set_placement(model, &resident);
    model_set_split(model, MODEL_SPLIT_LAYERS);
    int status = model_plan(model, c->limits, &plan, err);
    *fits = status == STATUS_OK && model_check_fits(model, &plan, &ignored) == STATUS_OK;
    model_set_split(model, MODEL_SPLIT_BATCHES);
    return status;
}

// Some of the blocks on each of the run's GPUs.
static int add_split(struct choices *c, struct error *err) {
    struct forecast_machine machine = c->machine;
    bool fits;
    TRY(find_fits_split(c, &fits, err));
    machine.memory = UINT64_MAX / 2; // enough, as was found
    machine.target = 1;
    return fits ? add_layers(c, "layers", &machine, model_devices(c->inputs->model), err) : STATUS_OK;
}

// Likewise of all that are here, which are taken to be like the run's only one.
static int add_more_gpus(struct choices *c, struct error *err) {
    const struct inputs *inputs = c->inputs;
    uint64_t limit = job_device_limit(&inputs->job, inputs->device_names[0]);
    uint64_t left = inputs->device.memory_free;
    struct forecast_machine machine = c->machine;
    struct error ignored;
    char value[32];
    size_t devices = size_min(device_gpus(&ignored), MODEL_DEVICES);
    machine.memory = limit > 0 && limit < left ? limit : left;
    machine.target = 1;
    machine.reserve = (uint64_t)(inputs->job.memory_reserve_gb * 1e9);
    snprintf(value, sizeof value, "layers, %zu GPUs", devices);
    return devices > 1 ? add_layers(c, value, &machine, devices, err) : STATUS_OK;
}

static int add_several(struct choices *c, struct error *err) {
    const struct inputs *inputs = c->inputs;
    bool streams = inputs->job.weights != JOB_WEIGHTS_RESIDENT; // then no device has blocks of its own
    if (!inputs->device.queues || streams) {
        return STATUS_OK;
    }
    if (model_devices(inputs->model) < 2) {
        return add_more_gpus(c, err);
    }
    return model_split_of(inputs->model) == MODEL_SPLIT_BATCHES ? add_split(c, err) : STATUS_OK;
}

// ---- rates ----

// Of the block that the model is made of. Without one (no room, a CPU path that is not here) it stays
// unknown.
static int measure_processor(const struct choices *c, struct forecast_machine *out, struct error *err) {
    const struct job *job = &c->inputs->job;
    const struct device_options options = {
        .dtype = job->dtype, .threads = (int)job->threads, .cpu_path = job->cpu_path};
    struct bench_block_rate rate;
    struct error refusal;
    size_t length = c->work.tokens > 0 ? (size_t)(c->work.squared_lengths / (double)c->work.tokens + 0.5) : 1;
    *out = (struct forecast_machine){.disk = FORECAST_DISK_ASSUMED};
    int status = bench_block_rate(&rate, model_config_of(c->inputs->model), &options, c->limits->tokens,
                                  length, &refusal);
    if (status == STATUS_DEVICE) {
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        *err = refusal;
        return status;
    }
    out->rate = rate.operations;
    out->conversion = rate.conversion;
    out->bandwidth = rate.expansion;
    return STATUS_OK;
}

// Of the host, as run.memory_gb leaves it.
static int free_memory(const struct choices *c, uint64_t *out, struct error *err) {
    const struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    struct device_description about;
    struct device *device;
    TRY(device_open(&device, "cpu", &options, err));
    device_describe(device, &about);
    device_close(device);
    uint64_t limit = (uint64_t)(c->inputs->job.memory_gb * 1e9);
    uint64_t used = process_memory();
    uint64_t left = limit > used ? limit - used : 0;
    *out = limit > 0 && left < about.memory_free ? left : about.memory_free;
    return STATUS_OK;
}

// In place of a GPU, where the model fits into the host's memory.
static int add_processor(struct choices *c, struct error *err) {
    const struct inputs *inputs = c->inputs;
    struct choices on_host = *c;
    struct footprint footprint;
    struct footprint_batch batch;
    struct forecast f;
    uint64_t left;
    if (!inputs->device.queues) {
        return STATUS_OK;
    }
    TRY(free_memory(c, &left, err));
    TRY(footprint_of_model(&footprint, inputs->model, last_of(c), inputs->job.dtype, MODEL_QUANTIZE_NONE,
                           err));
    footprint_of_batch(&batch, model_config_of(inputs->model), inputs->job.dtype, c->limits, false);
    double needed = (double)footprint.all_blocks + (double)footprint.embedding +
                    (double)footprint.final_norm + (double)footprint.expansion + (double)batch.activations +
                    (double)batch.head + (double)batch.scratch + (double)batch.residuals +
                    (double)batch.staging;
    footprint_destroy(&footprint);
    if (needed > (double)left) {
        return STATUS_OK;
    }
    TRY(measure_processor(c, &on_host.machine, err));
    on_host.work.fill = 1;
    TRY(foretell(&on_host, &f, FORECAST_RESIDENT, c->limits, MODEL_QUANTIZE_NONE, last_of(c), 0, err));
    return f.tokens_per_second > 0 && f.seconds < REASONABLE_SECONDS
               ? add_row(c, "model.device", "cpu", &f, err)
               : STATUS_OK;
}

static int find_machine(struct choices *c, struct error *err) {
    const struct device_description *device = &c->inputs->device;
    if (!device->queues) {
        return measure_processor(c, &c->machine, err);
    }
    const struct card *card = card_find(device->name);
    bool known = card != NULL && card_is_supported(card);
    forecast_take_card(&c->machine, known ? card : card_of_memory(device->memory), c->inputs->job.dtype);
    c->machine.disk = FORECAST_DISK_ASSUMED;
    return STATUS_OK;
}

int choices_describe(struct buffer *out, const struct inputs *inputs, const struct model_limits *limits,
                     size_t tokens, struct error *err) {
    const struct survey *survey = inputs->retries ? &inputs->retry : &inputs->survey;
    const struct ledger_survey *totals = &survey->totals;
    struct choices c = {.out = out, .inputs = inputs, .limits = limits};
    struct fill fill = {.share = 1};
    if (totals->tokens == 0) {
        return STATUS_OK;
    }
    if (inputs->device.queues) {
        fill = fill_of(totals->tokens, survey->shapes, limits->tokens);
    }
    c.work = (struct forecast_work){
        .tokens = totals->tokens, .squared_lengths = totals->squared_lengths, .fill = fill.share};
    TRY(find_machine(&c, err));
    TRY(add_smaller_batch(&c, tokens, err));
    TRY(add_streaming(&c, err));
    TRY(add_quantised(&c, err));
    TRY(add_several(&c, err));
    return add_processor(&c, err);
}

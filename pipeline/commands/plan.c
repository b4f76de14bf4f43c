// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/amount.h"
#include "base/json.h"
#include "base/size.h"
#include "checkpoints/folder_content.h"
#include "commands/command.h"
#include "commands/plan_memory.h"
#include "commands/plan_ways.h"
#include "commands/readable.h"
#include "model/place.h"
#include "start/batching.h"
#include "start/fill.h"
#include "start/inputs.h"
#include "start/reuse.h"
#include "start/slices.h"
#include "start/wanted_layers.h"

// Of the batches but those that are one long text, which are full by themselves.
static double share_full(const struct inputs *inputs) {
    const struct survey *survey = &inputs->survey;
    uint64_t batches = survey->totals.batches - survey->long_texts;
    double room = (double)batches * (double)inputs->job.batch_tokens;
    return batches > 0 ? (double)(survey->totals.tokens - survey->long_tokens) / room
                       : survey->long_texts > 0;
}

static void write_plan(FILE *out, const struct inputs *inputs) {
    const struct survey *survey = &inputs->survey;
    const struct ledger_survey *totals = &survey->totals;
    uint64_t per_shard = (uint64_t)inputs->job.checkpoint_every;
    double batches = totals->batches > 0 ? (double)totals->batches : 1;
    char disk[AMOUNT_TEXT];
    double texts = totals->texts > 0 ? (double)totals->texts : 1;
    fprintf(out,
            "problems      %" PRIu64 " rows: %" PRIu64 " to run, %" PRIu64 " fail, %" PRIu64 " are skipped\n",
            totals->problems, totals->texts, survey->failed, survey->skipped);
    fprintf(out,
            "tokens        %" PRIu64 " (mean %.1f a text, longest %" PRIu64 "); %" PRIu64
            " texts are cut to %" PRId64 "\n",
            survey->text_tokens, (double)survey->text_tokens / texts, totals->longest, totals->truncated,
            inputs->job.max_tokens);
    fprintf(out, "rows          %" PRIu64 " (%s) in %zu layers\n", totals->rows,
            pooling_name(inputs->job.pooling), inputs->layer_count);
    fprintf(out,
            "batches       %" PRIu64 ", %.1f %% of %" PRId64 " tokens full, %.1f texts each; largest %" PRIu64
            " tokens\n",
            totals->batches, 100 * share_full(inputs), inputs->job.batch_tokens, texts / batches,
            survey->largest_tokens);
    fprintf(out, "shards        %" PRIu64 " of %" PRIu64 " batches\n",
            (totals->batches + per_shard - 1) / per_shard, per_shard);
    fprintf(out, "disk          %s\n",
            amount_text((double)inputs_planned_bytes(inputs, &inputs->survey), disk));
    double flops = model_flops(inputs->model, inputs_blocks(inputs), totals->tokens, totals->squared_lengths);
    fprintf(out, "work          %.3f TFLOP (%.3f GFLOP a token)\n", flops * 1e-12,
            totals->tokens > 0 ? flops * 1e-9 / (double)totals->tokens : 0);
    fprintf(out, "problem set   %s\n", totals->problems_sha256);
}

static int write_prefixes(FILE *out, const struct inputs *inputs, struct error *err) {
    struct buffer text = {0};
    int status = reuse_describe(inputs, &text, err);
    if (status == STATUS_OK) {
        fprintf(out, "prefixes      %s\n", text.data);
    }
    buffer_destroy(&text);
    return status;
}

// Whether a GPU is to compute it, which has slices of another size: `auto` takes one that is here.
static bool is_for_gpu(const struct job *job, const struct plan_options *options) {
    struct error why;
    return options->card != NULL || strncmp(job->devices[0], "cuda", 4) == 0 ||
           (strcmp(job->devices[0], "auto") == 0 && device_gpus(&why) > 0);
}

// As far as it is known without a device.
static int write_slices(FILE *out, const struct inputs *inputs, const struct plan_options *options,
                        struct error *err) {
    struct model_limits limits;
    struct buffer text = {0};
    inputs_model_limits(inputs, &limits);
    if (is_for_gpu(&inputs->job, options)) {
        limits.tokens = (size_t)fill_shape(inputs->survey.largest_tokens, model_longest_own(&limits));
        inputs_set_group(inputs, &limits, 1);
    }
    int status = slices_describe(inputs, &limits, &text, err);
    if (status == STATUS_OK && text.size > 0) {
        fprintf(out, "long texts    %s\n", text.data);
    }
    buffer_destroy(&text);
    return status;
}

// Not for a processor, which computes the tokens that there are.
static int write_fill(FILE *out, const struct inputs *inputs, struct error *err) {
    struct fill fill;
    if (strcmp(inputs->job.devices[0], "cpu") == 0 || inputs->survey.totals.batches == 0) {
        return STATUS_OK;
    }
    TRY(fill_survey(&fill, inputs, err));
    fprintf(out,
            "fill          %.1f %% on a GPU, which computes every batch at one shape; %" PRIu64 " of %" PRIu64
            " below 90 %%\n",
            100 * fill.share, fill.low, inputs->survey.shapes);
    if (fill.remedy[0] != 0) {
        fprintf(out, "warning       a fill below 95 %% wastes a GPU's time: %s\n", fill.remedy);
    }
    return STATUS_OK;
}

// ---- ways to run it ----

static int print_json(FILE *out, const struct plan_ways *ways, struct error *err) {
    json_t *document = plan_ways_json(ways);
    char *text = document == NULL ? NULL : json_dumps(document, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    json_decref(document);
    if (text == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory for the plan");
    }
    fprintf(out, "%s\n", text);
    free(text);
    return STATUS_OK;
}

static int write_ways(FILE *out, const struct plan_work *work, const struct plan_options *options,
                      const struct plan_subject *subject, struct error *err) {
    struct plan_machine machine;
    struct plan_ways ways = {0};
    int status;
    TRY(plan_machine_find(&machine, options, subject, err));
    struct plan_work filled = *work;
    filled.devices = subject->device_count;
    struct plan_options settled = *options;
    settled.gpus = options->gpus > 0 ? options->gpus : (int)subject->device_count;
    filled.work.fill =
        machine.figures.has_own_memory ? work->work.fill : 1; // a processor computes what is there
    TRY_TO(done, status = plan_ways_make(&ways, &filled, &machine, &settled, err));
    if (options->json) {
        status = print_json(out, &ways, err);
    } else {
        plan_ways_write(out, &ways);
    }
done:
    plan_ways_destroy(&ways);
    return status;
}

// Tokens of the texts of the average token: attention over such texts takes as long as over these.
static size_t typical_length(const struct forecast_work *work) {
    return work->tokens > 0 ? (size_t)(work->squared_lengths / (double)work->tokens + 0.5) : 1;
}

static void name_devices(struct plan_subject *subject, const struct job *job) {
    struct error why;
    bool all = strcmp(job->devices[0], "cuda:all") == 0;
    subject->device_count = all ? size_min(size_max(device_gpus(&why), 1), MODEL_DEVICES) : job->device_count;
    for (size_t i = 0; i < subject->device_count; i++) {
        struct plan_device *device = &subject->devices[i];
        if (all) {
            snprintf(device->name, sizeof device->name, "cuda:%u", (unsigned)i);
        } else {
            snprintf(device->name, sizeof device->name, "%s", job->devices[i]);
        }
        device->limit = job_device_limit(job, device->name);
    }
}

static int write_job_ways(FILE *out, const struct inputs *inputs, const struct plan_options *options,
                          struct error *err) {
    const struct job *job = &inputs->job;
    const struct ledger_survey *totals = &inputs->survey.totals;
    struct fill fill = {.share = 1};
    struct model_limits limits;
    if (totals->tokens == 0) {
        return STATUS_OK;
    }
    TRY(fill_survey(&fill, inputs, err));
    inputs_model_limits(inputs, &limits);
    limits.tokens = options->tokens > 0 ? options->tokens : (size_t)job->batch_tokens;
    limits.texts = size_min(inputs->limits.problems, limits.tokens);
    const size_t blocks = inputs_blocks(inputs);
    const size_t stay = size_min((size_t)job->resident_blocks, blocks);
    const struct plan_work work = {.model = inputs->model,
                                   .config = model_config_of(inputs->model),
                                   .limits = &limits,
                                   .work = {.tokens = totals->tokens,
                                            .squared_lengths = totals->squared_lengths,
                                            .fill = fill.share,
                                            .streamed_least = blocks - stay},
                                   .has_problems = true,
                                   .group = (size_t)job->batch_group,
                                   .way = job_weights_name((enum job_weights)job->weights),
                                   .split = job_split_name((enum job_split)job->split),
                                   .is_held = model_is_packed(inputs->model),
                                   .dtype = job->dtype,
                                   .file = model_file_bytes(inputs->model)};
    struct plan_subject subject = {
        .config = work.config,
        .options = {.dtype = job->dtype, .threads = (int)job->threads, .cpu_path = job->cpu_path},
        .reserve = (uint64_t)(job->memory_reserve_gb * 1e9),
        .limit = (uint64_t)(job->memory_gb * 1e9),
        .tokens = limits.tokens,
        .length = typical_length(&work.work)};
    name_devices(&subject, job);
    return write_ways(out, &work, options, &subject, err);
}

static int write_layers(FILE *out, const struct inputs *inputs, struct error *err) {
    enum { MOST = 8 };
    struct buffer text = {0};
    int status = wanted_layers_text(inputs, MOST, "\n              ", &text, err);
    if (status == STATUS_OK) {
        fprintf(out, "layers        %s\n", text.data);
    }
    buffer_destroy(&text);
    return status;
}

static int write_job(FILE *out, struct inputs *inputs, const struct plan_options *options,
                     struct error *err) {
    if (options->json) {
        return write_job_ways(out, inputs, options, err);
    }
    write_plan(out, inputs);
    TRY(write_prefixes(out, inputs, err));
    TRY(write_layers(out, inputs, err));
    TRY(write_slices(out, inputs, options, err));
    TRY(write_fill(out, inputs, err));
    TRY(plan_memory_write(out, inputs, err));
    return write_job_ways(out, inputs, options, err);
}

// ---- a model alone ----

// What a job has unless it says otherwise.
enum { MODEL_TOKENS = 8192, MODEL_LONGEST = 2048, MODEL_LENGTH = 300, MODEL_ROWS = 1024, MODEL_SLOTS = 4 };
#define MODEL_RESERVE 500000000

static bool has_weights(const char *path, enum model_form form) {
    return form == MODEL_FORM_GGUF || model_has_part(path, MODEL_WEIGHTS) ||
           model_has_part(path, MODEL_WEIGHTS_INDEX);
}

static int write_model_ways(FILE *out, const struct model *model, const struct model_config *config,
                            const struct plan_options *options, struct error *err) {
    const size_t layer = config->layers - 1; // the default of latents.layers
    const size_t tokens = options->tokens > 0 ? options->tokens : MODEL_TOKENS;
    const double length = MODEL_LENGTH;
    const struct model_limits limits = {.layers = &layer,
                                        .layer_count = 1,
                                        .tokens = tokens,
                                        .texts = tokens,
                                        .rows = size_min(MODEL_ROWS, tokens),
                                        .longest = size_min(MODEL_LONGEST, tokens),
                                        .stored = DTYPE_F16,
                                        .slots = MODEL_SLOTS};
    const struct plan_work work = {
        .model = model,
        .config = config,
        .limits = &limits,
        .work = {.tokens = MODEL_LENGTH, .squared_lengths = length * length, .fill = 1},
        .is_held = model != NULL && model_is_packed(model),
        .dtype = DTYPE_BF16,
        .file = model != NULL ? model_file_bytes(model) : 0};
    const struct plan_subject subject = {.config = config,
                                         .options = {.dtype = DTYPE_BF16},
                                         .devices = {{.name = "auto"}},
                                         .device_count = 1,
                                         .reserve = MODEL_RESERVE,
                                         .tokens = tokens,
                                         .length = MODEL_LENGTH};
    if (!options->json) {
        fprintf(out,
                "model         %s: %zu blocks, up to hidden_states[%zu], bfloat16; batches of %zu tokens in "
                "texts of %d\n",
                config->model_type, layer, layer, tokens, MODEL_LENGTH);
    }
    if (!options->json && model == NULL) {
        fprintf(out, "note          no weights are there: they are taken for numbers of %s%s\n",
                dtype_name(config->checkpoint_dtype),
                config->quantization.method == QUANTIZATION_NONE
                    ? ""
                    : ", although config.json calls them packed");
    }
    return write_ways(out, &work, options, &subject, err);
}

static int write_model(FILE *out, const struct plan_options *options, struct error *err) {
    const char *path = options->model;
    enum model_form form;
    TRY(model_form(path, &form, err));
    if (has_weights(path, form)) {
        struct model *model;
        TRY(model_open(&model, path, err));
        int status = write_model_ways(out, model, model_config_of(model), options, err);
        model_close(model);
        return status;
    }
    struct model_config config;
    struct buffer text = {0};
    int status = model_config_read(&config, &text, path, err);
    if (status == STATUS_OK) {
        status = write_model_ways(out, NULL, &config, options, err);
        model_config_destroy(&config);
    }
    buffer_destroy(&text);
    return status;
}

// ---- the command ----

// Of the job whose inputs these are, or where they are NULL of a model alone.
static int print_plan(FILE *out, struct inputs *inputs, const struct plan_options *options,
                      struct error *err) {
    enum { INDENT = 14 };
    struct readable_page page;
    TRY(readable_page_open(&page, "the plan", err));
    int status =
        inputs != NULL ? write_job(page.out, inputs, options, err) : write_model(page.out, options, err);
    if (status != STATUS_OK) {
        readable_page_drop(&page);
        return status;
    }
    return readable_page_print(&page, out, INDENT, 0, options->json ? 0 : readable_columns(out), err);
}

// The batches of a run that has begun in the output are planned as it began.
static int settle_batching(struct inputs *inputs, struct error *err) {
    struct ledger *ledger = NULL;
    if (folder_content_lacks_ledger(inputs->job.output)) {
        return STATUS_OK;
    }
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, inputs->job.output, err));
    status = batching_settle(inputs, ledger, err);
done:
    ledger_close(ledger);
    return status;
}

static int plan_job(struct command_context *context, const struct plan_options *asked, struct error *err) {
    struct readable_waiting waiting;
    struct inputs_options options = {.watch = readable_watch(&waiting, "plan")};
    job_arguments(&options, context->arguments);
    struct inputs inputs;
    int status;
    TRY_TO(done, status = inputs_read_job(&inputs, &options, err));
    TRY_TO(done, status = settle_batching(&inputs, err));
    TRY_TO(done,
           status = inputs_open(&inputs, INPUTS_PROBLEMS | INPUTS_TOKENIZER | INPUTS_MODEL | INPUTS_TEMPLATE,
                                NULL, err));
    TRY_TO(done, status = reuse_survey(&inputs, err));
    TRY_TO(done, status = print_plan(context->out, &inputs, asked, err));
    status = inputs_refuse_nothing(&inputs, err);
done:
    inputs_close(&inputs);
    return status;
}

static int run(struct command_context *context, struct error *err) {
    struct plan_options options;
    TRY(plan_options_read(&options, context->arguments, err));
    return options.model != NULL ? print_plan(context->out, NULL, &options, err)
                                 : plan_job(context, &options, err);
}

static const struct operand operands[] = {
    {.name = "JOB.yaml", .help = "the job file (strata help job); or --model", .optional = true},
};

static const struct option options[] = {
    JOB_OPTION_LIMIT(""),
    {.name = "--model",
     .kind = OPTION_TEXT,
     .value = "PATH",
     .help = "in place of a job: a model as model.path names it; a folder with config.json is enough"},
    {.name = "--gpu",
     .kind = OPTION_TEXT,
     .value = "CARD",
     .help = "plan for this GPU, \"RTX 4090\", or for one of a size, 8GB (default: the job's device here)"},
    {.name = "--gpus",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "say what up to N such GPUs would give (default: the job's)",
     .minimum = 1,
     .maximum = MODEL_DEVICES},
    {.name = "--in-use",
     .kind = OPTION_TEXT,
     .value = "SIZE",
     .help = "memory of the device that others hold (default: what they hold here; of --gpu none)"},
    {.name = "--target",
     .kind = OPTION_TEXT,
     .value = "SHARE",
     .help = "share of the rest that may be taken (default: 0.9)"},
    {.name = "--host-memory",
     .kind = OPTION_TEXT,
     .value = "SIZE",
     .help = "memory of the host for blocks that stream from there (default: what is free here)"},
    {.name = "--pcie",
     .kind = OPTION_TEXT,
     .value = "GB/s",
     .help = "rate of copies to the GPU (default: 80 % of its link's)"},
    {.name = "--disk-rate",
     .kind = OPTION_TEXT,
     .value = "GB/s",
     .help = "rate of reading weights again (default: 2)"},
    {.name = "--tokens",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "tokens per batch (default: batch.tokens of the job; of a model 8192)",
     .minimum = 1,
     .maximum = 1 << 22},
    {.name = "--context",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "compare with what llama.cpp needs to generate with N tokens of context",
     .minimum = 1,
     .maximum = 1 << 24},
    {.name = "--kv",
     .kind = OPTION_TEXT,
     .value = "TYPE",
     .help = "of its keys and values, with --context (default: f16)",
     .choices = "f16|q8_0|q4_0"},
    {.name = "--file-size",
     .kind = OPTION_TEXT,
     .value = "SIZE",
     .help = "of the file it loads, with --context (default: the checkpoint's, or at 16 bits)"},
    {.name = "--details", .kind = OPTION_FLAG, .help = "print memory by purpose and by layer too"},
    {.name = "--json",
     .kind = OPTION_FLAG,
     .help = "print the ways to run it as one JSON object, nothing else"},
};

const struct command command_plan = {
    .name = "plan",
    .summary = "count what a job takes, and predict its speed here or on another machine",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .details =
        "Reads and tokenises the whole query. The batches are those that strata run will compute, or "
        "continue\n"
        "with if the output holds a run. A GPU computes every batch at one shape: fill is the share "
        "of its tokens\n"
        "that are text; below 95 % a warning names what would raise it. Memory is what weights and a full "
        "batch take\n"
        "on the device. Tokens that texts begin with alike are computed once (batch.prefix): prefixes says "
        "how many that\n"
        "saves, and what it takes; work, batches and times count what is computed.\n"
        "\n"
        "Then come the ways to run it, on the job's device or on --gpu: with all blocks resident on the "
        "device; with\n"
        "blocks streamed from host memory, or from disk, if they do not all fit (model.weights); with "
        "model.quantize.\n"
        "For each: its memory, the blocks that stay on the device, the largest batch.tokens that fits, the "
        "tokens in\n"
        "flight that hide the copies, and tokens per second with what limits them. A CPU's rate is measured "
        "on a block\n"
        "of the model in about a second, as if nothing else ran. A GPU's is 60 % of what its data sheet "
        "gives: an\n"
        "assumption, not a measurement. Sizes that options take count as nvidia-smi does (a GB is 2^30 "
        "bytes), printed\n"
        "ones and rates in 10^9 bytes. Times are of computing alone.\n",
    .run = run,
};

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoints/run_folder.h"
#include "commands/command.h"
#include "extract/inputs.h"

// One table of preconditions: each is tried when those it needs have passed, and reported PASS, FAIL or not
// tried.
struct check {
    struct inputs inputs;
    char detail[512]; // of the condition that passed
};

static int check_job(struct check *check, struct error *err) {
    (void)err;
    snprintf(check->detail, sizeof check->detail, "output %.400s", check->inputs.job.output);
    return STATUS_OK;
}

static int check_problems(struct check *check, struct error *err) {
    int status = inputs_open_problems(&check->inputs, err);
    snprintf(check->detail, sizeof check->detail, "%.400s, ids unique", check->inputs.job.database);
    return status;
}

static int check_tokenizer(struct check *check, struct error *err) {
    int status = inputs_open_tokenizer(&check->inputs, err);
    if (status == STATUS_OK) {
        snprintf(check->detail, sizeof check->detail, "%.400s, %zu ids", check->inputs.job.tokenizer_path,
                 tokenizer_id_limit(check->inputs.tokenizer));
    }
    return status;
}

static int check_model(struct check *check, struct error *err) {
    int status = inputs_open_model(&check->inputs, err);
    if (status == STATUS_OK) {
        const struct model_config *config = model_config_of(check->inputs.model);
        snprintf(check->detail, sizeof check->detail,
                 "%s, %zu blocks of %zu, %.3f B parameters, every tensor in place", config->model_type,
                 config->layers, config->hidden, (double)model_parameters(check->inputs.model) * 1e-9);
    }
    return status;
}

static int check_template(struct check *check, struct error *err) {
    int status = inputs_bind(&check->inputs, err);
    snprintf(check->detail, sizeof check->detail, "%zu columns", source_column_count(check->inputs.source));
    return status;
}

static int check_texts(struct check *check, struct error *err) {
    struct inputs *inputs = &check->inputs;
    struct survey *survey = &inputs->survey;
    int status = survey_make(survey, inputs->source, inputs->preparer, &inputs->limits, NULL, NULL, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (survey->totals.texts == 0) {
        return error_set(err, STATUS_DATA,
                         "none of %" PRIu64 " problems can be run (%" PRIu64 " fail, %" PRIu64
                         " are skipped)",
                         survey->totals.problems, survey->failed, survey->skipped);
    }
    if (survey->failed > (uint64_t)inputs->job.max_failed) {
        return error_set(err, STATUS_DATA,
                         "%" PRIu64 " of %" PRIu64 " problems fail; problems.max_failed allows %" PRId64,
                         survey->failed, survey->totals.problems, inputs->job.max_failed);
    }
    snprintf(check->detail, sizeof check->detail,
             "%" PRIu64 " texts, %" PRIu64 " tokens, %" PRIu64 " batches; %" PRIu64 " fail, %" PRIu64
             " skipped, %" PRIu64 " cut",
             survey->totals.texts, survey->totals.tokens, survey->totals.batches, survey->failed,
             survey->skipped, survey->totals.truncated);
    return STATUS_OK;
}

static int check_device(struct check *check, struct error *err) {
    struct device_description device;
    int status = inputs_open_device(&check->inputs, err);
    if (status == STATUS_OK) {
        device_describe(check->inputs.device, &device);
        snprintf(check->detail, sizeof check->detail, "%s (%s), path %s, %d threads: %s", device.kind,
                 device.name, device.path, device.threads, device.reason);
    }
    return status;
}

static int check_memory(struct check *check, struct error *err) {
    struct inputs *inputs = &check->inputs;
    struct model_limits limits;
    struct device_plan plan = {0};
    inputs_model_limits(inputs, &limits);
    int status = model_plan(inputs->model, inputs->device, &limits, &plan, err);
    if (status == STATUS_OK) {
        status = device_reserve(inputs->device, &plan, err);
    }
    size_t all = 0;
    for (int purpose = 0; purpose < DEVICE_PURPOSES; purpose++) {
        all += plan.bytes[purpose];
    }
    snprintf(check->detail, sizeof check->detail,
             "%.3f GB: %.3f weights, %.3f activations, %.3f scratch, %.3f staging", (double)all * 1e-9,
             (double)plan.bytes[DEVICE_WEIGHTS] * 1e-9, (double)plan.bytes[DEVICE_ACTIVATIONS] * 1e-9,
             (double)plan.bytes[DEVICE_SCRATCH] * 1e-9, (double)plan.bytes[DEVICE_STAGING] * 1e-9);
    return status;
}

// The nearest folder above the output that is there already.
static int existing_folder(char out[PATH_SIZE], const char *path, struct error *err) {
    int status = path_join(out, PATH_SIZE, "", path, err);
    while (status == STATUS_OK && !file_exists(out)) {
        char above[PATH_SIZE];
        status = path_folder(above, sizeof above, out, err);
        memcpy(out, above, PATH_SIZE);
    }
    return status;
}

static int check_output(struct check *check, struct error *err) {
    const struct job *job = &check->inputs.job;
    char folder[PATH_SIZE];
    int status = existing_folder(folder, job->output, err);
    if (status != STATUS_OK) {
        return status;
    }
    const char *network = file_network_system(folder);
    if (network != NULL && !job->force_network_output) {
        return error_set(err, STATUS_WRITE, "%s lies on a network file system (%s)", folder, network);
    }
    if (access(folder, W_OK | X_OK) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot write to %s", folder);
    }
    if (run_folder_busy(job->output)) {
        return error_set(err, STATUS_WRITE, "another runner is at work in %s", job->output);
    }
    snprintf(check->detail, sizeof check->detail, "%.400s can be written", folder);
    return STATUS_OK;
}

static int check_disk(struct check *check, struct error *err) {
    const struct job *job = &check->inputs.job;
    char folder[PATH_SIZE];
    uint64_t space;
    int status = existing_folder(folder, job->output, err);
    if (status == STATUS_OK) {
        status = file_space(folder, &space, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    double planned = (double)inputs_planned_bytes(&check->inputs);
    snprintf(check->detail, sizeof check->detail, "%.3f GB free, %.3f GB planned, %.2f GB kept free",
             (double)space * 1e-9, planned * 1e-9, job->disk_reserve_gb);
    return (double)space < planned + job->disk_reserve_gb * 1e9
               ? error_set(err, STATUS_WRITE, "%s", check->detail)
               : STATUS_OK;
}

static const struct {
    const char *name;
    int (*run)(struct check *check, struct error *err);
    unsigned needs; // bits of conditions that must have passed
} conditions[] = {
    {"job file", check_job, 0},
    {"problems", check_problems, 1 << 0},
    {"tokenizer", check_tokenizer, 1 << 0},
    {"model", check_model, 1 << 0},
    {"template", check_template, 1 << 1 | 1 << 2 | 1 << 3},
    {"texts", check_texts, 1 << 4},
    {"device", check_device, 1 << 0},
    {"memory", check_memory, 1 << 3 | 1 << 5 | 1 << 6},
    {"output", check_output, 1 << 0},
    {"disk space", check_disk, 1 << 3 | 1 << 5 | 1 << 8},
};
enum { CONDITION_COUNT = sizeof conditions / sizeof conditions[0] };

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    const struct inputs_options options = {.job_path = argument_text(arguments, "JOB.yaml", NULL),
                                           .output = argument_text(arguments, "--output", NULL),
                                           .limit = (uint64_t)argument_integer(arguments, "--limit", 0)};
    struct check check = {0};
    struct error first = {0};
    unsigned passed = 0;
    int failures = 0;
    int status = inputs_read_job(&check.inputs, &options, err); // a bad job file leaves nothing to check
    for (size_t i = 0; status == STATUS_OK && i < CONDITION_COUNT; i++) {
        if ((conditions[i].needs & ~passed) != 0) {
            fprintf(context->out, "----  %-11s not tried: needs what failed above\n", conditions[i].name);
            continue;
        }
        check.detail[0] = 0;
        if (conditions[i].run(&check, err) == STATUS_OK) {
            passed |= 1u << i;
            fprintf(context->out, "PASS  %-11s %s\n", conditions[i].name, check.detail);
        } else {
            fprintf(context->out, "FAIL  %-11s %s\n", conditions[i].name, err->message);
            first = failures++ == 0 ? *err : first;
        }
    }
    inputs_close(&check.inputs);
    if (failures > 0) {
        return error_set(err, first.status, "%d of %d conditions failed", failures, (int)CONDITION_COUNT);
    }
    return status;
}

static const struct operand operands[] = {
    {.name = "JOB.yaml", .help = "the job file (strata help job)"},
};

static const struct option check_options[] = {
    {.name = "--output",
     .kind = OPTION_TEXT,
     .value = "DIR",
     .help = "the run directory (default: run.output of the job)"},
    {.name = "--limit",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "only the first N rows of the query (default: all)",
     .minimum = 1,
     .maximum = INT64_MAX},
};

const struct command command_check = {
    .name = "check",
    .summary = "try every precondition of a job, without starting it",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = check_options,
    .option_count = sizeof check_options / sizeof check_options[0],
    .details = "Prints PASS or FAIL for each condition and ends with the exit code that strata run would "
               "have ended with.\n"
               "No weight is read and nothing is written.\n",
    .run = run,
};

// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/printable.h"
#include "checkpoints/folder_content.h"
#include "checkpoints/ledger.h"
#include "checkpoints/ledger_apart.h"
#include "checkpoints/run_folder.h"
#include "commands/command.h"
#include "commands/readable.h"
#include "model/footprint.h"
#include "start/algorithms.h"
#include "start/batching.h"
#include "start/fill.h"
#include "start/fit.h"
#include "start/inputs.h"
#include "start/placement.h"
#include "start/recorded.h"
#include "start/reuse.h"
#include "start/slices.h"
#include "start/wanted_layers.h"

// One table of preconditions, in the order in which strata run meets them: each is tried when those it needs
// have passed, and reported PASS, FAIL or not tried. The first that fails names the exit code.
struct check {
    struct inputs inputs;
    struct ledger *ledger;       // of a run that has begun in the output, read-only; NULL: none
    uint64_t parts;              // of the set that the output is; 0: none
    struct ledger_totals totals; // zeros without a ledger
    char detail[1024];           // of the condition that passed
};

static int check_job(struct check *check, struct error *err) {
    (void)err;
    snprintf(check->detail, sizeof check->detail, "output %.400s", check->inputs.job.output);
    return STATUS_OK;
}

static int check_problems(struct check *check, struct error *err) {
    TRY(inputs_open(&check->inputs, INPUTS_PROBLEMS, NULL, err));
    snprintf(check->detail, sizeof check->detail, "%.400s, ids unique", check->inputs.job.database);
    return STATUS_OK;
}

static int check_tokenizer(struct check *check, struct error *err) {
    TRY(inputs_open(&check->inputs, INPUTS_TOKENIZER, NULL, err));
    snprintf(check->detail, sizeof check->detail, "%.400s, %zu ids", check->inputs.job.tokenizer_path,
             tokenizer_id_limit(check->inputs.tokenizer));
    return STATUS_OK;
}

// To the detail, which the model's has.
static int add_layers(struct check *check, struct error *err) {
    enum { MOST = 3 };
    size_t used = strlen(check->detail);
    struct buffer text = {0};
    int status = wanted_layers_text(&check->inputs, MOST, ", ", &text, err);
    if (status == STATUS_OK) {
        snprintf(check->detail + used, sizeof check->detail - used, "; latents: %s", text.data);
    }
    buffer_destroy(&text);
    return status;
}

static int check_model(struct check *check, struct error *err) {
    TRY(inputs_open(&check->inputs, INPUTS_MODEL, NULL, err));
    const struct model_config *config = model_config_of(check->inputs.model);
    const struct buffer *weights = &check->inputs.weights;
    const struct buffer *adapter = &check->inputs.adapter;
    char active[48] = "";
    if (config->experts.count > 0) {
        snprintf(active, sizeof active, " (%.3f B active)",
                 (double)footprint_active_parameters(config) * 1e-9);
    }
    snprintf(check->detail, sizeof check->detail,
             "%s, %zu blocks of %zu, %.3f B parameters%s%s%.200s, every tensor in place%s%.200s",
             config->model_type, config->layers, config->hidden,
             (double)model_parameters(check->inputs.model) * 1e-9, active, weights->size > 0 ? " in " : "",
             weights->size > 0 ? weights->data : "", adapter->size > 0 ? "; " : "",
             adapter->size > 0 ? adapter->data : "");
    return add_layers(check, err);
}

static int check_template(struct check *check, struct error *err) {
    TRY(inputs_open(&check->inputs, INPUTS_TEMPLATE, NULL, err));
    snprintf(check->detail, sizeof check->detail, "%zu columns", source_column_count(check->inputs.source));
    return STATUS_OK;
}

// A run whose problems were surveyed goes on as it began.
static int check_markup(struct check *check, struct error *err) {
    const struct inputs *inputs = &check->inputs;
    struct ledger_survey totals;
    bool begun = false;
    if (check->ledger != NULL) {
        TRY(ledger_survey(check->ledger, &totals, &begun, err));
    }
    TRY(begun ? STATUS_OK : markup_refuse_doubled(&inputs->survey.markup, inputs->tokenizer, err));
    return markup_warn(&inputs->survey.markup, inputs->tokenizer, &inputs->warnings, &check->inputs.warnings,
                       err);
}

static int check_texts(struct check *check, struct error *err) {
    struct inputs *inputs = &check->inputs;
    struct survey *survey = &inputs->survey;
    TRY(reuse_survey(inputs, err));
    TRY(check_markup(check, err));
    char full[32] = "";
    if (fill_matters(inputs)) { // as far as the device is known
        struct fill fill;
        TRY(fill_survey(&fill, inputs, err));
        TRY(fill_warn(&fill, &inputs->warnings, err));
        snprintf(full, sizeof full, ", %.1f %% full", 100 * fill.share);
    }
    char computed[48] = "";
    if (survey->reuses) {
        snprintf(computed, sizeof computed, " (%" PRIu64 " computed)", survey->totals.tokens);
    }
    snprintf(check->detail, sizeof check->detail,
             "%s%" PRIu64 " texts, %" PRIu64 " tokens%s, %" PRIu64 " batches%s; %" PRIu64 " fail, %" PRIu64
             " skipped, %" PRIu64 " cut",
             survey->totals.texts == 0 ? "warning: nothing to compute: " : "", survey->totals.texts,
             survey->text_tokens, computed, survey->totals.batches, full, survey->failed, survey->skipped,
             survey->totals.truncated);
    return STATUS_OK;
}

static int check_device(struct check *check, struct error *err) {
    const struct device_description *device = &check->inputs.device;
    TRY(inputs_open(&check->inputs, INPUTS_DEVICE, check->ledger, err));
    const struct inputs *inputs = &check->inputs;
    char names[INPUTS_DEVICE_NAMES];
    snprintf(check->detail, sizeof check->detail, "%s (%s), path %s, %d threads: %s",
             inputs->device_count > 1 ? inputs_device_names(inputs, names) : device->kind, device->name,
             device->path, device->threads, device->reason);
    return STATUS_OK;
}

static int add_ways(struct check *check, const struct model_limits *limits, struct error *err) {
    size_t used = strlen(check->detail);
    struct buffer text = {0};
    int status = placement_describe(&check->inputs, limits, &text, err);
    if (status == STATUS_OK && text.size > 0) {
        used += (size_t)snprintf(check->detail + used, sizeof check->detail - used, "; %s", text.data);
        buffer_clear(&text);
    }
    if (status == STATUS_OK) {
        status = slices_describe(&check->inputs, limits, &text, err);
    }
    if (status == STATUS_OK && text.size > 0) {
        snprintf(check->detail + used, sizeof check->detail - used, "; %s", text.data);
    }
    buffer_destroy(&text);
    return status;
}

// Of a plan with all that is reserved, as the log of a launch has it.
static void describe_memory(struct check *check, const struct model_plan *plan) {
    const struct inputs *inputs = &check->inputs;
    size_t all = 0;
    for (int purpose = 0; purpose < DEVICE_PURPOSES; purpose++) {
        all += model_plan_bytes(plan, (enum device_purpose)purpose);
    }
    int used = snprintf(check->detail, sizeof check->detail,
                        "%.3f GB: %.3f weights, %.3f activations, %.3f scratch, %.3f staging%s",
                        (double)all * 1e-9, (double)model_plan_bytes(plan, DEVICE_WEIGHTS) * 1e-9,
                        (double)model_plan_bytes(plan, DEVICE_ACTIVATIONS) * 1e-9,
                        (double)model_plan_bytes(plan, DEVICE_SCRATCH) * 1e-9,
                        (double)model_plan_bytes(plan, DEVICE_STAGING) * 1e-9,
                        inputs->device.host_staging ? " (host)" : "");
    for (size_t i = 0; i < inputs->device_count && inputs->device_count > 1; i++) {
        const size_t *bytes = plan->devices[i].bytes;
        used += snprintf(check->detail + used, sizeof check->detail - (size_t)used,
                         "; %s: %.3f weights, %.3f activations, %.3f scratch", inputs->device_names[i],
                         (double)bytes[DEVICE_WEIGHTS] * 1e-9, (double)bytes[DEVICE_ACTIVATIONS] * 1e-9,
                         (double)bytes[DEVICE_SCRATCH] * 1e-9);
    }
}

static int check_memory(struct check *check, struct error *err) {
    struct inputs *inputs = &check->inputs;
    struct model_limits limits;
    struct model_plan plan = {0};
    struct model_plan whole;
    if (check->totals.finished) {
        snprintf(check->detail, sizeof check->detail, "none is needed: the run is finished");
        return STATUS_OK;
    }
    inputs_model_limits(inputs, &limits);
    TRY(fit_on_device(inputs, &limits, &plan, err));
    TRY(model_plan_whole(inputs->model, &plan, &whole, err));
    describe_memory(check, &whole);
    return add_ways(check, &limits, err);
}

// The nearest folder above the output that is there already.
static int existing_folder(char out[PATH_SIZE], const char *path, struct error *err) {
    TRY(path_join(out, PATH_SIZE, "", path, err));
    while (!file_exists(out)) {
        char above[PATH_SIZE];
        TRY(path_folder(above, sizeof above, out, err));
        memcpy(out, above, PATH_SIZE);
    }
    return STATUS_OK;
}

static int check_folder(const char *folder, bool may_be_network, struct error *err) {
    struct stat info;
    const char *network = file_network_system(folder);
    const char *kernel = file_kernel_system(folder);
    if (stat(folder, &info) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot look at %s", folder);
    }
    if (!S_ISDIR(info.st_mode)) {
        return error_set(err, STATUS_WRITE, "%s is not a folder", folder);
    }
    if (network != NULL && !may_be_network) {
        return error_set(err, STATUS_WRITE, "%s is on a network file system (%s)", folder, network);
    }
    if (kernel != NULL) {
        return error_set(err, STATUS_WRITE, "%s is on %s, where no run directory can be created", folder,
                         kernel);
    }
    if (access(folder, W_OK | X_OK) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot write to %s", folder);
    }
    return STATUS_OK;
}

// Without a ledger there must be no shard either: strata run does not start over beside the shards of
// another.
static int refuse_lone_shard(const char *folder, struct error *err) {
    char shard[RUN_FOLDER_NAME];
    TRY(folder_content_shard(shard, folder, err));
    return shard[0] != 0 ? error_set(err, STATUS_DATA, "%s has shards/%s and no ledger.sqlite", folder, shard)
                         : STATUS_OK;
}

static int open_ledger(struct check *check, struct error *err) {
    const char *folder = check->inputs.job.output;
    if (folder_content_lacks_ledger(folder)) {
        return refuse_lone_shard(folder, err);
    }
    TRY(ledger_open_read(&check->ledger, folder, err));
    TRY(ledger_check_chain(check->ledger, err));
    TRY(ledger_check_pages(check->ledger, err));
    TRY(ledger_totals(check->ledger, &check->totals, err));
    return batching_settle(&check->inputs, check->ledger, err);
}

// A part computes on the instruction set of those before it.
static int check_set(struct check *check, struct error *err) {
    struct job *job = &check->inputs.job;
    struct run_set_shared shared;
    bool found;
    TRY(run_set_shared(job->output, &shared, &found, err));
    bool follows = found && shared.cpu_path[0] != 0 && job->cpu_path == NULL;
    int status = follows ? memory_text(&job->cpu_path, shared.cpu_path, err) : STATUS_OK;
    run_set_shared_destroy(&shared);
    snprintf(check->detail, sizeof check->detail, "%.400s is divided into %" PRIu64 " parts", job->output,
             check->parts);
    return status;
}

// The folder that has the ledger while a launch works, and whether one may begin with it.
static int check_ledger_folder(const struct job *job, struct error *err) {
    char folder[PATH_SIZE];
    struct run_folder place = {.apart = job->ledger != NULL};
    struct ledger_apart apart;
    TRY(path_join(place.path, sizeof place.path, "", job->output, err));
    TRY(path_join(place.ledger, sizeof place.ledger, "", place.apart ? job->ledger : job->output, err));
    if (place.apart) {
        TRY(run_folder_check_ledger(job->output, job->ledger, err));
        TRY(existing_folder(folder, job->ledger, err));
        TRY(check_folder(folder, job->force_network_output, err));
    }
    return ledger_apart_check(&apart, &place, false, err);
}

static int check_output(struct check *check, struct error *err) {
    const struct job *job = &check->inputs.job;
    char folder[PATH_SIZE];
    TRY(existing_folder(folder, job->output, err));
    TRY(check_folder(folder, job->force_network_output || job->ledger != NULL, err));
    TRY(check_ledger_folder(job, err));
    if (run_folder_busy(job->output)) {
        return error_set(err, STATUS_WRITE, "another runner is active in %s", job->output);
    }
    TRY(run_set_parts(job->output, &check->parts, err));
    if (check->parts > 0) {
        return check_set(check, err);
    }
    TRY(folder_content_admit(job->output, err));
    TRY(open_ledger(check, err));
    snprintf(check->detail, sizeof check->detail, "%.400s can be written", folder);
    return STATUS_OK;
}

// Makes lines one line: "first; second".
static int join_lines(struct buffer *out, const char *lines, struct error *err) {
    while (*lines != 0) {
        int length = (int)strcspn(lines, "\n");
        TRY(buffer_printf(out, err, "%s%.*s", out->size > 0 ? "; " : "", length, lines));
        lines += length + (lines[length] == '\n');
    }
    return STATUS_OK;
}

static int refuse_differences(const struct identity *stored, const struct identity *now, struct error *err) {
    struct buffer lines = {0};
    struct buffer joined = {0};
    size_t differences = 0;
    int status;
    TRY_TO(done, status = identity_compare(stored, now, &lines, &differences, err));
    if (differences > 0) {
        TRY_TO(done, status = join_lines(&joined, lines.data, err));
        status = error_set(err, STATUS_JOB, "not that of the run in this folder: %s", joined.data);
    }
done:
    buffer_destroy(&joined);
    buffer_destroy(&lines);
    return status;
}

static int describe_resume(struct check *check, struct error *err) {
    struct ledger_position position;
    TRY(ledger_position(check->ledger, &position, err));
    if (check->totals.finished) {
        snprintf(check->detail, sizeof check->detail, "that of the run, which is finished");
    } else {
        snprintf(check->detail, sizeof check->detail,
                 "that of the run, resumed after %" PRIu64 " sealed batches%s%s", position.batches,
                 check->inputs.path_changes ? "; " : "",
                 check->inputs.path_changes ? check->inputs.device.reason : "");
    }
    return STATUS_OK;
}

// What a resume would have as its identity, as far as it can be told without computing.
static int identity_of_resume(const struct check *check, const struct identity *stored, struct identity *now,
                              struct error *err) {
    const char *algorithms = identity_get(stored, IDENTITY_ALGORITHMS);
    struct model *model = check->inputs.model;
    const struct model_load_options options = {.hashes = check->inputs.job.hash_cache ? MODEL_HASHES_KNOWN
                                                                                      : MODEL_HASHES_MADE};
    TRY(model_fingerprint_files(model, &options, err));
    TRY(inputs_identity(&check->inputs, model_fingerprint(model), now, err));
    TRY(wanted_layers_adopt(&check->inputs, stored, now, err));
    TRY(recorded_carry(stored, now, err));
    TRY(reuse_carry(&check->inputs, stored, now, err));
    return algorithms == NULL ? STATUS_OK : identity_add(now, IDENTITY_ALGORITHMS, algorithms, err);
}

// What the parts share, as far as the whole job has it too: not which rows a part has.
static int stored_by_parts(const struct check *check, struct identity *stored, bool *found,
                           struct error *err) {
    struct run_set_shared shared = {0};
    const char *problems = check->inputs.survey.totals.problems_sha256;
    int status;
    TRY_TO(done, status = run_set_shared(check->inputs.job.output, &shared, found, err));
    for (size_t i = 0; i < shared.identity.count; i++) {
        const struct identity_entry *entry = &shared.identity.entries[i];
        if (strcmp(entry->key, IDENTITY_PART_SURVEY) != 0) {
            TRY_TO(done, status = identity_add(stored, entry->key, entry->value, err));
        }
    }
    if (*found) {
        TRY_TO(done, status = identity_add(stored, IDENTITY_PROBLEMS, problems, err));
        status = reuse_add_identity(&check->inputs, stored, err); // each part has its own
    }
done:
    run_set_shared_destroy(&shared);
    return status;
}

// A run that has begun is compared as a whole, which takes reading the model's files.
static int check_identity(struct check *check, struct error *err) {
    struct identity stored = {0};
    struct identity now = {0};
    bool found = false;
    int status = STATUS_OK;
    if (check->ledger != NULL) {
        TRY_TO(done, status = ledger_identity(check->ledger, &stored, &found, err));
    } else if (check->parts > 0) {
        TRY_TO(done, status = stored_by_parts(check, &stored, &found, err));
    }
    if (found) {
        TRY_TO(done, status = identity_of_resume(check, &stored, &now, err));
        TRY_TO(done, status = refuse_differences(&stored, &now, err));
    }
    if (found && check->ledger != NULL) {
        status = describe_resume(check, err);
    } else if (check->parts > 0) {
        snprintf(check->detail, sizeof check->detail,
                 found ? "that of the parts (strata status says what is done)" : "that of new parts");
    } else {
        snprintf(check->detail, sizeof check->detail, "a new run");
    }
done:
    identity_destroy(&stored);
    identity_destroy(&now);
    return status;
}

static int check_disk(struct check *check, struct error *err) {
    const struct job *job = &check->inputs.job;
    char folder[PATH_SIZE];
    uint64_t space;
    TRY(existing_folder(folder, job->output, err));
    TRY(file_space(folder, &space, err));
    uint64_t planned = inputs_planned_bytes(&check->inputs, &check->inputs.survey);
    uint64_t left = planned > check->totals.bytes ? planned - check->totals.bytes : 0;
    snprintf(check->detail, sizeof check->detail,
             "%.3f GB free, %.3f GB of %.3f GB still to write, %.2f GB kept free", (double)space * 1e-9,
             (double)left * 1e-9, (double)planned * 1e-9, job->disk_reserve_gb);
    bool fits = check->totals.finished || (double)space >= (double)left + job->disk_reserve_gb * 1e9;
    return fits ? STATUS_OK : error_set(err, STATUS_WRITE, "%s", check->detail);
}

// Those that the survey foretells, or that a finished run has counted.
static int check_failures(struct check *check, struct error *err) {
    const struct survey *survey = &check->inputs.survey;
    uint64_t allowed = (uint64_t)check->inputs.job.max_failed;
    uint64_t failed = check->totals.finished ? check->totals.failed : survey->failed;
    snprintf(check->detail, sizeof check->detail,
             "%" PRIu64 " of %" PRIu64 " problems fail; problems.max_failed allows %" PRIu64, failed,
             survey->totals.problems, allowed);
    if (check->totals.finished && check->totals.done == 0 && !check->inputs.job.allow_empty) {
        return error_set(err, STATUS_DATA, "no problem was done: of %" PRIu64 ", %" PRIu64 " failed",
                         survey->totals.problems, failed);
    }
    return failed > allowed ? error_set(err, STATUS_DATA, "%s", check->detail)
                            : inputs_refuse_nothing(&check->inputs, err);
}

enum { JOB, OUTPUT, PROBLEMS, TOKENIZER, MODEL, DEVICE, TEMPLATE, TEXTS, IDENTITY, DISK, MEMORY, FAILURES };
#define BIT(condition) (1u << (condition))

static const struct {
    const char *name;
    int (*run)(struct check *check, struct error *err);
    unsigned needs; // bits of conditions that must have passed
} conditions[] = {
    [JOB] = {"job file", check_job, 0},
    [OUTPUT] = {"output", check_output, BIT(JOB)},
    [PROBLEMS] = {"problems", check_problems, BIT(JOB)},
    [TOKENIZER] = {"tokenizer", check_tokenizer, BIT(JOB)},
    [MODEL] = {"model", check_model, BIT(JOB)},
    [DEVICE] = {"device", check_device, BIT(JOB)},
    [TEMPLATE] = {"template", check_template, BIT(PROBLEMS) | BIT(TOKENIZER) | BIT(MODEL)},
    [TEXTS] = {"texts", check_texts, BIT(TEMPLATE)},
    [IDENTITY] = {"identity", check_identity, BIT(OUTPUT) | BIT(DEVICE) | BIT(TEXTS)},
    [DISK] = {"disk space", check_disk, BIT(OUTPUT) | BIT(TEXTS)},
    [MEMORY] = {"memory", check_memory, BIT(DEVICE) | BIT(TEXTS)},
    [FAILURES] = {"failures", check_failures, BIT(TEXTS)},
};
enum { CONDITION_COUNT = sizeof conditions / sizeof conditions[0] };

static void print_condition(FILE *out, const char *verdict, const char *name, const char *detail) {
    enum { INDENT = 18 };
    char text[PRINTABLE_TEXT];
    readable_verdict(out, verdict);
    fprintf(out, "  %-11s ", name);
    readable_wrap(out, printable(text, sizeof text, detail), INDENT, INDENT, readable_columns(out));
}

// A table may follow the first line of a message.
static void print_failure(FILE *out, const char *name, const struct error *err) {
    const char *end = err->message + error_first_line(err);
    char first[sizeof err->message];
    snprintf(first, sizeof first, "%.*s", (int)(end - err->message), err->message);
    print_condition(out, "FAIL", name, first);
    if (*end != 0) {
        printable_write_lines(out, end + 1);
        fputc('\n', out);
    }
}

// What a condition found beside that it holds: a line each, once.
static void print_lines(FILE *out, const char *condition, struct check *check) {
    struct {
        const char *word;
        struct buffer *lines;
    } kinds[] = {{"WARN", &check->inputs.warnings}, {"note", &check->inputs.notes}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char *line = kinds[i].lines->size == 0 ? NULL : kinds[i].lines->data;
        while (line != NULL && *line != 0) {
            char *end = line + strcspn(line, "\n");
            char *next = *end == 0 ? NULL : end + 1;
            *end = 0;
            print_condition(out, kinds[i].word, condition, line);
            line = next;
        }
        buffer_clear(kinds[i].lines);
    }
}

// Tries every condition; returns how many failed, and the error of the first.
static int try_all(struct check *check, FILE *out, struct error *first) {
    struct error err = {0};
    unsigned passed = 0;
    int failures = 0;
    for (size_t i = 0; i < CONDITION_COUNT; i++) {
        if ((conditions[i].needs & ~passed) != 0) {
            print_condition(out, "----", conditions[i].name, "not checked: depends on what failed above");
            continue;
        }
        check->detail[0] = 0;
        if (conditions[i].run(check, &err) == STATUS_OK) {
            passed |= BIT(i);
            print_condition(out, "PASS", conditions[i].name, check->detail);
            print_lines(out, conditions[i].name, check);
        } else {
            print_failure(out, conditions[i].name, &err);
            *first = failures++ == 0 ? err : *first;
        }
    }
    return failures;
}

static int run(struct command_context *context, struct error *err) {
    struct readable_waiting waiting;
    struct inputs_options options = {.watch = readable_watch(&waiting, "check")};
    job_arguments(&options, context->arguments);
    struct check check = {0};
    struct error first = {0};
    int status = inputs_read_job(&check.inputs, &options, err); // a bad job file leaves nothing to check
    int failures = status == STATUS_OK ? try_all(&check, context->out, &first) : 0;
    ledger_close(check.ledger);
    inputs_close(&check.inputs);
    if (failures > 0) {
        return error_set(err, first.status, "%d of %d conditions failed", failures, (int)CONDITION_COUNT);
    }
    return status;
}

static const struct operand operands[] = {
    JOB_OPERAND,
};

static const struct option check_options[] = {
    JOB_OPTION_OUTPUT,
    JOB_OPTION_LIMIT(""),
};

const struct command command_check = {
    .name = "check",
    .summary = "check every precondition of a job without starting it",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = check_options,
    .option_count = sizeof check_options / sizeof check_options[0],
    .details =
        "Prints PASS or FAIL for each condition and exits with the code that strata run would exit with, as "
        "far\n"
        "as can be told without reading the weights. WARN marks what may make transformers' numbers differ,\n"
        "markup of another model's chat template, or batches that waste a GPU's time; note lists what was\n"
        "ignored, or is only worth knowing. If the output holds a run, check says whether it would be "
        "resumed\n"
        "and how much is left to write.\n"
        "Nothing is written: whether the output can be created is judged by the permissions and the file "
        "system\n"
        "of the nearest existing folder.\n",
    .run = run,
};

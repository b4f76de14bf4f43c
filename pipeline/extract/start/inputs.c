// SPDX-License-Identifier: MIT
#include "start/inputs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/size.h"
#include "kernels/shapes.h"
#include "model/folder.h"
#include "model/place.h"
#include "stages/in_flight.h"
#include "start/batching.h"
#include "start/device_choice.h"
#include "start/reuse.h"
#include "start/tokenizer_open.h"
#include "start/wanted_layers.h"

// The command line's paths are relative to the working folder, the job file's to the job file.
static int override_output(struct job *job, const char *output, struct error *err) {
    char *copy;
    TRY(memory_text(&copy, output, err));
    free(job->output);
    job->output = copy;
    return STATUS_OK;
}

static int take_copy(struct inputs *inputs, const char *copy, struct error *err) {
    char *path;
    TRY(memory_text(&path, copy, err));
    inputs->model_named = inputs->job.model_path;
    inputs->job.model_path = path;
    return STATUS_OK;
}

const char *inputs_model_path(const struct inputs *inputs) {
    return inputs->model_named != NULL ? inputs->model_named : inputs->job.model_path;
}

static int set_tokenizer(struct job *job, struct error *err) {
    char path[PATH_SIZE];
    if (job->tokenizer_path != NULL) {
        return STATUS_OK;
    }
    TRY(model_tokenizer_path(path, job->model_path, NULL, err));
    return memory_text(&job->tokenizer_path, path, err);
}

int inputs_read_job(struct inputs *inputs, const struct inputs_options *options, struct error *err) {
    *inputs = (struct inputs){.limit = options->limit,
                              .watch = options->watch,
                              .phases = options->phases,
                              .part.number = options->part};
    TRY(job_read(&inputs->job, options->job_path, err));
    if (options->output != NULL) {
        TRY(override_output(&inputs->job, options->output, err));
    }
    if (options->model_copy != NULL) {
        TRY(take_copy(inputs, options->model_copy, err));
    }
    if (options->device != NULL) {
        TRY(job_set_device(&inputs->job, options->device, err));
    }
    TRY(set_tokenizer(&inputs->job, err));
    if (options->threads > 0) {
        inputs->job.threads = options->threads;
    }
    inputs->limits = batching_limits(&inputs->job);
    return STATUS_OK;
}

// The ids were looked at by the survey, and its blocks tell whether the rows are still those.
static int open_part(struct inputs *inputs, struct error *err) {
    const struct part_of_set *part = &inputs->part;
    size_t id;
    TRY(source_column(inputs->source, inputs->job.id, &id, err));
    return source_confine(inputs->source, &part->survey.blocks, part->first, part->end, err);
}

static int open_problems(struct inputs *inputs, struct error *err) {
    static const char *const endings[] = {".db", ".sqlite", ".sqlite3", NULL};
    const struct job *job = &inputs->job;
    char hint[JOB_PATH_HINT];
    int status = source_open(&inputs->source, job->database, job->query, inputs->limit, &inputs->watch, err);
    if (status != STATUS_OK) {
        return file_exists(job->database)
                   ? status
                   : error_append(err, "%s", job_path_hint(hint, job->database, endings));
    }
    if (inputs->part.number.count > 0) {
        return open_part(inputs, err);
    }
    TRY(source_check_ids(inputs->source, job->id, NULL, err));
    bool empty = source_rows(inputs->source) == 0;
    return empty && !job->allow_empty ? source_refuse_empty(inputs->source, err) : STATUS_OK;
}

static int open_tokenizer(struct inputs *inputs, struct error *err) {
    const struct job *job = &inputs->job;
    bool in_model = strncmp(job->tokenizer_path, job->model_path, strlen(job->model_path)) == 0;
    if (in_model) {
        TRY(model_folder_find(job->model_path, job->folder, err));
    }
    // A folder that holds no model at all lacks the tokenizer too: that is the lesser news.
    if (in_model && !file_exists(job->tokenizer_path)) {
        TRY(model_folder_check(job->model_path, job->adapter_path, err));
    }
    TRY(model_folder_check_tokenizer(job->tokenizer_path, err));
    TRY(tokenizer_open(&inputs->tokenizer, job->tokenizer_path, err));
    return tokenizer_notes(inputs->tokenizer, &inputs->notes, err);
}

// Markup of a chat in the template, like <|im_start|>, that this tokenizer reads as plain text.
static int warn_of_markup(struct inputs *inputs, struct error *err) {
    enum { LONGEST = 64 };
    const char *at = inputs->job.text;
    while ((at = strstr(at, "<|")) != NULL) {
        size_t length = 2 + strcspn(at + 2, "<>{} \t\r\n");
        if (at[length] != '>' || length < 4 || length > LONGEST || at[length - 1] != '|') {
            at += 2;
            continue;
        }
        length += 1;
        const struct buffer *said = &inputs->warnings;
        bool is_said = said->size > 0 && memmem(said->data, said->size, at, length) != NULL;
        if (!is_said && !tokenizer_knows(inputs->tokenizer, at, length)) {
            // Warnings go into the shards of a run that is new: another wording changes their bytes.
            TRY(buffer_printf(
                &inputs->warnings, err,
                "problems.text has %.*s, which is no token of this tokenizer: it is read as plain text\n",
                (int)length, at));
        }
        at += length;
    }
    return STATUS_OK;
}

// The type by which transformers picks the tokenizer's class: of a text model beside towers the outer one,
// whose name lacks "_text".
static void outer_type(char out[sizeof(((struct model_config *)NULL)->model_type)],
                       const struct model_config *config) {
    static const char suffix[] = "_text";
    size_t size = strlen(config->model_type);
    size_t tail = strlen(suffix);
    bool cut = config->is_nested && size > tail && strcmp(config->model_type + size - tail, suffix) == 0;
    strcpy(out, config->model_type);
    out[cut ? size - tail : size] = 0;
}

static int add_warnings(struct inputs *inputs, struct error *err) {
    const struct model_config *config = model_config_of(inputs->model);
    TRY(model_folder_warnings(inputs->job.model_path, config, &inputs->warnings, err));
    if (inputs->tokenizer == NULL) { // a check in which it was refused
        return STATUS_OK;
    }
    char type[sizeof config->model_type];
    outer_type(type, config);
    TRY(tokenizer_warnings(inputs->tokenizer, type, config->tokenizer_class, &inputs->warnings, err));
    return warn_of_markup(inputs, err);
}

// Not a warning: those become bytes of the shards.
static int note_dtype(struct inputs *inputs, struct error *err) {
    if (model_config_of(inputs->model)->checkpoint_dtype != DTYPE_F16 || inputs->job.dtype != DTYPE_BF16) {
        return STATUS_OK;
    }
    return buffer_printf(&inputs->notes, err,
                         "the checkpoint's own dtype is float16, in which transformers computes it; "
                         "model.dtype: bfloat16 keeps 3 bits fewer of each number\n");
}

// Spans that were counted in one column are wrong behind whatever problems.text puts before it.
static int note_spans(struct inputs *inputs, struct error *err) {
    const char *text = inputs->job.text;
    bool begins = text[0] == '{' && text[1] != '{';
    if (inputs->job.steps_spans == NULL || (begins && strchr(text + 1, '{') == NULL)) {
        return STATUS_OK;
    }
    return buffer_printf(&inputs->notes, err,
                         "problems.steps.spans: problems.text is more than one column, and spans count from "
                         "the start of the whole rendered text, not of a column in it\n");
}

static int add_adapter(struct inputs *inputs, struct error *err) {
    struct buffer *text = &inputs->adapter;
    if (inputs->job.adapter_path == NULL) {
        return STATUS_OK;
    }
    TRY(model_set_adapter(inputs->model, inputs->job.adapter_path, err));
    TRY(model_adapter_text(inputs->model, text, err));
    return buffer_printf(text, err, ", SHA-256 %s", model_adapter_fingerprint(inputs->model));
}

static int hold_weights(struct inputs *inputs, struct error *err) {
    const struct job *job = &inputs->job;
    static const enum model_quantize quantize[] = {[JOB_QUANTIZE_NONE] = MODEL_QUANTIZE_NONE,
                                                   [JOB_QUANTIZE_NF4] = MODEL_QUANTIZE_NF4,
                                                   [JOB_QUANTIZE_NF4_DOUBLE] = MODEL_QUANTIZE_NF4_DOUBLE,
                                                   [JOB_QUANTIZE_INT8] = MODEL_QUANTIZE_INT8};
    const struct model_weight_options options = {.expands_at_load = job->expand == JOB_EXPAND_LOAD,
                                                 .rounds_to_float16 =
                                                     job->weights_rounding == JOB_ROUNDING_FLOAT16,
                                                 .quantize = quantize[job->quantize]};
    TRY(model_set_weight_options(inputs->model, &options, err));
    return model_is_packed(inputs->model) ? model_weight_formats(inputs->model, &inputs->weights, err)
                                          : STATUS_OK;
}

// Positions that are learned end where their table does, and some models are computed of texts of no more
// than so many tokens.
static int check_positions(const struct inputs *inputs, struct error *err) {
    const struct model_config *config = model_config_of(inputs->model);
    size_t positions = config->position_rows - config->position_offset;
    if (config->longest_text > 0 && (size_t)inputs->job.max_tokens > config->longest_text) {
        return error_set(
            err, STATUS_JOB,
            "problems.max_tokens is %lld, and the model is computed of texts of at most %zu tokens "
            "('%s'): set problems.max_tokens: %zu, which cuts longer texts, or less",
            (long long)inputs->job.max_tokens, config->longest_text, config->longest_key,
            config->longest_text);
    }
    return config->position_rows == 0 || (size_t)inputs->job.max_tokens <= positions
               ? STATUS_OK
               : error_set(err, STATUS_JOB,
                           "problems.max_tokens is %lld, and the model has learned %zu positions: set "
                           "problems.max_tokens: %zu, which cuts longer texts, or less",
                           (long long)inputs->job.max_tokens, positions, positions);
}

static int open_model(struct inputs *inputs, struct error *err) {
    const char *path = inputs->job.model_path;
    TRY(model_folder_find(path, inputs->job.folder, err));
    TRY(model_folder_check(path, inputs->job.adapter_path, err));
    TRY(model_open(&inputs->model, path, err));
    TRY(add_adapter(inputs, err));
    TRY(hold_weights(inputs, err));
    const char *notes = model_notes(inputs->model);
    TRY(buffer_append(&inputs->notes, notes, strlen(notes), err));
    TRY(note_dtype(inputs, err));
    TRY(add_warnings(inputs, err));
    TRY(check_positions(inputs, err));
    TRY(reuse_check_model(inputs, err));
    return wanted_layers_resolve(inputs, err);
}

static int bind_template(struct inputs *inputs, struct error *err) {
    TRY(note_spans(inputs, err));
    return preparer_create(&inputs->preparer, &inputs->job, inputs->source, inputs->tokenizer,
                           model_config_of(inputs->model)->vocabulary, err);
}

static int heed_stop(const struct inputs *inputs, struct error *err) {
    const struct watch *watch = &inputs->watch;
    return watch->stopped != NULL && watch->stopped(watch->context)
               ? error_set(err, STATUS_STOPPED,
                           "stopped while opening what the job names; run the same command to resume")
               : STATUS_OK;
}

// A phase of its own.
static int open_in(struct inputs *inputs, const char *name, int (*open)(struct inputs *, struct error *),
                   struct error *err) {
    const struct inputs_phases *phases = &inputs->phases;
    if (phases->begin != NULL) {
        phases->begin(phases->context, name, true);
    }
    int status = open(inputs, err);
    if (phases->begin != NULL) {
        phases->end(phases->context);
    }
    return status;
}

static int open_one(struct inputs *inputs, unsigned part, struct ledger *ledger, struct error *err) {
    switch (part) {
    case INPUTS_PROBLEMS: // whose waits are told by the watch
        return open_problems(inputs, err);
    case INPUTS_TOKENIZER:
        return open_in(inputs, "opening the tokenizer", open_tokenizer, err);
    case INPUTS_MODEL:
        return open_in(inputs, "opening the model", open_model, err);
    case INPUTS_DEVICE:
        return device_choice_open(inputs, ledger, err);
    default:
        return bind_template(inputs, err);
    }
}

int inputs_open(struct inputs *inputs, unsigned parts, struct ledger *ledger, struct error *err) {
    bool begun = false;
    for (unsigned part = INPUTS_PROBLEMS; part <= INPUTS_TEMPLATE; part <<= 1) {
        if ((parts & part) == 0) {
            continue;
        }
        if (begun) {
            TRY(heed_stop(inputs, err));
        }
        TRY(open_one(inputs, part, ledger, err));
        begun = true;
    }
    return STATUS_OK;
}

void inputs_close(struct inputs *inputs) {
    preparer_destroy(inputs->preparer);
    model_close(inputs->model);
    device_trail_destroy(&inputs->trail);
    tokenizer_destroy(inputs->tokenizer);
    source_close(inputs->source);
    buffer_destroy(&inputs->warnings);
    buffer_destroy(&inputs->notes);
    buffer_destroy(&inputs->weights);
    buffer_destroy(&inputs->adapter);
    buffer_destroy(&inputs->head);
    survey_destroy(&inputs->survey);
    survey_destroy(&inputs->retry);
    survey_file_destroy(&inputs->part.survey);
    run_set_shared_destroy(&inputs->part.shared);
    free(inputs->layers);
    free(inputs->model_named);
    job_destroy(&inputs->job);
    *inputs = (struct inputs){0};
}

static size_t at_least_one(uint64_t value) {
    return value > 0 ? (size_t)value : 1;
}

struct plan_limits inputs_plan_limits(const struct inputs *inputs) {
    struct plan_limits limits = inputs->limits;
    limits.head_only = limits.head_only || inputs->retries;
    return limits;
}

size_t inputs_token_unit(const struct inputs *inputs) {
    return inputs->device.queues ? INPUTS_QUEUED_UNIT : 1;
}

// The larger of the run and a retry: the matmuls of the run keep their shape, and with it their bits.
static size_t largest(uint64_t run, uint64_t retry) {
    return at_least_one(run > retry ? run : retry);
}

static size_t round_up(size_t tokens, size_t unit) {
    return (tokens + unit - 1) / unit * unit;
}

_Static_assert(INPUTS_SLICE_UNIT % INPUTS_QUEUED_UNIT == 0 && INPUTS_SLICE_UNIT % DEVICE_SLICE == 0,
               "slices are no whole tiles");

size_t inputs_shape_tokens(size_t unit, size_t tokens, size_t longest) {
    size_t shape = round_up(tokens, unit);
    return longest <= shape ? shape : round_up(shape, unit > 1 ? INPUTS_SLICE_UNIT : DEVICE_SLICE);
}

// A device that queues computes at one shape, on which the choice of its matmuls depends: the parts' is one
// and the same, whatever texts each has.
static size_t shape_of_parts(const struct inputs *inputs) {
    size_t longest = size_max((size_t)inputs->job.max_tokens, 1);
    return inputs_shape_tokens(inputs_token_unit(inputs), inputs->limits.tokens, longest);
}

size_t inputs_blocks(const struct inputs *inputs) {
    return config_blocks_for(model_config_of(inputs->model), inputs->layers[inputs->layer_count - 1]);
}

void inputs_model_limits(const struct inputs *inputs, struct model_limits *limits) {
    size_t most = largest(inputs->survey.largest_tokens, inputs->retry.largest_tokens);
    size_t longest = largest(inputs->survey.totals.longest, inputs->retry.totals.longest);
    size_t own = inputs->limits.reuses ? largest(inputs->survey.longest_own, inputs->retry.longest_own) : 0;
    size_t tokens = inputs->part.number.count > 0 && inputs->device.queues
                        ? shape_of_parts(inputs)
                        : inputs_shape_tokens(inputs_token_unit(inputs), most, own > 0 ? own : longest);
    *limits = (struct model_limits){.layers = inputs->layers,
                                    .layer_count = inputs->layer_count,
                                    .tokens = tokens,
                                    // No text is empty, so a batch never has more texts than tokens.
                                    .texts = size_min(inputs->limits.problems, tokens),
                                    .rows = largest(inputs->survey.largest_rows, inputs->retry.largest_rows),
                                    .longest = longest,
                                    .longest_own = own,
                                    .head = inputs->limits.head_tokens,
                                    .keeping = reuse_keeping(inputs),
                                    .head_rows = inputs->survey.head_rows || inputs->retry.head_rows,
                                    .stored = inputs->job.latents_dtype};
    inputs_set_group(inputs, limits, 1);
}

void inputs_set_group(const struct inputs *inputs, struct model_limits *limits, size_t group) {
    limits->group = group;
    limits->members = size_max(group, model_batch_members(limits, model_longest_own(limits)));
    limits->slots = inputs_slots(inputs, group);
}

// All devices take part in a sweep for which weights come to them.
static size_t sweep_batches(const struct inputs *inputs, size_t group) {
    bool streams = model_placed_at(inputs->model) != MODEL_WEIGHTS_RESIDENT;
    return streams ? group * model_devices(inputs->model) : group;
}

size_t inputs_canary_slots(const struct inputs *inputs, size_t group) {
    return inputs->device.queues ? sweep_batches(inputs, group) : 1;
}

// One being packed, one written, those on the devices; of groups one on the devices and the next one.
size_t inputs_slots(const struct inputs *inputs, size_t group) {
    size_t batches = sweep_batches(inputs, group);
    size_t works = batches > 1 ? 2 * batches + 1 : in_flight_sweeps(inputs->model, batches) + 2;
    return works + inputs_canary_slots(inputs, group);
}

const char *inputs_device_names(const struct inputs *inputs, char text[INPUTS_DEVICE_NAMES]) {
    size_t length = 0;
    text[0] = 0;
    for (size_t i = 0; i < inputs->device_count; i++) {
        length += (size_t)snprintf(text + length, INPUTS_DEVICE_NAMES - length, "%s%s", i == 0 ? "" : ", ",
                                   inputs->device_names[i]);
    }
    return text;
}

int inputs_refuse_nothing(const struct inputs *inputs, struct error *err) {
    const struct survey *survey = &inputs->survey;
    if (survey->totals.texts > 0 || inputs->job.allow_empty) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_DATA,
                     "there is nothing to compute: of %" PRIu64 " problems %" PRIu64 " fail and %" PRIu64
                     " are skipped (problems.allow_empty: true allows it)",
                     survey->totals.problems, survey->failed, survey->skipped);
}

uint64_t inputs_planned_bytes(const struct inputs *inputs, const struct survey *survey) {
    size_t hidden = model_config_of(inputs->model)->hidden;
    uint64_t row =
        inputs->layer_count * hidden * dtype_size(inputs->job.latents_dtype) + sizeof(struct shard_row);
    uint64_t bytes = survey->totals.rows * row + survey->totals.problems * 64 + survey->metadata_bytes;
    if (inputs->job.token_ids) {
        bytes += survey->text_tokens * sizeof(int32_t);
    }
    bytes += inputs->job.loss_mask ? survey->text_tokens : 0;
    uint64_t per_shard = (uint64_t)inputs->job.checkpoint_every;
    uint64_t shards = (survey->totals.batches + per_shard - 1) / per_shard;
    uint64_t statistics = inputs->layer_count * hidden * 4 * sizeof(double);
    return bytes + bytes / 50 + shards * (statistics + (64 << 10));
}

// ---- identity ----

struct identity_context {
    struct identity *identity;
    bool skips_prefixes;
    struct error *err;
};

static int add_key(void *context, const char *key, const char *value) {
    struct identity_context *target = context;
    return target->skips_prefixes && reuse_is_key(key)
               ? STATUS_OK
               : identity_add(target->identity, key, value, target->err);
}

static int add_libraries(const struct inputs *inputs, struct identity *identity, struct error *err) {
    char hdf5[32];
    char text[TOKENIZER_LIBRARY];
    TRY(identity_add(identity, "device.kind", inputs->device.kind, err));
    TRY(identity_add(identity, "device.identity", device_choice_identity(inputs), err));
    TRY(identity_add(identity, "library.hdf5", shard_library(hdf5), err));
    return identity_add(identity, "library.tokenizer", tokenizer_library(text), err);
}

// Which rows of the query, of those that one survey found.
static int add_part(const struct inputs *inputs, struct identity *identity, struct error *err) {
    const struct part_of_set *part = &inputs->part;
    char text[64];
    if (part->number.count == 0) {
        return STATUS_OK;
    }
    snprintf(text, sizeof text, "%" PRIu64 "/%" PRIu64, part->number.index, part->number.count);
    TRY(identity_add(identity, IDENTITY_PART, text, err));
    snprintf(text, sizeof text, "%" PRIu64 " to %" PRIu64, part->first, part->end - 1);
    TRY(identity_add(identity, IDENTITY_PART_ROWS, part->first < part->end ? text : "none", err));
    return identity_add(identity, IDENTITY_PART_SURVEY, part->survey.sha256, err);
}

// What the batches and rows of all problems depend on, with the model's files left aside.
static int add_job(const struct inputs *inputs, struct identity *identity, struct error *err) {
    struct identity_context context = {identity, reuse_is_moot(inputs), err};
    TRY(job_each_identity_key(&inputs->job, add_key, &context));
    return identity_add_number(identity, "problems.limit", (long long)inputs->limit, err);
}

static int add_texts(const struct inputs *inputs, struct identity *identity, struct error *err) {
    const char *changes = tokenizer_changes_fingerprint(inputs->tokenizer);
    TRY(identity_add(identity, "tokenizer.sha256", tokenizer_fingerprint(inputs->tokenizer), err));
    // Only where the files beside tokenizer.json change anything: runs of earlier versions, which did not
    // read them, go on where nothing does.
    if (changes[0] != 0) {
        TRY(identity_add(identity, "tokenizer.changes", changes, err));
    }
    // What "0" means to this version: a resume must plan the same batches.
    if (inputs->limits.full) {
        char windows[64];
        snprintf(windows, sizeof windows, "full batches, windows of %zu problems or %d batches",
                 inputs->limits.window, PLAN_WINDOW_BATCHES);
        TRY(identity_add(identity, "batch.plan", windows, err));
    }
    return reuse_add_identity(inputs, identity, err);
}

int inputs_identity(const struct inputs *inputs, const char *model_fingerprint, struct identity *identity,
                    struct error *err) {
    TRY(add_job(inputs, identity, err));
    TRY(identity_add(identity, IDENTITY_PROBLEMS, inputs->survey.totals.problems_sha256, err));
    TRY(add_texts(inputs, identity, err));
    TRY(add_part(inputs, identity, err));
    // Earlier versions read no packed weights.
    if (inputs->weights.size > 0) {
        TRY(identity_add(identity, IDENTITY_WEIGHTS, inputs->weights.data, err));
    }
    // Known before the files are read, so that another adapter is refused at once.
    if (inputs->adapter.size > 0) {
        TRY(identity_add(identity, IDENTITY_ADAPTER, inputs->adapter.data, err));
    }
    TRY(add_libraries(inputs, identity, err));
    return model_fingerprint == NULL ? STATUS_OK
                                     : identity_add(identity, "model.fingerprint", model_fingerprint, err);
}

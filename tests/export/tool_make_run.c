// SPDX-License-Identifier: MIT
// Makes a run directory through the real checkpoints code, without a model: known latents, failed and skipped
// problems, ids and metadata that need escaping, problems out of order within their shards.
//   export_tool_make_run FOLDER [problems=N] [dtype=NAME] [tokens=1] [mask=1] [blocks=N] [pooling=NAME]
//   [shards=N] [end=finished|killed|hold]
//                       [hidden=N] [scale=X]
// shards=N stops after N shards. end=hold keeps the lock until standard input is closed.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/dtype.h"
#include "base/file.h"
#include "checkpoints/ledger.h"
#include "checkpoints/run_folder.h"
#include "checkpoints/shard.h"

enum { LAYERS = 3, MODEL_LAYERS = 4, WINDOW = 10, BATCH = 5, SHARD_BATCHES = 2, ROWS_MOST = 16 };
static const size_t layers[LAYERS] = {0, 2, 4};

struct options {
    const char *folder;
    uint64_t problems;
    enum dtype dtype;
    bool tokens;
    bool mask;
    size_t blocks; // 3: the layer 4 is the last block's output before the final norm
    const char *pooling;
    uint64_t shards;
    const char *end;
    size_t hidden;
    float scale; // of the latents
};

struct made_problem {
    struct shard_problem shard;
    struct shard_row rows[ROWS_MOST];
    char id[64];
    char metadata[256];
    int32_t tokens[64];
    uint8_t mask[64];
};

static int failed(const struct error *err) {
    fprintf(stderr, "make_run: %s\n", err->message);
    return 1;
}

static enum problem_state state_of(uint64_t ordinal) {
    return ordinal % 7 == 3 ? PROBLEM_FAILED : ordinal % 11 == 5 ? PROBLEM_SKIPPED : PROBLEM_DONE;
}

// Steps 1 to 4; problem 6 of every 8 lost its last step to truncation.
static void make_problem(struct made_problem *made, const struct options *options, uint64_t ordinal) {
    static const char *const names[] = {"plain-%" PRIu64, "quote\"back\\slash-%" PRIu64,
                                        "\xC3\xBC"
                                        "mlaut \xF0\x9F\xA6\x89-%" PRIu64,
                                        "tab\tnew\nline-%" PRIu64};
    static const char *const splits[] = {"\"train\"", "\"train\"", "\"test\"", "null"};
    uint32_t steps = (uint32_t)(ordinal % 4) + 1;
    bool truncated = ordinal % 8 == 6;
    snprintf(made->id, sizeof made->id,
             ordinal % 4 == 0   ? names[0]
             : ordinal % 4 == 1 ? names[1]
             : ordinal % 4 == 2 ? names[2]
                                : names[3],
             ordinal);
    snprintf(made->metadata, sizeof made->metadata,
             "{\"domain\": \"math\", \"split\": %s, \"difficulty\": %" PRIu64
             ", \"note\": \"a \\\"b\\\" \\u00fc\", \"score\": 0.1}",
             splits[ordinal % 4], ordinal % 3);
    uint32_t rows = steps - (truncated && steps > 1 ? 1 : 0);
    for (uint32_t i = 0; i < rows; i++) {
        made->rows[i] = (struct shard_row){i, 2 + 5 * i, 7 + 5 * i, 10 + 20 * i, 29 + 20 * i};
    }
    made->shard = (struct shard_problem){.id = made->id,
                                         .id_size = strlen(made->id),
                                         .metadata = made->metadata,
                                         .metadata_size = strlen(made->metadata),
                                         .ordinal = ordinal,
                                         .token_count = 2 + 5 * rows,
                                         .truncated = truncated,
                                         .step_count = steps,
                                         .rows = rows,
                                         .tokens = options->tokens ? made->tokens : NULL,
                                         .loss_mask = options->mask ? made->mask : NULL};
    for (int32_t i = 0; i < 64; i++) {
        made->tokens[i] = (int32_t)ordinal * 100 + i;
        made->mask[i] = i % 3 == 0;
    }
}

// The latents' formula, repeated in the Python tests. Exact in float16 and float32.
static float latent(uint64_t layer, uint64_t ordinal, uint64_t row, uint64_t column) {
    return ((float)((ordinal * 131 + row * 17 + layer * 7 + column * 3) % 2001) - 1000.0f) / 64.0f;
}

// values: [LAYERS][BATCH * ROWS_MOST, hidden] float32, followed by as much room for the stored dtype.
static int append_batch(struct shard_writer *writer, const struct options *options, float *values,
                        const struct made_problem *made, size_t count, uint64_t number, struct error *err) {
    size_t hidden = options->hidden;
    size_t layer_numbers = BATCH * ROWS_MOST * hidden;
    struct shard_problem problems[BATCH];
    struct shard_row rows[BATCH * ROWS_MOST];
    const void *latents[LAYERS];
    size_t row_count = 0;
    for (size_t i = 0; i < count; i++) {
        problems[i] = made[i].shard;
        for (size_t row = 0; row < made[i].shard.rows; row++, row_count++) {
            rows[row_count] = made[i].rows[row];
            for (size_t k = 0; k < LAYERS * hidden; k++) {
                values[k / hidden * layer_numbers + row_count * hidden + k % hidden] =
                    options->scale * latent(layers[k / hidden], made[i].shard.ordinal, row, k % hidden);
            }
        }
    }
    for (size_t i = 0; i < LAYERS; i++) {
        float *stored = values + (LAYERS + i) * layer_numbers;
        dtype_convert(stored, options->dtype, values + i * layer_numbers, DTYPE_F32, row_count * hidden);
        latents[i] = stored;
    }
    const struct shard_batch batch = {.number = number,
                                      .problems = problems,
                                      .problem_count = count,
                                      .rows = rows,
                                      .row_count = row_count,
                                      .latents = latents};
    return shard_append(writer, &batch, err);
}

static struct ledger_batch batch_record(uint64_t number, const struct made_problem *made, size_t count) {
    struct ledger_batch batch = {.number = number,
                                 .epoch = 1,
                                 .problems = (uint32_t)count,
                                 .prepare_seconds = 0.25,
                                 .wait_seconds = 0.01,
                                 .compute_seconds = 2.0 + 0.1 * (double)(number % 3),
                                 .write_seconds = 0.125,
                                 .predicted_seconds = 2.0,
                                 .score = 0.05 * (double)(number % 3),
                                 .memory_bytes = UINT64_C(3) << 30};
    for (size_t i = 0; i < count; i++) {
        batch.rows += (uint32_t)made[i].shard.rows;
        batch.tokens += made[i].shard.token_count;
        batch.squared_lengths += (double)made[i].shard.token_count * made[i].shard.token_count;
    }
    return batch;
}

static struct ledger_problem problem_record(const struct made_problem *made, uint64_t ordinal, uint64_t batch,
                                            uint32_t index) {
    enum problem_state state = state_of(ordinal);
    struct ledger_problem record = {.ordinal = ordinal,
                                    .id = made->id,
                                    .id_size = strlen(made->id),
                                    .state = state,
                                    .batch = UINT64_MAX,
                                    .shard = UINT64_MAX,
                                    .reason = state == PROBLEM_FAILED
                                                  ? "the text is not valid UTF-8 at byte 7"
                                              : state == PROBLEM_SKIPPED ? "the text is empty"
                                                                         : NULL};
    if (state == PROBLEM_DONE) {
        record.batch = batch;
        record.index = index;
        record.tokens = made->shard.token_count;
        record.rows = (uint32_t)made->shard.rows;
        record.steps = made->shard.step_count;
        record.truncated = made->shard.truncated;
    }
    return record;
}

// One window of problems, last first, is one shard of up to two batches.
static int make_shard(struct ledger *ledger, struct shard_writer *writer, const struct options *options,
                      uint64_t number, struct ledger_position *position, float *values, struct error *err) {
    static struct made_problem made[WINDOW];
    static struct made_problem done[WINDOW];
    struct ledger_problem records[WINDOW];
    struct ledger_batch batches[SHARD_BATCHES];
    uint64_t first = number * WINDOW;
    uint64_t end = first + WINDOW < options->problems ? first + WINDOW : options->problems;
    size_t done_count = 0;
    size_t batch_count = 0;
    int status = shard_start(writer, number, err);
    for (uint64_t ordinal = end; ordinal-- > first;) {
        struct made_problem *problem = &made[ordinal - first];
        make_problem(problem, options, ordinal);
        records[ordinal - first] =
            problem_record(problem, ordinal, position->batches + done_count / BATCH, (uint32_t)done_count);
        if (state_of(ordinal) == PROBLEM_DONE) {
            make_problem(&done[done_count++], options, ordinal);
        }
    }
    for (size_t i = 0; i < done_count; i++) {
        done[i].shard.id = done[i].id;
    }
    for (size_t i = 0; i < done_count && status == STATUS_OK; i += BATCH, batch_count++) {
        size_t count = done_count - i < BATCH ? done_count - i : BATCH;
        uint64_t batch = position->batches + batch_count;
        batches[batch_count] = batch_record(batch, done + i, count);
        status = append_batch(writer, options, values, done + i, count, batch, err);
    }
    struct shard_sealed sealed;
    bool durable = false;
    if (status == STATUS_OK) {
        status = shard_seal(writer, false, &sealed, err);
    }
    position->shards = number + 1;
    position->batches += batch_count;
    position->window = end;
    position->window_batch = position->batches;
    const struct ledger_commit commit = {.shard = &sealed,
                                         .position = *position,
                                         .problems = records,
                                         .problem_count = end - first,
                                         .batches = batches,
                                         .batch_count = batch_count,
                                         .finished = end == options->problems};
    return status == STATUS_OK ? ledger_commit(ledger, &commit, &durable, err) : status;
}

static int begin(struct ledger *ledger, const struct options *options, struct error *err) {
    struct identity identity = {0};
    struct made_problem made;
    struct ledger_survey survey = {.problems = options->problems, .longest = 22};
    uint64_t epoch;
    memset(survey.problems_sha256, 'a', DIGEST_HEX - 1);
    for (uint64_t i = 0; i < options->problems; i++) {
        if (state_of(i) == PROBLEM_DONE) {
            make_problem(&made, options, i);
            survey.texts++;
            survey.tokens += made.shard.token_count;
            survey.rows += made.shard.rows;
            survey.truncated += made.shard.truncated;
        }
    }
    for (uint64_t first = 0; first < options->problems; first += WINDOW) {
        uint64_t texts = 0;
        for (uint64_t i = first; i < first + WINDOW && i < options->problems; i++) {
            texts += state_of(i) == PROBLEM_DONE;
        }
        survey.batches += (texts + BATCH - 1) / BATCH;
    }
    int status = identity_add(&identity, "model.dtype", "bfloat16", err);
    if (status == STATUS_OK) {
        status = identity_add_number(&identity, "batch.problems", BATCH, err);
    }
    if (status == STATUS_OK) {
        status = ledger_begin(ledger, &identity, &survey, err);
    }
    if (status == STATUS_OK) {
        status = ledger_launch(ledger, 2, &epoch, err);
    }
    if (status == STATUS_OK) {
        status = ledger_launch_works(ledger, err);
    }
    if (status == STATUS_OK) {
        status = ledger_set_note(ledger, "model.path", "/models/tiny", err);
    }
    if (status == STATUS_OK) {
        status = ledger_event(ledger, "warn", "batch times rise slowly", err);
    }
    identity_destroy(&identity);
    return status;
}

static int finish(struct ledger *ledger, const struct options *options, struct error *err) {
    struct ledger_totals totals;
    int status = ledger_totals(ledger, &totals, err);
    struct ledger_progress progress = {.epoch = 1,
                                       .updated = 1800000000,
                                       .batches = totals.batches,
                                       .problems = totals.done,
                                       .tokens = totals.tokens,
                                       .rows = totals.rows,
                                       .seconds = 4,
                                       .tokens_per_second = 50,
                                       .score = 0.025,
                                       .memory_bytes = UINT64_C(3) << 30};
    snprintf(progress.stage, sizeof progress.stage, "%s", totals.finished ? "finished" : "running");
    snprintf(progress.drift, sizeof progress.drift, "steady");
    if (status == STATUS_OK) {
        status = ledger_set_progress(ledger, &progress, err);
    }
    if (status == STATUS_OK && strcmp(options->end, "finished") == 0) {
        status = ledger_launch_end(ledger, totals.finished ? 0 : 75, totals.finished ? "" : "SIGTERM", err);
    }
    return status;
}

static int make_run(const struct options *options, struct error *err) {
    const struct shard_attribute attributes[] = {{"model", "tiny"},
                                                 {"model_type", "qwen3"},
                                                 {"model_fingerprint", "feedbeef"},
                                                 {"tokenizer_fingerprint", "cafe"},
                                                 {"problems_sha256", "aa"},
                                                 {"template", "{statement}\n{steps}"},
                                                 {"steps", "steps"},
                                                 {"steps_kind", "column"},
                                                 {"pooling", options->pooling},
                                                 {"compute_dtype", "bfloat16"}};
    const struct shard_layout layout = {.layers = layers,
                                        .layer_count = LAYERS,
                                        .model_layers = options->blocks,
                                        .hidden = options->hidden,
                                        .dtype = options->dtype,
                                        .token_ids = options->tokens,
                                        .loss_mask = options->mask,
                                        .attributes = attributes,
                                        .attribute_count = sizeof attributes / sizeof attributes[0]};
    struct run_folder folder = {.lock = -1, .output_lock = -1};
    struct ledger *ledger = NULL;
    struct shard_writer *writer = NULL;
    struct ledger_position position = {0};
    float *values = calloc(2 * LAYERS * BATCH * ROWS_MOST * options->hidden, sizeof *values);
    int status = values == NULL ? error_set(err, STATUS_INTERNAL, "out of memory") : STATUS_OK;
    if (status == STATUS_OK) {
        status = run_folder_open(&folder, options->folder, NULL, false, err);
    }
    if (status == STATUS_OK) {
        status = ledger_open(&ledger, options->folder, err);
    }
    if (status == STATUS_OK) {
        status = begin(ledger, options, err);
    }
    if (status == STATUS_OK) {
        status = shard_create(&writer, options->folder, &layout, err);
    }
    for (uint64_t i = 0; i < options->shards && i * WINDOW < options->problems && status == STATUS_OK; i++) {
        status = make_shard(ledger, writer, options, i, &position, values, err);
    }
    if (status == STATUS_OK) {
        status = finish(ledger, options, err);
    }
    free(values);
    shard_destroy(writer);
    ledger_close(ledger);
    if (status == STATUS_OK && strcmp(options->end, "hold") == 0) {
        puts("ready");
        fflush(stdout);
        while (getchar() != EOF) {
        }
    }
    run_folder_close(&folder);
    return status;
}

int main(int argc, char **argv) {
    struct options options = {.problems = 37,
                              .dtype = DTYPE_F16,
                              .pooling = "step_mean",
                              .blocks = MODEL_LAYERS,
                              .shards = UINT64_MAX,
                              .end = "finished",
                              .hidden = 8,
                              .scale = 1};
    struct error err = {0};
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        if (value == NULL) {
            options.folder = argv[i];
        } else if (strncmp(argv[i], "problems=", 9) == 0) {
            options.problems = strtoull(value + 1, NULL, 10);
        } else if (strncmp(argv[i], "dtype=", 6) == 0 && dtype_parse(value + 1, &options.dtype)) {
            continue;
        } else if (strncmp(argv[i], "tokens=", 7) == 0) {
            options.tokens = value[1] == '1';
        } else if (strncmp(argv[i], "blocks=", 7) == 0) {
            options.blocks = strtoul(value + 1, NULL, 10);
        } else if (strncmp(argv[i], "mask=", 5) == 0) {
            options.mask = value[1] == '1';
        } else if (strncmp(argv[i], "pooling=", 8) == 0) {
            options.pooling = value + 1;
        } else if (strncmp(argv[i], "shards=", 7) == 0) {
            options.shards = strtoull(value + 1, NULL, 10);
        } else if (strncmp(argv[i], "hidden=", 7) == 0) {
            options.hidden = strtoull(value + 1, NULL, 10);
        } else if (strncmp(argv[i], "scale=", 6) == 0) {
            options.scale = strtof(value + 1, NULL);
        } else if (strncmp(argv[i], "end=", 4) == 0) {
            options.end = value + 1;
        } else {
            fprintf(stderr, "make_run: what is '%s'?\n", argv[i]);
            return 64;
        }
    }
    if (options.folder == NULL) {
        fputs("make_run: no folder\n", stderr);
        return 64;
    }
    return make_run(&options, &err) == STATUS_OK ? 0 : failed(&err);
}

// SPDX-License-Identifier: MIT
// Made-up problems for the tests of checkpoints. A problem's content is a function of its ordinal and the
// layout alone, so that runs cut into other batches hold the same problems.
#ifndef STRATA_TESTS_CHECKPOINTS_FIXTURE_H
#define STRATA_TESTS_CHECKPOINTS_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/dtype.h"
#include "base/random.h"
#include "checkpoints/ledger.h"
#include "checkpoints/run_folder.h"
#include "checkpoints/shard.h"

enum fixture_pooling { FIXTURE_STEPS, FIXTURE_MEAN, FIXTURE_TOKENS };

enum { FIXTURE_TOKENS_MOST = 40, FIXTURE_ID = 64, FIXTURE_METADATA = 96 };

struct fixture_batch {
    struct shard_batch batch;
    struct shard_problem *problems;
    struct shard_row *rows;
    char *text; // ids and metadata
    int32_t *tokens;
    uint8_t *masks;
    void **latents; // [layers] -> [rows, hidden]
    size_t layers;
};

static inline void *fixture_take(size_t count, size_t size) {
    void *block = calloc(count == 0 ? 1 : count, size);
    if (block == NULL) {
        abort();
    }
    return block;
}

static inline void fixture_problem(struct shard_problem *problem, uint64_t ordinal,
                                   enum fixture_pooling pooling, char *text, int32_t *tokens) {
    uint64_t seed = ordinal + 1;
    problem->ordinal = ordinal;
    problem->token_count = 1 + (uint32_t)random_below(&seed, FIXTURE_TOKENS_MOST);
    problem->truncated = random_below(&seed, 5) == 0;
    problem->step_count = 1 + (uint32_t)random_below(&seed, 6);
    // Ids of several scripts; every 7th has a NUL in it.
    int length = snprintf(text, FIXTURE_ID, "aufgabe-\xc3\xbc-%llu", (unsigned long long)ordinal);
    if (ordinal % 7 == 3) {
        text[3] = 0;
    }
    problem->id = text;
    problem->id_size = (size_t)length;
    problem->metadata = text + FIXTURE_ID;
    problem->metadata_size = (size_t)snprintf(text + FIXTURE_ID, FIXTURE_METADATA, "{\"level\": %llu}",
                                              (unsigned long long)random_below(&seed, 100000));
    for (uint32_t i = 0; i < problem->token_count; i++) {
        tokens[i] = (int32_t)random_below(&seed, 150000);
    }
    problem->tokens = tokens;
    problem->rows = pooling == FIXTURE_MEAN     ? 1
                    : pooling == FIXTURE_TOKENS ? problem->token_count
                                                : random_below(&seed, problem->step_count + 1);
}

static inline void fixture_row(struct shard_row *row, const struct shard_problem *problem, size_t place,
                               enum fixture_pooling pooling) {
    uint32_t step = (uint32_t)place;
    uint32_t start = pooling == FIXTURE_TOKENS ? step : 0;
    *row = (struct shard_row){.step = step,
                              .token_start = start,
                              .token_end = pooling == FIXTURE_TOKENS ? step + 1 : problem->token_count,
                              .byte_start = start * 3,
                              .byte_end = problem->token_count * 3};
}

static inline void fixture_values(void *out, enum dtype dtype, uint64_t ordinal, size_t place, size_t layer,
                                  size_t hidden) {
    uint64_t seed = ordinal * 1000003 + place * 101 + layer * 7 + 1;
    for (size_t i = 0; i < hidden; i++) {
        float value = (float)(random_unit(&seed) * 8 - 4);
        dtype_convert((char *)out + i * dtype_size(dtype), dtype, &value, DTYPE_F32, 1);
    }
}

static inline void fixture_batch_make(struct fixture_batch *out, const struct shard_layout *layout,
                                      uint64_t number, uint64_t first, size_t count,
                                      enum fixture_pooling pooling) {
    *out = (struct fixture_batch){.layers = layout->layer_count};
    size_t row_size = layout->hidden * dtype_size(layout->dtype);
    size_t rows = 0;
    out->problems = fixture_take(count, sizeof *out->problems);
    out->text = fixture_take(count, FIXTURE_ID + FIXTURE_METADATA);
    out->tokens = fixture_take(count * FIXTURE_TOKENS_MOST, sizeof *out->tokens);
    out->masks = fixture_take(count * FIXTURE_TOKENS_MOST, sizeof *out->masks);
    for (size_t i = 0; i < count; i++) {
        fixture_problem(&out->problems[i], first + i, pooling,
                        out->text + i * (FIXTURE_ID + FIXTURE_METADATA),
                        out->tokens + i * FIXTURE_TOKENS_MOST);
        uint8_t *mask = out->masks + i * FIXTURE_TOKENS_MOST;
        for (uint32_t t = 0; t < out->problems[i].token_count; t++) {
            mask[t] = (first + i + t) % 3 == 0;
        }
        out->problems[i].loss_mask = mask;
        rows += out->problems[i].rows;
    }
    out->rows = fixture_take(rows, sizeof *out->rows);
    out->latents = fixture_take(layout->layer_count, sizeof *out->latents);
    for (size_t layer = 0; layer < layout->layer_count; layer++) {
        out->latents[layer] = fixture_take(rows, row_size);
    }
    for (size_t i = 0, row = 0; i < count; i++) {
        for (size_t place = 0; place < out->problems[i].rows; place++, row++) {
            fixture_row(&out->rows[row], &out->problems[i], place, pooling);
            for (size_t layer = 0; layer < layout->layer_count; layer++) {
                fixture_values((char *)out->latents[layer] + row * row_size, layout->dtype, first + i, place,
                               layer, layout->hidden);
            }
        }
    }
    out->batch = (struct shard_batch){.number = number,
                                      .problems = out->problems,
                                      .problem_count = count,
                                      .rows = out->rows,
                                      .row_count = rows,
                                      .latents = (const void *const *)out->latents};
}

static inline void fixture_batch_free(struct fixture_batch *batch) {
    for (size_t i = 0; i < batch->layers; i++) {
        free(batch->latents[i]);
    }
    free(batch->latents);
    free(batch->problems);
    free(batch->rows);
    free(batch->text);
    free(batch->tokens);
    free(batch->masks);
}

// The ledger's view of a batch whose problems are all done.
static inline void fixture_ledger_problems(struct ledger_problem *out, const struct shard_batch *batch,
                                           uint32_t index) {
    for (size_t i = 0; i < batch->problem_count; i++) {
        const struct shard_problem *problem = &batch->problems[i];
        out[i] = (struct ledger_problem){.ordinal = problem->ordinal,
                                         .id = problem->id,
                                         .id_size = problem->id_size,
                                         .state = PROBLEM_DONE,
                                         .batch = batch->number,
                                         .tokens = problem->token_count,
                                         .rows = (uint32_t)problem->rows,
                                         .steps = problem->step_count,
                                         .truncated = problem->truncated,
                                         .index = index + (uint32_t)i,
                                         .shard = UINT64_MAX};
    }
}

static inline struct ledger_batch fixture_ledger_batch(const struct shard_batch *batch, uint64_t epoch) {
    struct ledger_batch out = {.number = batch->number,
                               .epoch = epoch,
                               .problems = (uint32_t)batch->problem_count,
                               .rows = (uint32_t)batch->row_count,
                               .compute_seconds = 0.25,
                               .score = -0.0};
    for (size_t i = 0; i < batch->problem_count; i++) {
        out.tokens += batch->problems[i].token_count;
        out.squared_lengths += (double)batch->problems[i].token_count * batch->problems[i].token_count;
    }
    return out;
}

// A fresh folder under TMPDIR; fixture_folder_remove takes it away with all that is in it.
static inline void fixture_folder(char out[PATH_SIZE]) {
    const char *base = getenv("TMPDIR");
    snprintf(out, PATH_SIZE, "%s/strata-test-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(out) == NULL) {
        abort();
    }
}

static inline void fixture_folder_remove(const char *folder) {
    char command[PATH_SIZE + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) {
        abort();
    }
}

static const size_t fixture_layers[] = {0, 3, 4};
static const struct shard_attribute fixture_attributes[] = {{"model", "tiny"},
                                                            {"pooling", "step_mean"},
                                                            {"template", "{statement}\n{steps} \xc3\xa4"},
                                                            {"empty", ""}};

static inline struct shard_layout fixture_layout(size_t hidden, enum dtype dtype, bool token_ids) {
    return (struct shard_layout){.layers = fixture_layers,
                                 .layer_count = 3,
                                 .model_layers = 4,
                                 .hidden = hidden,
                                 .dtype = dtype,
                                 .token_ids = token_ids,
                                 .attributes = fixture_attributes,
                                 .attribute_count = 4};
}

#endif

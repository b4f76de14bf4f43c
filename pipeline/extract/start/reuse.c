// SPDX-License-Identifier: MIT
#include "start/reuse.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/amount.h"
#include "base/size.h"

#define HEAD_NOTE "batch.prefixes.head"     // token ids, a space between two
#define SURVEY_NOTE "batch.prefixes.survey" // tokens of the texts, most own ones of one, rows in the head

// Of the pooled rows of a batch, of which several are in host memory at a time.
enum { SLOT_BYTES = 256 << 20 };

// ---- what the job and the model allow ----

enum device_keeping reuse_keeping(const struct inputs *inputs) {
    switch (inputs->job.prefix_keep) {
    case JOB_KEEP_Q8_0:
        return DEVICE_KEEP_Q8_0;
    case JOB_KEEP_Q4_0:
        return DEVICE_KEEP_Q4_0;
    default:
        return DEVICE_KEEP_COMPUTED;
    }
}

const char *reuse_keeping_name(const struct inputs *inputs) {
    return reuse_keeping(inputs) == DEVICE_KEEP_COMPUTED
               ? dtype_name(inputs->job.dtype)
               : job_keep_name((enum job_keep)inputs->job.prefix_keep);
}

// Blocks of numbers end where a head does.
static int check_heads(const struct inputs *inputs, struct error *err) {
    const struct model_config *config = model_config_of(inputs->model);
    for (size_t block = 0; block < config->layers; block++) {
        size_t numbers = config_heads(config, block).head_dim;
        if (config_mixer(config, block) == MIXER_ATTENTION && numbers % DEVICE_KEEP_BLOCK != 0) {
            return error_set(err, STATUS_JOB,
                             "batch.prefix.keep is %s, which keeps blocks of %d numbers of a head, and heads "
                             "of block %zu have %zu: keep: auto keeps them as they are",
                             reuse_keeping_name(inputs), DEVICE_KEEP_BLOCK, block, numbers);
        }
    }
    return STATUS_OK;
}

int reuse_check_model(struct inputs *inputs, struct error *err) {
    struct plan_limits *limits = &inputs->limits;
    limits->least = (size_t)inputs->job.prefix_min_tokens;
    limits->shared_most = model_shares_up_to(inputs->model);
    limits->head_only = !model_shares_in_batches(inputs->model);
    return reuse_keeping(inputs) == DEVICE_KEEP_COMPUTED ? STATUS_OK : check_heads(inputs, err);
}

// Tokens of a head that memory_gb has room for.
static size_t head_most(const struct inputs *inputs) {
    size_t last = inputs_blocks(inputs);
    enum dtype dtype = inputs->job.dtype;
    double room = inputs->job.prefix_memory_gb * 1e9;
    double token = (double)model_head_token_bytes(inputs->model, last, dtype, reuse_keeping(inputs));
    double states = (double)model_head_state_bytes(inputs->model, last, dtype);
    size_t longest = (size_t)inputs->job.max_tokens;
    if (room <= states) {
        return 0;
    }
    return (room - states) >= token * (double)longest ? longest : (size_t)((room - states) / token);
}

// Rows of a batch: as many as without this, or what a slot of outputs may take.
static uint64_t rows_most(const struct inputs *inputs) {
    size_t row = model_config_of(inputs->model)->hidden * dtype_size(inputs->job.latents_dtype) +
                 sizeof(struct device_row_check);
    return size_max(inputs->limits.tokens, SLOT_BYTES / (inputs->layer_count * row));
}

struct prefix_wish reuse_wish(const struct inputs *inputs) {
    return (struct prefix_wish){.allowed = !inputs->has_begun && inputs->job.prefix_reuse == JOB_REUSE_AUTO,
                                .least = inputs->limits.least,
                                .shared_most = inputs->limits.shared_most,
                                .head_only = inputs->limits.head_only,
                                .head_most = head_most(inputs),
                                .rows_most = rows_most(inputs)};
}

static void use_head(struct inputs *inputs) {
    inputs->limits.reuses = true;
    inputs->limits.head = (const int32_t *)(const void *)inputs->head.data;
    inputs->limits.head_tokens = inputs->head.size / sizeof(int32_t);
}

void reuse_take_survey(struct inputs *inputs) {
    struct survey *survey = &inputs->survey;
    if (!survey->reuses || inputs->has_begun) {
        return;
    }
    buffer_destroy(&inputs->head);
    inputs->head = survey->head;
    survey->head = (struct buffer){0};
    use_head(inputs);
}

int reuse_survey(struct inputs *inputs, struct error *err) {
    const struct prefix_wish wish = reuse_wish(inputs);
    TRY(survey_make(&inputs->survey, inputs->source, inputs->preparer, &inputs->limits,
                    inputs->has_begun ? NULL : &wish, NULL, NULL, NULL, err));
    reuse_take_survey(inputs);
    return STATUS_OK;
}

// ---- the identity ----

// How the identity names a head; nothing where there is none.
static int name_head(const struct plan_limits *limits, struct buffer *text, struct error *err) {
    struct digest *digest = NULL;
    char hex[DIGEST_HEX];
    int status;
    if (limits->head_tokens == 0) {
        return STATUS_OK;
    }
    TRY_TO(done, status = digest_create(&digest, err));
    for (size_t i = 0; i < limits->head_tokens; i++) {
        TRY_TO(done, status = digest_number(digest, (uint64_t)limits->head[i], err));
    }
    TRY_TO(done, status = digest_finish(digest, hex, err));
    status = buffer_printf(text, err, "head of %zu tokens (SHA-256 %s), ", limits->head_tokens, hex);
done:
    digest_destroy(digest);
    return status;
}

int reuse_add_identity(const struct inputs *inputs, struct identity *identity, struct error *err) {
    const struct plan_limits *limits = &inputs->limits;
    struct buffer text = {0};
    int status;
    if (!limits->reuses) {
        return STATUS_OK;
    }
    TRY_TO(done, status = name_head(limits, &text, err));
    if (limits->head_tokens > 0) {
        TRY_TO(done, status = buffer_printf(&text, err, "kept as %s%s", reuse_keeping_name(inputs),
                                            limits->head_only ? "" : "; "));
    }
    if (!limits->head_only) {
        TRY_TO(done, status = buffer_printf(&text, err, "groups from %zu tokens", limits->least));
    }
    status = identity_add(identity, IDENTITY_PREFIXES, text.data == NULL ? "none" : text.data, err);
done:
    buffer_destroy(&text);
    return status;
}

bool reuse_is_moot(const struct inputs *inputs) {
    return inputs->has_begun && !inputs->limits.reuses;
}

bool reuse_is_key(const char *key) {
    static const char section[] = "batch.prefix.";
    return strncmp(key, section, sizeof section - 1) == 0;
}

int reuse_carry(const struct inputs *inputs, const struct identity *stored, struct identity *now,
                struct error *err) {
    for (size_t i = 0; reuse_is_moot(inputs) && i < stored->count; i++) {
        if (reuse_is_key(stored->entries[i].key)) {
            TRY(identity_add(now, stored->entries[i].key, stored->entries[i].value, err));
        }
    }
    return STATUS_OK;
}

// ---- the ledger ----

static int is_damaged(const char *note, struct error *err) {
    return error_set(err, STATUS_DATA, "the ledger's note '%s' is damaged", note);
}

static int read_head(struct buffer *head, const char *text, struct error *err) {
    while (*text != 0) {
        char *end;
        long number = strtol(text, &end, 10);
        if (end == text || number < 0 || number > INT32_MAX || (*end != 0 && *end != ' ')) {
            return is_damaged(HEAD_NOTE, err);
        }
        int32_t id = (int32_t)number;
        TRY(buffer_append(head, &id, sizeof id, err));
        text = end + (*end == ' ');
    }
    return STATUS_OK;
}

// The head that was read is the one that the identity names.
static int check_head(const struct plan_limits *limits, const char *stored, struct error *err) {
    struct buffer name = {0};
    int status = name_head(limits, &name, err);
    const char *wanted = name.data != NULL ? name.data : "groups";
    if (status == STATUS_OK && strncmp(stored, wanted, strlen(wanted)) != 0) {
        status = is_damaged(HEAD_NOTE, err);
    }
    buffer_destroy(&name);
    return status;
}

int reuse_settle(struct inputs *inputs, const struct identity *stored, struct ledger *ledger,
                 struct error *err) {
    struct buffer text = {0};
    bool found = false;
    int status;
    inputs->has_begun = true;
    if (identity_get(stored, IDENTITY_PREFIXES) == NULL) {
        return STATUS_OK;
    }
    TRY_TO(done, status = ledger_note(ledger, HEAD_NOTE, &text, &found, err));
    if (!found) {
        status = error_set(err, STATUS_DATA, "the ledger lacks the note '%s'", HEAD_NOTE);
        goto done;
    }
    TRY_TO(done, status = read_head(&inputs->head, text.data == NULL ? "" : text.data, err));
    use_head(inputs);
    status = check_head(&inputs->limits, identity_get(stored, IDENTITY_PREFIXES), err);
done:
    buffer_destroy(&text);
    return status;
}

int reuse_store(const struct inputs *inputs, struct ledger *ledger, struct error *err) {
    const struct survey *survey = &inputs->survey;
    const struct plan_limits *limits = &inputs->limits;
    struct buffer text = {0};
    char numbers[96];
    int status;
    if (!limits->reuses) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < limits->head_tokens; i++) {
        TRY_TO(done, status = buffer_printf(&text, err, "%s%" PRId32, i == 0 ? "" : " ", limits->head[i]));
    }
    TRY_TO(done, status = ledger_set_note(ledger, HEAD_NOTE, text.data == NULL ? "" : text.data, err));
    snprintf(numbers, sizeof numbers, "%" PRIu64 " %" PRIu64 " %d", survey->text_tokens, survey->longest_own,
             survey->head_rows);
    status = ledger_set_note(ledger, SURVEY_NOTE, numbers, err);
done:
    buffer_destroy(&text);
    return status;
}

static int read_numbers(struct ledger *ledger, uint64_t *text_tokens, uint64_t *longest_own, int *head_rows,
                        bool *found, struct error *err) {
    struct buffer text = {0};
    int status;
    TRY_TO(done, status = ledger_note(ledger, SURVEY_NOTE, &text, found, err));
    if (*found && sscanf(text.data, "%" SCNu64 " %" SCNu64 " %d", text_tokens, longest_own, head_rows) != 3) {
        status = is_damaged(SURVEY_NOTE, err);
    }
done:
    buffer_destroy(&text);
    return status;
}

int reuse_load(struct inputs *inputs, struct survey *survey, struct ledger *ledger, struct error *err) {
    bool found = false;
    int head_rows = 0;
    survey->text_tokens = survey->totals.tokens;
    if (!inputs->limits.reuses) {
        return STATUS_OK;
    }
    TRY(read_numbers(ledger, &survey->text_tokens, &survey->longest_own, &head_rows, &found, err));
    survey->reuses = true;
    survey->head_rows = head_rows != 0;
    if (!found) {
        return error_set(err, STATUS_DATA, "the ledger lacks the note '%s'", SURVEY_NOTE);
    }
    return survey->longest_own < size_max(inputs->limits.head_tokens, 1) ||
                   survey->longest_own > survey->totals.longest || survey->text_tokens < survey->totals.tokens
               ? is_damaged(SURVEY_NOTE, err)
               : STATUS_OK;
}

int reuse_text_tokens(struct ledger *ledger, uint64_t *tokens, bool *found, struct error *err) {
    struct identity stored = {0};
    uint64_t longest_own;
    int head_rows;
    *found = false;
    int status = ledger_identity(ledger, &stored, found, err);
    bool reuses = status == STATUS_OK && identity_get(&stored, IDENTITY_PREFIXES) != NULL;
    identity_destroy(&stored);
    *found = false;
    return reuses ? read_numbers(ledger, tokens, &longest_own, &head_rows, found, err) : status;
}

// ---- for people ----

static const struct {
    enum device_keeping keeping;
    const char *name;     // NULL: that of the dtype
    const char *measured; // how far off hidden states come out: tools/prefix_error.py, of Qwen3-0.6B's shape
} ways[] = {{DEVICE_KEEP_COMPUTED, NULL, NULL},
            {DEVICE_KEEP_Q8_0, "q8_0", "0.24 %"},
            {DEVICE_KEEP_Q4_0, "q4_0", "4.1 %"}};

// The bytes of a token, also in other ways than the job's.
static int describe_ways(const struct inputs *inputs, struct buffer *text, struct error *err) {
    struct error ignored;
    const char *dtype = dtype_name(inputs->job.dtype);
    bool has_blocks = check_heads(inputs, &ignored) == STATUS_OK;
    TRY(buffer_printf(text, err, " (bytes a token:"));
    for (size_t i = 0; i < (has_blocks ? sizeof ways / sizeof ways[0] : 1); i++) {
        TRY(buffer_printf(text, err, "%s %s %" PRIu64, i == 0 ? "" : ",",
                          ways[i].name == NULL ? dtype : ways[i].name,
                          model_head_token_bytes(inputs->model, inputs_blocks(inputs), inputs->job.dtype,
                                                 ways[i].keeping)));
    }
    return buffer_printf(text, err, ")");
}

// A token's hidden states, where rows lie in the head, and its keys and values of one block as computed,
// where they are kept in fewer bits.
static uint64_t beside_store(const struct inputs *inputs) {
    const struct model_config *config = model_config_of(inputs->model);
    bool has_rows = inputs->survey.head_rows || inputs->retry.head_rows;
    size_t numbers = has_rows ? inputs->layer_count * config->hidden : 0;
    numbers += reuse_keeping(inputs) != DEVICE_KEEP_COMPUTED ? config_keys_values(config) : 0;
    return numbers * dtype_size(inputs->job.dtype);
}

static int describe_head(const struct inputs *inputs, struct buffer *text, struct error *err) {
    enum device_keeping keeping = reuse_keeping(inputs);
    size_t last = inputs_blocks(inputs);
    uint64_t token = model_head_token_bytes(inputs->model, last, inputs->job.dtype, keeping);
    uint64_t states = model_head_state_bytes(inputs->model, last, inputs->job.dtype);
    uint64_t tokens = inputs->limits.head_tokens;
    uint64_t bytes = (token + beside_store(inputs)) * tokens + states;
    char all[AMOUNT_TEXT];
    TRY(buffer_printf(
        text, err, "a head of %" PRIu64 " tokens takes %s of each device%s", tokens,
        amount_text((double)bytes, all),
        inputs->job.weights == JOB_WEIGHTS_RESIDENT ? "" : ", where blocks stream one block's of it"));
    if (token > 0) {
        TRY(describe_ways(inputs, text, err));
    }
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (keeping == ways[i].keeping && ways[i].measured != NULL) {
            TRY(buffer_printf(text, err,
                              " and is kept in %s, which was measured to move the last hidden states of "
                              "Qwen3-0.6B's shape by %s",
                              ways[i].name, ways[i].measured));
        }
    }
    return STATUS_OK;
}

int reuse_describe(const struct inputs *inputs, struct buffer *text, struct error *err) {
    const struct survey *survey = &inputs->survey;
    const struct plan_limits *limits = &inputs->limits;
    if (!limits->reuses && survey->rows_beyond > 0) {
        return buffer_printf(text, err,
                             "texts are computed whole: with those that go on from others a batch would have "
                             "%" PRIu64 " rows (latents.pooling, latents.layers)",
                             survey->rows_beyond);
    }
    if (!limits->reuses) {
        return buffer_printf(text, err, "%s",
                             inputs->job.prefix_reuse == JOB_REUSE_OFF
                                 ? "texts are computed whole: batch.prefix.reuse is off"
                             : inputs->has_begun ? "texts are computed whole, as the run began"
                                                 : "texts are computed whole: going on from what they have "
                                                   "in common would save at most 5 % of their tokens");
    }
    double all = survey->text_tokens > 0 ? (double)survey->text_tokens : 1;
    double computed = (double)survey->totals.tokens + (double)limits->head_tokens;
    TRY(buffer_printf(text, err,
                      "%.1f %% of the tokens are saved: %.0f of %" PRIu64 " are computed, since texts begin "
                      "alike; ",
                      100 * (1 - computed / all), computed, survey->text_tokens));
    if (limits->head_tokens > 0) {
        TRY(describe_head(inputs, text, err));
    }
    return limits->head_only ? STATUS_OK
                             : buffer_printf(text, err,
                                             "%stexts of a batch go on from each other from %zu "
                                             "tokens on",
                                             limits->head_tokens > 0 ? "; " : "", limits->least);
}

// SPDX-License-Identifier: MIT
#include "start/fill.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "start/batching.h"

#define ENOUGH 0.95
#define LOW 0.9
#define WORTHWHILE 0.01 // a remedy fills at least so much more

struct fill fill_of(uint64_t tokens, uint64_t shapes, uint64_t shape_tokens) {
    struct fill fill = {.device_tokens = shapes * shape_tokens, .share = 1};
    if (fill.device_tokens > 0) {
        fill.share = (double)tokens / (double)fill.device_tokens;
    }
    return fill;
}

int fill_of_ledger(struct fill *fill, struct ledger *ledger, uint64_t shape_tokens, struct error *err) {
    struct ledger_totals totals;
    uint64_t shapes;
    TRY(ledger_totals(ledger, &totals, err));
    TRY(ledger_slices(ledger, shape_tokens, &shapes, err));
    *fill = fill_of(totals.tokens, shapes, shape_tokens);
    return STATUS_OK;
}

bool fill_matters(const struct inputs *inputs) {
    return inputs_token_unit(inputs) > 1;
}

uint64_t fill_shape(uint64_t largest, uint64_t longest) {
    return inputs_shape_tokens(INPUTS_QUEUED_UNIT, (size_t)largest, (size_t)longest);
}

uint64_t fill_shapes(uint64_t tokens, uint64_t shape_tokens) {
    return (tokens + shape_tokens - 1) / shape_tokens;
}

static uint64_t count_low(const struct survey *survey, uint64_t shape) {
    uint64_t low = 0;
    for (size_t at = 0; at < survey->batch_tokens.size; at += sizeof(uint32_t)) {
        uint32_t tokens;
        memcpy(&tokens, survey->batch_tokens.data + at, sizeof tokens);
        low += (double)tokens < LOW * (double)shape;
    }
    return low;
}

// ---- other values of the batch keys ----

// What a plan of the surveyed lengths comes to.
struct planned {
    uint64_t tokens;
    uint64_t shapes;
    uint64_t largest; // tokens of a batch that is not computed in slices
    uint64_t longest; // of any batch
    size_t most;      // texts of a batch
    struct fill fill;
};

static void count_plan(struct planned *planned, const struct plan *plan, const struct plan_limits *limits,
                       const uint32_t *lengths) {
    for (size_t b = 0; b < plan->batches; b++) {
        uint64_t tokens = 0;
        for (size_t i = plan->offset[b]; i < plan->offset[b + 1]; i++) {
            tokens += lengths[plan->order[i]];
        }
        planned->tokens += tokens;
        planned->longest = tokens > planned->longest ? tokens : planned->longest;
        planned->shapes += fill_shapes(tokens, fill_shape(limits->tokens, tokens));
        tokens = size_min(tokens, limits->tokens);
        planned->largest = tokens > planned->largest ? tokens : planned->largest;
        planned->most = size_max(planned->most, plan->offset[b + 1] - plan->offset[b]);
    }
}

// Where window_fill ends a window of `texts` lengths or fewer.
static size_t window_length(const struct plan_limits *limits, const uint32_t *lengths, size_t texts) {
    size_t tokens = 0;
    size_t count = 0;
    while (count < texts && !plan_window_ends(limits, count, tokens)) {
        tokens += lengths[count++];
    }
    return count;
}

static int try_limits(struct planned *planned, const struct plan_limits *limits, const struct survey *survey,
                      struct error *err) {
    const uint32_t *lengths = (const uint32_t *)(const void *)survey->lengths.data;
    size_t texts = survey->lengths.size / sizeof *lengths;
    struct plan plan;
    *planned = (struct planned){0};
    TRY(plan_create(&plan, limits, err));
    for (size_t at = 0; at < texts;) {
        size_t count = window_length(limits, lengths + at, texts - at);
        if (limits->full && at + count < texts) {
            count = plan_full_window(&plan, limits, lengths + at, NULL, count);
        } else {
            plan_window(&plan, limits, lengths + at, NULL, count);
        }
        count_plan(planned, &plan, limits, lengths + at);
        at += count;
    }
    plan_destroy(&plan);
    planned->fill = fill_of(planned->tokens, planned->shapes, fill_shape(planned->largest, planned->longest));
    return STATUS_OK;
}

// What may be changed, the cheapest first: the number of problems and the end of windows cost nothing, longer
// windows memory of the host, more tokens memory of the device. KEEP: as the job has it.
enum { KEEP = -1 };

static const struct remedy {
    int64_t problems; // 0: no limit
    int64_t window;
    int64_t times; // the job's tokens; 0: as they are, in whole tiles
} remedies[] = {
    {0, KEEP, 1},    {KEEP, 0, 1},    {0, 0, 1}, {KEEP, KEEP, 0}, {0, 16384, 1},
    {KEEP, KEEP, 2}, {KEEP, KEEP, 4}, {0, 0, 2}, {0, 0, 4},
};

// False when it changes nothing, or would shorten the windows.
static bool apply(const struct remedy *remedy, const struct job *job, struct job *changed) {
    int64_t problems = remedy->problems == KEEP ? job->batch_problems : remedy->problems;
    int64_t window = remedy->window == KEEP ? job->batch_window : remedy->window;
    int64_t tokens = job->batch_tokens * remedy->times;
    if (remedy->times == 0) {
        tokens = (int64_t)fill_shape((uint64_t)job->batch_tokens, 0);
    }
    *changed = (struct job){.batch_problems = problems, .batch_window = window, .batch_tokens = tokens};
    bool changes =
        problems != job->batch_problems || window != job->batch_window || tokens != job->batch_tokens;
    return changes && (window == 0 || window >= job->batch_window) &&
           tokens <= job_key_most("batch", "tokens");
}

// The least power of two that holds nothing back: with it the plan is the same.
static int64_t enough_problems(size_t most) {
    int64_t problems = 1;
    while ((size_t)problems < most) {
        problems *= 2;
    }
    return problems;
}

static void name_key(char *text, size_t size, const char *key, int64_t value) {
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s: %" PRId64, used > 0 ? " and " : "", key, value);
}

static void describe(char *text, size_t size, const struct job *job, const struct job *changed,
                     const struct planned *planned) {
    text[0] = 0;
    if (changed->batch_problems != job->batch_problems) {
        int64_t problems = enough_problems(planned->most);
        bool fits = changed->batch_window == 0 || problems <= changed->batch_window;
        name_key(text, size, "batch.problems", fits ? problems : changed->batch_window);
    }
    if (changed->batch_window != job->batch_window) {
        name_key(text, size, "batch.window", changed->batch_window);
    }
    if (changed->batch_tokens != job->batch_tokens) {
        name_key(text, size, "batch.tokens", changed->batch_tokens);
    }
    size_t used = strlen(text);
    snprintf(text + used, size - used, " would fill %.1f %%", 100 * planned->fill.share);
}

// Few batches, of which nothing much can be saved, or as few as the tokens need: what is missing is missing
// at the end of the set.
static bool lacks_only_the_last(const struct planned *planned) {
    enum { FEW = 8 };
    uint64_t shape = fill_shape(planned->largest, planned->longest);
    return planned->shapes < FEW || planned->shapes <= (planned->tokens + shape - 1) / shape;
}

// The first remedy that is enough, or the best of those that are worth it.
static int find_remedy(struct fill *fill, const struct inputs *inputs, struct error *err) {
    struct planned planned;
    struct plan_limits now = inputs->limits;
    now.reuses = false; // of lengths alone: those of what is computed
    TRY(try_limits(&planned, &now, &inputs->survey, err));
    double best = planned.fill.share;
    bool done = lacks_only_the_last(&planned);
    for (size_t i = 0; !done && i < sizeof remedies / sizeof remedies[0]; i++) {
        struct job changed;
        if (!apply(&remedies[i], &inputs->job, &changed)) {
            continue;
        }
        const struct plan_limits limits = batching_limits(&changed);
        TRY(try_limits(&planned, &limits, &inputs->survey, err));
        if (planned.fill.share >= best + WORTHWHILE) {
            best = planned.fill.share;
            done = best >= ENOUGH || lacks_only_the_last(&planned);
            describe(fill->remedy, sizeof fill->remedy, &inputs->job, &changed, &planned);
        }
    }
    return STATUS_OK;
}

int fill_survey(struct fill *fill, const struct inputs *inputs, struct error *err) {
    const struct survey *survey = &inputs->survey;
    uint64_t longest = survey->reuses ? survey->longest_own : survey->totals.longest;
    uint64_t shape = fill_shape(survey->largest_tokens, longest);
    *fill = fill_of(survey->totals.tokens, survey->shapes, shape);
    fill->low_known = survey->batch_tokens.size == survey->shapes * sizeof(uint32_t);
    fill->low = fill->low_known ? count_low(survey, shape) : 0;
    return fill->share < ENOUGH && survey->lengths.size > 0 ? find_remedy(fill, inputs, err) : STATUS_OK;
}

int fill_warn(const struct fill *fill, struct buffer *lines, struct error *err) {
    return fill->remedy[0] == 0 ? STATUS_OK
                                : buffer_printf(lines, err,
                                                "a GPU computes every batch as if it were full, and only "
                                                "%.1f %% of that would be text; %s\n",
                                                100 * fill->share, fill->remedy);
}

int fill_tell(const struct inputs *inputs, bool fresh, struct log *log, struct error *err) {
    const struct ledger_survey *totals = &inputs->survey.totals;
    struct buffer warning = {0};
    struct fill fill;
    if (!fill_matters(inputs) || totals->batches == 0) {
        return STATUS_OK;
    }
    TRY(fill_survey(&fill, inputs, err));
    log_write(log, LOG_LEVEL_INFO,
              "%" PRIu64 " batches: the device will compute %" PRIu64 " tokens for %" PRIu64
              " of texts, %.1f %% full",
              totals->batches, fill.device_tokens, totals->tokens, 100 * fill.share);
    int status = fresh ? fill_warn(&fill, &warning, err) : STATUS_OK;
    if (status == STATUS_OK && warning.size > 0) {
        log_write(log, LOG_LEVEL_WARN, "%.*s", (int)warning.size - 1, warning.data); // without its line feed
    }
    buffer_destroy(&warning);
    return status;
}

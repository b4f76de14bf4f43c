// SPDX-License-Identifier: MIT
#include "stages/batch_plan.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/size.h"

int plan_create(struct plan *plan, const struct plan_limits *limits, struct error *err) {
    *plan = (struct plan){0};
    int status;
    TRY_TO(done, status = memory_zeroed(&plan->order, limits->window, sizeof *plan->order, err));
    TRY_TO(done, status = memory_zeroed(&plan->offset, limits->window + 1, sizeof *plan->offset, err));
    TRY_TO(done, status = memory_zeroed(&plan->sorted, limits->window, sizeof *plan->sorted, err));
    TRY_TO(done, status = memory_zeroed(&plan->room, limits->window, sizeof *plan->room, err));
    TRY_TO(done, status = memory_zeroed(&plan->place, limits->window, sizeof *plan->place, err));
done:
    if (status != STATUS_OK) {
        plan_destroy(plan);
    }
    return status;
}

void plan_destroy(struct plan *plan) {
    free(plan->order);
    free(plan->offset);
    free(plan->sorted);
    free(plan->room);
    free(plan->place);
    *plan = (struct plan){0};
}

static int longest_first(const void *a, const void *b, void *context) {
    const uint32_t *tokens = context;
    uint32_t i = *(const uint32_t *)a;
    uint32_t j = *(const uint32_t *)b;
    if (tokens[i] != tokens[j]) {
        return tokens[i] > tokens[j] ? -1 : 1;
    }
    return i < j ? -1 : 1;
}

// The fullest batch with room for `tokens`, or plan->batches when none has.
static size_t best_fit(const struct plan *plan, const struct plan_limits *limits, const size_t *taken,
                       uint32_t tokens) {
    size_t best = plan->batches;
    for (size_t b = 0; b < plan->batches; b++) {
        if (plan->room[b] >= tokens && taken[b] < limits->problems &&
            (best == plan->batches || plan->room[b] < plan->room[best])) {
            best = b;
        }
    }
    return best;
}

void plan_window(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens, size_t texts) {
    size_t *taken = plan->offset + 1; // counts first, sums below
    plan->batches = 0;
    plan->offset[0] = 0;
    for (size_t i = 0; i < texts; i++) {
        plan->sorted[i] = (uint32_t)i;
    }
    qsort_r(plan->sorted, texts, sizeof *plan->sorted, longest_first, (void *)(uintptr_t)tokens);
    for (size_t i = 0; i < texts; i++) {
        uint32_t text = plan->sorted[i];
        size_t batch = best_fit(plan, limits, taken, tokens[text]);
        if (batch == plan->batches) {
            plan->room[batch] = limits->tokens;
            taken[batch] = 0;
            plan->batches++;
        }
        plan->room[batch] -= size_min(tokens[text], limits->tokens);
        taken[batch]++;
        plan->place[text] = (uint32_t)batch;
    }
    for (size_t b = 0; b < plan->batches; b++) {
        plan->offset[b + 1] += plan->offset[b];
        plan->room[b] = plan->offset[b]; // from here on: where the batch's next text goes
    }
    for (size_t i = 0; i < texts; i++) {
        plan->order[plan->room[plan->place[i]]++] = (uint32_t)i;
    }
}

bool plan_window_ends(const struct plan_limits *limits, size_t problems, size_t tokens) {
    return problems >= limits->window || (limits->full && tokens / limits->tokens >= PLAN_WINDOW_BATCHES);
}

// How many of the first texts hold at most `sum` tokens, each at most those of a batch: a longer one takes a
// batch, however long it is.
static size_t first_texts(const struct plan_limits *limits, const uint32_t *tokens, size_t texts,
                          size_t sum) {
    size_t count = 0;
    while (count < texts && size_min(tokens[count], limits->tokens) <= sum) {
        sum -= size_min(tokens[count++], limits->tokens);
    }
    return count;
}

size_t plan_full_window(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                        size_t texts) {
    plan_window(plan, limits, tokens, texts);
    if (plan->batches < 2) {
        return texts;
    }
    size_t batches = plan->batches - 1;
    size_t most = texts - 1; // that can be in so many batches
    if (limits->problems <= most / batches) {
        most = batches * limits->problems;
    }
    most = size_min(most, first_texts(limits, tokens, texts, batches * limits->tokens));
    // Half a batch of room is more than packing needs; a window that does not fit with so much is held back
    // by something else, and leaving texts out mends nothing.
    size_t enough = batches * limits->tokens - limits->tokens / 2;
    size_t least = size_min(most, first_texts(limits, tokens, texts, enough));
    plan_window(plan, limits, tokens, least);
    if (least == 0 || plan->batches > batches) {
        plan_window(plan, limits, tokens, texts);
        return texts;
    }
    size_t fits = least;
    size_t above = most + 1;
    while (above - fits > 1) {
        size_t middle = fits + (above - fits) / 2;
        plan_window(plan, limits, tokens, middle);
        if (plan->batches <= batches) {
            fits = middle;
        } else {
            above = middle;
        }
    }
    plan_window(plan, limits, tokens, fits);
    return fits;
}

// SPDX-License-Identifier: MIT
#include "stages/batch_plan.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/size.h"
#include "stages/prefixes.h"

static int create_prefixes(struct plan *plan, size_t window, struct error *err) {
    TRY(memory_zeroed(&plan->origins, window, sizeof *plan->origins, err));
    TRY(memory_zeroed(&plan->prefixes, 1, sizeof *plan->prefixes, err));
    return prefixes_create(plan->prefixes, window, err);
}

int plan_create(struct plan *plan, const struct plan_limits *limits, struct error *err) {
    *plan = (struct plan){0};
    int status;
    TRY_TO(done, status = memory_zeroed(&plan->order, limits->window, sizeof *plan->order, err));
    TRY_TO(done, status = memory_zeroed(&plan->offset, limits->window + 1, sizeof *plan->offset, err));
    TRY_TO(done, status = memory_zeroed(&plan->items, limits->window, sizeof *plan->items, err));
    TRY_TO(done, status = memory_zeroed(&plan->room, limits->window, sizeof *plan->room, err));
    TRY_TO(done, status = memory_zeroed(&plan->place, limits->window, sizeof *plan->place, err));
    if (limits->reuses) {
        status = create_prefixes(plan, limits->window, err);
    }
done:
    if (status != STATUS_OK) {
        plan_destroy(plan);
    }
    return status;
}

void plan_destroy(struct plan *plan) {
    free(plan->order);
    free(plan->offset);
    free(plan->origins);
    free(plan->items);
    free(plan->room);
    free(plan->place);
    if (plan->prefixes != NULL) {
        prefixes_destroy(plan->prefixes);
    }
    free(plan->prefixes);
    *plan = (struct plan){0};
}

static int longest_first(const void *a, const void *b) {
    const struct plan_item *i = a;
    const struct plan_item *j = b;
    if (i->tokens != j->tokens) {
        return i->tokens > j->tokens ? -1 : 1;
    }
    return i->first < j->first ? -1 : 1;
}

// The fullest batch with room for the item, or plan->batches when none has.
static size_t best_fit(const struct plan *plan, const struct plan_limits *limits, const size_t *taken,
                       const struct plan_item *item) {
    size_t best = plan->batches;
    for (size_t b = 0; b < plan->batches; b++) {
        if (plan->room[b] >= item->tokens && taken[b] + item->texts <= limits->problems &&
            (best == plan->batches || plan->room[b] < plan->room[best])) {
            best = b;
        }
    }
    return best;
}

static size_t make_items(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                         size_t texts) {
    if (limits->reuses) {
        return prefixes_cut(plan->prefixes, limits, tokens, texts, plan->items);
    }
    for (uint32_t i = 0; i < texts; i++) {
        plan->items[i] = (struct plan_item){.tokens = tokens[i], .texts = 1, .first = i};
    }
    return texts;
}

static void put(struct plan *plan, const struct plan_item *item, size_t batch) {
    plan->place[item->first] = (uint32_t)batch;
    for (size_t i = 0; item->texts > 1 && i < item->texts; i++) {
        plan->place[plan->prefixes->kept[item->from + i]] = (uint32_t)batch;
    }
}

// Packs the first texts, of which the prefixes are found.
static void pack(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens, size_t texts) {
    size_t *taken = plan->offset + 1; // counts first, sums below
    size_t items = make_items(plan, limits, tokens, texts);
    plan->batches = 0;
    plan->offset[0] = 0;
    qsort(plan->items, items, sizeof *plan->items, longest_first);
    for (size_t i = 0; i < items; i++) {
        const struct plan_item *item = &plan->items[i];
        size_t batch = best_fit(plan, limits, taken, item);
        if (batch == plan->batches) {
            plan->room[batch] = limits->tokens;
            taken[batch] = 0;
            plan->batches++;
        }
        plan->room[batch] -= size_min(item->tokens, limits->tokens);
        taken[batch] += item->texts;
        put(plan, item, batch);
    }
    for (size_t b = 0; b < plan->batches; b++) {
        plan->offset[b + 1] += plan->offset[b];
        plan->room[b] = plan->offset[b]; // from here on: where the batch's next text goes
    }
    for (size_t i = 0; i < texts; i++) {
        plan->order[plan->room[plan->place[i]]++] = (uint32_t)i;
    }
}

static void find(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                 const int32_t *const *ids, size_t texts) {
    if (limits->reuses) {
        prefixes_find(plan->prefixes, limits, tokens, ids, texts);
    }
}

static void resolve(struct plan *plan, const struct plan_limits *limits, size_t texts) {
    if (limits->reuses) {
        prefixes_resolve(plan->prefixes, plan, texts);
    }
}

void plan_window(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                 const int32_t *const *ids, size_t texts) {
    find(plan, limits, tokens, ids, texts);
    pack(plan, limits, tokens, texts);
    resolve(plan, limits, texts);
}

bool plan_window_ends(const struct plan_limits *limits, size_t problems, size_t tokens) {
    return problems >= limits->window || (limits->full && tokens / limits->tokens >= PLAN_WINDOW_BATCHES);
}

// Tokens that a text computes behind all texts before it: what it takes of a batch at least.
static size_t least_tokens(const struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                           size_t text) {
    size_t own = tokens[text];
    if (limits->reuses) {
        own -= size_max(plan->prefixes->most[text], plan->prefixes->before[text]);
    }
    return size_min(own, limits->tokens);
}

// How many of the first texts hold at most `sum` tokens, each at most those of a batch: a longer one takes a
// batch, however long it is.
static size_t first_texts(const struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                          size_t texts, size_t sum) {
    size_t count = 0;
    while (count < texts && least_tokens(plan, limits, tokens, count) <= sum) {
        sum -= least_tokens(plan, limits, tokens, count++);
    }
    return count;
}

// How many texts to plan; the last plan made is of another number, or of this one.
static size_t full_texts(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                         size_t texts) {
    if (limits->reuses) {
        prefixes_follow(plan->prefixes, texts);
    }
    pack(plan, limits, tokens, texts);
    if (plan->batches < 2) {
        return texts;
    }
    size_t batches = plan->batches - 1;
    size_t most = texts - 1; // that can be in so many batches
    if (limits->problems <= most / batches) {
        most = batches * limits->problems;
    }
    most = size_min(most, first_texts(plan, limits, tokens, texts, batches * limits->tokens));
    // Half a batch of room is more than packing needs; a window that does not fit with so much is held back
    // by something else, and leaving texts out mends nothing.
    size_t enough = batches * limits->tokens - limits->tokens / 2;
    size_t least = size_min(most, first_texts(plan, limits, tokens, texts, enough));
    pack(plan, limits, tokens, least);
    if (least == 0 || plan->batches > batches) {
        return texts;
    }
    size_t fits = least;
    size_t above = most + 1;
    while (above - fits > 1) {
        size_t middle = fits + (above - fits) / 2;
        pack(plan, limits, tokens, middle);
        if (plan->batches <= batches) {
            fits = middle;
        } else {
            above = middle;
        }
    }
    return fits;
}

size_t plan_full_window(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                        const int32_t *const *ids, size_t texts) {
    find(plan, limits, tokens, ids, texts);
    size_t count = full_texts(plan, limits, tokens, texts);
    pack(plan, limits, tokens, count);
    resolve(plan, limits, count);
    return count;
}

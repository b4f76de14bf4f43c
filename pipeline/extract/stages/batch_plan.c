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

static void add(struct plan *plan, const struct plan_limits *limits, size_t *taken,
                const struct plan_item *item, size_t batch) {
    size_t tokens = size_min(item->tokens, limits->tokens);
    plan->room[batch] -= tokens;
    plan->tokens += tokens;
    taken[batch] += item->texts;
    plan->place[item->first] = (uint32_t)batch;
    for (size_t i = 0; item->texts > 1 && i < item->texts; i++) {
        plan->place[plan->prefixes->kept[item->from + i]] = (uint32_t)batch;
    }
}

// Puts as much of the item as it can where there is most room; the rest is left in it. False when that is
// nothing.
static bool add_part(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                     size_t *taken, struct plan_item *item) {
    struct plan_item rest;
    size_t best = plan->batches;
    for (size_t b = 0; b < plan->batches; b++) {
        if (taken[b] < limits->problems && (best == plan->batches || plan->room[b] > plan->room[best])) {
            best = b;
        }
    }
    if (best == plan->batches || !prefixes_split(plan->prefixes, tokens, item, &rest, plan->room[best],
                                                 limits->problems - taken[best])) {
        return false;
    }
    add(plan, limits, taken, item, best);
    *item = rest;
    return true;
}

static bool add_item(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                     size_t *taken, struct plan_item item, size_t most) {
    size_t batch;
    while ((batch = best_fit(plan, limits, taken, &item)) == plan->batches) {
        if (plan->batches < most) {
            plan->room[batch] = limits->tokens;
            taken[batch] = 0;
            plan->batches++;
            break;
        }
        if (item.texts == 1 || !add_part(plan, limits, tokens, taken, &item)) {
            return false;
        }
    }
    add(plan, limits, taken, &item, batch);
    return true;
}

// Packs the first texts, of which the prefixes are found, into at most so many batches; items are cut only
// where there are no more. False when they do not fit: then there is no plan.
static bool pack(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens, size_t texts,
                 size_t most) {
    size_t *taken = plan->offset + 1; // counts first, sums below
    size_t items = make_items(plan, limits, tokens, texts);
    plan->batches = 0;
    plan->tokens = 0;
    plan->offset[0] = 0;
    qsort(plan->items, items, sizeof *plan->items, longest_first);
    for (size_t i = 0; i < items; i++) {
        if (!add_item(plan, limits, tokens, taken, plan->items[i], most)) {
            return false;
        }
    }
    for (size_t b = 0; b < plan->batches; b++) {
        plan->offset[b + 1] += plan->offset[b];
        plan->room[b] = plan->offset[b]; // from here on: where the batch's next text goes
    }
    for (size_t i = 0; i < texts; i++) {
        plan->order[plan->room[plan->place[i]]++] = (uint32_t)i;
    }
    return true;
}

static const size_t NOT_CUT = SIZE_MAX; // as a limit on batches: there is none

// A device that computes full batches whatever is in them wants few, a processor few tokens: both count
// alike.
static double cost(const struct plan *plan, const struct plan_limits *limits) {
    return (double)plan->batches * (double)limits->tokens + (double)plan->tokens;
}

// Packs the first texts. Where more than a twentieth of the batches could be saved, into as few as they fit
// in with some items cut, if that is cheaper. Returns the limit that `pack` was given.
static size_t pack_well(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                        size_t texts) {
    pack(plan, limits, tokens, texts, NOT_CUT);
    size_t fits = plan->batches;
    size_t below = plan->tokens / limits->tokens;
    if (!limits->reuses || fits - below <= 1 + fits / 20) {
        return NOT_CUT;
    }
    double whole = cost(plan, limits);
    while (fits - below > 1) {
        size_t middle = below + (fits - below) / 2;
        if (pack(plan, limits, tokens, texts, middle)) {
            fits = middle;
        } else {
            below = middle;
        }
    }
    if (pack(plan, limits, tokens, texts, fits) && cost(plan, limits) < whole) {
        return fits;
    }
    pack(plan, limits, tokens, texts, NOT_CUT);
    return NOT_CUT;
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
    pack_well(plan, limits, tokens, texts);
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

// Plans as many of the first texts as fit in one batch less than all of them.
static size_t pack_full(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                        size_t texts) {
    size_t cut = pack_well(plan, limits, tokens, texts);
    if (plan->batches < 2) {
        return texts;
    }
    size_t batches = plan->batches - 1;
    size_t limit = cut == NOT_CUT ? NOT_CUT : batches;
    size_t most = texts - 1; // that can be in so many batches
    if (limits->problems <= most / batches) {
        most = batches * limits->problems;
    }
    most = size_min(most, first_texts(plan, limits, tokens, texts, batches * limits->tokens));
    // Half a batch of room is more than packing needs; a window that does not fit with so much is held back
    // by something else, and leaving texts out mends nothing.
    size_t enough = batches * limits->tokens - limits->tokens / 2;
    size_t least = size_min(most, first_texts(plan, limits, tokens, texts, enough));
    if (least == 0 || !pack(plan, limits, tokens, least, limit) || plan->batches > batches) {
        pack(plan, limits, tokens, texts, cut);
        return texts;
    }
    size_t fits = least;
    size_t above = most + 1;
    while (above - fits > 1) {
        size_t middle = fits + (above - fits) / 2;
        if (pack(plan, limits, tokens, middle, limit) && plan->batches <= batches) {
            fits = middle;
        } else {
            above = middle;
        }
    }
    pack(plan, limits, tokens, fits, limit);
    return fits;
}

size_t plan_full_window(struct plan *plan, const struct plan_limits *limits, const uint32_t *tokens,
                        const int32_t *const *ids, size_t texts) {
    find(plan, limits, tokens, ids, texts);
    if (limits->reuses) {
        prefixes_follow(plan->prefixes, texts);
    }
    size_t count = pack_full(plan, limits, tokens, texts);
    resolve(plan, limits, count);
    return count;
}

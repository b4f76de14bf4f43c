// SPDX-License-Identifier: MIT
#include "stages/prefixes.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"

int prefixes_create(struct prefixes *prefixes, size_t window, struct error *err) {
    uint32_t **numbers[] = {&prefixes->before, &prefixes->order,  &prefixes->common,
                            &prefixes->kept,   &prefixes->shared, &prefixes->at,
                            &prefixes->most,   &prefixes->near,   &prefixes->number};
    int status = STATUS_OK;
    *prefixes = (struct prefixes){.window = window};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        TRY_TO(done, status = memory_zeroed(numbers[i], window, sizeof **numbers[i], err));
    }
    status = memory_zeroed(&prefixes->links, window + 2, 3 * sizeof *prefixes->links, err);
done:
    if (status != STATUS_OK) {
        prefixes_destroy(prefixes);
    }
    return status;
}

void prefixes_destroy(struct prefixes *prefixes) {
    free(prefixes->before);
    free(prefixes->order);
    free(prefixes->common);
    free(prefixes->kept);
    free(prefixes->shared);
    free(prefixes->at);
    free(prefixes->most);
    free(prefixes->near);
    free(prefixes->number);
    free(prefixes->links);
    *prefixes = (struct prefixes){0};
}

size_t prefixes_common(const int32_t *a, const int32_t *b, size_t most) {
    size_t common = 0;
    while (common < most && a[common] == b[common]) {
        common++;
    }
    return common;
}

struct sorting {
    const struct prefixes *prefixes;
    const uint32_t *tokens;
    const int32_t *const *ids;
};

// By the bytes of ids, of which any order would do. A text's last token is not looked at.
static int by_ids(const void *a, const void *b, void *context) {
    const struct sorting *sorting = context;
    uint32_t i = *(const uint32_t *)a;
    uint32_t j = *(const uint32_t *)b;
    uint32_t before = sorting->prefixes->before[i];
    if (before != sorting->prefixes->before[j]) {
        return before > sorting->prefixes->before[j] ? -1 : 1;
    }
    uint32_t length_i = sorting->tokens[i] - 1;
    uint32_t length_j = sorting->tokens[j] - 1;
    size_t length = size_min(length_i, length_j) - before;
    int order = memcmp(sorting->ids[i] + before, sorting->ids[j] + before, length * sizeof(int32_t));
    if (order != 0) {
        return order;
    }
    if (length_i != length_j) {
        return length_i < length_j ? -1 : 1;
    }
    return i < j ? -1 : 1;
}

static bool begins_with_head(const struct plan_limits *limits, uint32_t tokens, const int32_t *ids) {
    return limits->head_tokens > 0 && tokens > limits->head_tokens &&
           memcmp(ids, limits->head, limits->head_tokens * sizeof *ids) == 0;
}

void prefixes_find(struct prefixes *prefixes, const struct plan_limits *limits, const uint32_t *tokens,
                   const int32_t *const *ids, size_t texts) {
    struct sorting sorting = {prefixes, tokens, ids};
    size_t least = size_max(limits->least, 1);
    prefixes->count = 0;
    for (size_t i = 0; i < texts; i++) {
        bool shares = limits->shared_most == 0 || tokens[i] <= limits->shared_most;
        size_t before = shares && begins_with_head(limits, tokens[i], ids[i]) ? limits->head_tokens : 0;
        size_t own = tokens[i] - before;
        prefixes->before[i] = (uint32_t)before;
        prefixes->at[i] = UINT32_MAX;
        if (shares && !limits->head_only && own > least && own <= limits->tokens) {
            prefixes->order[prefixes->count++] = (uint32_t)i;
        }
    }
    qsort_r(prefixes->order, prefixes->count, sizeof *prefixes->order, by_ids, &sorting);
    for (size_t k = 0; k < prefixes->count; k++) {
        uint32_t text = prefixes->order[k];
        uint32_t last = k > 0 ? prefixes->order[k - 1] : text;
        size_t before = prefixes->before[text];
        size_t common = 0;
        if (k > 0 && prefixes->before[last] == before) {
            size_t most = size_min(tokens[text], tokens[last]) - 1 - before;
            common = before + prefixes_common(ids[text] + before, ids[last] + before, most);
        }
        prefixes->common[k] = common >= before + least ? (uint32_t)common : 0;
        prefixes->at[text] = (uint32_t)k;
    }
}

// Of sorted texts, with what each has in common with the one before: which text before it in the query each
// has most in common with. The last text of the query is taken out of the list first, then the one before
// it ...: its neighbours in the list are then the nearest of all that come before it.
static void follow(struct prefixes *prefixes, const uint32_t *order, const uint32_t *common, size_t count,
                   size_t texts) {
    uint32_t *left = prefixes->links;
    uint32_t *right = left + prefixes->window + 2;
    uint32_t *shared = right + prefixes->window + 2;
    for (uint32_t p = 0; p <= count + 1; p++) { // place k of `order` is p = k + 1; an end at either side
        left[p] = p - 1;
        right[p] = p + 1;
        shared[p] = p >= 1 && p <= count ? common[p - 1] : 0;
    }
    for (size_t i = texts; i-- > 0;) {
        prefixes->most[i] = 0;
        prefixes->near[i] = UINT32_MAX;
        if (prefixes->at[i] == UINT32_MAX) {
            continue;
        }
        uint32_t p = prefixes->at[i] + 1;
        uint32_t after = shared[right[p]];
        uint32_t nearest = shared[p] >= after ? left[p] : right[p];
        prefixes->most[i] = shared[p] >= after ? shared[p] : after;
        if (prefixes->most[i] > 0) {
            prefixes->near[i] = order[nearest - 1];
        }
        shared[right[p]] = shared[p] < after ? shared[p] : after;
        right[left[p]] = right[p];
        left[right[p]] = left[p];
    }
}

void prefixes_follow(struct prefixes *prefixes, size_t texts) {
    follow(prefixes, prefixes->order, prefixes->common, prefixes->count, texts);
}

size_t prefixes_cut(struct prefixes *prefixes, const struct plan_limits *limits, const uint32_t *tokens,
                    size_t texts, struct plan_item *items) {
    size_t count = 0;
    uint32_t common = 0;
    prefixes->kept_count = 0;
    for (size_t k = 0; k < prefixes->count; k++) {
        uint32_t text = prefixes->order[k];
        common = prefixes->common[k] < common ? prefixes->common[k] : common;
        if (text >= texts) {
            continue;
        }
        struct plan_item *last = count > 0 ? &items[count - 1] : NULL;
        if (common > 0 && last->texts < limits->problems &&
            last->tokens + tokens[text] - common <= limits->tokens) {
            last->tokens += tokens[text] - common;
            last->first = text < last->first ? text : last->first;
            last->texts++;
        } else {
            common = 0;
            items[count++] = (struct plan_item){.tokens = tokens[text] - prefixes->before[text],
                                                .texts = 1,
                                                .first = text,
                                                .from = (uint32_t)prefixes->kept_count};
        }
        prefixes->at[text] = (uint32_t)prefixes->kept_count;
        prefixes->kept[prefixes->kept_count] = text;
        prefixes->shared[prefixes->kept_count++] = common;
        common = UINT32_MAX;
    }
    for (uint32_t i = 0; i < texts; i++) {
        if (prefixes->at[i] == UINT32_MAX) {
            items[count++] =
                (struct plan_item){.tokens = tokens[i] - prefixes->before[i], .texts = 1, .first = i};
        }
    }
    return count;
}

// Of kept texts, all but the first of which go on from another of them.
static struct plan_item item_of(const struct prefixes *prefixes, const uint32_t *tokens, uint32_t from,
                                uint32_t texts) {
    struct plan_item item = {.texts = texts, .first = UINT32_MAX, .from = from};
    for (uint32_t k = from; k < from + texts; k++) {
        uint32_t text = prefixes->kept[k];
        item.tokens += tokens[text] - (k == from ? prefixes->before[text] : prefixes->shared[k]);
        item.first = text < item.first ? text : item.first;
    }
    return item;
}

bool prefixes_split(struct prefixes *prefixes, const uint32_t *tokens, struct plan_item *first,
                    struct plan_item *rest, size_t tokens_most, size_t texts_most) {
    uint32_t texts = 0;
    size_t sum = 0;
    while (texts + 1 < first->texts && texts < texts_most) {
        uint32_t k = first->from + texts;
        uint32_t text = prefixes->kept[k];
        sum += tokens[text] - (texts == 0 ? prefixes->before[text] : prefixes->shared[k]);
        if (sum > tokens_most) {
            break;
        }
        texts++;
    }
    if (texts == 0) {
        return false;
    }
    *rest = item_of(prefixes, tokens, first->from + texts, first->texts - texts);
    *first = item_of(prefixes, tokens, first->from, texts);
    prefixes->shared[rest->from] = 0;
    return true;
}

void prefixes_resolve(struct prefixes *prefixes, struct plan *plan, size_t texts) {
    follow(prefixes, prefixes->kept, prefixes->shared, prefixes->kept_count, texts);
    // The nearest text may itself have the last of these tokens from another, and this one from a third: the
    // one that computes it is wanted.
    for (size_t i = 0; i < texts; i++) {
        uint32_t parent = prefixes->near[i];
        if (parent == UINT32_MAX) {
            prefixes->most[i] = prefixes->before[i];
            continue;
        }
        while (prefixes->most[parent] >= prefixes->most[i]) {
            parent = prefixes->near[parent];
        }
        prefixes->near[i] = parent;
    }
    for (size_t b = 0; b < plan->batches; b++) {
        for (size_t i = plan->offset[b]; i < plan->offset[b + 1]; i++) {
            uint32_t text = plan->order[i];
            uint32_t parent = prefixes->near[text];
            prefixes->number[text] = (uint32_t)(i - plan->offset[b]);
            plan->origins[i].before = (int32_t)prefixes->most[text];
            plan->origins[i].parent =
                parent == UINT32_MAX ? (int32_t)DEVICE_HEAD : (int32_t)prefixes->number[parent];
        }
    }
}

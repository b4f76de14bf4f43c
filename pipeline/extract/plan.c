#include "extract/plan.h"

#include <stdlib.h>

#include "base/memory.h"

int plan_create(struct plan *plan, const struct plan_limits *limits, struct error *err) {
    *plan = (struct plan){0};
    struct {
        void **block;
        size_t count;
        size_t size;
    } arrays[] = {{(void **)&plan->order, limits->window, sizeof *plan->order},
                  {(void **)&plan->offset, limits->window + 1, sizeof *plan->offset},
                  {(void **)&plan->sorted, limits->window, sizeof *plan->sorted},
                  {(void **)&plan->room, limits->window, sizeof *plan->room},
                  {(void **)&plan->place, limits->window, sizeof *plan->place}};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        int status = memory_zeroed(arrays[i].block, arrays[i].count, arrays[i].size, err);
        if (status != STATUS_OK) {
            plan_destroy(plan);
            return status;
        }
    }
    return STATUS_OK;
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
        plan->room[batch] -= tokens[text];
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

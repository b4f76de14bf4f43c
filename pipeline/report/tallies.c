// SPDX-License-Identifier: MIT
#include "report/tallies.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/printable.h"
#include "base/size.h"

// ---- a tally ----

static void double_unit(struct tally *tally) {
    for (size_t i = 0; i < TALLY_SLOTS / 2; i++) {
        tally->slots[i] = tally->slots[2 * i] + tally->slots[2 * i + 1];
    }
    memset(tally->slots + TALLY_SLOTS / 2, 0, TALLY_SLOTS / 2 * sizeof *tally->slots);
    tally->unit *= 2;
}

void tally_add(struct tally *tally, uint64_t value) {
    while (value / tally->unit >= TALLY_SLOTS) {
        double_unit(tally);
    }
    tally->slots[value / tally->unit]++;
    tally->count++;
    tally->sum += (double)value;
    tally->most = value > tally->most ? value : tally->most;
}

uint64_t tally_quantile(const struct tally *tally, double share) {
    uint64_t seen = 0;
    for (size_t i = 0; i < TALLY_SLOTS && tally->count > 0; i++) {
        seen += tally->slots[i];
        if ((double)seen >= share * (double)tally->count) {
            uint64_t value = i * tally->unit + tally->unit - 1;
            return value > tally->most ? tally->most : value;
        }
    }
    return tally->most;
}

uint64_t tally_between(const struct tally *tally, uint64_t from, uint64_t end) {
    uint64_t sum = 0;
    for (uint64_t i = from / tally->unit; i < TALLY_SLOTS && i * tally->unit < end; i++) {
        sum += tally->slots[i];
    }
    return sum;
}

// ---- reasons ----

void failure_shape(const char *reason, char out[FAILURE_TEXT]) {
    size_t at = 0;
    for (const char *c = reason; *c != 0 && at + 3 < FAILURE_TEXT;) {
        const char *close = *c == '\'' ? strchr(c + 1, '\'') : NULL;
        if (close != NULL) {
            out[at++] = '\'';
            out[at++] = '\'';
            c = close + 1;
        } else if (isdigit((unsigned char)*c)) {
            out[at++] = '0';
            c += strspn(c, "0123456789.,");
        } else {
            out[at++] = *c++;
        }
    }
    out[at] = 0;
}

// An ID may have NUL bytes in it.
static void show_id(char out[FAILURE_TEXT], const struct ledger_problem *problem) {
    char id[FAILURE_TEXT];
    size_t size = size_min(problem->id_size, sizeof id - 1);
    memcpy(id, problem->id, size);
    id[size] = 0;
    printable(out, FAILURE_TEXT, id);
    if (strlen(id) < size) {
        size_t end = strlen(out);
        snprintf(out + end, FAILURE_TEXT - end, "\\u0000...");
    }
}

static struct failure_group *find_group(struct tallies *tallies, const struct ledger_problem *problem) {
    char shape[FAILURE_TEXT];
    const char *reason = problem->reason == NULL ? "no reason recorded" : problem->reason;
    failure_shape(reason, shape);
    for (size_t i = 0; i < tallies->group_count; i++) {
        struct failure_group *group = &tallies->groups[i];
        if (group->state == problem->state && strcmp(group->shape, shape) == 0) {
            return group;
        }
    }
    if (tallies->group_count == FAILURE_GROUPS) {
        return NULL;
    }
    struct failure_group *group = &tallies->groups[tallies->group_count++];
    group->state = problem->state;
    printable(group->reason, sizeof group->reason, reason);
    memcpy(group->shape, shape, sizeof shape);
    return group;
}

static int collect(void *context, const struct ledger_problem *problem) {
    struct tallies *tallies = context;
    if (problem->state == PROBLEM_DONE) {
        tally_add(&tallies->tokens, problem->tokens);
        tally_add(&tallies->steps, problem->steps);
        return STATUS_OK;
    }
    struct failure_group *group = find_group(tallies, problem);
    if (group == NULL) {
        tallies->others++;
        return STATUS_OK;
    }
    if (group->count < FAILURE_IDS) {
        show_id(group->ids[group->count], problem);
    }
    group->count++;
    return STATUS_OK;
}

static int larger_first(const void *a, const void *b) {
    const struct failure_group *one = a;
    const struct failure_group *other = b;
    return one->count < other->count ? 1 : one->count > other->count ? -1 : strcmp(one->shape, other->shape);
}

int tallies_begin(struct tallies *tallies, struct error *err) {
    *tallies = (struct tallies){.tokens.unit = 1, .steps.unit = 1};
    TRY(memory_zeroed(&tallies->tokens.slots, TALLY_SLOTS, sizeof(uint64_t), err));
    TRY(memory_zeroed(&tallies->steps.slots, TALLY_SLOTS, sizeof(uint64_t), err));
    return memory_zeroed(&tallies->groups, FAILURE_GROUPS, sizeof *tallies->groups, err);
}

int tallies_add(struct tallies *tallies, struct ledger *ledger, struct error *err) {
    return ledger_each_problem(ledger, NULL, collect, tallies, err);
}

void tallies_order(struct tallies *tallies) {
    qsort(tallies->groups, tallies->group_count, sizeof *tallies->groups, larger_first);
}

void tallies_destroy(struct tallies *tallies) {
    free(tallies->tokens.slots);
    free(tallies->steps.slots);
    free(tallies->groups);
    *tallies = (struct tallies){0};
}

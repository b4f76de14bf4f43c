// SPDX-License-Identifier: MIT
// The choice of each token's experts. The router's rows are few and come as plain numbers, so they are packed
// into panels as attention packs keys, a part of their depth at a time, beside a block of tokens: logits are
// sums over ascending depth by the path's own multiplication, whatever the block.
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/team.h"

enum {
    BLOCK_TOKENS = 128, // of a work item: packing the router's rows is shared by them
    DEPTH = 512,        // multiplied at a time; a multiple of every depth_unit
    LOGITS_MOST = DEVICE_EXPERTS_MOST + TILE_COLUMNS_MOST,
    TILED_TOKENS = BLOCK_TOKENS + TILE_ROWS_MOST, // the last tile may go beyond the block
};

struct block { // in a thread's scratch
    float logits[TILED_TOKENS * LOGITS_MOST];
    unsigned char rows[TILED_TOKENS * (DEPTH + ROW_PADDING) * sizeof(float)]; // packed tokens
    unsigned char panel[DEPTH * TILE_COLUMNS_MOST * sizeof(float)];
    unsigned char even[DEPTH * TILE_COLUMNS_MOST * sizeof(float)]; // the router's rows with an even depth
    float bias[DEVICE_EXPERTS_MOST];
    float scales[DEVICE_EXPERTS_MOST]; // of experts
};

size_t cpu_route_scratch(void) {
    return round_up(sizeof(struct block), DEVICE_ALIGNMENT);
}

struct route {
    const struct cpu_device *cpu;
    const struct micro_kernels *kernels; // of the router's dtype
    const struct device_routes *routes;
    const struct device_routing *routing;
    enum dtype dtype;
    enum dtype router_dtype;
    const void *x;
    const void *router;
    const void *bias;
    size_t tokens;
    size_t hidden;
    size_t each;   // tokens of a block
    size_t stride; // of logits: experts in whole panels
};

// ---- logits ----

// Depth [k, k + depth) of the router's rows [expert, expert + width) to the panel.
static void pack_panel(const struct route *route, struct block *block, size_t expert, size_t k,
                       size_t depth) {
    const struct micro_kernels *kernels = route->kernels;
    const enum dtype dtype = route->router_dtype;
    size_t count = size_min(kernels->tile_columns, route->routing->experts - expert);
    const void *rows = number_of(route->router, expert * route->hidden + k, dtype);
    if (depth % 2 == 0) {
        kernels->pack_keys(block->panel, rows, route->hidden, count, depth);
        return;
    }
    for (size_t r = 0; r < count; r++) { // pairs of numbers are packed: the last one gets a zero beside it
        memcpy(number_in(block->even, r * DEPTH, dtype), number_of(rows, r * route->hidden, dtype),
               depth * dtype_size(dtype));
        memset(number_in(block->even, r * DEPTH + depth, dtype), 0, dtype_size(dtype));
    }
    kernels->pack_keys(block->panel, block->even, DEPTH, count, depth + 1);
}

// Depth [k, k + depth) of `count` tokens to operands, rows of `stride`.
static void pack_tokens(const struct route *route, struct block *block, size_t token, size_t count, size_t k,
                        size_t depth, size_t padded, size_t stride) {
    const void *x = number_of(route->x, token * route->hidden + k, route->dtype);
    if (route->dtype == route->router_dtype) {
        route->kernels->pack_rows(block->rows, stride, x, route->hidden, count, depth, padded);
        return;
    }
    for (size_t r = 0; r < count; r++) {
        float *row = (float *)(void *)block->rows + r * stride;
        dtype_convert(row, DTYPE_F32, number_of(x, r * route->hidden, route->dtype), route->dtype, depth);
        memset(row + depth, 0, (padded - depth) * sizeof *row);
    }
}

static void multiply(const struct route *route, struct block *block, size_t token, size_t count) {
    const struct micro_kernels *kernels = route->kernels;
    size_t stride = DEPTH + ROW_PADDING;
    for (size_t k = 0; k < route->hidden; k += DEPTH) {
        size_t depth = size_min(DEPTH, route->hidden - k);
        size_t padded = round_up(depth, kernels->depth_unit);
        pack_tokens(route, block, token, count, k, depth, padded, stride);
        for (size_t e = 0; e < route->routing->experts; e += kernels->tile_columns) {
            pack_panel(route, block, e, k, depth);
            for (size_t r = 0; r < count; r += kernels->tile_rows) {
                kernels->tile(block->logits + r * route->stride + e, route->stride,
                              number_of(block->rows, r * stride, kernels->operand), stride, block->panel,
                              size_min(kernels->tile_rows, count - r), padded, k > 0);
            }
        }
    }
}

// ---- the choice ----

static void round_all(float *numbers, size_t count, enum dtype dtype) {
    for (size_t i = 0; i < count; i++) {
        if (dtype == DTYPE_F16) {
            numbers[i] = f16_to_f32(f32_to_f16(numbers[i]));
        } else if (dtype == DTYPE_BF16) {
            numbers[i] = bf16_to_f32(f32_to_bf16(numbers[i]));
        }
    }
}

// NaN is greater than every number, as for torch: it is chosen, and shows in the weights.
static bool is_greater(float a, float b) {
    return a > b || (isnan(a) && !isnan(b));
}

struct things { // of which some are chosen
    const float *ranks;
    size_t count;
    const bool *open; // of every `each` side by side, whether they may be; NULL: all may
    size_t each;
};

// Marks those of the greatest ranks; of equal ranks the lower numbers. There are at least as many that may be
// chosen.
static void choose(bool *marked, const struct things *things, size_t chosen) {
    const float *ranks = things->ranks;
    size_t best[DEVICE_EXPERTS_MOST]; // greatest first
    size_t count = 0;
    for (size_t e = 0; e < things->count; e++) {
        marked[e] = false;
        if ((things->open != NULL && !things->open[e / things->each]) ||
            (count == chosen && !is_greater(ranks[e], ranks[best[count - 1]]))) {
            continue;
        }
        size_t at = count < chosen ? count++ : count - 1;
        for (; at > 0 && is_greater(ranks[e], ranks[best[at - 1]]); at--) {
            best[at] = best[at - 1];
        }
        best[at] = e;
    }
    for (size_t i = 0; i < count; i++) {
        marked[best[i]] = true;
    }
}

// Marks the groups whose experts may be chosen.
static void choose_groups(bool *open, const float *ranks, const struct device_routing *routing) {
    float best[DEVICE_EXPERT_GROUPS_MOST];
    const size_t each = routing->experts / routing->groups;
    for (size_t g = 0; g < routing->groups; g++) {
        float first = ranks[g * each];
        float second = -INFINITY;
        for (size_t e = g * each + 1; e < (g + 1) * each; e++) {
            if (is_greater(ranks[e], first)) {
                second = first;
                first = ranks[e];
            } else if (is_greater(ranks[e], second)) {
                second = ranks[e];
            }
        }
        best[g] = routing->group_pairs ? first + second : first;
    }
    choose(open, &(struct things){.ranks = best, .count = routing->groups}, routing->chosen_groups);
}

// The experts of the greatest ranks, ascending.
static void choose_experts(int32_t *chosen, const float *ranks, const struct device_routing *routing) {
    bool open[DEVICE_EXPERT_GROUPS_MOST];
    bool marked[DEVICE_EXPERTS_MOST];
    struct things experts = {.ranks = ranks, .count = routing->experts};
    if (routing->groups > 0) {
        choose_groups(open, ranks, routing);
        experts.open = open;
        experts.each = routing->experts / routing->groups;
    }
    choose(marked, &experts, routing->chosen);
    size_t filled = 0;
    for (size_t e = 0; e < routing->experts; e++) {
        if (marked[e]) {
            chosen[filled++] = (int32_t)e;
        }
    }
}

static void divide_by_sum(float *numbers, size_t count, float more, float least) {
    float sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += numbers[i];
    }
    sum += more;
    sum = sum < least ? least : sum; // NaN stays
    for (size_t i = 0; i < count; i++) {
        numbers[i] /= sum;
    }
}

static void softmax(const struct micro_kernels *kernels, float *numbers, size_t count) {
    float greatest = numbers[0];
    for (size_t i = 1; i < count; i++) {
        greatest = is_greater(numbers[i], greatest) ? numbers[i] : greatest;
    }
    kernels->exponents(numbers, greatest, count);
    divide_by_sum(numbers, count, 0, 0);
}

static void sigmoid(const struct micro_kernels *kernels, float *numbers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        numbers[i] = -numbers[i];
    }
    kernels->exponents(numbers, 0, count);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = 1.0f / (1.0f + numbers[i]);
    }
}

static float rounded_to(float number, enum dtype dtype) {
    round_all(&number, 1, dtype);
    return number;
}

// Whether the logit is near enough to the greatest one to be of its softmax; NaN is.
static bool is_near(float logit, float greatest, float spread, enum dtype dtype) {
    float size = fabsf(logit) < greatest ? greatest : fabsf(logit);
    float apart = rounded_to(rounded_to(greatest - logit, dtype) / size, dtype);
    return !(apart > rounded_to(spread, dtype));
}

// DEVICE_SCORES_IN_TURN of experts that are chosen: each among itself, those after it and those never chosen.
static void score_in_turn(const struct route *route, const int32_t *chosen, float *weights,
                          const float *logits) {
    const struct device_routing *routing = route->routing;
    bool taken[DEVICE_EXPERTS_MOST] = {false};
    float near[DEVICE_EXPERTS_MOST];
    for (size_t turn = 0; turn < routing->chosen; turn++) {
        size_t first = routing->chosen; // of those left, the greatest
        for (size_t i = 0; i < routing->chosen; i++) {
            if (!taken[chosen[i]] &&
                (first == routing->chosen || is_greater(logits[chosen[i]], logits[chosen[first]]))) {
                first = i;
            }
        }
        float greatest = logits[chosen[first]];
        size_t count = 0;
        size_t place = 0;
        for (size_t e = 0; e < routing->experts; e++) {
            place = e == (size_t)chosen[first] ? count : place;
            if (!taken[e] && is_near(logits[e], greatest, routing->spread, route->dtype)) {
                near[count++] = logits[e];
            }
        }
        softmax(route->kernels, near, count);
        weights[first] = near[place];
        taken[chosen[first]] = true;
    }
}

// The experts of a token and their scores; logits are overwritten.
static void choose_and_score(const struct route *route, int32_t *chosen, float *weights, float *logits) {
    const struct device_routing *routing = route->routing;
    const struct micro_kernels *kernels = route->kernels;
    bool early = device_routing_by_scores(routing);
    float ranks[DEVICE_EXPERTS_MOST];
    if (!early) {
        choose_experts(chosen, logits, routing);
    }
    if (routing->scores == DEVICE_SCORES_IN_TURN) {
        score_in_turn(route, chosen, weights, logits);
        return;
    }
    if (routing->scores == DEVICE_SCORES_ALL) {
        softmax(kernels, logits, routing->experts);
    } else if (early) {
        sigmoid(kernels, logits, routing->experts);
    }
    if (early) {
        for (size_t e = 0; e < routing->experts; e++) {
            ranks[e] = routing->correction == NULL ? 0 : routing->correction[e];
        }
        if (routing->rounds_correction) {
            round_all(ranks, routing->experts, route->dtype);
        }
        for (size_t e = 0; e < routing->experts; e++) {
            ranks[e] = logits[e] + ranks[e];
        }
        choose_experts(chosen, ranks, routing);
    }
    for (size_t i = 0; i < routing->chosen; i++) {
        weights[i] = logits[chosen[i]];
    }
    if (routing->scores == DEVICE_SCORES_CHOSEN) {
        softmax(kernels, weights, routing->chosen);
    } else if (routing->scores == DEVICE_SCORES_SIGMOID && !early) {
        sigmoid(kernels, weights, routing->chosen);
    }
}

static void route_token(const struct route *route, const struct block *block, float *logits, size_t token) {
    const struct device_routing *routing = route->routing;
    int32_t *chosen = route->routes->experts + token * routing->chosen;
    float *weights = route->routes->weights + token * routing->chosen;
    for (size_t e = 0; routing->logit_scale != 0 && e < routing->experts; e++) {
        logits[e] *= routing->logit_scale;
    }
    for (size_t e = 0; route->bias != NULL && e < routing->experts; e++) {
        logits[e] += block->bias[e];
    }
    if (routing->rounds_logits) {
        round_all(logits, routing->experts, route->dtype);
    }
    choose_and_score(route, chosen, weights, logits);
    if (routing->normalised) {
        divide_by_sum(weights, routing->chosen, routing->sum_more, routing->sum_least);
    }
    for (size_t i = 0; i < routing->chosen; i++) {
        weights[i] *= routing->scaling;
    }
    for (size_t i = 0; routing->expert_scales != NULL && i < routing->chosen; i++) {
        weights[i] *= block->scales[chosen[i]];
    }
    if (routing->rounds_weights) {
        round_all(weights, routing->chosen, route->dtype);
    }
}

static void route_block(const void *job, size_t piece, size_t member) {
    const struct route *route = job;
    unsigned char *scratch = route->cpu->thread_scratch + member * cpu_thread_scratch(route->cpu);
    struct block *block = (struct block *)(void *)scratch;
    size_t token = piece * route->each;
    size_t count = size_min(route->each, route->tokens - token);
    if (route->bias != NULL) {
        dtype_convert(block->bias, DTYPE_F32, route->bias, route->dtype, route->routing->experts);
    }
    if (route->routing->expert_scales != NULL) {
        dtype_convert(block->scales, DTYPE_F32, route->routing->expert_scales, route->dtype,
                      route->routing->experts);
    }
    micro_kernels_begin(route->kernels);
    multiply(route, block, token, count);
    micro_kernels_end(route->kernels);
    for (size_t r = 0; r < count; r++) {
        route_token(route, block, block->logits + r * route->stride, token + r);
    }
}

int cpu_route(struct device *device, const struct device_routes *routes, const void *x, const void *router,
              const void *bias, const struct device_routing *routing, size_t tokens, size_t hidden,
              struct error *err) {
    struct cpu_device *cpu = cpu_of(device);
    if (cpu->thread_scratch == NULL) {
        return error_set(err, STATUS_INTERNAL, "route: device memory was not reserved");
    }
    double started = clock_seconds();
    size_t threads = (size_t)cpu->threads;
    enum dtype router_dtype = routing->wide_router ? DTYPE_F32 : device->dtype;
    const struct micro_kernels *kernels = cpu_path_kernels(cpu->path, router_dtype);
    struct route route = {
        .cpu = cpu,
        .kernels = kernels,
        .routes = routes,
        .routing = routing,
        .dtype = device->dtype,
        .router_dtype = router_dtype,
        .x = x,
        .router = router,
        .bias = bias,
        .tokens = tokens,
        .hidden = hidden,
        .each = size_min(BLOCK_TOKENS, (tokens + threads - 1) / threads),
        .stride = round_up(routing->experts, kernels->tile_columns),
    };
    size_t blocks = (tokens + route.each - 1) / route.each;
    cpu_team_run(cpu->team, CPU_TEAM_QUEUE, blocks, route_block, &route);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}

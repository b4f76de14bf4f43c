// SPDX-License-Identifier: MIT
// The choice of each token's experts. A block has 32 tokens, or 16 where there are many experts: their logits
// stay in shared memory, from which a warp a token chooses.
//
// Logits are float32 sums over `hidden` in its order, whatever the tokens: 64 experts at a time, from tiles
// of 64 columns widened into shared memory. A thread of the block's 16 x 16 has every 16th token and every
// 16th expert. Computed for 8,192 tokens, 2,048 columns and 128 experts: 2.1 billion multiply-adds, and 256
// blocks that read 0.5 MB of the router each from the L2.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum {
    SIDE = 16,
    THREADS = SIDE * SIDE,
    WARPS = THREADS / WARP,
    EXPERTS = 64, // at a time
    PER_THREAD = EXPERTS / SIDE,
    COLUMNS = 64,         // of x and of the router at a time
    STRIDE = COLUMNS + 4, // numbers, so that rows side by side lie in different banks
    QUAD = 4,
    SHARED_MOST = 99 << 10, // that every multiprocessor gives to a block
};

static_assert(DEVICE_EXPERTS_MOST <= WARP * 32, "a lane marks its experts in 32 bits");
static_assert((unsigned)DEVICE_EXPERT_GROUPS_MOST <= WARP, "a lane has a group");

struct choice { // of device_routing and the sizes
    unsigned experts;
    unsigned chosen;
    size_t hidden;
    enum device_scores scores;
    bool normalised;
    bool rounds_logits;
    bool rounds_weights;
    bool by_scores;
    bool group_pairs;
    bool wide; // rows can be read in groups
    unsigned groups;
    unsigned chosen_groups;
    unsigned each; // experts of a group
    float scaling;
    float sum_more;
    float sum_least;
    float logit_scale; // 1: they stay
    float spread;
    bool rounds_correction;
    const float *correction;
    const void *expert_scales; // numbers
};

template <int PER> struct build {
    static const unsigned TOKENS = PER * SIDE;
    static const unsigned X_AT = 0;
    static const unsigned ROUTER_AT = TOKENS * STRIDE;
    static const unsigned LOGITS_AT = ROUTER_AT + EXPERTS * STRIDE;

    static size_t shared(size_t experts) {
        return (LOGITS_AT + TOKENS * experts) * sizeof(float);
    }
};

static_assert((build<1>::LOGITS_AT + build<1>::TOKENS * DEVICE_EXPERTS_MOST) * sizeof(float) <= SHARED_MOST,
              "the logits fit");

// ---- logits ----

// Columns [first, first + COLUMNS) of rows of `from` into shared memory, zeros beyond the last.
template <typename T>
static __device__ __forceinline__ void load_tile(float *to, const T *from, unsigned tile_rows, size_t rows,
                                                 size_t first, const struct choice &choice) {
    for (unsigned number = threadIdx.x; number < tile_rows * (COLUMNS / CHUNK); number += THREADS) {
        unsigned row = number / (COLUMNS / CHUNK);
        unsigned column = number % (COLUMNS / CHUNK) * CHUNK;
        float x[CHUNK] = {};
        if (row < rows) {
            group_load(x, from + row * choice.hidden, first + column, choice.hidden, choice.wide);
        }
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            to[row * STRIDE + column + (unsigned)e] = x[e];
        }
    }
}

static __device__ __forceinline__ void quad_load(float (&out)[QUAD], const float *from) {
    group<float, QUAD> in = *(const group<float, QUAD> *)from;
#pragma unroll
    for (int e = 0; e < QUAD; e++) {
        out[e] = in.number[e];
    }
}

template <int PER>
static __device__ __forceinline__ void add_tile(float (&sum)[PER][PER_THREAD], const float *x,
                                                const float *router) {
    for (unsigned column = 0; column < COLUMNS; column += QUAD) {
        float w[PER_THREAD][QUAD];
#pragma unroll
        for (int j = 0; j < PER_THREAD; j++) {
            quad_load(w[j], router + (threadIdx.x % SIDE + (unsigned)j * SIDE) * STRIDE + column);
        }
#pragma unroll
        for (int i = 0; i < PER; i++) {
            float a[QUAD];
            quad_load(a, x + (threadIdx.x / SIDE + (unsigned)i * SIDE) * STRIDE + column);
#pragma unroll
            for (int j = 0; j < PER_THREAD; j++) {
#pragma unroll
                for (int e = 0; e < QUAD; e++) {
                    sum[i][j] = fmaf(a[e], w[j][e], sum[i][j]);
                }
            }
        }
    }
}

// Logits [TOKENS, experts] of the block's tokens, of which there are `tokens`. R: a number of the router.
template <typename T, typename R, int PER>
static __device__ __forceinline__ void make_logits(float *shared, const T *x, const R *router, const T *bias,
                                                   size_t tokens, const struct choice &choice) {
    float *x_tile = shared + build<PER>::X_AT;
    float *router_tile = shared + build<PER>::ROUTER_AT;
    for (unsigned expert = 0; expert < choice.experts; expert += EXPERTS) {
        float sum[PER][PER_THREAD] = {};
        for (size_t first = 0; first < choice.hidden; first += COLUMNS) {
            __syncthreads(); // all are done with the tiles before
            load_tile(x_tile, x, build<PER>::TOKENS, tokens, first, choice);
            load_tile(router_tile, router + expert * choice.hidden, EXPERTS, choice.experts - expert, first,
                      choice);
            __syncthreads();
            add_tile<PER>(sum, x_tile, router_tile);
        }
#pragma unroll
        for (int j = 0; j < PER_THREAD; j++) {
            unsigned number = expert + threadIdx.x % SIDE + (unsigned)j * SIDE;
            if (number < choice.experts) {
                float more = bias != NULL ? number_value(bias[number]) : 0.0f;
#pragma unroll
                for (int i = 0; i < PER; i++) {
                    unsigned token = threadIdx.x / SIDE + (unsigned)i * SIDE;
                    float logit = sum[i][j] * choice.logit_scale + more;
                    shared[build<PER>::LOGITS_AT + token * choice.experts + number] =
                        choice.rounds_logits ? rounded<T>(logit) : logit;
                }
            }
        }
    }
    __syncthreads();
}

// ---- choice ----

// Of a warp's lanes, in a fixed order.
static __device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, step);
    }
    return x;
}

static __device__ __forceinline__ float warp_most(float x) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    }
    return x;
}

// Integers that compare as the numbers do: both zeros are one, and NaN is above all. None is 0.
static __device__ __forceinline__ unsigned ranked(float x) {
    unsigned bits = __float_as_uint(x + 0.0f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return 0xffffffffu;
    }
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Of the warp's ranks the greatest, of equal ones the lowest number, in all lanes.
static __device__ __forceinline__ unsigned warp_best(unsigned best, unsigned number) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        unsigned other = __shfl_xor_sync(ALL_LANES, best, step);
        unsigned other_number = __shfl_xor_sync(ALL_LANES, number, step);
        if (other > best || (other == best && other_number < number)) {
            best = other;
            number = other_number;
        }
    }
    return number;
}

// What an expert is chosen by. values: logits, or scores where these decide.
template <typename T>
static __device__ __forceinline__ float rank_of(const float *values, unsigned expert,
                                                const struct choice &choice) {
    float more = choice.correction != NULL ? choice.correction[expert] : 0.0f;
    return values[expert] + (choice.rounds_correction ? rounded<T>(more) : more);
}

// The groups whose experts may be chosen, bits of the result. Lane l ranks group l.
template <typename T>
static __device__ __forceinline__ unsigned choose_groups(const float *values, const struct choice &choice,
                                                         unsigned lane) {
    unsigned open = 0;
    float first = -INFINITY;
    float second = -INFINITY;
    for (unsigned i = 0; lane < choice.groups && i < choice.each; i++) {
        float rank = rank_of<T>(values, lane * choice.each + i, choice);
        if (ranked(rank) > ranked(first)) {
            second = first;
            first = rank;
        } else if (ranked(rank) > ranked(second)) {
            second = rank;
        }
    }
    unsigned mine = ranked(choice.group_pairs ? first + second : first);
    for (unsigned n = 0; n < choice.chosen_groups; n++) {
        bool may = lane < choice.groups && (open >> lane & 1) == 0;
        open |= 1u << warp_best(may ? mine : 0, may ? lane : WARP - 1);
    }
    return open;
}

// The greatest ranks, of equal ones those of the lower numbers. Lane l has experts l, l + 32, ...; bit i of
// its result says that number l + 32 i was chosen. There are more experts that may be than were chosen
// before, so that each round finds one, whatever the numbers are.
template <typename T>
static __device__ __forceinline__ unsigned choose(const float *values, const struct choice &choice,
                                                  unsigned lane) {
    const unsigned open = choice.groups == 0 ? 0 : choose_groups<T>(values, choice, lane);
    unsigned taken = 0;
    for (unsigned n = 0; n < choice.chosen; n++) {
        unsigned best = 0;
        unsigned expert = choice.experts;
        for (unsigned e = lane; e < choice.experts; e += WARP) {
            unsigned rank = ranked(rank_of<T>(values, e, choice));
            bool may =
                (taken >> e / WARP & 1) == 0 && (choice.groups == 0 || (open >> e / choice.each & 1) != 0);
            if (may && rank > best) {
                best = rank;
                expert = e;
            }
        }
        expert = warp_best(best, expert);
        if (expert % WARP == lane) {
            taken |= 1u << expert / WARP;
        }
    }
    return taken;
}

struct scale { // of a softmax
    float most;
    float sum;
};

// Over the experts that `among` names, of each lane; every one of NaN or +infinity makes all of it NaN.
static __device__ __forceinline__ scale softmax_scale(const float *logits, unsigned experts, unsigned among,
                                                      unsigned lane) {
    scale out = {-INFINITY, 0};
    for (unsigned e = lane; e < experts; e += WARP) {
        out.most = (among >> e / WARP & 1) != 0 ? fmaxf(out.most, logits[e]) : out.most;
    }
    out.most = warp_most(out.most);
    for (unsigned e = lane; e < experts; e += WARP) {
        out.sum += (among >> e / WARP & 1) != 0 ? expf(logits[e] - out.most) : 0.0f;
    }
    out.sum = warp_sum(out.sum);
    return out;
}

static __device__ __forceinline__ float score_of(float logit, enum device_scores scores, const scale &scale) {
    return scores == DEVICE_SCORES_SIGMOID ? 1.0f / (1.0f + expf(-logit))
                                           : expf(logit - scale.most) / scale.sum;
}

// Logits become scores, before anything is chosen or after it. A lane has its own experts'.
static __device__ __forceinline__ void make_scores(float *values, unsigned among, const struct choice &choice,
                                                   unsigned lane) {
    scale scale = {0, 1};
    if (choice.scores != DEVICE_SCORES_SIGMOID) {
        scale = softmax_scale(values, choice.experts, among, lane);
    }
    for (unsigned e = lane; e < choice.experts; e += WARP) {
        values[e] = score_of(values[e], choice.scores, scale);
    }
    __syncwarp();
}

// Whether the logit is near enough to the greatest one to be of its softmax; NaN is.
template <typename T>
static __device__ __forceinline__ bool is_near(float logit, float greatest, float spread) {
    float size = fabsf(logit) < greatest ? greatest : fabsf(logit);
    float apart = rounded<T>(rounded<T>(greatest - logit) / size);
    return !(apart > rounded<T>(spread));
}

// DEVICE_SCORES_IN_TURN of the experts that are taken, which replace their logits.
template <typename T>
static __device__ __forceinline__ void score_in_turn(float *values, unsigned taken,
                                                     const struct choice &choice, unsigned lane) {
    unsigned left = taken;
    for (unsigned n = 0; n < choice.chosen; n++) {
        unsigned best = 0;
        unsigned expert = choice.experts;
        for (unsigned e = lane; e < choice.experts; e += WARP) {
            unsigned rank = (left >> e / WARP & 1) != 0 ? ranked(values[e]) : 0;
            expert = rank > best ? e : expert;
            best = rank > best ? rank : best;
        }
        expert = warp_best(best, expert);
        const float greatest = values[expert];
        float sum = 0;
        for (unsigned e = lane; e < choice.experts; e += WARP) {
            bool before = ((taken & ~left) >> e / WARP & 1) != 0;
            sum +=
                !before && is_near<T>(values[e], greatest, choice.spread) ? expf(values[e] - greatest) : 0.0f;
        }
        sum = warp_sum(sum);
        __syncwarp(); // all have read it
        if (expert % WARP == lane) {
            values[expert] = expf(greatest - greatest) / sum;
            left &= ~(1u << expert / WARP);
        }
        __syncwarp();
    }
}

// A warp's token: its experts in ascending order, and their weights. Its logits become scores.
template <typename T>
static __device__ __forceinline__ void choose_experts(int32_t *experts, float *weights, float *values,
                                                      const struct choice &choice, unsigned lane) {
    if (choice.by_scores) {
        make_scores(values, ALL_LANES, choice, lane);
    }
    const unsigned taken = choose<T>(values, choice, lane);
    if (choice.scores == DEVICE_SCORES_IN_TURN) {
        score_in_turn<T>(values, taken, choice, lane);
    } else if (!choice.by_scores) {
        make_scores(values, choice.scores == DEVICE_SCORES_CHOSEN ? taken : ALL_LANES, choice, lane);
    }
    float total = 1;
    if (choice.normalised) {
        total = 0;
        for (unsigned e = lane; e < choice.experts; e += WARP) {
            total += (taken >> e / WARP & 1) != 0 ? values[e] : 0.0f;
        }
        total = warp_sum(total) + choice.sum_more;
        total = total < choice.sum_least ? choice.sum_least : total; // NaN stays
    }
    unsigned before = 0;
    for (unsigned first = 0; first < choice.experts; first += WARP) {
        bool mine = (taken >> first / WARP & 1) != 0;
        unsigned all = __ballot_sync(ALL_LANES, mine);
        if (mine) {
            unsigned place = before + (unsigned)__popc(all & ((1u << lane) - 1));
            float weight = values[first + lane] / total * choice.scaling;
            if (choice.expert_scales != NULL) {
                weight *= number_value(((const T *)choice.expert_scales)[first + lane]);
            }
            experts[place] = (int32_t)(first + lane);
            weights[place] = choice.rounds_weights ? rounded<T>(weight) : weight;
        }
        before += (unsigned)__popc(all);
    }
}

// Two blocks a multiprocessor, for more of which 128 experts leave no shared memory.
template <typename T, typename R, int PER>
static __global__ void __launch_bounds__(THREADS, 2)
    route_kernel(int32_t *experts, float *weights, const T *x, const R *router, const T *bias, size_t tokens,
                 struct choice choice) {
    SHARED_BYTES(shared);
    const size_t first = blockIdx.x * (size_t)build<PER>::TOKENS;
    const size_t here = min((unsigned)(tokens - first), (unsigned)build<PER>::TOKENS);
    make_logits<T, R, PER>((float *)shared, x + first * choice.hidden, router, bias, here, choice);
    float *logits = (float *)shared + build<PER>::LOGITS_AT;
    for (unsigned token = threadIdx.x / WARP; token < here; token += WARPS) {
        choose_experts<T>(experts + (first + token) * choice.chosen,
                          weights + (first + token) * choice.chosen, logits + token * choice.experts, choice,
                          threadIdx.x % WARP);
    }
}

// ---- launch ----

template <typename T, typename R, int PER>
static cudaError_t launch(cudaStream_t stream, const struct device_routes *routes, const T *x,
                          const R *router, const T *bias, size_t tokens, const struct choice &choice) {
    auto kernel = route_kernel<T, R, PER>;
    const unsigned here = build<PER>::TOKENS;
    const int shared = (int)build<PER>::shared(choice.experts);
    cudaError_t result = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (result != cudaSuccess) {
        return result;
    }
    return LAUNCH(kernel, dim3((unsigned)((tokens + here - 1) / here)), dim3(THREADS), shared, stream,
                  routes->experts, routes->weights, x, router, bias, tokens, choice);
}

// As many tokens a block as their logits leave room for.
template <typename T, typename R>
static cudaError_t launch_largest(cudaStream_t stream, const struct device_routes *routes, const T *x,
                                  const R *router, const T *bias, size_t tokens, struct choice choice) {
    choice.wide = rows_wide<T, CHUNK>(x, choice.hidden) && rows_wide<R, CHUNK>(router, choice.hidden);
    return build<2>::shared(choice.experts) <= SHARED_MOST
               ? launch<T, R, 2>(stream, routes, x, router, bias, tokens, choice)
               : launch<T, R, 1>(stream, routes, x, router, bias, tokens, choice);
}

static struct choice choice_of(const struct device_routing *routing, size_t hidden) {
    struct choice choice = {};
    choice.experts = (unsigned)routing->experts;
    choice.chosen = (unsigned)routing->chosen;
    choice.hidden = hidden;
    choice.scores = routing->scores;
    choice.normalised = routing->normalised;
    choice.rounds_logits = routing->rounds_logits;
    choice.rounds_weights = routing->rounds_weights;
    choice.by_scores = device_routing_by_scores(routing);
    choice.group_pairs = routing->group_pairs;
    choice.groups = (unsigned)routing->groups;
    choice.chosen_groups = (unsigned)routing->chosen_groups;
    choice.each = (unsigned)(routing->experts / (routing->groups == 0 ? 1 : routing->groups));
    choice.scaling = routing->scaling;
    choice.sum_more = routing->sum_more;
    choice.logit_scale = routing->logit_scale == 0 ? 1 : routing->logit_scale;
    choice.sum_least = routing->sum_least;
    choice.spread = routing->spread;
    choice.rounds_correction = routing->rounds_correction;
    choice.correction = routing->correction;
    choice.expert_scales = routing->expert_scales;
    return choice;
}

extern "C" cudaError_t launch_route(cudaStream_t stream, enum dtype dtype, const struct device_routes *routes,
                                    const void *x, const void *router, const void *bias,
                                    const struct device_routing *routing, size_t tokens, size_t hidden) {
    if (tokens > INT32_MAX || routing->experts > DEVICE_EXPERTS_MOST) {
        return cudaErrorInvalidValue;
    }
    const struct choice choice = choice_of(routing, hidden);
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return routing->wide_router
                   ? launch_largest<T, float>(stream, routes, (const T *)x, (const float *)router,
                                              (const T *)bias, tokens, choice)
                   : launch_largest<T, T>(stream, routes, (const T *)x, (const T *)router, (const T *)bias,
                                          tokens, choice);
    });
}

// SPDX-License-Identifier: MIT
// The order of a mixture's matmuls: pairs sorted by expert, by counting, and the list of tiles. Integers
// only, and each number is computed by who writes it, so that the order is a function of the choice alone.
// And what comes before the first of them and after the last: rows that are scaled, and a token's sum over
// its experts.
#include "kernels/cuda/experts.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/ptx.h"

enum { ORDER_THREADS = 1024, ORDER_WARPS = ORDER_THREADS / WARP, LIST_THREADS = 128, SUM_THREADS = 256 };

static_assert((int)ORDER_WARPS == (int)WARP, "a warp adds up one number of every warp");

// ---- order ----

// The sum over a warp's lanes, in all of them; integers, so that no order matters.
static __device__ __forceinline__ int warp_sum(int x) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, step);
    }
    return x;
}

// A block an expert; each warp looks at a stretch of the pairs, twice: it counts, and when it knows how many
// the warps before it have, it places. 128 experts at 65,536 pairs read 67 MB from the L2.
static __global__ void __launch_bounds__(ORDER_THREADS)
    experts_order_kernel(int32_t *starts, int32_t *order, const int32_t *experts, int pairs, int count) {
    SHARED_BYTES(shared);
    int *same_of = (int *)shared; // [ORDER_WARPS] pairs of this expert in a warp's stretch
    int *less_of = same_of + ORDER_WARPS;
    const int expert = (int)blockIdx.x;
    const int lane = (int)(threadIdx.x % WARP);
    const int warp = (int)(threadIdx.x / WARP);
    const int stretch = (pairs / ORDER_THREADS + 1) * WARP;
    const int begin = warp * stretch;
    const int end = min(begin + stretch, pairs);
    int same = 0;
    int less = 0;
    for (int i = begin + lane; i < end; i += WARP) {
        int other = experts[i];
        same += other == expert;
        less += other < expert;
    }
    same = warp_sum(same);
    less = warp_sum(less);
    if (lane == 0) {
        same_of[warp] = same;
        less_of[warp] = less;
    }
    __syncthreads();
    const int first = warp_sum(less_of[lane]);
    int place = first + warp_sum(lane < warp ? same_of[lane] : 0);
    if (threadIdx.x == 0) {
        starts[expert] = first;
    }
    if (expert == count - 1 && warp == ORDER_WARPS - 1 && lane == 0) {
        starts[count] = place + same;
    }
    for (int i = begin; i < end; i += WARP) {
        bool mine = i + lane < end && experts[i + lane] == expert;
        unsigned all = __ballot_sync(ALL_LANES, mine);
        if (mine) {
            order[place + __popc(all & ((1u << lane) - 1))] = i + lane;
        }
        place += __popc(all);
    }
}

// A thread a tile. Tiles of an expert stand in groups of EXPERTS_GROUP.
static __global__ void __launch_bounds__(LIST_THREADS)
    experts_tiles_kernel(struct experts_tile *tiles, const int32_t *starts, int experts, int tile_count) {
    int number = (int)(blockIdx.x * LIST_THREADS + threadIdx.x);
    if (number >= tile_count) {
        return;
    }
    struct experts_tile tile = {};
    int before = 0; // tiles of the experts before
    for (int e = 0; e < experts; e++) {
        int first = starts[e];
        int tiles_here = (starts[e + 1] - first + EXPERTS_TILE - 1) / EXPERTS_TILE;
        if (number < before + tiles_here) {
            int group = (number - before) / EXPERTS_GROUP * EXPERTS_GROUP;
            tile.expert = e;
            tile.begin = before + group;
            tile.count = min(tiles_here - group, (int)EXPERTS_GROUP);
            tile.first = first + group * EXPERTS_TILE;
            tile.end = starts[e + 1];
            break;
        }
        before += tiles_here;
    }
    tiles[number] = tile;
}

extern "C" size_t experts_tile_count(size_t pairs, size_t experts) {
    return pairs / EXPERTS_TILE + (experts < pairs ? experts : pairs);
}

extern "C" cudaError_t launch_experts_order(cudaStream_t stream, struct experts_tile *tiles, int32_t *starts,
                                            int32_t *order, const int32_t *experts, size_t pairs,
                                            size_t count) {
    size_t tile_count = experts_tile_count(pairs, count);
    if (pairs > INT32_MAX - ORDER_THREADS * WARP || tile_count > INT32_MAX || count > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    cudaError_t result =
        LAUNCH(experts_order_kernel, dim3((unsigned)count), dim3(ORDER_THREADS),
               2 * ORDER_WARPS * sizeof(int), stream, starts, order, experts, (int)pairs, (int)count);
    if (result != cudaSuccess) {
        return result;
    }
    return LAUNCH(experts_tiles_kernel, dim3((unsigned)((tile_count + LIST_THREADS - 1) / LIST_THREADS)),
                  dim3(LIST_THREADS), 0, stream, tiles, starts, (int)count, (int)tile_count);
}

// ---- rows times weights ----

// A block a pair.
template <typename T>
static __global__ void __launch_bounds__(SUM_THREADS)
    experts_scale_kernel(T *out, const T *x, const float *weights, unsigned chosen, size_t hidden) {
    const T *from = x + (size_t)(blockIdx.x / chosen) * hidden;
    T *to = out + (size_t)blockIdx.x * hidden;
    const float factor = weights[blockIdx.x];
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < hidden; i += SUM_THREADS * (size_t)CHUNK) {
        float y[CHUNK];
        group_load(y, from, i, hidden, true);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            y[e] *= factor;
        }
        group_store(to, i, hidden, y, true);
    }
}

extern "C" cudaError_t launch_experts_scale(cudaStream_t stream, enum dtype dtype, void *scaled,
                                            const void *x, const float *weights, size_t pairs, size_t chosen,
                                            size_t hidden) {
    if (pairs > INT32_MAX || hidden % CHUNK != 0 || ((uintptr_t)scaled | (uintptr_t)x) % 16 != 0) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return LAUNCH(experts_scale_kernel<T>, dim3((unsigned)pairs), dim3(SUM_THREADS), 0, stream,
                      (T *)scaled, (const T *)x, weights, (unsigned)chosen, hidden);
    });
}

// ---- sum ----

// A block a token: its products by ascending experts, which is their order in memory.
template <typename T>
static __global__ void __launch_bounds__(SUM_THREADS)
    experts_sum_kernel(T *out, const T *products, const float *weights, bool adds, unsigned chosen,
                       size_t hidden) {
    const T *from = products + (size_t)blockIdx.x * chosen * hidden;
    const float *factors = weights + (size_t)blockIdx.x * chosen;
    T *to = out + (size_t)blockIdx.x * hidden;
    for (size_t i = threadIdx.x * (size_t)CHUNK; i < hidden; i += SUM_THREADS * (size_t)CHUNK) {
        float sum[CHUNK] = {};
        for (unsigned j = 0; j < chosen; j++) {
            float x[CHUNK];
            float factor = weights == NULL ? 1.0f : factors[j];
            group_load(x, from + j * hidden, i, hidden, true);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) {
                sum[e] = fmaf(factor, x[e], sum[e]);
            }
        }
        if (adds) {
            float before[CHUNK];
            group_load(before, to, i, hidden, true);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) {
                sum[e] = before[e] + rounded<T>(sum[e]);
            }
        }
        group_store(to, i, hidden, sum, true);
    }
}

extern "C" cudaError_t launch_experts_sum(cudaStream_t stream, enum dtype dtype, void *out,
                                          const void *products, const float *weights, bool adds,
                                          size_t tokens, size_t chosen, size_t hidden) {
    if (tokens > INT32_MAX || hidden % CHUNK != 0 || ((uintptr_t)out | (uintptr_t)products) % 16 != 0) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        return LAUNCH(experts_sum_kernel<T>, dim3((unsigned)tokens), dim3(SUM_THREADS), 0, stream, (T *)out,
                      (const T *)products, weights, adds, (unsigned)chosen, hidden);
    });
}

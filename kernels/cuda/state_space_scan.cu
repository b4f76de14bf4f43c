// SPDX-License-Identifier: MIT
// The scan of a state space: each text's tokens in their order, a head's state in registers.
//
// It is the scan of a gated delta net (delta_net_scan.cu) without the state's answer to a key: the columns of
// a state, those of head_dim, do not meet, a block has 32 of one head of one text, and eight lanes share two
// columns, each with every eighth group of four of the state's rows. A token is one pass over the state in
// registers, for each number h:
//   h = exp(-exp(decay) dt) h + B (dt x);  o += h C.
// Then the eight lanes add up o, by halving, while the next token's numbers are loaded. All is float32, and
// the order of every sum is fixed by the state's size alone.
//
// B, C, x and gates come by asynchronous copies, eight tokens at a time into one of two buffers, while the
// eight before are computed; one barrier for eight tokens. y lies where x lay, in the same columns of the
// same token: a block reads its own before it overwrites them.
//
// Rows of a state do not meet either, but in o: a state of more than STATE_SPACE_CHUNK rows takes several
// launches, each of which adds to y, which then has a place of its own.
#include "base/size.h"
#include "kernels/cuda/scan.h"
#include "kernels/cuda/state_space.h"
#include "kernels/cuda/texts.h"

static_assert(SPACE_GATES * sizeof(float) == COPY, "one copy brings them");

// A buffer, in bytes. QUADS: groups of rows of a thread.
template <int QUADS> struct tile {
    static const unsigned ROWS = QUADS * QUAD_ROWS;
    static const unsigned B = 0;
    static const unsigned C = B + TILE * ROWS * sizeof(float);
    static const unsigned GATES = C + TILE * ROWS * sizeof(float);
    static const unsigned X = GATES + TILE * COPY;
    static const unsigned BYTES = X + TILE * BLOCK_COLUMNS * sizeof(float);
    static_assert(2 * BYTES <= 48 << 10, "two buffers fit into every block's shared memory");
};

struct scan { // what all blocks have in common
    state_space_scratch from;
    float *state; // after the text; NULL: it is not kept
    bool adds;    // to y, what rows of the state before came to
    const int32_t *starts;
    state_space_sizes space;
    unsigned parts; // blocks of a head of a text
    unsigned first; // row of the state
    unsigned rows;  // at most STATE_SPACE_CHUNK
};

struct place { // of a block and a thread
    unsigned head;
    unsigned group;
    unsigned block_column; // the block's first, of its head
    unsigned column;       // the thread's first, of the block's
    unsigned row;          // the thread's first
    int32_t start;         // of the text
    int32_t end;
    bool goes_on; // it begins from a state
    bool works;   // its columns are there, or some of them: the same in all of a warp
    bool writes;  // what the lanes that share them come to
};

template <typename BEGINNING>
static __device__ __forceinline__ place place_of(const scan &scan, const BEGINNING &before) {
    const unsigned lane = threadIdx.x % WARP;
    // Said so, nvcc knows that it is the same in all lanes, and makes no code for shuffles of some of them.
    const unsigned warp = __shfl_sync(ALL_LANES, threadIdx.x / WARP, 0);
    const unsigned text = blockIdx.x / scan.parts / scan.space.heads;
    place here;
    here.head = blockIdx.x / scan.parts % scan.space.heads;
    here.group = here.head / (scan.space.heads / scan.space.groups);
    here.block_column = blockIdx.x % scan.parts * BLOCK_COLUMNS;
    here.column = warp * WARP_COLUMNS + lane % ACROSS * COLUMNS;
    here.row = lane / ACROSS * QUAD;
    here.start = scan.starts[text];
    here.end = scan.starts[text + 1];
    here.goes_on = text_goes_on(before, text);
    here.works = here.block_column + warp * WARP_COLUMNS < scan.space.head_dim;
    here.writes = lane < ACROSS && here.block_column + here.column < scan.space.padded_dim;
    return here;
}

// What a token needs.
template <int QUADS> struct tile_copy {
    typedef tile<QUADS> at;
    rows_copy<at::ROWS * sizeof(float)> b;
    rows_copy<at::ROWS * sizeof(float)> c;
    rows_copy<COPY> gates;
    rows_copy<BLOCK_COLUMNS * sizeof(float)> x;

    __device__ __forceinline__ void set(const scan &scan, const place &here) {
        const state_space_sizes &space = scan.space;
        const unsigned bytes = (unsigned)(sizeof(float));
        const float *keys = scan.from.keys + (size_t)here.group * 2 * space.padded_state + scan.first;
        const size_t stride = (size_t)space.groups * 2 * space.padded_state * bytes;
        const unsigned there = min(scan.rows, space.padded_state - scan.first) * bytes;
        b.set(keys, stride, there, here.start, at::B);
        c.set(keys + space.padded_state, stride, there, here.start, at::C);
        gates.set(scan.from.gates + (size_t)here.head * SPACE_GATES, (size_t)space.heads * COPY, COPY,
                  here.start, at::GATES);
        x.set(scan.from.x + (size_t)here.head * space.padded_dim + here.block_column,
              (size_t)space.heads * space.padded_dim * bytes, (space.padded_dim - here.block_column) * bytes,
              here.start, at::X);
    }

    // The next tile, of whose text so many tokens are left.
    __device__ __forceinline__ void copy(shared_place buffer, int32_t left) {
        b.copy(buffer, left);
        c.copy(buffer, left);
        gates.copy(buffer, left);
        x.copy(buffer, left);
        copy_commit();
    }
};

// ---- a token ----

template <int QUADS> struct thread_state {
    float h[QUADS * QUAD][COLUMNS];
    float o[COLUMNS]; // of the token before, this thread's share
    float x[COLUMNS]; // and of that token
    float skip;
};

// y of the token before: the same in all lanes that share its columns, but written by one.
template <int QUADS>
static __device__ __forceinline__ void finish(const thread_state<QUADS> &mine, float *to, bool store,
                                              bool adds) {
    float y[COLUMNS] = {mine.o[0], mine.o[1]};
    add_parts(y);
    if (store) {
#pragma unroll
        for (int e = 0; e < COLUMNS; e++) {
            y[e] = adds ? to[e] + y[e] : fmaf(mine.skip, mine.x[e], y[e]);
        }
        columns_store(to, y);
    }
}

// Writes the y of the token before where `store` says so, and takes token `i` of the tile.
template <int QUADS>
static __device__ __forceinline__ void pass(thread_state<QUADS> &mine, const unsigned char *buffer,
                                            unsigned i, const place &here, float *before, bool store,
                                            bool adds) {
    typedef tile<QUADS> tile;
    float b[QUADS * QUAD];
    float c[QUADS * QUAD];
    rows_load<QUADS>(b, (const float *)(buffer + tile::B) + i * tile::ROWS + here.row);
    rows_load<QUADS>(c, (const float *)(buffer + tile::C) + i * tile::ROWS + here.row);
    const group<float, SPACE_GATES> gates =
        *(const group<float, SPACE_GATES> *)(buffer + tile::GATES + i * COPY);
    const group<float, COLUMNS> x =
        *(const group<float, COLUMNS> *)((const float *)(buffer + tile::X) + i * BLOCK_COLUMNS + here.column);
    finish(mine, before, store, adds);
    mine.skip = gates.number[2];
    float step[COLUMNS];
#pragma unroll
    for (int e = 0; e < COLUMNS; e++) {
        mine.x[e] = x.number[e];
        step[e] = gates.number[1] * x.number[e];
        mine.o[e] = 0;
    }
#pragma unroll
    for (int k = 0; k < QUADS * QUAD; k++) {
#pragma unroll
        for (int e = 0; e < COLUMNS; e++) {
            const float h = fmaf(b[k], step[e], gates.number[0] * mine.h[k][e]);
            mine.h[k][e] = h;
            mine.o[e] = fmaf(h, c[k], mine.o[e]);
        }
    }
}

// `count` tokens from `first` on, which lie in a buffer. to: where y of the token before goes.
template <int QUADS>
static __device__ __forceinline__ void pass_tile(thread_state<QUADS> &mine, const unsigned char *buffer,
                                                 const place &here, size_t stride, float *&to, int32_t first,
                                                 int32_t count, bool adds) {
    const bool goes_on = first > here.start;
    if (count >= TILE) {
#pragma unroll 4
        for (unsigned i = 0; i < TILE; i++) {
            pass<QUADS>(mine, buffer, i, here, to, here.writes && (i > 0 || goes_on), adds);
            to += i > 0 || goes_on ? stride : 0;
        }
        return;
    }
#pragma unroll 1
    for (unsigned i = 0; i < (unsigned)count; i++) {
        pass<QUADS>(mine, buffer, i, here, to, here.writes && (i > 0 || goes_on), adds);
        to += i > 0 || goes_on ? stride : 0;
    }
}

// ---- the state that a slice takes and leaves ----

// The states of all heads that a text begins from; after: those that are kept after it, in the place of those
// that a slice begins from (delta_net_scan.cu's state_before).
static __device__ __forceinline__ const float *states_before(const same_beginning &, const float *after) {
    return after;
}

static __device__ __forceinline__ const float *states_before(const text_beginning &before, const float *) {
    return (const float *)before.from;
}

// Calls `use` with each number of a thread's state that is there and its place in memory; states: of all
// heads.
template <int QUADS, typename STATE, typename F>
static __device__ __forceinline__ void each_number(thread_state<QUADS> &mine, STATE *states, const scan &scan,
                                                   const place &here, F use) {
    const state_space_sizes &space = scan.space;
    const unsigned column = here.block_column + here.column;
    STATE *state = states + ((size_t)here.head * space.state + scan.first) * space.head_dim + column;
#pragma unroll
    for (int k = 0; k < QUADS * QUAD; k++) {
        const unsigned row = here.row + (unsigned)(k / QUAD * QUAD_ROWS + k % QUAD);
#pragma unroll
        for (unsigned e = 0; e < COLUMNS; e++) {
            if (row < scan.rows && column + e < space.head_dim) {
                use(mine.h[k][e], state + (size_t)row * space.head_dim + e);
            }
        }
    }
}

// ---- the kernel ----

// before: states.
template <int QUADS, typename BEGINNING>
static __global__ void __launch_bounds__(THREADS) space_scan_kernel(scan scan, BEGINNING before) {
    SHARED_BYTES(shared);
    const place here = place_of(scan, before);
    const size_t stride = (size_t)scan.space.heads * scan.space.padded_dim;
    float *to = scan.from.y + (size_t)here.start * stride + (size_t)here.head * scan.space.padded_dim +
                here.block_column + here.column;
    thread_state<QUADS> mine = {};
    tile_copy<QUADS> copies;
    copies.set(scan, here);
    copies.copy(shared_at(shared), here.end - here.start);
    if (here.works && here.goes_on) {
        each_number(mine, states_before(before, scan.state), scan, here,
                    [](float &h, const float *at) { h = *at; });
    }
    unsigned current = 0;
    for (int32_t first = here.start; first < here.end; first += TILE) {
        copy_wait<0>();
        __syncthreads(); // the tile is there, and all are done with the one before
        const unsigned char *buffer = shared + current * tile<QUADS>::BYTES;
        current ^= 1;
        copies.copy(shared_at(shared + current * tile<QUADS>::BYTES), here.end - first - TILE);
        if (here.works) {
            pass_tile<QUADS>(mine, buffer, here, stride, to, first, here.end - first, scan.adds);
        }
    }
    copy_wait<0>();
    if (here.works && here.start < here.end) {
        finish(mine, to, here.writes, scan.adds);
    }
    if (here.works && scan.state != NULL) {
        each_number(mine, scan.state, scan, here, [](float &h, float *at) { *at = h; });
    }
}

// ---- launch ----

template <int QUADS>
static cudaError_t launch(cudaStream_t stream, const scan &scan, const text_beginning &before,
                          size_t blocks) {
    return with_beginning(before, [&](auto beginning) {
        return LAUNCH((space_scan_kernel<QUADS, decltype(beginning)>), dim3((unsigned)blocks), dim3(THREADS),
                      2 * (tile<QUADS>::BYTES), stream, scan, beginning);
    });
}

static cudaError_t launch_chunk(cudaStream_t stream, const scan &scan, const text_beginning &before,
                                size_t blocks) {
    const unsigned quads = (scan.rows + QUAD_ROWS - 1) / QUAD_ROWS;
    return quads <= 1   ? launch<1>(stream, scan, before, blocks)
           : quads <= 2 ? launch<2>(stream, scan, before, blocks)
           : quads <= 4 ? launch<4>(stream, scan, before, blocks)
                        : launch<8>(stream, scan, before, blocks);
}

extern "C" cudaError_t launch_state_space_scan(cudaStream_t stream, void *scratch,
                                               const struct device_state_space *space,
                                               const struct device_texts *texts, struct text_beginning before,
                                               float *state) {
    const unsigned parts = (unsigned)((space->head_dim + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS);
    const size_t blocks = texts->count * space->heads * parts;
    const size_t tokens = (size_t)texts->host_starts[texts->count];
    if (blocks > INT32_MAX || !begins_in_place(before, state)) {
        return cudaErrorInvalidValue;
    }
    scan scan = {state_space_scratch_at(scratch, space, tokens),
                 state,
                 false,
                 texts->starts,
                 state_space_sizes_of(space),
                 parts,
                 0,
                 0};
    cudaError_t launched = cudaSuccess;
    for (size_t first = 0; launched == cudaSuccess && first < space->state; first += STATE_SPACE_CHUNK) {
        scan.first = (unsigned)first;
        scan.rows = (unsigned)size_min(space->state - first, STATE_SPACE_CHUNK);
        scan.adds = first > 0;
        launched = launch_chunk(stream, scan, before, blocks);
    }
    return launched;
}

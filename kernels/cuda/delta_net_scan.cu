// SPDX-License-Identifier: MIT
// The scan of a gated delta net: each text's tokens in their order, a value head's state in registers.
//
// The columns of a state do not meet: a block has 32 columns of one head of one text. Eight lanes share two
// columns, each with every eighth group of four of key_dim's rows. A token is one pass over the state in
// registers, for each number S:
//   S = exp(g) S + k delta;  o += S q;  r += S k', k' the next token's key,
// so that r, which the next token's delta = beta (v - exp(g) S^T k) needs, is there without another pass.
// Then the eight lanes add up o and r, by halving. The first token's r is the same sum of the state that was
// there: a slice goes on with the bits of the whole text. All is float32, and the order of every sum is fixed
// by key_dim alone.
//
// Queries, next keys, values and gates come by asynchronous copies, eight tokens at a time into one of two
// buffers, while the eight before are computed; one barrier for eight tokens. Rows of key_dim beyond the last
// are zeros. What a token reads is loaded while the sums of the one before go round. Values lie where o is
// written, in the same columns of the same token: a block reads its own before it overwrites them.
//
// What bounds it is issue slots where there are texts and heads for all schedulers, otherwise a token's
// latency. Of a token a warp issues 190 instructions (counted on sm_90, key_dim 128): 128 are the pass, 24
// sums, 10 loads from shared memory. At 32 value heads of 128 that is 97,000 a token, on 132 multiprocessors
// of four schedulers at least 185 cycles: 0.9 ms for 8,192 tokens at 1.7 GHz, beside about 2.6 ms that its
// block's matmuls of hidden 2,560 take in bfloat16 at 700 TFLOPS. One text of those heads is 128 blocks, a
// warp a scheduler: about 250 cycles a token, of which the pass and its issue are 190 and three rounds of
// shuffles and delta the rest. A long text among short ones ends last. Neither has been measured.
#include "kernels/cuda/delta_net.h"
#include "kernels/cuda/scan.h"
#include "kernels/cuda/texts.h"

static_assert((int)WARP_COLUMNS == (int)DELTA_NET_STEP, "all of a warp's columns are there, or none");
static_assert(DELTA_NET_GATES * sizeof(float) == COPY, "one copy brings them");

// A buffer, in bytes. QUADS: groups of rows of a thread.
template <typename T, int QUADS> struct tile {
    static const unsigned ROWS = QUADS * QUAD_ROWS;
    static const unsigned KEYS = 0;
    static const unsigned QUERIES = KEYS + TILE * ROWS * sizeof(float);
    static const unsigned GATES = QUERIES + TILE * ROWS * sizeof(float);
    static const unsigned VALUES = GATES + TILE * COPY;
    static const unsigned BYTES = VALUES + TILE * BLOCK_COLUMNS * sizeof(T);
    static_assert(2 * BYTES <= 48 << 10, "two buffers fit into every block's shared memory");
};

template <typename T> struct scan { // what all blocks have in common
    T *out;                         // values, then o
    struct delta_net_scratch from;
    float *state; // after the text; NULL: it is not kept
    const int32_t *starts;
    struct delta_net_sizes net;
    unsigned parts; // blocks of a head of a text
};

struct place { // of a block and a thread
    unsigned head;
    unsigned key_head;
    unsigned block_column; // the block's first, of its head
    unsigned column;       // the thread's first, of the block's
    unsigned row;          // the thread's first
    int32_t start;         // of the text
    int32_t end;
    bool goes_on; // it begins from a state
    bool works;   // its columns are there: the same in all of a warp
    bool writes;  // what the lanes that share them come to
};

template <typename T, typename BEGINNING>
static __device__ __forceinline__ place place_of(const scan<T> &scan, const BEGINNING &before) {
    const unsigned lane = threadIdx.x % WARP;
    // Said so, nvcc knows that it is the same in all lanes, and makes no code for shuffles of some of them.
    const unsigned warp = __shfl_sync(ALL_LANES, threadIdx.x / WARP, 0);
    const unsigned text = blockIdx.x / scan.parts / scan.net.value_heads;
    place here;
    here.head = blockIdx.x / scan.parts % scan.net.value_heads;
    here.key_head = here.head / (scan.net.value_heads / scan.net.key_heads);
    here.block_column = blockIdx.x % scan.parts * BLOCK_COLUMNS;
    here.column = warp * WARP_COLUMNS + lane % ACROSS * COLUMNS;
    here.row = lane / ACROSS * QUAD;
    here.start = scan.starts[text];
    here.end = scan.starts[text + 1];
    here.goes_on = text_goes_on(before, text);
    here.works = here.block_column + warp * WARP_COLUMNS < scan.net.value_dim;
    here.writes = lane < ACROSS;
    return here;
}

// ---- from memory ----

// What a token needs, and the key of the one after it.
template <typename T, int QUADS> struct tile_copy {
    typedef tile<T, QUADS> at;
    rows_copy<at::ROWS * sizeof(float)> keys;
    rows_copy<at::ROWS * sizeof(float)> queries;
    rows_copy<COPY> gates;
    rows_copy<BLOCK_COLUMNS * sizeof(T)> values;

    __device__ __forceinline__ void set(const scan<T> &scan, const place &here) {
        const int32_t start = here.start;
        const struct delta_net_sizes &net = scan.net;
        const unsigned row = net.key_dim * (unsigned)sizeof(float);
        const size_t stride = (size_t)net.key_heads * row;
        const size_t head = (size_t)here.key_head * net.key_dim;
        keys.set(scan.from.keys + head, stride, row, start + 1, at::KEYS);
        queries.set(scan.from.queries + head, stride, row, start, at::QUERIES);
        gates.set(scan.from.gates + (size_t)here.head * DELTA_NET_GATES, (size_t)net.value_heads * COPY, COPY,
                  start, at::GATES);
        values.set(scan.out + (size_t)here.head * net.value_dim + here.block_column, net.out * sizeof(T),
                   (net.value_dim - here.block_column) * (unsigned)sizeof(T), start, at::VALUES);
    }

    // The next tile, of whose text so many tokens are left.
    __device__ __forceinline__ void copy(shared_place buffer, int32_t left) {
        keys.copy(buffer, left - 1);
        queries.copy(buffer, left);
        gates.copy(buffer, left);
        values.copy(buffer, left);
        copy_commit();
    }
};

// ---- a token ----

template <int QUADS> struct thread_state {
    float s[QUADS * QUAD][COLUMNS];
    float key[QUADS * QUAD]; // of the token that comes
    float o[COLUMNS];        // of the token before, this thread's share
    float r[COLUMNS];        // S^T key, its share
};

// A thread's columns, as numbers side by side.
template <typename T> static __device__ __forceinline__ void columns_store(T *to, const float (&x)[COLUMNS]) {
    *(uint32_t *)to = pair_bits<T>(x[0], x[1]);
}

// Adds up what the token before came to, writes its o where `store` says so, and goes on to token `i` of the
// tile.
template <typename T, int QUADS>
static __device__ __forceinline__ void pass(thread_state<QUADS> &mine, const unsigned char *buffer,
                                            unsigned i, const place &here, T *before, bool store) {
    typedef tile<T, QUADS> tile;
    float next[QUADS * QUAD];
    float query[QUADS * QUAD];
    rows_load<QUADS>(next, (const float *)(buffer + tile::KEYS) + i * tile::ROWS + here.row);
    rows_load<QUADS>(query, (const float *)(buffer + tile::QUERIES) + i * tile::ROWS + here.row);
    const group<float, 2> gates = *(const group<float, 2> *)(buffer + tile::GATES + i * COPY);
    const group<T, COLUMNS> values =
        *(const group<T, COLUMNS> *)((const T *)(buffer + tile::VALUES) + i * BLOCK_COLUMNS + here.column);
    float sums[2 * COLUMNS] = {mine.o[0], mine.o[1], mine.r[0], mine.r[1]};
    add_parts(sums);
    if (store) {
        columns_store(before, {sums[0], sums[1]});
    }
    float delta[COLUMNS];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        delta[c] = gates.number[1] * (number_value(values.number[c]) - gates.number[0] * sums[COLUMNS + c]);
        mine.o[c] = 0;
        mine.r[c] = 0;
    }
#pragma unroll
    for (int k = 0; k < QUADS * QUAD; k++) {
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const float s = fmaf(mine.key[k], delta[c], gates.number[0] * mine.s[k][c]);
            mine.s[k][c] = s;
            mine.o[c] = fmaf(s, query[k], mine.o[c]);
            mine.r[c] = fmaf(s, next[k], mine.r[c]);
        }
        mine.key[k] = next[k];
    }
}

// `count` tokens from `first` on, which lie in a buffer. to: where o of the token before goes.
template <typename T, int QUADS>
static __device__ __forceinline__ void pass_tile(thread_state<QUADS> &mine, const unsigned char *buffer,
                                                 const place &here, size_t stride, T *&to, int32_t first,
                                                 int32_t count) {
    const bool goes_on = first > here.start;
    if (count >= TILE) {
#pragma unroll 4
        for (unsigned i = 0; i < TILE; i++) {
            pass<T, QUADS>(mine, buffer, i, here, to, here.writes && (i > 0 || goes_on));
            to += i > 0 || goes_on ? stride : 0;
        }
        return;
    }
#pragma unroll 1
    for (unsigned i = 0; i < (unsigned)count; i++) {
        pass<T, QUADS>(mine, buffer, i, here, to, here.writes && (i > 0 || goes_on));
        to += i > 0 || goes_on ? stride : 0;
    }
}

// ---- the state that a slice takes and leaves ----

// Of all heads' states, where a head's begins. It is computed anew where it is used: named once, it costs
// kernels up to 16 registers (tools/sass.py).
static __device__ __forceinline__ size_t state_of_head(const place &here, const struct delta_net_sizes &net) {
    return (size_t)here.head * net.key_dim * net.value_dim;
}

// Of what a text begins from, the thread's first number, which is number `first` of all states. after: that
// of what is kept after it, in the place of what a slice begins from. One address for both takes fewer
// registers than two.
static __device__ __forceinline__ const float *state_before(const same_beginning &, const float *after,
                                                            size_t) {
    return after;
}

static __device__ __forceinline__ const float *state_before(const text_beginning &before, const float *,
                                                            size_t first) {
    return (const float *)before.from + first;
}

// Calls `use` with each row of a thread's state and its place in memory; `state`: the thread's first number.
template <int QUADS, typename STATE, typename F>
static __device__ __forceinline__ void each_row(thread_state<QUADS> &mine, STATE *state, unsigned first,
                                                const struct delta_net_sizes &net, F use) {
#pragma unroll
    for (int k = 0; k < QUADS * QUAD; k++) {
        const unsigned row = first + (unsigned)(k / QUAD * QUAD_ROWS + k % QUAD);
        if (row < net.key_dim) {
            use(mine.s[k], state + (size_t)row * net.value_dim);
        }
    }
}

// As it is before a text's or slice's first token: the state that was left, its key, and S^T key added up as
// `pass` does. state: of that state, the thread's first number.
template <typename T, int QUADS>
static __device__ __forceinline__ void begin(thread_state<QUADS> &mine, const scan<T> &scan,
                                             const place &here, const float *state) {
    const struct delta_net_sizes &net = scan.net;
    if (here.goes_on) {
        each_row(mine, state, here.row, net, [](float(&s)[COLUMNS], const float *at) {
            const group<float, COLUMNS> pair = *(const group<float, COLUMNS> *)at;
            s[0] = pair.number[0];
            s[1] = pair.number[1];
        });
    }
    if (here.start < here.end) {
        const float *key =
            scan.from.keys + ((size_t)here.start * net.key_heads + here.key_head) * net.key_dim;
#pragma unroll
        for (int k = 0; k < QUADS * QUAD; k++) {
            const unsigned row = here.row + (unsigned)(k / QUAD * QUAD_ROWS + k % QUAD);
            mine.key[k] = row < net.key_dim ? key[row] : 0.0f;
        }
    }
#pragma unroll
    for (int k = 0; k < QUADS * QUAD; k++) {
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            mine.r[c] = fmaf(mine.s[k][c], mine.key[k], mine.r[c]);
        }
    }
}

// ---- the kernel ----

// before: states.
template <typename T, int QUADS, typename BEGINNING>
static __global__ void __launch_bounds__(THREADS) delta_scan_kernel(scan<T> scan, BEGINNING before) {
    SHARED_BYTES(shared);
    const struct delta_net_sizes &net = scan.net;
    const place here = place_of(scan, before);
    const size_t head_column = here.block_column + here.column;
    float *state = scan.state != NULL ? scan.state + state_of_head(here, net) + head_column : NULL;
    T *to = scan.out + (size_t)here.start * net.out + (size_t)here.head * net.value_dim + head_column;
    thread_state<QUADS> mine = {};
    tile_copy<T, QUADS> copies;
    copies.set(scan, here);
    copies.copy(shared_at(shared), here.end - here.start);
    if (here.works) {
        begin<T, QUADS>(mine, scan, here,
                        state_before(before, state, state_of_head(here, net) + head_column));
    }
    unsigned current = 0;
    for (int32_t first = here.start; first < here.end; first += TILE) {
        copy_wait<0>();
        __syncthreads(); // the tile is there, and all are done with the one before
        const unsigned char *buffer = shared + current * tile<T, QUADS>::BYTES;
        current ^= 1;
        copies.copy(shared_at(shared + current * tile<T, QUADS>::BYTES), here.end - first - TILE);
        if (here.works) {
            pass_tile<T, QUADS>(mine, buffer, here, net.out, to, first, here.end - first);
        }
    }
    copy_wait<0>();
    if (here.works && here.start < here.end) {
        add_parts(mine.o);
        if (here.writes) {
            columns_store(to, mine.o);
        }
    }
    if (here.works && state != NULL) {
        each_row(mine, state, here.row, net, [](float(&s)[COLUMNS], float *at) { columns_store(at, s); });
    }
}

// ---- launch ----

template <typename T, int QUADS>
static cudaError_t launch(cudaStream_t stream, const scan<T> &scan, const struct text_beginning &before,
                          size_t blocks) {
    return with_beginning(before, [&](auto beginning) {
        return LAUNCH((delta_scan_kernel<T, QUADS, decltype(beginning)>), dim3((unsigned)blocks),
                      dim3(THREADS), 2 * (tile<T, QUADS>::BYTES), stream, scan, beginning);
    });
}

extern "C" cudaError_t launch_delta_net_scan(cudaStream_t stream, enum dtype dtype, void *out, void *scratch,
                                             const struct device_delta_net *net,
                                             const struct device_texts *texts, struct text_beginning before,
                                             float *state) {
    const unsigned parts = (unsigned)((net->value_dim + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS);
    const size_t blocks = texts->count * net->value_heads * parts;
    const size_t tokens = (size_t)texts->host_starts[texts->count];
    if (blocks > INT32_MAX || !begins_in_place(before, state)) {
        return cudaErrorInvalidValue;
    }
    return with_number(dtype, [&](auto number) {
        typedef decltype(number) T;
        const scan<T> scan = {(T *)out,
                              delta_net_scratch_at(scratch, net, tokens),
                              state,
                              texts->starts,
                              delta_net_sizes_of(net),
                              parts};
        const size_t quads = (net->key_dim + QUAD_ROWS - 1) / QUAD_ROWS;
        return quads <= 1   ? launch<T, 1>(stream, scan, before, blocks)
               : quads <= 2 ? launch<T, 2>(stream, scan, before, blocks)
               : quads <= 4 ? launch<T, 4>(stream, scan, before, blocks)
                            : launch<T, 8>(stream, scan, before, blocks);
    });
}

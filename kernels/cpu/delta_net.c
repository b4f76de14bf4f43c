// A gated delta net, token by token: what a state is after some tokens has the same bits however these come
// in slices, and whatever else is computed.
//
// The batch goes in pieces of its tokens: first the keys, queries, values and gates of all of them, spread by
// token, then the states, spread by blocks of their columns (which go their own ways), then norms. So scratch
// is small, and what was just written is read from a cache. A text that the end of a piece cuts leaves its
// states as one does at the end of a slice.
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/rows.h"

enum {
    PIECE_TOKENS = 256,
    TURNED = 64, // of the convolution's weights at a time
};

struct layout {     // of scratch; offsets in bytes
    size_t tokens;  // of a piece
    size_t weights; // float [taps, mixed] of the convolution
    size_t keys;    // float [key_heads, tokens, 2 key_dim]: k | q
    size_t values;  // numbers [value_heads, tokens, value_dim]
    size_t beta;    // float [tokens, value_heads]
    size_t factors; // float [tokens, value_heads]: e^g
    size_t states;  // float [value_heads, key_dim, value_dim]
    size_t blocks;  // float [threads, key_dim, MICRO_SCAN_COLUMNS]
    size_t bytes;
};

static bool add_part(struct layout *layout, size_t *offset, size_t rows, size_t columns, size_t size) {
    size_t bytes;
    *offset = layout->bytes;
    return size_mul(rows, columns, &bytes) && size_mul(bytes, size, &bytes) &&
           size_round_up(bytes, DEVICE_ALIGNMENT, &bytes) && size_add(layout->bytes, bytes, &layout->bytes);
}

// Grows with tokens, so that a smaller batch fits into scratch that was planned for the largest.
static bool lay_out(const struct cpu_device *cpu, const struct device_delta_net *net, size_t tokens,
                    struct layout *out) {
    struct layout layout = {.tokens = size_min(tokens, PIECE_TOKENS)};
    size_t keys;
    size_t values;
    size_t mixed;
    size_t rows;
    if (!size_mul(net->key_heads, net->key_dim, &keys) || !size_mul(keys, 2, &keys) ||
        !size_mul(net->value_heads, net->value_dim, &values) || !size_add(keys, values, &mixed) ||
        !add_part(&layout, &layout.weights, net->taps, mixed, sizeof(float)) ||
        !add_part(&layout, &layout.keys, layout.tokens, keys, sizeof(float)) ||
        !add_part(&layout, &layout.values, layout.tokens, values, dtype_size(cpu->base.dtype)) ||
        !add_part(&layout, &layout.beta, layout.tokens, net->value_heads, sizeof(float)) ||
        !add_part(&layout, &layout.factors, layout.tokens, net->value_heads, sizeof(float)) ||
        !add_part(&layout, &layout.states, values, net->key_dim, sizeof(float)) ||
        !size_mul((size_t)cpu->threads, net->key_dim, &rows) ||
        !add_part(&layout, &layout.blocks, rows, MICRO_SCAN_COLUMNS, sizeof(float))) {
        return false;
    }
    *out = layout;
    return true;
}

bool cpu_delta_net_scratch(const struct device *device, const struct device_delta_net *net, size_t tokens,
                           size_t *bytes) {
    struct layout layout;
    if (!lay_out(cpu_of_const(device), net, tokens, &layout)) {
        return false;
    }
    *bytes = layout.bytes;
    return true;
}

struct delta {
    struct rows rows; // tokens of the piece
    const struct device_delta_net *net;
    enum dtype dtype;
    size_t mixed;      // numbers of a row of q | k | v,
    size_t width;      // of everything,
    size_t out_width;  // and of what comes out
    size_t tokens;     // that a piece has room for
    size_t first;      // of the piece in the batch
    size_t text;       // that the piece begins in
    const void *in;    // [.., width]
    const void *older; // [taps - 1, mixed] before the slice; NULL: a text begins there
    void *out;         // [.., out_width]
    const int32_t *starts;
    bool resumes;  // the batch begins within a text
    float *states; // of the text that the last piece cut, or the slice
    bool keeps;    // states of the last text are left
    float *weights;
    float *keys;
    void *values;
    float *beta;
    float *factors;
    float *blocks;
    size_t column_blocks; // of a value head
};

// ---- keys, queries, values and gates ----

// The convolution's taps of a token, `place` tokens into the batch's part of its text.
static struct micro_convolution convolution_of(const struct delta *delta, size_t token, size_t place,
                                               bool follows) {
    const struct device_delta_net *net = delta->net;
    size_t near = size_min(place + 1, net->taps);
    struct micro_convolution from = {
        .first = number_of(delta->in, (token + 1 - near) * delta->width, delta->dtype),
        .stride = delta->width,
        .near = near,
        .before_stride = delta->mixed,
        .weights = delta->weights,
        .weight_stride = delta->mixed,
        .taps = net->taps,
    };
    if (follows && near < net->taps) {
        from.before = number_of(delta->older, place * delta->mixed, delta->dtype);
    }
    return from;
}

static struct micro_convolution at_column(struct micro_convolution from, size_t column, enum dtype dtype) {
    from.first = number_of(from.first, column, dtype);
    from.before = from.before != NULL ? number_of(from.before, column, dtype) : NULL;
    from.weights += column;
    return from;
}

static void mix_token(const struct delta *delta, size_t token, size_t place, bool follows) {
    const struct micro_kernels *kernels = delta->rows.cpu->kernels;
    const struct device_delta_net *net = delta->net;
    size_t at = token - delta->first;
    size_t key_columns = net->key_heads * net->key_dim;
    struct micro_convolution from = convolution_of(delta, token, place, follows);
    float scale = 1 / sqrtf((float)net->key_dim);
    for (size_t h = 0; h < net->key_heads; h++) {
        size_t column = h * net->key_dim;
        float *key = delta->keys + (h * delta->tokens + at) * 2 * net->key_dim;
        struct micro_convolution k = at_column(from, key_columns + column, delta->dtype);
        struct micro_convolution q = at_column(from, column, delta->dtype);
        kernels->convolve_normed(key, &k, 1, net->key_dim);
        kernels->convolve_normed(key + net->key_dim, &q, scale, net->key_dim);
    }
    for (size_t h = 0; h < net->value_heads; h++) {
        struct micro_convolution v = at_column(from, 2 * key_columns + h * net->value_dim, delta->dtype);
        kernels->convolve(number_in(delta->values, (h * delta->tokens + at) * net->value_dim, delta->dtype),
                          &v, net->value_dim);
    }
    const void *b =
        number_of(delta->in, token * delta->width + delta->mixed + delta->out_width, delta->dtype);
    const void *a = number_of(b, net->value_heads, delta->dtype);
    kernels->delta_gates(delta->beta + at * net->value_heads, delta->factors + at * net->value_heads, b, a,
                         net->decay, net->step_bias, net->value_heads);
}

static void mix_tokens(const void *job, size_t piece, size_t member) {
    const struct delta *delta = job;
    struct share mine = rows_of(&delta->rows, piece);
    size_t text = delta->text;
    (void)member;
    for (size_t t = delta->first + mine.first; t < delta->first + mine.end; t++) {
        while (t >= (size_t)delta->starts[text + 1]) {
            text++;
        }
        mix_token(delta, t, t - (size_t)delta->starts[text], text == 0 && delta->resumes);
    }
}

// ---- states ----

// A block's columns between a state of the text and the thread's own, whose columns beyond are zeros.
static void read_block(const struct delta *delta, float *block, const float *state, size_t columns) {
    const struct device_delta_net *net = delta->net;
    memset(block, 0, net->key_dim * MICRO_SCAN_COLUMNS * sizeof *block);
    for (size_t i = 0; state != NULL && i < net->key_dim; i++) {
        memcpy(block + i * MICRO_SCAN_COLUMNS, state + i * net->value_dim, columns * sizeof *block);
    }
}

static void write_block(const struct delta *delta, float *state, const float *block, size_t columns) {
    const struct device_delta_net *net = delta->net;
    for (size_t i = 0; i < net->key_dim; i++) {
        memcpy(state + i * net->value_dim, block + i * MICRO_SCAN_COLUMNS, columns * sizeof *block);
    }
}

// One block of columns of one value head, over all texts of the piece.
static void scan_columns(const void *job, size_t number, size_t member) {
    const struct delta *delta = job;
    const struct device_delta_net *net = delta->net;
    size_t head = number / delta->column_blocks;
    size_t column = number % delta->column_blocks * MICRO_SCAN_COLUMNS;
    size_t key_head = head / (net->value_heads / net->key_heads);
    size_t end = delta->first + delta->rows.count;
    float *state = delta->states + head * net->key_dim * net->value_dim + column;
    struct micro_scan scan = {
        .state = delta->blocks + member * net->key_dim * MICRO_SCAN_COLUMNS,
        .gate_stride = net->value_heads,
        .value_stride = net->value_dim,
        .out_stride = delta->out_width,
        .key_dim = net->key_dim,
        .columns = size_min(net->value_dim - column, MICRO_SCAN_COLUMNS),
    };
    size_t text = delta->text;
    for (size_t token = delta->first; token < end; text++) {
        size_t start = (size_t)delta->starts[text];
        size_t text_end = (size_t)delta->starts[text + 1];
        size_t at = token - delta->first;
        scan.tokens = size_min(text_end, end) - token;
        if (scan.tokens == 0) {
            continue;
        }
        scan.keys = delta->keys + (key_head * delta->tokens + at) * 2 * net->key_dim;
        scan.beta = delta->beta + at * net->value_heads + head;
        scan.factor = delta->factors + at * net->value_heads + head;
        scan.values =
            number_of(delta->values, (head * delta->tokens + at) * net->value_dim + column, delta->dtype);
        scan.out =
            number_in(delta->out, token * delta->out_width + head * net->value_dim + column, delta->dtype);
        bool begins = token == start && !(text == 0 && delta->resumes);
        read_block(delta, scan.state, begins ? NULL : state, scan.columns);
        delta->rows.cpu->kernels->delta_scan(&scan);
        token += scan.tokens;
        if (token < text_end || delta->keeps) {
            write_block(delta, state, scan.state, scan.columns);
        }
    }
}

// ---- norms ----

static void norm_tokens(const void *job, size_t piece, size_t member) {
    const struct delta *delta = job;
    const struct device_delta_net *net = delta->net;
    struct share mine = rows_of(&delta->rows, piece);
    (void)member;
    for (size_t t = delta->first + mine.first; t < delta->first + mine.end; t++) {
        for (size_t h = 0; h < net->value_heads; h++) {
            size_t column = h * net->value_dim;
            delta->rows.cpu->kernels->delta_norm(
                number_in(delta->out, t * delta->out_width + column, delta->dtype),
                number_of(delta->in, t * delta->width + delta->mixed + column, delta->dtype), net->norm,
                net->epsilon, net->value_dim);
        }
    }
}

// ---- all of it ----

static void run_piece(struct delta *delta) {
    struct cpu_device *cpu = delta->rows.cpu;
    rows_run(&delta->rows, mix_tokens, delta->mixed * (delta->net->taps + 1));
    double started = clock_seconds();
    cpu_team_run(cpu->team, CPU_TEAM_QUEUE, delta->net->value_heads * delta->column_blocks, scan_columns,
                 delta);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
    rows_run(&delta->rows, norm_tokens, 3 * delta->out_width);
}

static void turn_weights(const struct delta *delta) {
    size_t taps = delta->net->taps;
    size_t count = delta->mixed * taps;
    size_t column = 0;
    size_t tap = 0;
    float some[TURNED];
    for (size_t i = 0; i < count; i += TURNED) {
        size_t here = size_min(TURNED, count - i);
        dtype_convert(some, DTYPE_F32, number_of(delta->net->convolution, i, delta->dtype), delta->dtype,
                      here);
        for (size_t j = 0; j < here; j++) {
            delta->weights[tap * delta->mixed + column] = some[j];
            tap = tap + 1 < taps ? tap + 1 : 0;
            column += tap == 0;
        }
    }
}

// The last taps - 1 tokens of the slice, after those that were there before where it is shorter.
static void keep_tokens(const struct delta *delta, void *older, size_t tokens) {
    size_t rows = delta->net->taps - 1;
    size_t fresh = size_min(rows, tokens);
    size_t row_bytes = delta->mixed * dtype_size(delta->dtype);
    unsigned char *kept = older;
    if (delta->older == NULL) {
        memset(kept, 0, rows * row_bytes);
    }
    memmove(kept, kept + fresh * row_bytes, (rows - fresh) * row_bytes);
    for (size_t i = rows - fresh; i < rows; i++) {
        memcpy(kept + i * row_bytes, number_of(delta->in, (tokens + i - rows) * delta->width, delta->dtype),
               row_bytes);
    }
}

int cpu_delta_net(struct device *device, void *out, const void *in, const struct device_delta_net *net,
                  struct device_texts texts, void *state, void *scratch, struct error *err) {
    struct cpu_device *cpu = cpu_of(device);
    size_t tokens = (size_t)texts.host_starts[texts.count];
    struct layout layout;
    if (!lay_out(cpu, net, tokens, &layout)) {
        return error_set(err, STATUS_INTERNAL, "delta_net: a size overflows");
    }
    unsigned char *base = scratch;
    size_t state_numbers = net->value_heads * net->key_dim * net->value_dim;
    void *older = state != NULL ? (float *)state + state_numbers : NULL;
    struct delta delta = {
        .rows = {.cpu = cpu},
        .net = net,
        .dtype = device->dtype,
        .mixed = device_delta_net_mixed(net),
        .width = device_delta_net_width(net),
        .out_width = device_delta_net_out(net),
        .tokens = layout.tokens,
        .first = (size_t)texts.host_starts[0],
        .in = in,
        .older = texts.before > 0 ? older : NULL,
        .out = out,
        .starts = texts.host_starts,
        .resumes = texts.before > 0,
        .states = state != NULL ? state : (void *)(base + layout.states),
        .keeps = state != NULL,
        .weights = (float *)(base + layout.weights),
        .keys = (float *)(base + layout.keys),
        .values = base + layout.values,
        .beta = (float *)(base + layout.beta),
        .factors = (float *)(base + layout.factors),
        .blocks = (float *)(base + layout.blocks),
        .column_blocks = (net->value_dim + MICRO_SCAN_COLUMNS - 1) / MICRO_SCAN_COLUMNS,
    };
    turn_weights(&delta);
    while (delta.first < tokens) {
        while (delta.first >= (size_t)delta.starts[delta.text + 1]) {
            delta.text++;
        }
        delta.rows.count = size_min(layout.tokens, tokens - delta.first);
        run_piece(&delta);
        delta.first += delta.rows.count;
    }
    if (state != NULL) {
        keep_tokens(&delta, older, tokens);
    }
    return STATUS_OK;
}

// ---- gates of rows ----

struct gates {
    struct rows rows;
    void *x;
    const void *in;
    const void *weight;
    size_t width;
    size_t hidden;
};

static void gate_whole_rows(const void *job, size_t piece, size_t member) {
    const struct gates *gates = job;
    struct share mine = rows_of(&gates->rows, piece);
    const struct cpu_device *cpu = gates->rows.cpu;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        cpu->kernels->gate_whole(number_in(gates->x, t * gates->width, cpu->base.dtype),
                                 number_of(gates->in, t * gates->hidden, cpu->base.dtype), gates->weight,
                                 gates->width, gates->hidden);
    }
}

int cpu_gate_rows(struct device *device, void *x, const void *in, const void *weight, size_t tokens,
                  size_t width, size_t hidden, struct error *err) {
    (void)err;
    struct gates gates = {{.cpu = cpu_of(device), .count = tokens}, x, in, weight, width, hidden};
    rows_run(&gates.rows, gate_whole_rows, 2 * width + hidden);
    return STATUS_OK;
}

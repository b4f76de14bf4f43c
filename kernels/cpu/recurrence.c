// SPDX-License-Identifier: MIT
// The scratch, pieces, texts and threads of what goes token by token.
#include "kernels/cpu/recurrence.h"

#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/device_texts.h"

enum {
    PIECE_TOKENS = 256,
    TURNED = 64, // of the convolution's weights at a time
};

static bool add_part(struct recurrence_layout *layout, size_t *offset, size_t rows, size_t columns,
                     size_t size) {
    size_t bytes;
    *offset = layout->bytes;
    return size_mul(rows, columns, &bytes) && size_mul(bytes, size, &bytes) &&
           size_round_up(bytes, DEVICE_ALIGNMENT, &bytes) && size_add(layout->bytes, bytes, &layout->bytes);
}

bool recurrence_lay_out(const struct cpu_device *cpu, const struct recurrence_sizes *sizes, size_t tokens,
                        struct recurrence_layout *out) {
    struct recurrence_layout layout = {.tokens = size_min(tokens, PIECE_TOKENS)};
    size_t keys;
    size_t values;
    size_t mixed;
    size_t rows;
    if (!size_mul(sizes->key_heads, sizes->key_dim, &keys) || !size_mul(keys, 2, &keys) ||
        !size_mul(sizes->value_heads, sizes->value_dim, &values) || !size_add(keys, values, &mixed) ||
        !add_part(&layout, &layout.weights, sizes->taps + sizes->has_bias, mixed, sizeof(float)) ||
        !add_part(&layout, &layout.keys, layout.tokens, keys, sizeof(float)) ||
        !add_part(&layout, &layout.values, layout.tokens, values, dtype_size(cpu->base.dtype)) ||
        !add_part(&layout, &layout.beta, layout.tokens, sizes->value_heads, sizeof(float)) ||
        !add_part(&layout, &layout.factors, layout.tokens, sizes->value_heads, sizeof(float)) ||
        !add_part(&layout, &layout.states, values, sizes->key_dim, sizeof(float)) ||
        !size_mul((size_t)cpu->threads, sizes->key_dim, &rows) ||
        !add_part(&layout, &layout.blocks, rows, MICRO_SCAN_COLUMNS, sizeof(float)) ||
        !add_part(&layout, &layout.wide, sizes->keeps_wide ? layout.tokens : 0, values, sizeof(float))) {
        return false;
    }
    *out = layout;
    return true;
}

// ---- what goes into the states ----

// The state that a text of the batch begins with; NULL: zeros.
static const float *state_before(const struct recurrence *job, size_t text) {
    if (job->resumes) {
        return job->states;
    }
    const struct device_origin *origins = job->texts->host_origins;
    return origins != NULL && origins[text].before > 0 ? job->texts->head : NULL;
}

// The last tokens before it, behind its numbers: [taps - 1, mixed].
static const void *tokens_behind(const struct recurrence *job, const float *state) {
    return state + job->sizes.out_width * job->sizes.key_dim;
}

// The convolution's taps of a token of a text.
static struct micro_convolution convolution_of(const struct recurrence *job, size_t token, size_t text) {
    const struct recurrence_sizes *sizes = &job->sizes;
    const float *state = state_before(job, text);
    size_t place = token - (size_t)job->starts[text];
    size_t near = size_min(place + 1, sizes->taps);
    struct micro_convolution from = {
        .first = number_of(job->in, (token + 1 - near) * sizes->width + sizes->first, job->dtype),
        .stride = sizes->width,
        .near = near,
        .before_stride = sizes->mixed,
        .weights = job->weights,
        .weight_stride = sizes->mixed,
        .taps = sizes->taps,
        .biased = job->biased,
    };
    if (state != NULL && near < sizes->taps) {
        from.before = number_of(tokens_behind(job, state), place * sizes->mixed, job->dtype);
    }
    return from;
}

struct micro_convolution recurrence_column(const struct recurrence *job, const struct micro_convolution *from,
                                           size_t column) {
    struct micro_convolution at = *from;
    at.first = number_of(at.first, column, job->dtype);
    at.before = at.before != NULL ? number_of(at.before, column, job->dtype) : NULL;
    at.weights += column;
    return at;
}

static void mix_tokens(const void *data, size_t piece, size_t member) {
    const struct recurrence *job = data;
    struct share mine = rows_of(&job->rows, piece);
    size_t text = job->text;
    (void)member;
    for (size_t t = job->first + mine.first; t < job->first + mine.end; t++) {
        while (t >= (size_t)job->starts[text + 1]) {
            text++;
        }
        struct micro_convolution mixed = convolution_of(job, t, text);
        job->mix(job, t, t - job->first, &mixed);
    }
}

// ---- states ----

// A block's columns between a state of the text and the thread's own, whose columns beyond are zeros.
static void read_block(const struct recurrence *job, float *block, const float *state, size_t columns) {
    const struct recurrence_sizes *sizes = &job->sizes;
    memset(block, 0, sizes->key_dim * MICRO_SCAN_COLUMNS * sizeof *block);
    for (size_t i = 0; state != NULL && i < sizes->key_dim; i++) {
        memcpy(block + i * MICRO_SCAN_COLUMNS, state + i * sizes->value_dim, columns * sizeof *block);
    }
}

static void write_block(const struct recurrence *job, float *state, const float *block, size_t columns) {
    const struct recurrence_sizes *sizes = &job->sizes;
    for (size_t i = 0; i < sizes->key_dim; i++) {
        memcpy(state + i * sizes->value_dim, block + i * MICRO_SCAN_COLUMNS, columns * sizeof *block);
    }
}

// Where what comes out of a state is written: a column of a token of the batch.
static void *out_of(const struct recurrence *job, size_t token, size_t column) {
    size_t width = job->sizes.out_width;
    return job->sizes.keeps_wide ? (void *)(job->wide + (token - job->first) * width + column)
                                 : number_in(job->out, token * width + column, job->dtype);
}

// One block of columns of one value head, over all texts of the piece.
static void scan_columns(const void *data, size_t number, size_t member) {
    const struct recurrence *job = data;
    const struct recurrence_sizes *sizes = &job->sizes;
    size_t head = number / job->column_blocks;
    size_t column = number % job->column_blocks * MICRO_SCAN_COLUMNS;
    size_t key_head = head / (sizes->value_heads / sizes->key_heads);
    size_t end = job->first + job->rows.count;
    size_t offset = head * sizes->key_dim * sizes->value_dim + column;
    struct micro_scan scan = {
        .state = job->blocks + member * sizes->key_dim * MICRO_SCAN_COLUMNS,
        .gate_stride = sizes->value_heads,
        .value_stride = sizes->value_dim,
        .out_stride = sizes->out_width,
        .key_dim = sizes->key_dim,
        .columns = size_min(sizes->value_dim - column, MICRO_SCAN_COLUMNS),
    };
    if (job->skips != NULL) {
        dtype_convert(&scan.skip, DTYPE_F32, number_of(job->skips, head, job->dtype), job->dtype, 1);
    }
    size_t text = job->text;
    for (size_t token = job->first; token < end; text++) {
        size_t start = (size_t)job->starts[text];
        size_t text_end = (size_t)job->starts[text + 1];
        size_t at = token - job->first;
        scan.tokens = size_min(text_end, end) - token;
        if (scan.tokens == 0) {
            continue;
        }
        scan.keys = job->keys + (key_head * job->tokens + at) * 2 * sizes->key_dim;
        scan.beta = job->beta + at * sizes->value_heads + head;
        scan.factor = job->factors + at * sizes->value_heads + head;
        scan.values =
            number_of(job->values, (head * job->tokens + at) * sizes->value_dim + column, job->dtype);
        scan.out = out_of(job, token, head * sizes->value_dim + column);
        const float *before = token == start ? state_before(job, text) : job->states;
        read_block(job, scan.state, before != NULL ? before + offset : NULL, scan.columns);
        job->scan(&scan);
        token += scan.tokens;
        if (token < text_end || job->keeps) {
            write_block(job, job->states + offset, scan.state, scan.columns);
        }
    }
}

// ---- norms ----

static void norm_tokens(const void *data, size_t piece, size_t member) {
    const struct recurrence *job = data;
    struct share mine = rows_of(&job->rows, piece);
    (void)member;
    for (size_t at = mine.first; at < mine.end; at++) {
        job->norm(job, job->first + at, at);
    }
}

// ---- all of it ----

static void run_piece(struct recurrence *job) {
    struct cpu_device *cpu = job->rows.cpu;
    rows_run(&job->rows, mix_tokens, job->sizes.mixed * (job->sizes.taps + 1));
    double started = clock_seconds();
    cpu_team_run(cpu->team, CPU_TEAM_QUEUE, job->sizes.value_heads * job->column_blocks, scan_columns, job);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
    rows_run(&job->rows, norm_tokens, 3 * job->sizes.out_width);
}

static void turn_weights(const struct recurrence *job, const void *weights) {
    size_t taps = job->sizes.taps;
    size_t count = job->sizes.mixed * taps;
    size_t column = 0;
    size_t tap = 0;
    float some[TURNED];
    for (size_t i = 0; i < count; i += TURNED) {
        size_t here = size_min(TURNED, count - i);
        dtype_convert(some, DTYPE_F32, number_of(weights, i, job->dtype), job->dtype, here);
        for (size_t j = 0; j < here; j++) {
            job->weights[tap * job->sizes.mixed + column] = some[j];
            tap = tap + 1 < taps ? tap + 1 : 0;
            column += tap == 0;
        }
    }
}

// The last taps - 1 tokens of the slice, after those that were there before where it is shorter.
static void keep_tokens(const struct recurrence *job, size_t tokens) {
    size_t rows = job->sizes.taps - 1;
    size_t fresh = size_min(rows, tokens);
    size_t row_bytes = job->sizes.mixed * dtype_size(job->dtype);
    unsigned char *kept = (unsigned char *)(job->states + job->sizes.out_width * job->sizes.key_dim);
    const float *before = state_before(job, 0);
    if (before == NULL) {
        memset(kept, 0, (rows - fresh) * row_bytes);
    } else {
        const unsigned char *older = tokens_behind(job, before);
        memmove(kept, older + fresh * row_bytes, (rows - fresh) * row_bytes);
    }
    for (size_t i = rows - fresh; i < rows; i++) {
        memcpy(kept + i * row_bytes,
               number_of(job->in, (tokens + i - rows) * job->sizes.width + job->sizes.first, job->dtype),
               row_bytes);
    }
}

int recurrence_run(struct recurrence *job, const void *weights, const void *bias, struct device_texts texts,
                   void *state, void *scratch, struct error *err) {
    const struct recurrence_sizes *sizes = &job->sizes;
    size_t tokens = (size_t)texts.host_starts[texts.count];
    struct recurrence_layout layout;
    if (!recurrence_lay_out(job->rows.cpu, sizes, tokens, &layout)) {
        return error_set(err, STATUS_INTERNAL, "a recurrence's scratch overflows");
    }
    unsigned char *base = scratch;
    job->dtype = job->rows.cpu->base.dtype;
    job->tokens = layout.tokens;
    job->first = (size_t)texts.host_starts[0];
    job->starts = texts.host_starts;
    job->texts = &texts;
    job->resumes = texts_resume(&texts);
    job->states = state != NULL ? state : (void *)(base + layout.states);
    job->keeps = state != NULL;
    job->weights = (float *)(base + layout.weights);
    job->biased = bias != NULL;
    job->keys = (float *)(base + layout.keys);
    job->values = base + layout.values;
    job->beta = (float *)(base + layout.beta);
    job->factors = (float *)(base + layout.factors);
    job->blocks = (float *)(base + layout.blocks);
    job->wide = (float *)(base + layout.wide);
    job->column_blocks = (sizes->value_dim + MICRO_SCAN_COLUMNS - 1) / MICRO_SCAN_COLUMNS;
    turn_weights(job, weights);
    if (bias != NULL) {
        dtype_convert(job->weights + sizes->taps * sizes->mixed, DTYPE_F32, bias, job->dtype, sizes->mixed);
    }
    while (job->first < tokens) {
        while (job->first >= (size_t)job->starts[job->text + 1]) {
            job->text++;
        }
        job->rows.count = size_min(layout.tokens, tokens - job->first);
        run_piece(job);
        job->first += job->rows.count;
    }
    if (state != NULL) {
        keep_tokens(job, tokens);
    }
    return STATUS_OK;
}

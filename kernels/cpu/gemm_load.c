// SPDX-License-Identifier: MIT
// Weights into panels (micro_kernels.h), and which thread's memory they lie in.
//
// Thread t of T owns the t-th of T equal parts of every matrix: it touches its pages first, so that on a
// machine with several memory nodes they come from its own (where it stays: nodes.h), and multiplies them
// (gemm_few.c all of them, gemm.c those before it helps others). Rows come in pieces, each packed by a
// few threads; the pages they go to have their places by then. A matrix that is kept in another format goes
// the same way into scratch before each matmul, by all threads.
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/team.h"
#include "kernels/cpu/tile_matmul.h"

enum {
    // Numbers of a row packed at a time, even: 64 rows of them leave the first-level cache room.
    LOAD_DEPTH = 128,
};
_Static_assert(LOAD_DEPTH % 8 == 0, "expand begins at multiples of 8");

bool cpu_matrix_bytes(const struct device *device, size_t rows, size_t columns, size_t *bytes) {
    size_t padded;
    size_t depth;
    if (cpu_of_const(device)->kernels->tiles != NULL) {
        return cpu_tile_matrix_bytes(rows, columns, bytes);
    }
    size_t width = cpu_of_const(device)->kernels->tile_columns;
    return size_round_up(rows, width, &padded) && size_round_up(columns, 2, &depth) &&
           size_mul(padded, panel_depth(device->dtype, columns), &padded) &&
           size_mul(padded, dtype_size(device->dtype), bytes);
}

struct pages {
    volatile unsigned char *data;
    size_t bytes;
    size_t threads;
};

static void touch_share(const void *job, size_t piece, size_t member) {
    enum { PAGE = 4096 };
    const struct pages *pages = job;
    struct share mine = share_of(pages->bytes, pages->threads, piece);
    (void)member;
    for (size_t at = mine.first; at < mine.end; at += PAGE) {
        pages->data[at] = 0;
    }
}

void cpu_place(struct device *device, void *data, size_t bytes) {
    const struct cpu_device *cpu = cpu_of(device);
    // On one node packing is what touches the pages first: walking over them before took a tenth of a load.
    if (cpu->nodes.count <= 1) {
        return;
    }
    struct pages pages = {data, bytes, (size_t)cpu->threads};
    cpu_team_run(cpu->team, CPU_TEAM_EACH, pages.threads, touch_share, &pages);
}

struct gemm_load {
    const struct micro_kernels *kernels;
    const struct cpu_load *from;
    enum dtype dtype;
    size_t panel; // panels [panel, panel_end) are touched
    size_t panel_end;
};

// Depth [k, k + length) of rows [first, end), which lie in the panel that begins with row `origin`, from `in`
// with `stride` bytes from row to row.
static void turn_rows(const struct gemm_load *load, void *panel, size_t origin, size_t first, size_t end,
                      size_t k, size_t length, const unsigned char *in, size_t stride) {
    size_t width = load->kernels->tile_columns;
    bool pairs = load->dtype == DTYPE_BF16; // a unit is a number, or two of a row
    unsigned char *out = number_in(panel, k * width, load->dtype);
    out += (first - origin) * (pairs ? 2 : 1) * dtype_size(load->dtype);
    load->kernels->turn(out, width, in, stride, end - first, pairs ? length / 2 : length);
    if (load->dtype == DTYPE_F32 || length % 2 == 0) {
        return;
    }
    if (!pairs) { // an odd depth is followed by zeros
        memset(out + length * width * sizeof(uint16_t), 0, (end - first) * sizeof(uint16_t));
        return;
    }
    for (size_t r = 0; r < end - first; r++) { // or paired with them
        uint16_t pair[2] = {0, 0};
        memcpy(pair, in + r * stride + (length - 1) * sizeof *pair, sizeof *pair);
        memcpy(out + (length / 2 * width + r) * sizeof pair, pair, sizeof pair);
    }
}

// The rows of the load that fall into panel number `p`.
static void load_panel(const struct gemm_load *load, size_t p) {
    _Alignas(64) float converted[TILE_COLUMNS_MOST * LOAD_DEPTH]; // numbers of the computation dtype
    const struct cpu_load *from = load->from;
    const struct weight_view *source = from->source;
    size_t columns = from->matrix->columns;
    size_t width = load->kernels->tile_columns;
    size_t first = size_max(from->row, p * width);
    size_t end = size_min(from->row + from->count, (p + 1) * width);
    size_t in_source = first - from->row + from->first;
    void *panel = number_in(from->matrix->data, p * width * panel_depth(load->dtype, columns), load->dtype);
    bool as_computed = is_plain(source, load->dtype);
    for (size_t k = 0; k < columns; k += LOAD_DEPTH) { // by depth outside: the panel is written front to back
        size_t length = size_min(LOAD_DEPTH, columns - k);
        if (as_computed) {
            const void *in = number_of(source->parts[0], in_source * columns + k, load->dtype);
            turn_rows(load, panel, p * width, first, end, k, length, in, columns * dtype_size(load->dtype));
            continue;
        }
        for (size_t r = 0; r < end - first; r++) {
            load->kernels->expand(number_in(converted, r * LOAD_DEPTH, load->dtype), source, in_source + r, k,
                                  length);
        }
        turn_rows(load, panel, p * width, first, end, k, length, (const unsigned char *)converted,
                  LOAD_DEPTH * dtype_size(load->dtype));
    }
}

static void load_share(const void *job, size_t piece, size_t member) {
    const struct gemm_load *load = job;
    struct share mine = share_of(load->panel_end - load->panel, load->from->threads, piece);
    (void)member;
    for (size_t p = mine.first; p < mine.end; p++) {
        load_panel(load, load->panel + p);
    }
}

static void load_rows(struct cpu_device *cpu, const struct cpu_load *from) {
    if (cpu->kernels->tiles != NULL) {
        cpu_tile_matrix_load(cpu, from);
        return;
    }
    size_t width = cpu->kernels->tile_columns;
    struct gemm_load load = {.kernels = cpu->kernels,
                             .from = from,
                             .dtype = cpu->base.dtype,
                             .panel = from->row / width,
                             .panel_end = round_up(from->row + from->count, width) / width};
    cpu_team_run(cpu->team, from->order, from->threads, load_share, &load);
}

int cpu_matrix_load(struct device *device, struct device_matrix *matrix, size_t row,
                    const struct weight_view *view, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    const struct cpu_load load = {
        .matrix = matrix,
        .row = row,
        .count = view->rows,
        .source = view,
        .threads = (size_t)cpu_load_threads(cpu),
        .order = CPU_TEAM_QUEUE,
    };
    load_rows(cpu, &load);
    return STATUS_OK;
}

// ---- matrices that are kept in another format ----

struct copy {
    unsigned char *out;
    const unsigned char *in;
    size_t bytes;
    size_t threads;
};

static void copy_share(const void *job, size_t piece, size_t member) {
    const struct copy *copy = job;
    struct share mine = share_of(copy->bytes, copy->threads, piece);
    (void)member;
    memcpy(copy->out + mine.first, copy->in + mine.first, mine.end - mine.first);
}

int cpu_weights_copy(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    struct copy copy = {out, source, bytes, (size_t)cpu_load_threads(cpu)};
    cpu_team_run(cpu->team, CPU_TEAM_QUEUE, copy.threads, copy_share, &copy);
    return STATUS_OK;
}

int cpu_expand(struct device *device, struct device_matrix *out, size_t row, const struct weight_view *view,
               size_t first, size_t count, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    double started = clock_seconds();
    const struct cpu_load load = {
        .matrix = out,
        .row = row,
        .count = count,
        .source = view,
        .first = first,
        .threads = (size_t)cpu->threads, // nothing else goes on
        .order = CPU_TEAM_SHARES,        // each its own part, as it multiplies
    };
    load_rows(cpu, &load);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}

// SPDX-License-Identifier: MIT
// Mixtures of experts: order on the queue, what lies where in scratch, launches.
#include "base/size.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/weight_format.h"

int cuda_route(struct device *device, const struct device_routes *routes, const void *x, const void *router,
               const void *bias, const struct device_routing *routing, size_t tokens, size_t hidden,
               struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    size_t pairs = tokens * routing->chosen;
    const struct cuda_use use = {.writes = {{routes->experts, pairs * sizeof routes->experts[0]},
                                            {routes->weights, pairs * sizeof routes->weights[0]}},
                                 .reads = {x, router, bias, routing->correction, routing->expert_scales}};
    TRY(cuda_queue_begin(cuda, CUDA_COMPUTING, "route", &use, err));
    cudaError_t launched =
        launch_route(cuda->queue.compute, device->dtype, routes, x, router, bias, routing, tokens, hidden);
    return cuda_queue_end(cuda, "route", launched, err);
}

// ---- scratch ----

struct piece {
    size_t offset;
    size_t bytes;
};

struct layout { // of scratch, each piece on a boundary of DEVICE_ALIGNMENT
    size_t pairs;
    struct piece starts;   // [experts + 1] int32
    struct piece tiles;    // [experts_tile_count] struct experts_tile
    struct piece order;    // [pairs] int32
    struct piece inner;    // [pairs, width]
    struct piece products; // [pairs, hidden]; before them the scaled rows of scales_input
    size_t bytes;
};

static bool put(struct layout *layout, struct piece *piece, size_t count, size_t each, size_t size) {
    size_t padded;
    piece->offset = layout->bytes;
    return size_mul(count, each, &piece->bytes) && size_mul(piece->bytes, size, &piece->bytes) &&
           size_round_up(piece->bytes, DEVICE_ALIGNMENT, &padded) &&
           size_add(layout->bytes, padded, &layout->bytes);
}

static bool lay_out(const struct device *device, const struct device_experts *experts, size_t tokens,
                    struct layout *out) {
    size_t size = dtype_size(device->dtype);
    *out = (struct layout){.bytes = 0};
    return size_mul(tokens, experts->chosen, &out->pairs) &&
           put(out, &out->starts, experts->experts + 1, 1, sizeof(int32_t)) &&
           put(out, &out->tiles, experts_tile_count(out->pairs, experts->experts), 1,
               sizeof(struct experts_tile)) &&
           put(out, &out->order, out->pairs, 1, sizeof(int32_t)) &&
           put(out, &out->inner, out->pairs, experts->width, size) &&
           put(out, &out->products, out->pairs, experts->hidden, size);
}

bool cuda_experts_scratch(const struct device *device, const struct device_experts *experts, size_t tokens,
                          size_t *bytes) {
    struct layout layout;
    if (!lay_out(device, experts, tokens, &layout)) {
        return false;
    }
    *bytes = layout.bytes;
    return true;
}

// ---- the steps ----

struct call {
    struct cuda_device *cuda;
    const struct device_experts *experts;
    const struct device_routes *routes;
    const struct layout *layout;
    unsigned char *scratch;
    const void *x;
};

static void *at(const struct call *call, struct piece piece) {
    return call->scratch + piece.offset;
}

static struct cuda_range range(const struct call *call, struct piece piece) {
    return (struct cuda_range){at(call, piece), piece.bytes};
}

static int order(const struct call *call, struct error *err) {
    const struct layout *layout = call->layout;
    struct cuda_range lists = {at(call, layout->starts), layout->inner.offset - layout->starts.offset};
    const struct cuda_use use = {.writes = {lists}, .reads = {call->routes->experts}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "experts", &use, err));
    cudaError_t launched = launch_experts_order(call->cuda->queue.compute, at(call, layout->tiles),
                                                at(call, layout->starts), at(call, layout->order),
                                                call->routes->experts, layout->pairs, call->experts->experts);
    return cuda_queue_end(call->cuda, "experts", launched, err);
}

// Each token's row as each of its experts is to see it, in the products' place: they are made after all of
// these rows were multiplied.
static int scale_rows(const struct call *call, struct error *err) {
    const struct layout *layout = call->layout;
    const struct cuda_use use = {.writes = {range(call, layout->products)},
                                 .reads = {call->x, call->routes->weights}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "experts", &use, err));
    cudaError_t launched = launch_experts_scale(call->cuda->queue.compute, call->cuda->base.dtype,
                                                at(call, layout->products), call->x, call->routes->weights,
                                                layout->pairs, call->experts->chosen, call->experts->hidden);
    return cuda_queue_end(call->cuda, "experts", launched, err);
}

static int make_inner(const struct call *call, const struct experts_part *part, struct error *err) {
    const struct device_experts *experts = call->experts;
    // Rows of x are each token's, or of scales_input each pair's.
    const void *x = experts->scales_input ? at(call, call->layout->products) : call->x;
    size_t pairs_a_row = experts->scales_input ? 1 : experts->chosen;
    const struct layout *layout = call->layout;
    const struct cuda_use use = {
        .writes = {range(call, layout->inner)},
        .reads = {x, part->weights, experts->gate_up_bias, at(call, layout->order), at(call, layout->tiles)}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "experts", &use, err));
    cudaError_t launched = launch_experts_inner(
        call->cuda->queue.compute, call->cuda->base.dtype, at(call, layout->inner), x, pairs_a_row, experts,
        part, at(call, layout->order), at(call, layout->tiles), layout->pairs);
    return cuda_queue_end(call->cuda, "experts", launched, err);
}

static int make_products(const struct call *call, const struct experts_part *part, struct error *err) {
    const struct device_experts *experts = call->experts;
    const struct layout *layout = call->layout;
    const struct cuda_use use = {.writes = {range(call, layout->products)},
                                 .reads = {at(call, layout->inner), part->weights, experts->down_bias,
                                           at(call, layout->order), at(call, layout->tiles)}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "experts", &use, err));
    cudaError_t launched =
        launch_experts_down(call->cuda->queue.compute, call->cuda->base.dtype, at(call, layout->products),
                            at(call, layout->inner), experts, part, at(call, layout->order),
                            at(call, layout->tiles), layout->pairs);
    return cuda_queue_end(call->cuda, "experts", launched, err);
}

// ---- weights ----

// Copies [first, end) of a piece, of a matrix whose copies are its parts, to their rows from number `row` on.
static int expand_copies(const struct call *call, const struct device_matrix *matrix, size_t piece,
                         size_t row, size_t first, size_t end, struct error *err) {
    const struct device_piece *own = &matrix->pieces[piece];
    size_t part_numbers = matrix->rows / matrix->parts * matrix->columns;
    size_t number_size = dtype_size(call->cuda->base.dtype);
    const int32_t *starts = at(call, call->layout->starts);
    size_t next;
    for (size_t copy = first; copy < end; copy = next) {
        struct weight_view view;
        const struct weight_format *format = device_piece_format(matrix, piece, copy);
        // All at once, but where each copy has nested scales with an offset of its own.
        for (next = copy + 1; next < end && device_piece_format(matrix, piece, next)->lookups.offset ==
                                                format->lookups.offset;) {
            next++;
        }
        if (!device_piece_view(matrix, copy, piece, &view)) {
            return error_set(err, STATUS_INTERNAL, "a piece of [%zu, %zu] overflows", own->rows,
                             matrix->columns);
        }
        const struct expansion expansion = {.rows = own->rows,
                                            .copies = next - copy,
                                            .bytes_apart = matrix->copy_bytes,
                                            .out_apart = part_numbers,
                                            .starts = starts + copy};
        unsigned char *out = (unsigned char *)call->cuda->base.expansion +
                             ((copy - first) * part_numbers + row * matrix->columns) * number_size;
        TRY(cuda_expand_into(call->cuda, out, &view, &expansion, err));
    }
    return STATUS_OK;
}

// Parts [first, end) of a matrix into the device's scratch, those whose experts have tokens.
static int expand_parts(const struct call *call, const struct device_matrix *matrix, size_t first, size_t end,
                        struct error *err) {
    size_t rows = matrix->rows / matrix->parts;
    size_t row = 0;
    if (matrix->copies > 1 || matrix->parts == 1) {
        for (size_t i = 0; i < matrix->piece_count; i++) {
            TRY(expand_copies(call, matrix, i, row, first, end, err));
            row += matrix->pieces[i].rows;
        }
        return STATUS_OK;
    }
    struct weight_view view;
    const int32_t *starts = at(call, call->layout->starts);
    const struct expansion expansion = {.first = first * rows,
                                        .rows = rows,
                                        .copies = end - first,
                                        .rows_apart = rows,
                                        .out_apart = rows * matrix->columns,
                                        .starts = starts + first};
    if (!device_piece_view(matrix, 0, 0, &view)) {
        return error_set(err, STATUS_INTERNAL, "experts of [%zu, %zu] overflow", matrix->rows,
                         matrix->columns);
    }
    return cuda_expand_into(call->cuda, call->cuda->base.expansion, &view, &expansion, err);
}

typedef int step(const struct call *call, const struct experts_part *part, struct error *err);

// A step with all experts, or where their matrix is kept in another format with some at a time.
static int with_weights(const struct call *call, const struct device_matrix *matrix, step *take,
                        struct error *err) {
    size_t experts = call->experts->experts;
    size_t bytes;
    if (matrix->piece_count == 0) {
        return take(call, &(struct experts_part){matrix->data, 0, experts}, err);
    }
    if (!cuda_matrix_bytes(&call->cuda->base, matrix->rows / matrix->parts, matrix->columns, &bytes) ||
        bytes > call->cuda->base.expansion_bytes) {
        return error_set(err, STATUS_INTERNAL,
                         "no scratch was planned to expand %zu experts' matrix of [%zu, %zu]", matrix->parts,
                         matrix->rows, matrix->columns);
    }
    size_t some = call->cuda->base.expansion_bytes / bytes;
    for (size_t first = 0; first < experts; first += some) {
        size_t end = size_min(first + some, experts);
        TRY(expand_parts(call, matrix, first, end, err));
        TRY(take(call, &(struct experts_part){call->cuda->base.expansion, first, end}, err));
    }
    return STATUS_OK;
}

static int add_up(const struct call *call, void *out, enum device_store store, size_t tokens,
                  struct error *err) {
    size_t hidden = call->experts->hidden;
    const struct layout *layout = call->layout;
    const float *weights = call->experts->scales_input ? NULL : call->routes->weights;
    const struct cuda_use use = {.writes = {{out, tokens * hidden * dtype_size(call->cuda->base.dtype)}},
                                 .reads = {at(call, layout->products), weights}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "experts", &use, err));
    cudaError_t launched =
        launch_experts_sum(call->cuda->queue.compute, call->cuda->base.dtype, out, at(call, layout->products),
                           weights, store == DEVICE_ADD, tokens, call->experts->chosen, hidden);
    return cuda_queue_end(call->cuda, "experts", launched, err);
}

int cuda_experts(struct device *device, void *out, const void *x, const struct device_routes *routes,
                 const struct device_experts *experts, enum device_store store, size_t tokens, void *scratch,
                 struct error *err) {
    struct layout layout;
    if (experts->hidden % EXPERTS_STEP != 0 || experts->width % EXPERTS_STEP != 0) {
        return error_set(
            err, STATUS_DEVICE,
            "experts on CUDA are not built for hidden %zu and width %zu, but for multiples of %d",
            experts->hidden, experts->width, EXPERTS_STEP);
    }
    if (!lay_out(device, experts, tokens, &layout)) {
        return error_set(err, STATUS_INTERNAL, "experts: scratch for %zu tokens has no size", tokens);
    }
    const struct call call = {cuda_of(device), experts, routes, &layout, scratch, x};
    TRY(order(&call, err));
    if (experts->scales_input) {
        TRY(scale_rows(&call, err));
    }
    TRY(with_weights(&call, experts->gate_up, make_inner, err));
    TRY(with_weights(&call, experts->down, make_products, err));
    return add_up(&call, out, store, tokens, err);
}

// Mixtures of experts: order on the queue, what lies where in scratch, launches.
#include "base/size.h"
#include "kernels/cuda/cuda_device.h"

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
    struct piece products; // [pairs, hidden]
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

static int make_inner(const struct call *call, const void *x, struct error *err) {
    const struct device_experts *experts = call->experts;
    const struct layout *layout = call->layout;
    const struct cuda_use use = {.writes = {range(call, layout->inner)},
                                 .reads = {x, experts->gate_up->data, experts->gate_up_bias,
                                           at(call, layout->order), at(call, layout->tiles)}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "experts", &use, err));
    cudaError_t launched =
        launch_experts_inner(call->cuda->queue.compute, call->cuda->base.dtype, at(call, layout->inner), x,
                             experts, at(call, layout->order), at(call, layout->tiles), layout->pairs);
    return cuda_queue_end(call->cuda, "experts", launched, err);
}

static int make_products(const struct call *call, struct error *err) {
    const struct device_experts *experts = call->experts;
    const struct layout *layout = call->layout;
    const struct cuda_use use = {.writes = {range(call, layout->products)},
                                 .reads = {at(call, layout->inner), experts->down->data, experts->down_bias,
                                           at(call, layout->order), at(call, layout->tiles)}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "experts", &use, err));
    cudaError_t launched = launch_experts_down(
        call->cuda->queue.compute, call->cuda->base.dtype, at(call, layout->products),
        at(call, layout->inner), experts, at(call, layout->order), at(call, layout->tiles), layout->pairs);
    return cuda_queue_end(call->cuda, "experts", launched, err);
}

static int add_up(const struct call *call, void *out, enum device_store store, size_t tokens,
                  struct error *err) {
    size_t hidden = call->experts->hidden;
    const struct layout *layout = call->layout;
    const struct cuda_use use = {.writes = {{out, tokens * hidden * dtype_size(call->cuda->base.dtype)}},
                                 .reads = {at(call, layout->products), call->routes->weights}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "experts", &use, err));
    cudaError_t launched =
        launch_experts_sum(call->cuda->queue.compute, call->cuda->base.dtype, out, at(call, layout->products),
                           call->routes->weights, store == DEVICE_ADD, tokens, call->experts->chosen, hidden);
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
    const struct call call = {cuda_of(device), experts, routes, &layout, scratch};
    TRY(order(&call, err));
    TRY(make_inner(&call, x, err));
    TRY(make_products(&call, err));
    return add_up(&call, out, store, tokens, err);
}

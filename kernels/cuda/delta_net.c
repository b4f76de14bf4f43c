// SPDX-License-Identifier: MIT
// A gated delta net: order on the queue, what lies where in the state, launches.
#include "base/size.h"
#include "kernels/cuda/cuda_device.h"

// Values need none: they lie where the output is written, whose size is checked all the same.
bool cuda_delta_net_scratch(const struct device *device, const struct device_delta_net *net, size_t tokens,
                            size_t *bytes) {
    size_t keys;
    size_t gates;
    size_t out;
    return size_mul(net->value_heads, net->value_dim, &out) && size_mul(out, tokens, &out) &&
           size_mul(out, dtype_size(device->dtype), &out) && size_mul(net->key_heads, net->key_dim, &keys) &&
           size_mul(keys, 2, &keys) && size_mul(net->value_heads, DELTA_NET_GATES, &gates) &&
           size_add(keys, gates, bytes) && size_mul(*bytes, tokens, bytes) &&
           size_mul(*bytes, sizeof(float), bytes);
}

struct call {
    struct cuda_device *cuda;
    const struct device_delta_net *net;
    const struct device_texts *texts;
    size_t tokens;
    const void *in;
    void *out;
    void *scratch;
    void *state;                  // NULL: whole texts
    void *tail;                   // in it, the last rows; NULL: none are kept
    struct text_beginning before; // states
    struct text_beginning tails;  // and the rows
    size_t out_bytes;
    size_t scratch_bytes;
    size_t state_bytes;
};

static int make_rows(const struct call *call, struct error *err) {
    const struct device_delta_net *net = call->net;
    const struct cuda_use use = {
        .writes = {{call->out, call->out_bytes}, {call->scratch, call->scratch_bytes}},
        .reads = {call->in, net->convolution, net->decay, net->step_bias, call->texts->starts,
                  call->tails.from, call->tails.origins}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "delta_net", &use, err));
    cudaError_t launched = launch_delta_net_rows(call->cuda->queue.compute, call->cuda->base.dtype, call->out,
                                                 call->scratch, call->in, net, call->texts, call->tails);
    return cuda_queue_end(call->cuda, "delta_net", launched, err);
}

static int keep_tail(const struct call *call, struct error *err) {
    const struct cuda_use use = {.writes = {{call->state, call->state_bytes}},
                                 .reads = {call->in, call->tails.from}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "delta_net", &use, err));
    cudaError_t launched =
        launch_causal_tail(call->cuda->queue.compute, call->cuda->base.dtype, call->tail,
                           texts_first(call->texts, 0) > 0 ? call->tails.from : NULL, call->in,
                           device_delta_net_width(call->net), device_delta_net_mixed(call->net),
                           call->net->taps - 1, call->tokens);
    return cuda_queue_end(call->cuda, "delta_net", launched, err);
}

static int scan(const struct call *call, struct error *err) {
    const struct cuda_use use = {
        .writes = {{call->out, call->out_bytes}, {call->state, call->state_bytes}},
        .reads = {call->scratch, call->texts->starts, call->before.from, call->before.origins}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "delta_net", &use, err));
    cudaError_t launched =
        launch_delta_net_scan(call->cuda->queue.compute, call->cuda->base.dtype, call->out, call->scratch,
                              call->net, call->texts, call->before, call->state);
    return cuda_queue_end(call->cuda, "delta_net", launched, err);
}

static int make_norm(const struct call *call, struct error *err) {
    const struct cuda_use use = {.writes = {{call->out, call->out_bytes}},
                                 .reads = {call->in, call->net->norm}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "delta_net", &use, err));
    cudaError_t launched = launch_delta_net_norm(call->cuda->queue.compute, call->cuda->base.dtype, call->out,
                                                 call->in, call->net, call->tokens);
    return cuda_queue_end(call->cuda, "delta_net", launched, err);
}

int cuda_delta_net(struct device *device, void *out, const void *in, const struct device_delta_net *net,
                   struct device_texts texts, void *state, void *scratch, struct error *err) {
    size_t size = dtype_size(device->dtype);
    size_t tokens = (size_t)texts.host_starts[texts.count];
    struct call call = {.cuda = cuda_of(device),
                        .net = net,
                        .texts = &texts,
                        .tokens = tokens,
                        .in = in,
                        .out = out,
                        .scratch = scratch,
                        .state = state,
                        .out_bytes = tokens * device_delta_net_out(net) * size};
    if (!delta_net_has(net->key_dim) || !delta_net_has(net->value_dim)) {
        return error_set(
            err, STATUS_DEVICE,
            "delta nets on CUDA are not built for keys of %zu and values of %zu numbers, but for "
            "multiples of %d up to %d",
            net->key_dim, net->value_dim, DELTA_NET_STEP, DELTA_NET_MOST);
    }
    if (!cuda_delta_net_scratch(device, net, tokens, &call.scratch_bytes)) {
        return error_set(err, STATUS_INTERNAL, "delta_net: scratch for %zu tokens has no size", tokens);
    }
    size_t states = net->value_heads * net->key_dim * net->value_dim * sizeof(float);
    call.before = cuda_text_beginning(&texts, state, 0);
    call.tails = cuda_text_beginning(&texts, state, states);
    if (state != NULL) {
        call.state_bytes = device_delta_net_state(net, size);
        call.tail = net->taps > 1 ? (unsigned char *)state + states : NULL;
    }
    if (tokens > 0) {
        TRY(make_rows(&call, err));
    }
    if (call.tail != NULL) {
        TRY(keep_tail(&call, err));
    }
    TRY(scan(&call, err));
    return tokens > 0 ? make_norm(&call, err) : STATUS_OK;
}

// SPDX-License-Identifier: MIT
// A state space: order on the queue, what lies where in the state, launches.
#include "kernels/cuda/state_space.h"
#include "kernels/cuda/cuda_device.h"

bool cuda_state_space_scratch(const struct device *device, const struct device_state_space *space,
                              size_t tokens, size_t *bytes) {
    (void)device;
    return device_state_space_gpu_scratch(space, tokens, bytes);
}

struct call {
    struct cuda_device *cuda;
    const struct device_state_space *space;
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
    const struct device_state_space *space = call->space;
    const struct cuda_use use = {.writes = {{call->scratch, call->scratch_bytes}},
                                 .reads = {call->in, space->convolution, space->bias, space->decay,
                                           space->step_bias, space->skip, call->texts->starts,
                                           call->tails.from, call->tails.origins}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "state_space", &use, err));
    cudaError_t launched = launch_state_space_rows(call->cuda->queue.compute, call->cuda->base.dtype,
                                                   call->scratch, call->in, space, call->texts, call->tails);
    return cuda_queue_end(call->cuda, "state_space", launched, err);
}

static int keep_tail(const struct call *call, struct error *err) {
    const struct device_state_space *space = call->space;
    const size_t first = device_state_space_out(space) * dtype_size(call->cuda->base.dtype);
    const struct cuda_use use = {.writes = {{call->state, call->state_bytes}},
                                 .reads = {call->in, call->tails.from}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "state_space", &use, err));
    cudaError_t launched = launch_causal_tail(
        call->cuda->queue.compute, call->cuda->base.dtype, call->tail,
        texts_first(call->texts, 0) > 0 ? call->tails.from : NULL, (const unsigned char *)call->in + first,
        device_state_space_width(space), device_state_space_mixed(space), space->taps - 1, call->tokens);
    return cuda_queue_end(call->cuda, "state_space", launched, err);
}

static int scan(const struct call *call, struct error *err) {
    const struct cuda_use use = {
        .writes = {{call->scratch, call->scratch_bytes}, {call->state, call->state_bytes}},
        .reads = {call->texts->starts, call->before.from, call->before.origins}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "state_space", &use, err));
    cudaError_t launched = launch_state_space_scan(call->cuda->queue.compute, call->scratch, call->space,
                                                   call->texts, call->before, call->state);
    return cuda_queue_end(call->cuda, "state_space", launched, err);
}

static int make_norm(const struct call *call, struct error *err) {
    const struct cuda_use use = {.writes = {{call->out, call->out_bytes}},
                                 .reads = {call->in, call->scratch, call->space->norm}};
    TRY(cuda_queue_begin(call->cuda, CUDA_COMPUTING, "state_space", &use, err));
    cudaError_t launched =
        launch_state_space_norm(call->cuda->queue.compute, call->cuda->base.dtype, call->out, call->scratch,
                                call->in, call->space, call->tokens);
    return cuda_queue_end(call->cuda, "state_space", launched, err);
}

int cuda_state_space(struct device *device, void *out, const void *in, const struct device_state_space *space,
                     struct device_texts texts, void *state, void *scratch, struct error *err) {
    size_t size = dtype_size(device->dtype);
    size_t tokens = (size_t)texts.host_starts[texts.count];
    struct call call = {.cuda = cuda_of(device),
                        .space = space,
                        .texts = &texts,
                        .tokens = tokens,
                        .in = in,
                        .out = out,
                        .scratch = scratch,
                        .state = state,
                        .out_bytes = tokens * device_state_space_out(space) * size};
    if (!cuda_state_space_scratch(device, space, tokens, &call.scratch_bytes)) {
        return error_set(err, STATUS_INTERNAL, "state_space: scratch for %zu tokens has no size", tokens);
    }
    size_t states = device_state_space_out(space) * space->state * sizeof(float);
    call.before = cuda_text_beginning(&texts, state, 0);
    call.tails = cuda_text_beginning(&texts, state, states);
    if (state != NULL) {
        call.state_bytes = device_state_space_state(space, size);
        call.tail = space->taps > 1 ? (unsigned char *)state + states : NULL;
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

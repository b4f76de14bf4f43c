// SPDX-License-Identifier: MIT
// Attention in bfloat16 of texts that go on from others; heads between these sizes take the next, which has
// the same bits.
#include "kernels/cuda/attention_origins.h"
#include "kernels/cuda/attention_wide.h"

template <typename SCORING>
static cudaError_t launch_for(const struct attention_call *call, const SCORING &scoring) {
    unsigned head_dim = call->shape.head_dim;
    return head_dim <= 64    ? launch<bf16, 64, 1>(call, scoring, call->origins)
           : head_dim <= 96  ? launch<bf16, 96, 1>(call, scoring, call->origins)
           : head_dim <= 128 ? launch<bf16, 128, 1>(call, scoring, call->origins)
                             : launch<bf16, 256, 1>(call, scoring, call->origins);
}

cudaError_t attention_origins_bf16(const struct attention_call *call, bool scoring) {
    return !scoring                      ? launch_for(call, attention_plain())
           : call->shape.head_dim <= 256 ? launch_for(call, call->scoring)
                                         : launch_wide<bf16>(call, call->origins);
}

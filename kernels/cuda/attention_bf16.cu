// SPDX-License-Identifier: MIT
// Attention in bfloat16.
#include "kernels/cuda/attention_mma.h"

template <int D> static cudaError_t launch_for(const struct attention_call *call) {
    return call->pairs ? launch<bf16, D, 2>(call, attention_plain())
                       : launch<bf16, D, 1>(call, attention_plain());
}

cudaError_t attention_bf16(const struct attention_call *call) {
    unsigned head_dim = call->shape.head_dim;
    return head_dim <= 32    ? launch_for<32>(call)
           : head_dim <= 64  ? launch_for<64>(call)
           : head_dim <= 96  ? launch_for<96>(call)
           : head_dim <= 128 ? launch_for<128>(call)
           : head_dim <= 192 ? launch<bf16, 192, 1>(call, attention_plain())
                             : launch<bf16, 256, 1>(call, attention_plain());
}

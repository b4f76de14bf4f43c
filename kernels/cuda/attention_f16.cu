// SPDX-License-Identifier: MIT
// Attention in float16.
#include "kernels/cuda/attention_mma.h"

template <int D> static cudaError_t launch_for(const struct attention_call *call) {
    return call->pairs ? launch<f16, D, 2>(call, attention_plain())
                       : launch<f16, D, 1>(call, attention_plain());
}

cudaError_t attention_f16(const struct attention_call *call) {
    unsigned head_dim = call->shape.head_dim;
    return head_dim <= 32    ? launch_for<32>(call)
           : head_dim <= 64  ? launch_for<64>(call)
           : head_dim <= 96  ? launch_for<96>(call)
           : head_dim <= 128 ? launch_for<128>(call)
           : head_dim <= 192 ? launch<f16, 192, 1>(call, attention_plain())
                             : launch<f16, 256, 1>(call, attention_plain());
}

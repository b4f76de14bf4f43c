// SPDX-License-Identifier: MIT
// Attention in float16 with what some families do with scores, and of heads that are larger than others
// are; heads between these sizes take the next.
#include "kernels/cuda/attention_wide.h"

cudaError_t attention_scoring_f16(const struct attention_call *call) {
    unsigned head_dim = call->shape.head_dim;
    return head_dim <= 64    ? launch<f16, 64, 1>(call, call->scoring)
           : head_dim <= 128 ? launch<f16, 128, 1>(call, call->scoring)
           : head_dim <= 256 ? launch<f16, 256, 1>(call, call->scoring)
                             : launch_wide<f16>(call);
}

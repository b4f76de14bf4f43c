// Attention in bfloat16 with what some families do with scores; heads between these sizes take the next.
#include "kernels/cuda/attention_mma.h"

cudaError_t attention_scoring_bf16(const struct attention_call *call) {
    unsigned head_dim = call->shape.head_dim;
    return head_dim <= 64    ? launch<bf16, 64, 1>(call, call->scoring)
           : head_dim <= 128 ? launch<bf16, 128, 1>(call, call->scoring)
                             : launch<bf16, 256, 1>(call, call->scoring);
}

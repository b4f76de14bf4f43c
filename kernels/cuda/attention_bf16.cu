// Attention in bfloat16.
#include "kernels/cuda/attention_mma.h"

cudaError_t attention_bf16(const struct attention_call *call) {
    return attention_mma<bf16>(call);
}

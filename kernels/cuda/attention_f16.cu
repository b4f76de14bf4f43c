// Attention in float16.
#include "kernels/cuda/attention_mma.h"

cudaError_t attention_f16(const struct attention_call *call) {
    return attention_mma<f16>(call);
}

// What the back end was built with, as CMake says it.
#include "kernels/device_ops.h"

const char *cuda_build(void) {
    return STRATA_CUDA_BUILD "; loads cuBLASLt " STRATA_CUBLAS_MAJOR " with a GPU";
}

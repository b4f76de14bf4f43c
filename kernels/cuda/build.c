// What the back end was built with, as CMake says it.
#include "kernels/back_end.h"

const char *cuda_build(void) {
    return STRATA_CUDA_BUILD "; loads cuBLASLt " STRATA_CUBLAS_MAJOR " with a GPU";
}

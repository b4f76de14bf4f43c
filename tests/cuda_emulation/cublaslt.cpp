// SPDX-License-Identifier: MIT
// cuBLASLt: matmuls by plain loops, float32 sums, and several algorithms that differ in the order of the
// sum, as those of the library do. Some of them give a row other bits when it stands elsewhere, or another
// sum each time: they claim to be the fastest, so that a back end that does not test them gets caught.
#include "matmuls.h"

#include <cstring>

namespace {

using namespace emulation;

constexpr size_t MEGABYTE = 1 << 20;

// 47 multiplies float32 numbers as TF32, as variables of the environment can ask for; 46 adds up products of
// float16 numbers in float16.
// Equal bits: 7, 12 and 6, which is nearly as fast as 11. Equal wherever a row stands: these, and 24 as long
// as the number of rows stays. 12, 13, 15, 17 and 19 ask for a workspace. 13 and 15 read what they have not
// written: 13 a number, 15 a counter that it takes for zero at first, and sums in another order when it is
// not. 17 asks for more than others have to spare. 19 sums five rows from the end.
const Known known[] = {
    {47, Order::Tf32, 3.0e10, true, CUDA_R_32F, 0, false},
    {46, Order::Float16, 2.9e10, true, CUDA_R_16F, 0, false},
    {17, Order::Whole, 2.5e10, true, ANY_TYPE, 32 * MEGABYTE + 256, false},
    {13, Order::Whole, 2.2e10, true, ANY_TYPE, 64 << 10, true},
    {15, Order::Counted, 2.1e10, true, ANY_TYPE, 256 << 10, false},
    {19, Order::OneTile, 2.05e10, true, ANY_TYPE, 128 << 10, false},
    {66, Order::ByPlace, 2.0e10, true, ANY_TYPE, 0, false},
    {21, Order::Shuffled, 1.9e10, true, ANY_TYPE, 64 << 10, false},
    {31, Order::Whole, 1.8e10, false, ANY_TYPE, 0, false},
    {11, Order::Halves, 1.4e10, true, ANY_TYPE, 0, false},
    {6, Order::Whole, 1.39e10, true, ANY_TYPE, 0, false},
    {24, Order::ByRows, 1.2e10, true, ANY_TYPE, 0, false},
    {12, Order::Whole, 1.1e10, true, ANY_TYPE, MEGABYTE, false},
    {7, Order::Whole, 1.0e10, true, ANY_TYPE, 0, false},
};

enum Word {
    ID,
    TILE,
    SPLIT,
    REDUCTION,
    SWIZZLING,
    CUSTOM,
    STAGES,
    INNER_AND_CLUSTER
}; // of cublasLtMatmulAlgo_t

const Known *find_known(const cublasLtMatmulAlgo_t *algorithm) {
    for (const Known &each : known) {
        if (algorithm != nullptr && each.id == algorithm->data[ID]) {
            return &each;
        }
    }
    return nullptr;
}

// Variants of an algorithm differ in the swizzling of blocks, and each is slower than the one before.
cublasLtMatmulAlgo_t make_algorithm(const Known &of, uint64_t variant) {
    cublasLtMatmulAlgo_t algorithm{};
    bool split = of.order == Order::Shuffled;
    algorithm.data[ID] = of.id;
    algorithm.data[TILE] = 20;
    algorithm.data[SPLIT] = split ? 4 : 1;
    algorithm.data[REDUCTION] =
        static_cast<uint64_t>(split ? CUBLASLT_REDUCTION_SCHEME_INPLACE : CUBLASLT_REDUCTION_SCHEME_NONE);
    algorithm.data[SWIZZLING] = variant;
    algorithm.data[STAGES] = 11;
    return algorithm;
}

size_t workspace_of(const cublasLtMatmulAlgo_t &algorithm) {
    const Known *found = find_known(&algorithm);
    return found != nullptr ? found->workspace : 0;
}

bool runs(const Known *found, const cublasLtMatmulAlgo_t *algorithm) {
    return found != nullptr && found->works && algorithm->data[SWIZZLING] >= settings().broken_variants;
}

bool is_type(int type) {
    return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

// What the emulated library can do: out = W x, W given transposed, one format throughout. An epilogue's bias
// has to be there: for an algorithm that is asked for, too.
cublasStatus_t check_shapes(const cublasLtMatmulDescOpaque_t &desc, const cublasLtMatrixLayoutOpaque_t &a,
                            const cublasLtMatrixLayoutOpaque_t &b, const cublasLtMatrixLayoutOpaque_t &c,
                            const cublasLtMatrixLayoutOpaque_t &d) {
    if (desc.transpose_a != CUBLAS_OP_T || desc.transpose_b != CUBLAS_OP_N || !is_type(a.type) ||
        a.type != b.type || c.type != d.type || !is_type(d.type) ||
        (desc.bias_type >= 0 && !is_type(desc.bias_type))) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    bool fits = a.rows == b.rows && a.columns == d.rows && b.columns == d.columns && c.rows == d.rows &&
                c.columns == d.columns && a.stride >= a.rows && b.stride >= b.rows && c.stride >= c.rows &&
                d.stride >= d.rows;
    bool complete = desc.epilogue != CUBLASLT_EPILOGUE_BIAS || desc.bias != nullptr;
    return fits && complete ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

// A setting leaves it without algorithms for matrices of halves whose rows do not begin at multiples of 16
// bytes, which real ones do not promise.
bool has_algorithms(const cublasLtMatrixLayoutOpaque_t &a, const cublasLtMatrixLayoutOpaque_t &d) {
    bool aligned = a.stride % 8 == 0 && d.stride % 8 == 0;
    return settings().odd_matmuls || a.type == CUDA_R_32F || aligned;
}

size_t bytes_of(const cublasLtMatrixLayoutOpaque_t &layout) {
    return ((layout.columns - 1) * layout.stride + layout.rows) * size_of(layout.type);
}

void must_be_device(const char *what, const void *data, size_t bytes) {
    if (!is_device(data, bytes) || device_of(data) != current_device() ||
        reinterpret_cast<uintptr_t>(data) % 16 != 0) {
        char where[256];
        describe_address(data, where, sizeof where);
        violation("cublasLtMatmul: the %zu bytes of %s begin at %s", bytes, what, where);
    }
}

void must_be_current(cublasLtHandle_t handle) {
    if (handle->device != current_device()) {
        violation("a cuBLASLt handle of GPU %d is used while GPU %d is current", handle->device,
                  current_device());
    }
}

cublasStatus_t status_of(cudaError_t error) {
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

template <class T> cublasStatus_t set_value(T *out, const void *value, size_t bytes) {
    if (value == nullptr || bytes != sizeof *out) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    std::memcpy(out, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

// Words of the configuration by the attribute's name; -1: none.
int word_of(cublasLtMatmulAlgoConfigAttributes_t attribute) {
    static const int words[] = {
        ID, TILE, SPLIT, REDUCTION, SWIZZLING, CUSTOM, STAGES, INNER_AND_CLUSTER, INNER_AND_CLUSTER};
    return attribute >= 0 && static_cast<size_t>(attribute) < sizeof words / sizeof words[0]
               ? words[attribute]
               : -1;
}

size_t size_of(cublasLtMatmulAlgoConfigAttributes_t attribute) {
    return attribute >= CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID ? 2 : 4;
}

unsigned shift_of(cublasLtMatmulAlgoConfigAttributes_t attribute) {
    return attribute == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID ? 16 : 0;
}

} // namespace

extern "C" cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    Call call;
    if (call.refused()) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    *handle = new cublasLtContext{current_device()};
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

size_t &emulation::cublaslt_version() {
    static size_t version = 120400;
    return version;
}

extern "C" size_t cublasLtGetVersion(void) {
    return emulation::cublaslt_version();
}

extern "C" const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "unknown";
    }
}

extern "C" cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc,
                                                   cublasComputeType_t compute_type,
                                                   cudaDataType_t scale_type) {
    if (compute_type != CUBLAS_COMPUTE_32F && compute_type != CUBLAS_COMPUTE_32F_PEDANTIC) {
        violation("cublasLtMatmulDescCreate: compute type %d would round what is multiplied", compute_type);
    }
    if (scale_type != CUDA_R_32F) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    *desc = new cublasLtMatmulDescOpaque_t{CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, -1};
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                                         cublasLtMatmulDescAttributes_t attribute,
                                                         const void *value, size_t bytes) {
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set_value(&desc->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set_value(&desc->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set_value(&desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set_value(&desc->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return set_value(&desc->bias_type, value, bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

extern "C" cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type,
                                                     uint64_t rows, uint64_t columns, int64_t stride) {
    if (rows == 0 || columns == 0 || stride <= 0) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    *layout = new cublasLtMatrixLayoutOpaque_t{type, rows, columns, static_cast<uint64_t>(stride)};
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    *preference = new cublasLtMatmulPreferenceOpaque_t{0, CUBLASLT_REDUCTION_SCHEME_MASK};
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                               cublasLtMatmulPreferenceAttributes_t attribute,
                                                               const void *value, size_t bytes) {
    uint32_t alignment; // every buffer is aligned well enough: only the size of the value is looked at
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set_value(&preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return set_value(&preference->reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set_value(&alignment, value, bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

extern "C" cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                                         cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                         cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                         cublasLtMatmulPreference_t preference, int requested,
                                                         cublasLtMatmulHeuristicResult_t results[],
                                                         int *count) {
    *count = 0;
    must_be_current(handle);
    cublasStatus_t status = check_shapes(*desc, *a, *b, *c, *d);
    constexpr size_t KNOWN = sizeof known / sizeof known[0];
    for (size_t n = 0;
         n < KNOWN * settings().variants && *count < requested && status == CUBLAS_STATUS_SUCCESS; n++) {
        size_t i = n % KNOWN;
        cublasLtMatmulAlgo_t algorithm = make_algorithm(known[i], n / KNOWN);
        bool allowed = has_algorithms(*a, *d) &&
                       (algorithm.data[REDUCTION] & ~static_cast<uint64_t>(preference->reductions)) == 0 &&
                       workspace_of(algorithm) <= preference->workspace &&
                       (known[i].type == ANY_TYPE || known[i].type == a->type);
        if (allowed) {
            results[(*count)++] = {algorithm, workspace_of(algorithm), CUBLAS_STATUS_SUCCESS, 1.0f, {}};
        }
    }
    return status == CUBLAS_STATUS_SUCCESS && *count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : status;
}

extern "C" cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                                  cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                  cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                  const cublasLtMatmulAlgo_t *algorithm,
                                                  cublasLtMatmulHeuristicResult_t *result) {
    must_be_current(handle);
    const Known *found = find_known(algorithm);
    cublasStatus_t status = check_shapes(*desc, *a, *b, *c, *d);
    if (status == CUBLAS_STATUS_SUCCESS && (!runs(found, algorithm) || !has_algorithms(*a, *d))) {
        status = CUBLAS_STATUS_NOT_SUPPORTED;
    }
    *result = {*algorithm, workspace_of(*algorithm), status, 1.0f, {}};
    return status;
}

extern "C" cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                            cublasLtMatmulAlgoCapAttributes_t attribute,
                                                            void *value, size_t bytes, size_t *written) {
    const Known *found = find_known(algorithm);
    if (found == nullptr || attribute != CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS || bytes != 8) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    uint64_t flags = found->order == Order::Tf32
                         ? CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32
                     : found->order == Order::Float16
                         ? CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F
                         : CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F;
    flags |= found->order == Order::Float16 ? CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F
                                            : CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F;
    std::memcpy(value, &flags, bytes);
    if (written != nullptr) {
        *written = bytes;
    }
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                               cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                               void *value, size_t bytes, size_t *written) {
    int word = word_of(attribute);
    if (word < 0 || bytes != size_of(attribute)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    uint64_t whole = algorithm->data[word] >> shift_of(attribute);
    std::memcpy(value, &whole, bytes); // little-endian, as all that CUDA runs on
    if (written != nullptr) {
        *written = bytes;
    }
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algorithm,
                                                               cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                               const void *value, size_t bytes) {
    int word = word_of(attribute);
    if (word < 0 || bytes != size_of(attribute)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    uint64_t part = 0;
    uint64_t mask = ((uint64_t{1} << 8 * bytes) - 1) << shift_of(attribute);
    std::memcpy(&part, value, bytes);
    algorithm->data[word] = (algorithm->data[word] & ~mask) | part << shift_of(attribute);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                         const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                                         const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                                         const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                                         cublasLtMatrixLayout_t d_layout,
                                         const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                                         size_t workspace_bytes, cudaStream_t stream) {
    Call call;
    if (call.refused()) {
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    must_be_current(handle);
    const Known *found = find_known(algorithm);
    cublasStatus_t status = check_shapes(*desc, *a_layout, *b_layout, *c_layout, *d_layout);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    if (!runs(found, algorithm) || !has_algorithms(*a_layout, *d_layout)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (workspace_of(*algorithm) > workspace_bytes) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    must_be_device("A", a, bytes_of(*a_layout));
    must_be_device("B", b, bytes_of(*b_layout));
    must_be_device("C", c, bytes_of(*c_layout));
    must_be_device("D", d, bytes_of(*d_layout));
    if (workspace_of(*algorithm) > 0) {
        must_be_device("the workspace", workspace, workspace_bytes);
        if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) {
            violation("cublasLtMatmul: the workspace is not aligned to 256 bytes");
        }
    }
    if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS) {
        must_be_device("the bias", desc->bias, d_layout->rows * size_of(d_layout->type));
    }
    counts().matmuls++;
    Matmul p{*desc,
             *a_layout,
             *b_layout,
             *c_layout,
             *d_layout,
             a,
             b,
             c,
             d,
             0,
             0,
             *found,
             algorithm->data[SPLIT],
             random_below(2),
             static_cast<float *>(workspace),
             counts().matmuls == settings().slow_matmul};
    p.algorithm.rate /= 1 + 0.2 * static_cast<double>(algorithm->data[SWIZZLING]);
    std::memcpy(&p.alpha, alpha, sizeof p.alpha);
    std::memcpy(&p.beta, beta, sizeof p.beta);
    return status_of(call.end(queue_work({stream, Kind::Kernel, "cublasLtMatmul", [p] { multiply(p); }})));
}

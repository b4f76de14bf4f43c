// cuBLASLt: products by plain loops, float32 sums, and several algorithms that differ in the order of the
// sum, as those of the library do. Some of them give a row other bits when it stands elsewhere, or another
// sum each time: they claim to be the fastest, so that a back end that does not test them gets caught.
#include "emulation.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "cublasLt.h"

struct cublasLtContext {
    int unused;
};
struct cublasLtMatmulDescOpaque_t {
    cublasOperation_t transpose_a, transpose_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    int bias_type; // -1: that of the result
};
struct cublasLtMatrixLayoutOpaque_t { // column-major
    cudaDataType_t type;
    uint64_t rows, columns;
    uint64_t stride;
};
struct cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace;
    uint32_t reductions;
};

namespace {

using namespace emulation;

// How the sum over k is cut: into pieces that are summed for themselves and then added, in a certain order.
enum class Order { Whole, Halves, ByPlace, ByRows, Shuffled, Tf32, Counted, OneTile };

struct Known {
    uint64_t id;
    Order order;
    double rate; // operations a second that it claims to reach
    bool works;
    bool float32_only;
    size_t workspace;
    bool unwritten; // adds a number of the workspace that nobody wrote to all that it sums up
};
constexpr size_t MEGABYTE = 1 << 20;
// 47 multiplies float32 numbers as TF32, as variables of the environment can ask for.
// Equal bits: 7, 12 and 6, which is nearly as fast as 11. Equal wherever a row stands: these, and 24 as long
// as the number of rows stays. 12, 13, 15, 17 and 19 ask for a workspace. 13 and 15 read what they have not
// written: 13 a number, 15 a counter that it takes for zero at first, and sums in another order when it is
// not. 17 asks for more than others have to spare. 19 sums five rows from the end.
const Known known[] = {
    {47, Order::Tf32, 3.0e10, true, true, 0, false},
    {17, Order::Whole, 2.5e10, true, false, 32 * MEGABYTE + 256, false},
    {13, Order::Whole, 2.2e10, true, false, 64 << 10, true},
    {15, Order::Counted, 2.1e10, true, false, 256 << 10, false},
    {19, Order::OneTile, 2.05e10, true, false, 128 << 10, false},
    {66, Order::ByPlace, 2.0e10, true, false, 0, false},
    {21, Order::Shuffled, 1.9e10, true, false, 64 << 10, false},
    {31, Order::Whole, 1.8e10, false, false, 0, false},
    {11, Order::Halves, 1.4e10, true, false, 0, false},
    {6, Order::Whole, 1.39e10, true, false, 0, false},
    {24, Order::ByRows, 1.2e10, true, false, 0, false},
    {12, Order::Whole, 1.1e10, true, false, MEGABYTE, false},
    {7, Order::Whole, 1.0e10, true, false, 0, false},
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

// A setting makes one algorithm the fastest: a machine on which timings come out differently.
double rate_of(const Known &each) {
    static const char *const preferred = setting("PREFER");
    return preferred != nullptr && std::to_string(each.id) == preferred ? 1e11 : each.rate;
}

size_t size_of(int type) {
    return type == CUDA_R_32F ? 4 : 2;
}

float load(const void *data, int type, uint64_t i) {
    if (type == CUDA_R_32F) {
        return static_cast<const float *>(data)[i];
    }
    uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(data)[i]) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

void store(void *data, int type, uint64_t i, float value) {
    if (type == CUDA_R_32F) {
        static_cast<float *>(data)[i] = value;
        return;
    }
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    static_cast<uint16_t *>(data)[i] =
        static_cast<uint16_t>(nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

struct Product { // as a call gave it; everything is copied, because it is done later
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t a, b, c, d;
    const void *a_data, *b_data, *c_data;
    void *d_data;
    float alpha, beta;
    Known algorithm;
    uint64_t splits;
    uint64_t shuffle;
    float *workspace;
    bool slow;
};

constexpr uint64_t LANES = 32; // numbers of a column of the result that are summed side by side

// The pieces of k for column j of the result, and whether they are added from the last to the first.
uint64_t pieces_of(const Product &p, uint64_t j, bool *backwards) {
    *backwards = false;
    switch (p.algorithm.order) {
    case Order::Whole:
    case Order::Tf32:
        return 1;
    case Order::Halves:
        return 2;
    case Order::ByPlace:
        return j % 32 < 16 ? 1 : 3;
    case Order::ByRows:
        return 2 + p.d.columns % 3;
    case Order::OneTile: // rows 25 to 29
        *backwards = j / 5 == 5;
        return *backwards ? p.b.rows : 1;
    case Order::Counted: // the workspace's first bytes, before anything wrote there
        return p.shuffle == 0 ? 1 : 2;
    case Order::Shuffled:
        *backwards = (p.shuffle & 1) != 0;
        return p.splits;
    }
    return 1;
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default"))) // the same bits, sooner
#else
#define WIDE
#endif

// Column j of the result, rows i to i + LANES; `panel` holds those rows' weights, [k, LANES].
WIDE void sum_column(const Product &p, const float *panel, const float *input, uint64_t j, float *sums) {
    uint64_t k_count = p.b.rows;
    bool backwards;
    uint64_t pieces = pieces_of(p, j, &backwards);
    std::fill(sums, sums + LANES, 0.0f);
    for (uint64_t piece = 0; piece < pieces; piece++) {
        uint64_t place = backwards ? pieces - 1 - piece : piece;
        float sum[LANES] = {};
        for (uint64_t k = k_count * place / pieces; k < k_count * (place + 1) / pieces; k++) {
            for (uint64_t lane = 0; lane < LANES; lane++) {
                sum[lane] += panel[k * LANES + lane] * input[k];
            }
        }
        for (uint64_t lane = 0; lane < LANES; lane++) {
            sums[lane] += sum[lane];
        }
    }
}

void finish_column(const Product &p, uint64_t i, uint64_t j, const float *sums) {
    for (uint64_t lane = 0; lane < LANES && i + lane < p.d.rows; lane++) {
        float value = p.alpha * sums[lane];
        if (p.beta != 0) {
            value += p.beta * load(p.c_data, p.c.type, i + lane + j * p.c.stride);
        }
        if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS) {
            value += load(p.desc.bias, p.desc.bias_type >= 0 ? p.desc.bias_type : p.d.type, i + lane);
        }
        store(p.d_data, p.d.type, i + lane + j * p.d.stride, value);
    }
}

// A number as the algorithm multiplies it: TF32 has 10 bits of float32's fraction.
float factor(const Product &p, const void *data, int type, uint64_t i) {
    float value = load(data, type, i);
    if (p.algorithm.order == Order::Tf32) {
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        bits &= 0xffffe000u;
        std::memcpy(&value, &bits, sizeof value);
    }
    return value;
}

// What the algorithm reads of the workspace without having written it, and then all of it is written.
float use_workspace(Product &p) {
    uint32_t counter;
    float unwritten = p.algorithm.unwritten ? p.workspace[0] : 0;
    std::memcpy(&counter, p.workspace, sizeof counter);
    p.shuffle = p.algorithm.order == Order::Counted ? counter : p.shuffle;
    std::memset(p.workspace, 0x3f, p.algorithm.workspace);
    if (p.algorithm.order == Order::Counted) {
        std::memset(p.workspace, 0, sizeof counter);
    }
    return unwritten;
}

void multiply(Product p) {
    uint64_t k_count = p.b.rows;
    float unwritten = p.algorithm.workspace > 0 ? use_workspace(p) : 0;
    std::vector<float> panel(k_count * LANES);
    std::vector<float> input(k_count * p.b.columns);
    for (uint64_t j = 0; j < p.b.columns; j++) {
        for (uint64_t k = 0; k < k_count; k++) {
            input[j * k_count + k] = factor(p, p.b_data, p.b.type, k + j * p.b.stride);
        }
    }
    for (uint64_t i = 0; i < p.d.rows; i += LANES) {
        for (uint64_t lane = 0; lane < LANES; lane++) {
            for (uint64_t k = 0; k < k_count; k++) {
                panel[k * LANES + lane] =
                    i + lane < p.d.rows ? factor(p, p.a_data, p.a.type, k + (i + lane) * p.a.stride) : 0;
            }
        }
        for (uint64_t j = 0; j < p.d.columns; j++) {
            float sums[LANES];
            sum_column(p, panel.data(), &input[j * k_count], j, sums);
            for (float &sum : sums) {
                sum += unwritten;
            }
            finish_column(p, i, j, sums);
        }
    }
    double operations =
        2.0 * static_cast<double>(p.d.rows) * static_cast<double>(p.d.columns) * static_cast<double>(k_count);
    set_duration((p.slow ? 10 : 1) * operations / rate_of(p.algorithm));
}

bool is_type(int type) {
    return type == CUDA_R_32F || type == CUDA_R_16BF;
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

// A setting leaves it without algorithms for bfloat16 matrices whose rows do not begin at multiples of 16
// bytes, which real ones do not promise.
bool has_algorithms(const cublasLtMatrixLayoutOpaque_t &a, const cublasLtMatrixLayoutOpaque_t &d) {
    bool aligned = a.stride % 8 == 0 && d.stride % 8 == 0;
    return settings().odd_products || a.type != CUDA_R_16BF || aligned;
}

size_t bytes_of(const cublasLtMatrixLayoutOpaque_t &layout) {
    return ((layout.columns - 1) * layout.stride + layout.rows) * size_of(layout.type);
}

void must_be_device(const char *what, const void *data, size_t bytes) {
    if (!is_device(data, bytes) || reinterpret_cast<uintptr_t>(data) % 16 != 0) {
        char where[256];
        describe_address(data, where, sizeof where);
        violation("cublasLtMatmul: the %zu bytes of %s begin at %s", bytes, what, where);
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
    *handle = new cublasLtContext{};
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

extern "C" cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                                         cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                         cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                         cublasLtMatmulPreference_t preference, int requested,
                                                         cublasLtMatmulHeuristicResult_t results[],
                                                         int *count) {
    *count = 0;
    cublasStatus_t status = check_shapes(*desc, *a, *b, *c, *d);
    constexpr size_t KNOWN = sizeof known / sizeof known[0];
    for (size_t n = 0;
         n < KNOWN * settings().variants && *count < requested && status == CUBLAS_STATUS_SUCCESS; n++) {
        size_t i = n % KNOWN;
        cublasLtMatmulAlgo_t algorithm = make_algorithm(known[i], n / KNOWN);
        bool allowed = has_algorithms(*a, *d) &&
                       (algorithm.data[REDUCTION] & ~static_cast<uint64_t>(preference->reductions)) == 0 &&
                       workspace_of(algorithm) <= preference->workspace &&
                       (a->type == CUDA_R_32F || !known[i].float32_only);
        if (allowed) {
            results[(*count)++] = {algorithm, workspace_of(algorithm), CUBLAS_STATUS_SUCCESS, 1.0f, {}};
        }
    }
    return status == CUBLAS_STATUS_SUCCESS && *count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : status;
}

extern "C" cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                                  cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                  cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                  const cublasLtMatmulAlgo_t *algorithm,
                                                  cublasLtMatmulHeuristicResult_t *result) {
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
    uint64_t flags = CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F |
                     (found->order == Order::Tf32
                          ? CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32
                          : CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F);
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

extern "C" cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha,
                                         const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                                         cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                                         cublasLtMatrixLayout_t c_layout, void *d,
                                         cublasLtMatrixLayout_t d_layout,
                                         const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                                         size_t workspace_bytes, cudaStream_t stream) {
    Call call;
    if (call.refused()) {
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
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
    counts().products++;
    Product p{*desc,
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
              counts().products == settings().slow_product};
    p.algorithm.rate /= 1 + 0.2 * static_cast<double>(algorithm->data[SWIZZLING]);
    std::memcpy(&p.alpha, alpha, sizeof p.alpha);
    std::memcpy(&p.beta, beta, sizeof p.beta);
    return status_of(call.end(queue_work(stream, Kind::Kernel, "cublasLtMatmul", [p] { multiply(p); })));
}

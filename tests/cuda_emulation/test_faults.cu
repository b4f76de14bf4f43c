// SPDX-License-Identifier: MIT
// Faults on order, the report, NVML and the products. Settings are read once, so each case is a process of
// its own.
#include <algorithm>
#include <cmath>

#include "testing.h"

#include "cublasLt.h"
extern "C" {
#include "kernels/cuda/library.h"
}

namespace {

__global__ void set_kernel(int *out, int number) {
    out[threadIdx.x] = number;
}

// Exit code 0: the calls returned these errors in this order.
template <class Work>
void assert_errors(const std::vector<std::string> &settings, const char *want, Work work) {
    Ending ending = in_child(settings, [&] {
        std::string got;
        for (cudaError_t error : work()) {
            got += std::string(got.empty() ? "" : " ") + cudaGetErrorName(error);
        }
        fprintf(stderr, "%s", got.c_str());
        return 0;
    });
    assert_string_equal(ending.said.c_str(), want);
    assert_string_equal(ending.how.c_str(), "exit 0");
}

using Errors = std::vector<cudaError_t>;

cudaError_t allocate(int **out, size_t bytes = 1024) {
    void *memory = nullptr;
    cudaError_t error = cudaMalloc(&memory, bytes);
    *out = static_cast<int *>(memory);
    return error;
}

void test_no_memory(void **) {
    auto three = [] {
        int *p[3];
        return Errors{allocate(&p[0]), allocate(&p[1]), allocate(&p[2])};
    };
    assert_errors({"FAIL_MALLOC=2"}, "cudaSuccess cudaErrorMemoryAllocation cudaSuccess", three);
    assert_errors({"MEMORY=5000", "FREE=2500"}, "cudaSuccess cudaSuccess cudaErrorMemoryAllocation", three);
    assert_errors({"FAIL_MALLOC_HOST=1"}, "cudaErrorMemoryAllocation cudaErrorMemoryAllocation cudaSuccess",
                  [] {
                      void *p;
                      return Errors{cudaMallocHost(&p, 64), cudaGetLastError(), cudaGetLastError()};
                  });
}

void test_no_device(void **) {
    auto ask = [] {
        int count;
        return Errors{cudaGetDeviceCount(&count)};
    };
    assert_errors({"DEVICES=0"}, "cudaErrorNoDevice", ask);
    assert_errors({"DRIVER=11080"}, "cudaErrorInsufficientDriver", ask);
    assert_errors({}, "cudaErrorInvalidDevice", [] { return Errors{cudaSetDevice(1)}; });
}

// A launch that fails is noticed by who waits, and by every call from then on.
void test_launch_fails(void **) {
    assert_errors({"FAIL_LAUNCH=2", "SEED=0"},
                  "cudaSuccess cudaSuccess cudaSuccess cudaErrorLaunchFailure cudaErrorLaunchFailure", [] {
                      int *p;
                      Errors errors{allocate(&p)};
                      errors.push_back(LAUNCH(set_kernel, 1, 32, 0, nullptr, p, 1));
                      errors.push_back(LAUNCH(set_kernel, 1, 32, 0, nullptr, p, 2));
                      errors.push_back(cudaStreamSynchronize(nullptr));
                      errors.push_back(allocate(&p));
                      return errors;
                  });
}

void test_device_lost(void **) {
    assert_errors(
        {"LOSE_DEVICE=3"}, "cudaSuccess cudaSuccess cudaErrorDevicesUnavailable cudaErrorDevicesUnavailable",
        [] {
            int *p;
            return Errors{allocate(&p), cudaDeviceSynchronize(), cudaDeviceSynchronize(), cudaFree(p)};
        });
}

void test_report(void **) {
    char path[] = "/tmp/cuda_emulation_report_XXXXXX";
    close(mkstemp(path));
    Ending ending = in_child({std::string("REPORT=") + path}, [] {
        int *p, *kept;
        allocate(&p);
        allocate(&kept, 100);
        LAUNCH(set_kernel, 1, 32, 0, nullptr, p, 1);
        cudaFree(p);
        int word;
        cudaMemcpy(&word, kept, sizeof word, cudaMemcpyDeviceToHost); // never written
        return 0;
    });
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    unlink(path);
    ending.said += text.str();
    assert_said(ending, "\"launches\": 1,");
    assert_said(ending, "\"mallocs\": 2, \"frees\": 1,");
    assert_said(ending, "\"device_bytes\": 100, \"device_bytes_most\": 1124,");
    assert_said(ending, "\"launches_at_last_allocation\": 0,");
    assert_said(ending, "\"poison_words_copied\": 1,");
}

void test_libraries(void **) {
    for (const char *setting : {"CUBLASLT=0", "NVML=0"}) {
        Ending ending = in_child({setting}, [] {
            const char *const cublaslt[] = {"libcublasLt.so.12", nullptr};
            const char *const nvml[] = {"libnvidia-ml.so.1", nullptr};
            char why[256];
            struct library *first = library_open(cublaslt, why, sizeof why);
            struct library *second = library_open(nvml, why, sizeof why);
            fprintf(stderr, "%s", why);
            return first != nullptr && library_symbol(first, "cublasLtMatmul") != nullptr  ? 1
                   : second != nullptr && library_symbol(second, "nvmlInit_v2") != nullptr ? 2
                                                                                           : 3;
        });
        assert_string_equal(ending.how.c_str(), strcmp(setting, "NVML=0") == 0 ? "exit 1" : "exit 2");
        assert_said(ending, "cannot open shared object file");
    }
}

// ---- products ----

enum { K = 96, ROWS = 24, TOKENS = 64 };

struct Product {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t weights, input, output;
    float *device_weights, *device_input, *device_output, *workspace;
};

// Rows of the input repeat after half the tokens; so do those of the result, but for what a place changes.
Product product_open(cudaDataType_t type) {
    Product p{};
    cublasOperation_t transpose = CUBLAS_OP_T;
    cublasLtCreate(&p.handle);
    cublasLtMatmulDescCreate(&p.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose);
    cublasLtMatrixLayoutCreate(&p.weights, type, K, ROWS, K);
    cublasLtMatrixLayoutCreate(&p.input, type, K, TOKENS, K);
    cublasLtMatrixLayoutCreate(&p.output, type, ROWS, TOKENS, ROWS);
    p.device_weights = device_numbers<float>(K * ROWS);
    p.device_input = device_numbers<float>(K * TOKENS);
    p.device_output = device_numbers<float>(ROWS * TOKENS);
    p.workspace = device_numbers<float>(1 << 16);
    std::vector<float> numbers(K * TOKENS);
    for (size_t i = 0; i < numbers.size(); i++) {
        size_t place = i % (K * (TOKENS / 4));
        numbers[i] = static_cast<float>(place * 7919 % 1000) / 999.0f - 0.5f;
    }
    MUST(cudaMemcpy(p.device_weights, numbers.data(), K * ROWS * sizeof(float), cudaMemcpyHostToDevice));
    MUST(cudaMemcpy(p.device_input, numbers.data(), K * TOKENS * sizeof(float), cudaMemcpyHostToDevice));
    return p;
}

void product_close(Product *p) {
    cublasLtDestroy(p->handle);
    cublasLtMatmulDescDestroy(p->desc);
    for (cublasLtMatrixLayout_t layout : {p->weights, p->input, p->output}) {
        cublasLtMatrixLayoutDestroy(layout);
    }
    for (float *numbers : {p->device_weights, p->device_input, p->device_output, p->workspace}) {
        MUST(cudaFree(numbers));
    }
}

std::vector<cublasLtMatmulHeuristicResult_t> heuristics(const Product &p, uint64_t workspace) {
    cublasLtMatmulPreference_t preference;
    std::vector<cublasLtMatmulHeuristicResult_t> results(16);
    int count = 0;
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                         sizeof workspace);
    cublasLtMatmulAlgoGetHeuristic(p.handle, p.desc, p.weights, p.input, p.output, p.output, preference, 16,
                                   results.data(), &count);
    cublasLtMatmulPreferenceDestroy(preference);
    results.resize(static_cast<size_t>(count));
    return results;
}

constexpr size_t WORKSPACE = 4 << 16;

// byte: what the workspace is full of.
std::vector<float> multiplied(const Product &p, const cublasLtMatmulAlgo_t &algorithm, cublasStatus_t *status,
                              int byte = 0) {
    float one = 1;
    float zero = 0;
    MUST(cudaMemset(p.workspace, byte, WORKSPACE));
    *status = cublasLtMatmul(p.handle, p.desc, &one, p.device_weights, p.weights, p.device_input, p.input,
                             &zero, p.device_output, p.output, p.device_output, p.output, &algorithm,
                             p.workspace, WORKSPACE, nullptr);
    return fetched(p.device_output, ROWS * TOKENS);
}

int id_of(const cublasLtMatmulAlgo_t &algorithm) {
    int id = -1;
    cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, nullptr);
    return id;
}

bool repeats(const std::vector<float> &output) {
    size_t quarter = output.size() / 4;
    return memcmp(&output[0], &output[quarter], quarter * sizeof(float)) == 0;
}

void test_products(void **) {
    Product p = product_open(CUDA_R_32F);
    std::vector<float> weights = fetched(p.device_weights, K * ROWS);
    std::vector<float> input = fetched(p.device_input, K * TOKENS);
    bool unstable = false;
    bool refused = false;
    std::vector<float> six, seven;
    for (const auto &result : heuristics(p, 1 << 18)) {
        cublasStatus_t status;
        std::vector<float> output = multiplied(p, result.algo, &status);
        if (status != CUBLAS_STATUS_SUCCESS) {
            assert_int_equal(status, CUBLAS_STATUS_NOT_SUPPORTED);
            refused = true;
            continue;
        }
        float worst = 0;
        for (size_t i = 0; i < ROWS * TOKENS; i++) {
            double want = 0;
            for (size_t k = 0; k < K; k++) {
                want += static_cast<double>(weights[i % ROWS * K + k]) *
                        static_cast<double>(input[i / ROWS * K + k]);
            }
            assert_true(std::isfinite(output[i]));
            worst = std::max(worst, fabsf(output[i] - static_cast<float>(want)));
        }
        int id = id_of(result.algo);
        assert_true(id == 47 ? worst > 1e-4f && worst < 1e-2f : worst < 1e-5f); // 47 rounds to TF32
        six = id == 6 ? output : six;
        seven = id == 7 ? output : seven;
        assert_true(repeats(output) == (id != 66 && id != 19)); // by a row's place
        unstable = unstable || id == 66;
    }
    assert_true(unstable && refused && !six.empty() && six.size() == seven.size());
    assert_memory_equal(six.data(), seven.data(), six.size() * sizeof(float));
    assert_false(heuristics(p, 0).empty());
    for (const auto &result : heuristics(p, 0)) {
        assert_int_not_equal(id_of(result.algo), 21); // the one that splits the sum needs room
    }
    product_close(&p);
}

// The one that splits the sum gives other bits from time to time.
void test_split_sum(void **) {
    Product p = product_open(CUDA_R_32F);
    for (const auto &result : heuristics(p, 1 << 18)) {
        cublasStatus_t status;
        bool differs = false;
        std::vector<float> first = multiplied(p, result.algo, &status);
        for (int i = 0; i < 20 && status == CUBLAS_STATUS_SUCCESS; i++) {
            std::vector<float> again = multiplied(p, result.algo, &status);
            differs = differs || memcmp(first.data(), again.data(), first.size() * sizeof(float)) != 0;
        }
        assert_true(differs == (id_of(result.algo) == 21));
    }
    product_close(&p);
}

// Two give what was in their workspace; they work as long as that is zeros.
void test_workspace(void **) {
    Product p = product_open(CUDA_R_32F);
    unsigned found = 0;
    for (const auto &result : heuristics(p, WORKSPACE)) {
        cublasStatus_t status;
        int id = id_of(result.algo);
        std::vector<float> zeros = multiplied(p, result.algo, &status);
        std::vector<float> full = multiplied(p, result.algo, &status, 0xff);
        bool differs = memcmp(zeros.data(), full.data(), zeros.size() * sizeof(float)) != 0;
        assert_true(id == 21 || differs == (id == 13 || id == 15));
        assert_true(result.workspaceSize > 0 || !differs);
        found += differs && id != 21;
    }
    assert_int_equal(found, 2);
    product_close(&p);
}

void test_tf32(void **) {
    Ending ending = in_child({}, [] {
        cublasLtMatmulDesc_t desc;
        return static_cast<int>(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F));
    });
    assert_said(ending, "compute type 77 would round what is multiplied");
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_memory),    cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_launch_fails), cmocka_unit_test(test_device_lost),
        cmocka_unit_test(test_report),       cmocka_unit_test(test_libraries),
        cmocka_unit_test(test_products),     cmocka_unit_test(test_split_sum),
        cmocka_unit_test(test_workspace),    cmocka_unit_test(test_tf32),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

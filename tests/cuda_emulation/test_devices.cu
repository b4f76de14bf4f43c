// SPDX-License-Identifier: MIT
// Several devices: what belongs to one is refused or caught on another, and they run side by side.
#include "testing.h"

#include <algorithm>
#include <cmath>

#include "cublasLt.h"

namespace {

__global__ void set_kernel(int *out, int number) {
    out[threadIdx.x] = number;
}

struct Pointers {
    int *out;
};

__global__ void set_through(Pointers pointers, int number) {
    pointers.out[threadIdx.x] = number;
}

// What one device has; the other, in tests that need one, is device 1.
struct Bed {
    cudaStream_t stream;
    cudaEvent_t event;
    int *numbers; // [256]
};

Bed bed_open(int device) {
    Bed bed{};
    MUST(cudaSetDevice(device));
    MUST(cudaStreamCreateWithFlags(&bed.stream, cudaStreamNonBlocking));
    MUST(cudaEventCreateWithFlags(&bed.event, cudaEventDefault));
    bed.numbers = device_numbers<int>(256);
    return bed;
}

// Runs `work` with two devices in a process of its own, in which the second is current.
template <class Work> Ending on_two(Work work, std::vector<std::string> settings = {}) {
    settings.push_back("DEVICES=2");
    return in_child(settings, [&] {
        Bed first = bed_open(0);
        Bed second = bed_open(1);
        return work(first, second);
    });
}

void assert_caught(const Ending &ending, const char *said) {
    assert_string_equal(ending.how.c_str(), "signal 6");
    assert_said(ending, said);
}

void test_foreign_memory(void **) {
    assert_caught(
        on_two([](Bed first, Bed second) {
            return LAUNCH(set_kernel, 1, 32, 0, second.stream, first.numbers, 1) == cudaSuccess;
        }),
        "kernel set_kernel: argument 1 points to byte 0 of a device allocation of 1024 bytes of GPU 0");
    assert_caught(on_two([](Bed first, Bed second) {
                      LAUNCH(set_through, 1, 32, 0, second.stream, Pointers{first.numbers}, 1);
                      return cudaStreamSynchronize(second.stream) == cudaSuccess;
                  }),
                  "of a device allocation of 1024 bytes of GPU 0");
    assert_caught(on_two([](Bed first, Bed second) {
                      return cudaMemsetAsync(first.numbers, 0, 64, second.stream) == cudaSuccess;
                  }),
                  "a memset on a stream of GPU 1 touches byte 0");
    assert_caught(on_two([](Bed first, Bed second) {
                      int *host = pinned_numbers<int>(16);
                      return cudaMemcpyAsync(host, first.numbers, 64, cudaMemcpyDeviceToHost,
                                             second.stream) == cudaSuccess;
                  }),
                  "a copy on a stream of GPU 1 touches byte 0");
    assert_caught(on_two([](Bed first, Bed second) {
                      return cudaMemcpyPeerAsync(second.numbers, 0, first.numbers, 1, 64, second.stream) ==
                             cudaSuccess;
                  }),
                  "from GPU 1 to GPU 0 is given memory of GPUs 0 and 1");
}

void test_foreign_handle(void **) {
    assert_caught(on_two([](Bed, Bed) {
                      cublasLtHandle_t handle;
                      cublasLtMatmulDesc_t desc;
                      cublasLtMatrixLayout_t layout;
                      int count;
                      cublasLtCreate(&handle);
                      cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
                      cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 8, 8, 8);
                      cudaSetDevice(0);
                      return static_cast<int>(cublasLtMatmulAlgoGetHeuristic(
                          handle, desc, layout, layout, layout, layout, nullptr, 1, nullptr, &count));
                  }),
                  "a cuBLASLt handle of GPU 1 is used while GPU 0 is current");
}

// As CUDA has it: launches and events are refused, copies and waits are not.
void test_foreign_streams(void **) {
    Ending ending = on_two([](Bed first, Bed second) {
        int *host = pinned_numbers<int>(16);
        assert_int_equal(LAUNCH(set_kernel, 1, 32, 0, first.stream, second.numbers, 1),
                         cudaErrorInvalidResourceHandle);
        assert_int_equal(cudaMemsetAsync(first.numbers, 1, 64, first.stream), cudaErrorInvalidResourceHandle);
        assert_int_equal(cudaEventRecord(second.event, first.stream), cudaErrorInvalidResourceHandle);
        MUST(cudaEventRecord(second.event, second.stream));
        MUST(cudaStreamWaitEvent(first.stream, second.event, 0));
        MUST(cudaEventRecord(first.event, first.stream));
        MUST(cudaMemcpyAsync(first.numbers, host, 64, cudaMemcpyHostToDevice, first.stream));
        MUST(cudaStreamSynchronize(first.stream));
        float milliseconds;
        assert_int_equal(cudaEventElapsedTime(&milliseconds, first.event, second.event),
                         cudaErrorInvalidResourceHandle);
        return 7;
    });
    assert_string_equal(ending.how.c_str(), "exit 7");
}

void test_peers(void **) {
    Ending ending = on_two([](Bed first, Bed second) {
        int can;
        MUST(LAUNCH(set_kernel, 1, 256, 0, second.stream, second.numbers, 5));
        MUST(cudaMemcpyPeerAsync(first.numbers, 0, second.numbers, 1, 1024, second.stream));
        MUST(cudaStreamSynchronize(second.stream));
        assert_int_equal(cudaMemcpyPeerAsync(first.numbers, 0, second.numbers, 1, 1025, second.stream),
                         cudaErrorInvalidValue);
        MUST(cudaDeviceCanAccessPeer(&can, 1, 0));
        assert_true(can);
        MUST(cudaDeviceEnablePeerAccess(0, 0));
        assert_int_equal(cudaDeviceEnablePeerAccess(0, 0), cudaErrorPeerAccessAlreadyEnabled);
        assert_int_equal(cudaDeviceEnablePeerAccess(1, 0), cudaErrorInvalidDevice);
        MUST(cudaSetDevice(0));
        assert_int_equal(fetched(first.numbers, 256)[255], 5);
        return 7;
    });
    assert_string_equal(ending.how.c_str(), "exit 7");
    ending = on_two(
        [](Bed, Bed) {
            int can;
            MUST(cudaDeviceCanAccessPeer(&can, 1, 0));
            assert_false(can);
            return static_cast<int>(cudaDeviceEnablePeerAccess(0, 0));
        },
        {"PEERS=0"});
    assert_string_equal(ending.how.c_str(), "exit 217");
}

void test_memory(void **) {
    Ending ending = on_two(
        [](Bed first, Bed second) {
            size_t available, total;
            void *more;
            struct cudaPointerAttributes where;
            MUST(cudaMemGetInfo(&available, &total));
            assert_int_equal(total, 3000000);
            assert_int_equal(available, 50000 - 1024);
            assert_int_equal(cudaMalloc(&more, 50000), cudaErrorMemoryAllocation);
            MUST(cudaPointerGetAttributes(&where, second.numbers));
            assert_int_equal(where.device, 1);
            MUST(cudaSetDevice(0));
            MUST(cudaMalloc(&more, 50000));
            MUST(cudaPointerGetAttributes(&where, first.numbers));
            assert_int_equal(where.device, 0);
            MUST(cudaFree(second.numbers)); // whatever is current
            return 7;
        },
        {"MEMORY=4000000,3000000@1", "FREE=100000,50000@1"});
    assert_string_equal(ending.how.c_str(), "exit 7");
}

// A device that fails leaves the others as they were.
void test_faults_apart(void **) {
    Ending ending = on_two(
        [](Bed first, Bed second) {
            MUST(LAUNCH(set_kernel, 1, 32, 0, second.stream, second.numbers, 1));
            MUST(cudaStreamSynchronize(second.stream));
            MUST(LAUNCH(set_kernel, 1, 32, 0, second.stream, second.numbers, 1));
            assert_int_equal(cudaStreamSynchronize(second.stream), cudaErrorLaunchFailure);
            assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
            MUST(cudaSetDevice(0));
            for (int i = 0; i < 5; i++) {
                MUST(LAUNCH(set_kernel, 1, 32, 0, first.stream, first.numbers, 1));
            }
            MUST(cudaStreamSynchronize(first.stream));
            assert_int_equal(cudaEventRecord(second.event, second.stream), cudaErrorLaunchFailure);
            return 7;
        },
        {"FAIL_LAUNCH=2@1"});
    assert_string_equal(ending.how.c_str(), "exit 7");
}

std::string contents(const char *path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    unlink(path);
    return text.str();
}

double number_after(const std::string &text, const char *name, int which = 0) {
    size_t at = 0;
    for (int i = 0; i <= which; i++) {
        at = text.find(name, at) + strlen(name);
    }
    return atof(text.c_str() + at);
}

// 50 kernels of 1 ms on each take 50 ms by the clock, and a copy of 1 MB at 100 MB/s 10 ms more.
void test_times(void **) {
    char report[] = "/tmp/cuda_emulation_report_XXXXXX";
    char trace[] = "/tmp/cuda_emulation_trace_XXXXXX";
    close(mkstemp(report));
    close(mkstemp(trace));
    Ending ending = on_two(
        [](Bed first, Bed second) {
            for (Bed *bed : {&first, &second}) {
                MUST(cudaSetDevice(bed == &second));
                for (int i = 0; i < 50; i++) {
                    MUST(LAUNCH(set_kernel, 1, 32, 0, bed->stream, bed->numbers, i));
                }
            }
            int *large = device_numbers<int>(250000);
            int *host = pinned_numbers<int>(250000);
            MUST(cudaMemcpyAsync(large, host, 1000000, cudaMemcpyHostToDevice, second.stream));
            MUST(cudaStreamSynchronize(first.stream));
            MUST(cudaStreamSynchronize(second.stream));
            return 7;
        },
        {"WORK_MICROSECONDS=1000", "COPY_RATE=100", std::string("REPORT=") + report,
         std::string("TRACE=") + trace});
    std::string counts = contents(report);
    std::string works = contents(trace);
    assert_string_equal(ending.how.c_str(), "exit 7");
    for (int device = 0; device < 2; device++) {
        double end = number_after(counts, "\"end_seconds\": ", device);
        assert_true(fabs(number_after(counts, "\"kernel_seconds\": ", device) - 0.050) < 1e-6);
        assert_true(fabs(number_after(counts, "\"copy_seconds\": ", device) - 0.011 * device) < 1e-6);
        assert_true(end >= 0.050 + 0.011 * device && end < 0.051 + 0.011 * device);
    }
    double host = number_after(counts, "\"host_seconds\": ");
    assert_true(host > 0.060 && host < 0.062);
    assert_string_equal(works.substr(0, works.find('\n')).c_str(), "device,stream,work,begin,end");
    assert_int_equal(std::count(works.begin(), works.end(), '\n'), 1 + 2 * 50 + 1);
    assert_true(works.find("\n0,1,set_kernel,0.00") != std::string::npos);
    assert_true(works.find("\n1,2,copy,0.05") != std::string::npos);
}

// Batches go to whichever device has room, which its events tell: 20 of five kernels, two queued at a time.
double seconds_of_batches(const std::string &slow) {
    char report[] = "/tmp/cuda_emulation_report_XXXXXX";
    close(mkstemp(report));
    Ending ending = on_two(
        [](Bed first, Bed second) {
            std::vector<cudaEvent_t> queued[2];
            for (int left = 20; left > 0 || !queued[0].empty() || !queued[1].empty();) {
                for (int device = 0; device < 2; device++) {
                    const Bed &bed = device == 0 ? first : second;
                    std::vector<cudaEvent_t> &events = queued[device];
                    MUST(cudaSetDevice(device));
                    if (!events.empty() && cudaEventQuery(events.front()) == cudaSuccess) {
                        MUST(cudaEventDestroy(events.front()));
                        events.erase(events.begin());
                    }
                    cudaGetLastError();
                    while (events.size() < 2 && left > 0) {
                        for (int i = 0; i < 5; i++) {
                            MUST(LAUNCH(set_kernel, 1, 1, 0, bed.stream, bed.numbers, i));
                        }
                        events.emplace_back();
                        MUST(cudaEventCreate(&events.back()));
                        MUST(cudaEventRecord(events.back(), bed.stream));
                        left--;
                    }
                }
            }
            return 7;
        },
        {"WORK_MICROSECONDS=1000", slow, std::string("REPORT=") + report});
    assert_string_equal(ending.how.c_str(), "exit 7");
    return number_after(contents(report), "\"host_seconds\": ");
}

void test_polling(void **) {
    double alike = seconds_of_batches("SLOW=1000000:1");
    double unlike = seconds_of_batches("SLOW=1:3@1"); // four times as slow: it does 5 of the 20
    assert_true(alike >= 0.050 && alike < 0.051);
    assert_true(unlike >= 0.100 && unlike < 0.101);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_memory),  cmocka_unit_test(test_foreign_handle),
        cmocka_unit_test(test_foreign_streams), cmocka_unit_test(test_peers),
        cmocka_unit_test(test_memory),          cmocka_unit_test(test_faults_apart),
        cmocka_unit_test(test_times),           cmocka_unit_test(test_polling),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// SPDX-License-Identifier: MIT
// Threads of a block: barriers, shared memory, warp collectives, and what a kernel gets wrong.
#include "testing.h"

namespace {

// A block's sum by a tree in static and dynamic shared memory and shuffles in the last warp.
template <int THREADS> __global__ void sum_kernel(float *out, const float *in, int count) {
    __shared__ float sums[THREADS];
    SHARED_BYTES(bytes);
    float *copy = reinterpret_cast<float *>(bytes);
    int t = static_cast<int>(threadIdx.x);
    int i = static_cast<int>(blockIdx.x) * THREADS + t;
    sums[t] = i < count ? in[i] : 0;
    __syncthreads();
    for (int half = THREADS / 2; half >= 32; half /= 2) {
        if (t < half) {
            sums[t] += sums[t + half];
        }
        __syncthreads();
    }
    copy[t] = sums[t % 32];
    __syncthreads();
    float sum = copy[THREADS - 1 - t];
    for (int bits = 16; bits > 0; bits /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, bits);
    }
    if (t == 0) {
        out[blockIdx.x] = sum;
    }
}

void test_sum(void **) {
    constexpr int COUNT = 1000;
    constexpr int THREADS = 128;
    constexpr int BLOCKS = (COUNT + THREADS - 1) / THREADS;
    float *in = device_numbers<float>(COUNT);
    float *out = device_numbers<float>(BLOCKS);
    std::vector<float> numbers(COUNT);
    for (int i = 0; i < COUNT; i++) {
        numbers[static_cast<size_t>(i)] = static_cast<float>(i * 7 % 100); // sums of these are exact
    }
    MUST(cudaMemcpy(in, numbers.data(), COUNT * sizeof(float), cudaMemcpyHostToDevice));
    MUST(LAUNCH(sum_kernel<THREADS>, BLOCKS, THREADS, THREADS * sizeof(float), nullptr, out, in, COUNT));
    std::vector<float> sums = fetched(out, BLOCKS);
    for (int block = 0; block < BLOCKS; block++) {
        float want = 0;
        for (int i = block * THREADS; i < (block + 1) * THREADS && i < COUNT; i++) {
            want += numbers[static_cast<size_t>(i)];
        }
        assert_true(sums[static_cast<size_t>(block)] ==
                    want); // assert_float_equal takes NaN for equal to anything
    }
    MUST(cudaFree(in));
    MUST(cudaFree(out));
}

__global__ void collect_kernel(int *out) {
    int lane = static_cast<int>(threadIdx.x);
    int all[32];
    int mine = lane * lane;
    out[lane] = __shfl_sync(0xffffffffu, mine, lane + 1);
    out[32 + lane] = __shfl_down_sync(0xffffffffu, mine, 3);
    out[64 + lane] = __shfl_up_sync(0xffffffffu, mine, 3, 8);
    out[96 + lane] = static_cast<int>(__ballot_sync(0xffffffffu, lane % 3 == 0));
    emulation_warp_exchange(&mine, sizeof mine, all);
    out[128 + lane] = all[31 - lane];
    if (lane < 8) { // a part of the warp for itself
        mine = __shfl_xor_sync(0xffu, mine, 4);
    }
    __syncwarp();
    out[160 + lane] = mine;
    atomicAdd(&out[192], lane);
}

void test_collectives(void **) {
    int *out = device_numbers<int>(193);
    MUST(cudaMemsetAsync(out, 0, 193 * sizeof(int), nullptr));
    MUST(LAUNCH(collect_kernel, 1, 32, 0, nullptr, out));
    std::vector<int> got = fetched(out, 193);
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; lane += 3) {
        ballot |= 1u << lane;
    }
    for (int lane = 0; lane < 32; lane++) {
        auto i = static_cast<size_t>(lane);
        int down = lane + 3 < 32 ? lane + 3 : lane;
        int up = lane % 8 >= 3 ? lane - 3 : lane;
        int other = lane < 8 ? lane ^ 4 : lane;
        assert_int_equal(got[i], (lane + 1) % 32 * ((lane + 1) % 32));
        assert_int_equal(got[32 + i], down * down);
        assert_int_equal(got[64 + i], up * up);
        assert_int_equal(static_cast<unsigned>(got[96 + i]), ballot);
        assert_int_equal(got[128 + i], (31 - lane) * (31 - lane));
        assert_int_equal(got[160 + i], other * other);
    }
    assert_int_equal(got[192], 31 * 32 / 2);
    MUST(cudaFree(out));
}

// A copy that is not waited for may be late, and one into a place still in use may be early.
__global__ void copies_kernel(int *out, const int *in, int waits) {
    __shared__ int numbers[64];
    int t = static_cast<int>(threadIdx.x);
    emulation_copy_async(&numbers[t], &in[t], sizeof(int));
    emulation_copy_commit();
    emulation_copy_async(&numbers[32 + t], nullptr, sizeof(int));
    emulation_copy_commit();
    emulation_copy_wait(waits); // groups that may be under way
    out[t] = numbers[t];
    out[32 + t] = numbers[32 + t];
}

int wrong_copies(int waits) {
    int *out = device_numbers<int>(96);
    MUST(cudaMemset(out + 64, 1, 32 * sizeof(int)));
    MUST(LAUNCH(copies_kernel, 1, 32, 0, nullptr, out, out + 64, waits));
    std::vector<int> got = fetched(out, 64);
    int wrong = 0;
    for (size_t i = 0; i < 64; i++) {
        wrong += got[i] != (i < 32 ? 0x01010101 : 0);
    }
    MUST(cudaFree(out));
    return wrong;
}

void test_asynchronous_copies(void **) {
    assert_int_equal(wrong_copies(0), 0);
    assert_in_range(wrong_copies(1), 1, 32); // of the second group
    assert_in_range(wrong_copies(2), 17, 64);
}

// ---- what a kernel gets wrong ----

__global__ void some_wait(int *out) {
    if (threadIdx.x < 40) {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

__global__ void different_barriers() {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

__global__ void lanes_missing(int *out) {
    if (threadIdx.x != 5) {
        out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
    }
}

__global__ void no_barrier(int *out) {
    __shared__ int numbers[64];
    numbers[threadIdx.x] = 1;
    out[threadIdx.x] = numbers[63 - threadIdx.x]; // of a thread that may not have come so far
}

__global__ void unwritten_shared(int *out) {
    __shared__ int never[4];
    SHARED_BYTES(bytes);
    out[0] = never[1];
    out[1] = reinterpret_cast<int *>(bytes)[1];
}

__global__ void write_at(int *out, long i) {
    out[i] = 1;
}

__global__ void write_shared(int i) {
    SHARED_BYTES(bytes);
    bytes[i] = 1;
}

template <class Launch> Ending run(Launch launch) {
    return in_child({}, [&] {
        launch();
        return cudaDeviceSynchronize() == cudaSuccess ? 0 : 1;
    });
}

void test_barrier_that_not_all_reach(void **) {
    Ending ending = run([] { LAUNCH(some_wait, 2, 64, 0, nullptr, device_numbers<int>(64)); });
    assert_string_equal(ending.how.c_str(), "signal 6");
    assert_said(
        ending,
        "kernel some_wait, block (0, 0, 0): not all threads came to a barrier: 40 wait at __syncthreads");
    assert_said(ending, "24 have ended");
    assert_said(run([] { LAUNCH(different_barriers, 1, 64, 0, nullptr); }), "while others wait at");
    ending = run([] { LAUNCH(lanes_missing, 1, 32, 0, nullptr, device_numbers<int>(32)); });
    assert_said(ending, "31 in a warp collective, 1 have ended");
    assert_said(ending, "__shfl_sync for the lanes 0xffffffff");
}

void test_missing_barrier(void **) {
    int *out = device_numbers<int>(64);
    MUST(LAUNCH(no_barrier, 1, 64, 0, nullptr, out));
    std::vector<int> got = fetched(out, 64);
    int wrong = 0;
    for (int each : got) {
        wrong += each != 1;
    }
    assert_in_range(wrong, 1, 63);
    MUST(cudaFree(out));
}

void test_unwritten(void **) {
    int *out = device_numbers<int>(3);
    MUST(LAUNCH(unwritten_shared, 1, 1, 16, nullptr, out));
    std::vector<int> got = fetched(out, 3);
    assert_int_equal(got[0], -1);
    assert_int_equal(got[1], -1);
    assert_int_equal(got[2], -1); // device memory that nobody wrote
    MUST(cudaFree(out));
}

void test_out_of_bounds(void **) {
    Ending ending = run([] { LAUNCH(write_at, 1, 1, 0, nullptr, device_numbers<int>(64), 64L); });
    assert_string_equal(ending.how.c_str(), "signal 6");
    assert_said(
        ending,
        "kernel write_at, block (0, 0, 0), thread (0, 0, 0) touched device memory that is not allocated");
    ending = run([] {
        int *freed = device_numbers<int>(64);
        LAUNCH(write_at, 1, 1, 0, nullptr, freed, 0L);
        cudaFree(freed);
        int *other = device_numbers<int>(64);
        LAUNCH(write_at, 1, 1, 0, nullptr, other, freed - other);
    });
    assert_said(ending, "kernel write_at");
    assert_string_equal(run([] { LAUNCH(write_shared, 1, 1, 128, nullptr, 127); }).how.c_str(), "exit 0");
    assert_said(run([] { LAUNCH(write_shared, 1, 1, 128, nullptr, 128); }), "kernel write_shared");
}

void test_host_pointer(void **) {
    static int here[4];
    assert_said(run([] { LAUNCH(write_at, 1, 1, 0, nullptr, here, 0L); }),
                "kernel write_at: argument 1 points to");
}

void test_refused_launches(void **) {
    int *out = device_numbers<int>(1);
    assert_int_equal(LAUNCH(write_at, 1, 1025, 0, nullptr, out, 0L), cudaErrorInvalidConfiguration);
    assert_int_equal(LAUNCH(write_at, 0, 32, 0, nullptr, out, 0L), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(LAUNCH(write_at, dim3(1, 65536), 1, 0, nullptr, out, 0L), cudaErrorInvalidConfiguration);
    assert_int_equal(LAUNCH(write_shared, 1, 1, (48 << 10) + 1, nullptr, 0), cudaErrorInvalidValue);
    MUST(cudaFuncSetAttribute(write_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 99 << 10));
    MUST(LAUNCH(write_shared, 1, 1, 99 << 10, nullptr, (99 << 10) - 1));
    MUST(cudaDeviceSynchronize());
    MUST(cudaFree(out));
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_collectives),
        cmocka_unit_test(test_asynchronous_copies),
        cmocka_unit_test(test_barrier_that_not_all_reach),
        cmocka_unit_test(test_missing_barrier),
        cmocka_unit_test(test_unwritten),
        cmocka_unit_test(test_out_of_bounds),
        cmocka_unit_test(test_host_pointer),
        cmocka_unit_test(test_refused_launches),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

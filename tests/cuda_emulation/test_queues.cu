// SPDX-License-Identifier: MIT
// Streams and events: work is done late and in any order that they allow.
#include "testing.h"

namespace {

struct Bed {
    cudaStream_t first, second;
    cudaEvent_t event;
    int *device;
    int *host;
};

Bed bed_open() {
    Bed bed{};
    MUST(cudaStreamCreateWithFlags(&bed.first, cudaStreamNonBlocking));
    MUST(cudaStreamCreateWithFlags(&bed.second, cudaStreamNonBlocking));
    MUST(cudaEventCreateWithFlags(&bed.event, cudaEventDefault));
    bed.device = device_numbers<int>(256);
    bed.host = pinned_numbers<int>(256);
    return bed;
}

void bed_close(Bed *bed) {
    MUST(cudaStreamDestroy(bed->first));
    MUST(cudaStreamDestroy(bed->second));
    MUST(cudaEventDestroy(bed->event));
    MUST(cudaFree(bed->device));
    MUST(cudaFreeHost(bed->host));
}

__global__ void add_kernel(int *out, int number) {
    out[threadIdx.x] += number;
}

__global__ void set_kernel(int *out, int number) {
    out[threadIdx.x] = number;
}

__global__ void copy_kernel(int *out, const int *in) {
    out[threadIdx.x] = in[threadIdx.x];
}

// A stream keeps its order whatever else there is.
void test_order(void **) {
    Bed bed = bed_open();
    MUST(cudaMemsetAsync(bed.device, 0, 64, bed.first));
    for (int i = 0; i < 100; i++) {
        MUST(LAUNCH(add_kernel, 1, 16, 0, bed.first, bed.device, 1));
        MUST(LAUNCH(set_kernel, 1, 16, 0, bed.second, bed.device + 32, i));
    }
    MUST(cudaMemcpyAsync(bed.host, bed.device, 64, cudaMemcpyDeviceToHost, bed.first));
    MUST(cudaStreamSynchronize(bed.first));
    assert_int_equal(bed.host[15], 100);
    MUST(cudaMemcpyAsync(bed.host, bed.device + 32, 64, cudaMemcpyDeviceToHost, bed.second));
    MUST(cudaStreamSynchronize(bed.second));
    assert_int_equal(bed.host[15], 99);
    bed_close(&bed);
}

// Changing a staging buffer before its copy ran shows: at least once in so many tries.
void test_staging_changed_too_early(void **) {
    Bed bed = bed_open();
    int seen = 0;
    for (int i = 0; i < 20; i++) {
        bed.host[0] = 1;
        MUST(cudaMemcpyAsync(bed.device, bed.host, sizeof(int), cudaMemcpyHostToDevice, bed.first));
        bed.host[0] = 2;
        MUST(cudaMemcpyAsync(bed.host + 1, bed.device, sizeof(int), cudaMemcpyDeviceToHost, bed.first));
        MUST(cudaStreamSynchronize(bed.first));
        seen += bed.host[1] == 2;
    }
    assert_in_range(seen, 1, 20);
    bed_close(&bed);
}

// Two streams without an event run in either order; with one, in the order it says.
int runs_out_of_order(const Bed &bed, bool with_event) {
    int wrong = 0;
    for (int i = 0; i < 50; i++) {
        MUST(LAUNCH(set_kernel, 1, 32, 0, bed.first, bed.device, i));
        if (with_event) {
            MUST(cudaEventRecord(bed.event, bed.first));
            MUST(cudaStreamWaitEvent(bed.second, bed.event, 0));
        }
        MUST(LAUNCH(copy_kernel, 1, 32, 0, bed.second, bed.device + 64, bed.device));
        MUST(cudaMemcpyAsync(bed.host, bed.device + 64, 128, cudaMemcpyDeviceToHost, bed.second));
        MUST(cudaStreamSynchronize(bed.second));
        wrong += bed.host[31] != i;
        MUST(cudaStreamSynchronize(bed.first));
    }
    return wrong;
}

void test_events(void **) {
    Bed bed = bed_open();
    assert_in_range(runs_out_of_order(bed, false), 1, 50);
    assert_int_equal(runs_out_of_order(bed, true), 0);
    bed_close(&bed);
}

// An event that is recorded again stands for the later place; one that never was holds nobody up.
void test_event_states(void **) {
    Bed bed = bed_open();
    float milliseconds;
    MUST(cudaEventQuery(bed.event));
    MUST(cudaStreamWaitEvent(bed.first, bed.event, 0));
    MUST(cudaStreamSynchronize(bed.first));
    assert_int_equal(cudaEventElapsedTime(&milliseconds, bed.event, bed.event),
                     cudaErrorInvalidResourceHandle);
    MUST(cudaEventRecord(bed.event, bed.first));
    for (int i = 0; i < 200; i++) {
        MUST(LAUNCH(set_kernel, 1, 32, 0, bed.first, bed.device, i));
    }
    MUST(cudaEventRecord(bed.event, bed.first));
    int asked = 1;
    while (cudaEventQuery(bed.event) == cudaErrorNotReady) {
        asked++;
    }
    assert_in_range(asked, 2, 10000);
    assert_int_equal(LAUNCH(set_kernel, 1, 32, 0, bed.first, bed.device, 0),
                     cudaErrorNotReady); // not its own
    MUST(LAUNCH(set_kernel, 1, 32, 0, bed.first, bed.device, 0));
    bed_close(&bed);
}

void test_elapsed_time(void **) {
    Bed bed = bed_open();
    cudaEvent_t end;
    float milliseconds;
    MUST(cudaEventCreate(&end));
    MUST(cudaEventRecord(bed.event, bed.first));
    MUST(LAUNCH(set_kernel, 64, 256, 0, bed.first, bed.device, 1));
    MUST(cudaEventRecord(end, bed.first));
    MUST(cudaEventSynchronize(end));
    MUST(cudaEventElapsedTime(&milliseconds, bed.event, end));
    assert_true(milliseconds > 0 && milliseconds < 60000);
    float none;
    MUST(cudaEventElapsedTime(&none, end, end));
    assert_true(none <= 0 && none >= 0);
    MUST(cudaEventDestroy(end));
    bed_close(&bed);
}

// The default stream waits for blocking streams and they for it, not those that say otherwise.
void test_default_stream(void **) {
    Bed bed = bed_open();
    cudaStream_t blocking;
    MUST(cudaStreamCreate(&blocking));
    for (int i = 0; i < 50; i++) {
        MUST(LAUNCH(set_kernel, 1, 32, 0, blocking, bed.device, i));
        MUST(LAUNCH(copy_kernel, 1, 32, 0, nullptr, bed.device + 64, bed.device));
        MUST(LAUNCH(set_kernel, 1, 32, 0, blocking, bed.device, -i));
        MUST(cudaMemcpy(bed.host, bed.device + 64, 128, cudaMemcpyDeviceToHost));
        assert_int_equal(bed.host[31], i);
    }
    MUST(cudaStreamDestroy(blocking));
    bed_close(&bed);
}

// What the driver stages at the call may be changed after it; nothing else may.
void test_pageable_source(void **) {
    Bed bed = bed_open();
    int numbers[4] = {1, 2, 3, 4};
    MUST(cudaMemcpyAsync(bed.device, numbers, sizeof numbers, cudaMemcpyHostToDevice, bed.first));
    numbers[0] = 7;
    MUST(cudaStreamSynchronize(bed.first));
    assert_int_equal(fetched(bed.device, 4)[0], 1);
    bed_close(&bed);
}

void test_refused_copies(void **) {
    Bed bed = bed_open();
    assert_int_equal(cudaMemcpyAsync(bed.device, bed.host, 64, cudaMemcpyDeviceToHost, bed.first),
                     cudaErrorInvalidMemcpyDirection);
    assert_int_equal(cudaMemcpyAsync(bed.device, bed.host, 1025, cudaMemcpyHostToDevice, bed.first),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(bed.host, 0, 64, bed.first), cudaErrorInvalidValue);
    cudaStream_t gone = bed.first;
    MUST(cudaStreamDestroy(gone));
    assert_int_equal(cudaStreamSynchronize(gone), cudaErrorInvalidResourceHandle);
    MUST(cudaStreamCreate(&bed.first));
    bed_close(&bed);
}

// Nobody but the device touches device memory, before work, after it and between.
void test_host_touches_device_memory(void **) {
    Ending ending = in_child({}, [] {
        Bed bed = bed_open();
        LAUNCH(set_kernel, 1, 32, 0, bed.first, bed.device, 1);
        cudaStreamSynchronize(bed.first);
        return *static_cast<volatile int *>(bed.device);
    });
    assert_string_equal(ending.how.c_str(), "signal 6");
    assert_said(ending, "the host touched byte 0 of a device allocation of 1024 bytes");
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_staging_changed_too_early),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_event_states),
        cmocka_unit_test(test_elapsed_time),
        cmocka_unit_test(test_default_stream),
        cmocka_unit_test(test_pageable_source),
        cmocka_unit_test(test_refused_copies),
        cmocka_unit_test(test_host_touches_device_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}

// SPDX-License-Identifier: MIT
// Events, each of the device that was current when it was made: places on streams, and the times of them.
#include "queues.h"

#include <set>

struct CUevent_st {
    int device;
    bool timing;
    emulation::Completed recorded; // NULL: never
};

using namespace emulation;

static std::set<CUevent_st *> &events() {
    static auto *const all = new std::set<CUevent_st *>; // never destroyed, as memory
    return *all;
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    if (events().count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    return call.end(put({stream, Kind::Event, "wait", nullptr}, nullptr, event->recorded));
}

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    Call call;
    if (!call.refused()) {
        *event = new CUevent_st{current_device(), (flags & cudaEventDisableTiming) == 0, nullptr};
        events().insert(*event);
        counts().events++;
    }
    return call.end();
}

extern "C" cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t event) {
    Call call(Counts_as::End);
    if (events().erase(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    delete event;
    counts().events--;
    report();
    return call.end();
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    if (events().count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    if (stream_device(stream) != event->device) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    cudaError_t error = put({stream, Kind::Event, "record", nullptr}, &event->recorded);
    if (error == cudaSuccess) {
        note_recorded(event->recorded);
    }
    return call.end(error);
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t event) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    if (events().count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    bool reached = is_reached(Completed(event->recorded));
    cudaError_t failed = device_error(event->device);
    return call.end(failed != cudaSuccess || reached ? failed : cudaErrorNotReady);
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    if (events().count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    wait_for(Completed(event->recorded));
    return call.end(device_error(event->device));
}

extern "C" cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    bool there = events().count(start) != 0 && events().count(end) != 0;
    if (!there || !start->timing || !end->timing || start->device != end->device ||
        start->recorded == nullptr || end->recorded == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    if (!start->recorded->done || !end->recorded->done) {
        return cudaErrorNotReady;
    }
    *milliseconds = static_cast<float>((end->recorded->time - start->recorded->time) * 1000);
    return call.end();
}

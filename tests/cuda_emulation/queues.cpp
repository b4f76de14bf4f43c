// Streams and events. Work that is put on a stream waits there, with what must be over before it. It is done
// when a call waits for it, or earlier, as chance (by the seed) has it: a host that changes a staging buffer
// before its copy ran, or leaves out an event, gets wrong numbers.
//
// Time. Each stream has a clock: work begins when it was queued, when the work before it on the stream has
// ended and when what it waits for has ended, and takes as long as it took here, as long as it says, or as
// long as a setting says of all work. The
// host's clock moves a microsecond with all it queues, and to the end of what it waits for. So elapsed times
// do not depend on when the emulation found the time to do the work, and those of matmuls are always the
// same.
#include "emulation.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <set>
#include <thread>

namespace emulation {
namespace {

struct Completion {
    bool done = false;
    double time = 0;
};
using Completed = std::shared_ptr<Completion>;

struct Work {
    Kind kind;
    const char *name;
    std::function<void()> run;
    std::vector<Completed> after;
    Completed completed;
    double queued;   // by the host's clock
    uint64_t launch; // number of the kernel; 0: none
};

} // namespace
} // namespace emulation

struct CUstream_st {
    bool blocking; // ordered with the default stream
    std::deque<emulation::Work> work;
    emulation::Completed last; // what was queued last
    double time;               // of its clock
};

struct CUevent_st {
    bool timing;
    emulation::Completed recorded; // NULL: never
};

namespace emulation {
namespace {

struct Queues {
    CUstream_st main{true, {}, nullptr, 0}; // the default stream
    std::set<CUstream_st *> streams{&main};
    std::set<CUevent_st *> events;
    double duration = -1; // as the running work says it
    double host = 0;      // the host's clock
};

Queues &queues() {
    static Queues *q = new Queues; // never destroyed, as memory
    return *q;
}

double world_time() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool is_done(const Completed &completion) {
    return completion == nullptr || completion->done;
}

bool is_ready(const CUstream_st *stream) {
    return !stream->work.empty() &&
           std::all_of(stream->work.front().after.begin(), stream->work.front().after.end(),
                       [](const Completed &each) { return each->done; });
}

// Seconds that a kernel takes more than it needs.
double slow_seconds(const Work &work) {
    const Settings &s = settings();
    bool slow = work.launch != 0 && s.slow_from != 0 && work.launch >= s.slow_from;
    return slow ? s.slow_milliseconds / 1000 : 0;
}

void run_work(const Work &work) {
    if (work.launch != 0 && work.launch == settings().fail_launch) {
        fail_device(cudaErrorLaunchFailure);
    } else if (work.run && device_error() == cudaSuccess) { // a failed device does nothing more
        work.run();
    }
}

void run_front(CUstream_st *stream) {
    Work work = std::move(stream->work.front());
    stream->work.pop_front();
    double begin = std::max(stream->time, work.queued);
    for (const Completed &each : work.after) {
        begin = std::max(begin, each->time);
    }
    double slow = slow_seconds(work);
    double start = world_time();
    queues().duration = settings().work_microseconds * 1e-6;
    run_work(work);
    double took = queues().duration >= 0 ? queues().duration : world_time() - start;
    std::this_thread::sleep_for(std::chrono::duration<double>(slow));
    stream->time = begin + (work.kind == Kind::Event ? 0 : took + slow);
    work.completed->time = stream->time;
    work.completed->done = true;
}

// Does one piece of work of a stream that chance picks. False when there is none.
bool run_one() {
    std::vector<CUstream_st *> ready;
    for (CUstream_st *stream : queues().streams) {
        if (is_ready(stream)) {
            ready.push_back(stream);
        }
    }
    if (ready.empty()) {
        return false;
    }
    run_front(ready[settings().seed == 0 ? 0 : random_below(ready.size())]);
    return true;
}

[[noreturn]] void never() {
    violation("work waits for something that will never happen");
}

CUstream_st *stream_with(const Completed &completion) {
    for (CUstream_st *stream : queues().streams) {
        for (const Work &work : stream->work) {
            if (work.completed == completion) {
                return stream;
            }
        }
    }
    never();
}

// Does what must be over before this is, and nothing else.
void run_needed(const Completed &completion) {
    while (!completion->done) {
        CUstream_st *stream = stream_with(completion);
        const std::vector<Completed> after = stream->work.front().after;
        for (const Completed &each : after) {
            run_needed(each);
        }
        run_front(stream);
    }
}

void wait_for(const Completed &completion) {
    if (!is_done(completion)) {
        Access access;
        if (settings().seed == 0) {
            run_needed(completion);
        }
        while (!completion->done) {
            if (!run_one()) {
                never();
            }
        }
    }
    if (completion != nullptr) {
        queues().host = std::max(queues().host, completion->time);
    }
    report();
}

// Now and then some work is done as soon as it is queued; not often, because opening memory costs.
void run_by_chance() {
    if (settings().seed != 0 && random_below(32) == 0) {
        Access access;
        for (uint64_t left = random_below(32); left > 0 && run_one(); left--) {
        }
    }
}

CUstream_st *stream_of(cudaStream_t stream) {
    return stream == nullptr ? &queues().main : queues().streams.count(stream) != 0 ? stream : nullptr;
}

// What the rules of the default stream add: it waits for all blocking streams, and they for it.
void order_with_default(CUstream_st *stream, std::vector<Completed> *after) {
    for (CUstream_st *other : queues().streams) {
        bool ordered =
            stream == &queues().main ? other->blocking : stream->blocking && other == &queues().main;
        if (ordered && other != stream && !is_done(other->last)) {
            after->push_back(other->last);
        }
    }
}

cudaError_t put(cudaStream_t handle, Kind kind, const char *name, std::function<void()> run,
                Completed *completed, Completed after = nullptr) {
    CUstream_st *stream = stream_of(handle);
    if (stream == nullptr) {
        return cudaErrorInvalidResourceHandle;
    }
    Work work{kind, name, std::move(run), {}, std::make_shared<Completion>(), queues().host += 1e-6, 0};
    if (kind == Kind::Kernel) {
        work.launch = ++counts().launches;
    }
    order_with_default(stream, &work.after);
    if (!is_done(after)) {
        work.after.push_back(std::move(after));
    }
    stream->last = work.completed;
    if (completed != nullptr) {
        *completed = work.completed;
    }
    stream->work.push_back(std::move(work));
    run_by_chance();
    return cudaSuccess;
}

void finish(CUstream_st *stream) {
    wait_for(Completed(stream->last));
}

cudaError_t create_stream(cudaStream_t *out, unsigned flags) {
    Call call;
    if (!call.refused()) {
        *out = new CUstream_st{(flags & cudaStreamNonBlocking) == 0, {}, nullptr, 0};
        queues().streams.insert(*out);
        counts().streams++;
    }
    return call.end();
}

// ---- copies ----

enum class Place { Device, Pinned, Pageable, Wrong };

Place place_of(const void *pointer, size_t bytes) {
    if (in_device_range(pointer)) {
        return is_device(pointer, bytes) ? Place::Device : Place::Wrong;
    }
    return is_pinned(pointer, bytes) ? Place::Pinned : Place::Pageable;
}

bool is_direction(enum cudaMemcpyKind kind, Place out, Place source) {
    switch (kind) {
    case cudaMemcpyHostToHost:
        return out != Place::Device && source != Place::Device;
    case cudaMemcpyHostToDevice:
        return out == Place::Device && source != Place::Device;
    case cudaMemcpyDeviceToHost:
        return out != Place::Device && source == Place::Device;
    case cudaMemcpyDeviceToDevice:
        return out == Place::Device && source == Place::Device;
    default:
        return true;
    }
}

void copy_now(void *out, const void *source, size_t bytes, bool to_host) {
    std::memcpy(out, source, bytes);
    if (to_host) {
        for (size_t i = 0; i + 4 <= bytes; i += 4) {
            uint32_t word;
            std::memcpy(&word, static_cast<unsigned char *>(out) + i, sizeof word);
            counts().poison_words_copied += word == 0xffffffffu;
        }
    }
}

cudaError_t put_copy(void *out, const void *source, size_t bytes, enum cudaMemcpyKind kind,
                     cudaStream_t stream) {
    Place to = place_of(out, bytes);
    Place from = place_of(source, bytes);
    if (to == Place::Wrong || from == Place::Wrong || out == nullptr || source == nullptr) {
        return cudaErrorInvalidValue;
    }
    if (!is_direction(kind, to, from)) {
        return cudaErrorInvalidMemcpyDirection;
    }
    bool to_host = to != Place::Device;
    if (from == Place::Pageable) { // as the driver does: what is there now is what is copied
        counts().pageable_copies++;
        auto first = static_cast<const unsigned char *>(source);
        auto kept = std::make_shared<std::vector<unsigned char>>(first, first + bytes);
        return put(
            stream, Kind::Copy, "copy", [=] { copy_now(out, kept->data(), bytes, to_host); }, nullptr);
    }
    Completed completed;
    cudaError_t error = put(
        stream, Kind::Copy, "copy", [=] { copy_now(out, source, bytes, to_host); }, &completed);
    if (to == Place::Pageable && error == cudaSuccess) { // nor does it come back before such a copy is over
        counts().pageable_copies++;
        wait_for(completed);
    }
    return error;
}

cudaError_t put_set(void *out, int value, size_t bytes, cudaStream_t stream) {
    if (!is_device(out, bytes)) {
        return cudaErrorInvalidValue;
    }
    return put(
        stream, Kind::Copy, "memset", [=] { std::memset(out, value, bytes); }, nullptr);
}

} // namespace

cudaError_t queue_work(cudaStream_t stream, Kind kind, const char *name, std::function<void()> run) {
    return put(stream, kind, name, std::move(run), nullptr);
}

void set_duration(double seconds) {
    queues().duration = seconds;
}

void finish_everything() {
    for (CUstream_st *stream : queues().streams) {
        finish(stream);
    }
}

} // namespace emulation

using namespace emulation;

extern "C" cudaError_t cudaMemcpyAsync(void *out, const void *source, size_t bytes, enum cudaMemcpyKind kind,
                                       cudaStream_t stream) {
    Call call;
    return call.refused() || bytes == 0 ? call.end() : call.end(put_copy(out, source, bytes, kind, stream));
}

extern "C" cudaError_t cudaMemcpy(void *out, const void *source, size_t bytes, enum cudaMemcpyKind kind) {
    Call call;
    if (call.refused() || bytes == 0) {
        return call.end();
    }
    uint64_t pageable = counts().pageable_copies;
    cudaError_t error = put_copy(out, source, bytes, kind, nullptr);
    counts().pageable_copies = pageable; // only asynchronous ones count
    if (error == cudaSuccess) {
        finish(&queues().main);
    }
    return call.end(error != cudaSuccess ? error : device_error());
}

extern "C" cudaError_t cudaMemsetAsync(void *out, int value, size_t bytes, cudaStream_t stream) {
    Call call;
    return call.refused() || bytes == 0 ? call.end() : call.end(put_set(out, value, bytes, stream));
}

extern "C" cudaError_t cudaMemset(void *out, int value, size_t bytes) {
    return cudaMemsetAsync(out, value, bytes, nullptr); // on device memory it does not wait
}

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    return create_stream(stream, flags);
}

extern "C" cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return create_stream(stream, cudaStreamDefault);
}

extern "C" cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
    return create_stream(stream, flags);
}

extern "C" cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    Call call;
    *least = 0;
    *greatest = -5;
    return call.end();
}

extern "C" cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    Call call(Counts_as::End);
    if (queues().streams.count(stream) == 0 || stream == &queues().main) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    finish(stream);
    queues().streams.erase(stream);
    delete stream;
    counts().streams--;
    report();
    return call.end();
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    Call call;
    CUstream_st *stream = stream_of(handle);
    if (call.refused()) {
        return call.end();
    }
    if (stream == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    finish(stream);
    return call.end(device_error());
}

extern "C" cudaError_t cudaStreamQuery(cudaStream_t handle) {
    Call call;
    CUstream_st *stream = stream_of(handle);
    if (call.refused()) {
        return call.end();
    }
    if (stream == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    if (is_done(stream->last)) {
        return call.end(device_error());
    }
    Access access;
    run_one(); // who asks again and again sees progress
    return cudaErrorNotReady;
}

extern "C" cudaError_t cudaDeviceSynchronize(void) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    finish_everything();
    return call.end(device_error());
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    if (queues().events.count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    return call.end(put(stream, Kind::Event, "wait", nullptr, nullptr, event->recorded));
}

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    Call call;
    if (!call.refused()) {
        *event = new CUevent_st{(flags & cudaEventDisableTiming) == 0, nullptr};
        queues().events.insert(*event);
        counts().events++;
    }
    return call.end();
}

extern "C" cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t event) {
    Call call(Counts_as::End);
    if (queues().events.erase(event) == 0) {
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
    if (queues().events.count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    return call.end(put(stream, Kind::Event, "record", nullptr, &event->recorded));
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t event) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    if (queues().events.count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    if (is_done(event->recorded)) {
        return call.end(device_error());
    }
    Access access;
    run_one();
    return cudaErrorNotReady;
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    if (queues().events.count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    wait_for(Completed(event->recorded));
    return call.end(device_error());
}

extern "C" cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    bool there = queues().events.count(start) != 0 && queues().events.count(end) != 0;
    if (!there || !start->timing || !end->timing || start->recorded == nullptr || end->recorded == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    if (!is_done(start->recorded) || !is_done(end->recorded)) {
        return cudaErrorNotReady;
    }
    *milliseconds = static_cast<float>((end->recorded->time - start->recorded->time) * 1000);
    return call.end();
}

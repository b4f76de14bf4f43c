// SPDX-License-Identifier: MIT
// Streams, each of the device that was current when it was made. Work that is put on a stream
// waits there, with what must be over before it. It is done when a call waits for it, or earlier, as chance
// (by the seed) has it: a host that changes a staging buffer before its copy ran, or leaves out an event,
// gets wrong numbers.
//
// Time. Each stream has a clock: work begins when it was queued, when the work before it on the stream has
// ended and when what it waits for has ended, and takes as long as it took here, as long as it says, or as
// long as settings say of all work and of what copies carry. The host's clock moves a microsecond with all it
// queues, and to the end of what it waits for. So elapsed times do not depend on when the emulation found the
// time to do the work, and those of matmuls are always the same; streams of one device and of several run
// side by side. Who asks again and again sees work done in the order of these clocks, as far as the host's
// clock has come, which each question moves on.
#include "queues.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <set>
#include <thread>

namespace emulation {
namespace {

struct Work {
    Kind kind;
    const char *name;
    std::function<void()> run;
    std::vector<Completed> after;
    Completed completed;
    double queued;   // by the host's clock
    uint64_t launch; // number of the kernel; 0: none
    uint64_t own;    // and among its device's
    size_t bytes;
    unsigned devices; // whose memory it touches
};

} // namespace
} // namespace emulation

struct CUstream_st {
    int device;
    int number;    // among the streams of all devices, as they were made; 0: the default stream
    bool blocking; // ordered with its device's default stream
    std::deque<emulation::Work> work;
    emulation::Completed last; // what was queued last
    double time;               // of its clock
};

namespace emulation {
namespace {

struct Queues {
    CUstream_st main[DEVICES_MOST]; // the default streams
    std::set<CUstream_st *> streams;
    double duration = -1;            // as the running work says it
    int made = 0;                    // streams
    std::vector<Completed> recorded; // events that the host's clock has not come to, and some that it has

    Queues() {
        for (int device = 0; device < DEVICES_MOST; device++) {
            main[device] = {device, 0, true, {}, nullptr, 0};
            streams.insert(&main[device]);
        }
    }
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
double slow_seconds(const Work &work, int device) {
    const Settings &s = settings();
    return triggered(s.slow_from, work.launch, work.own, device) ? s.slow_milliseconds / 1000 : 0;
}

// A failed device does nothing more.
bool can_run(const Work &work) {
    for (int device = 0; device < DEVICES_MOST; device++) {
        if ((work.devices >> device & 1) != 0 && device_error(device) != cudaSuccess) {
            return false;
        }
    }
    return work.run != nullptr;
}

void run_work(const Work &work, int device) {
    if (work.launch != 0 && triggers(settings().fail_launch, work.launch, work.own, device)) {
        fail_device(device, cudaErrorLaunchFailure);
    } else if (can_run(work)) {
        open_memory(work.devices);
        work.run();
    }
}

double begin_of(const CUstream_st *stream, const Work &work) {
    double begin = std::max(stream->time, work.queued);
    for (const Completed &each : work.after) {
        begin = std::max(begin, each->time);
    }
    return begin;
}

// What work takes by the clock unless it says so itself; below 0: as long as it takes here.
double set_seconds(const Work &work) {
    const Settings &s = settings();
    if (work.kind != Kind::Copy || s.copy_rate <= 0) {
        return s.work_microseconds * 1e-6;
    }
    return std::max(s.work_microseconds, 0.0) * 1e-6 + static_cast<double>(work.bytes) / s.copy_rate;
}

void count_time(const CUstream_st *stream, const Work &work, double begin) {
    Device_counts &own = counts_of(stream->device);
    double seconds = stream->time - begin;
    own.kernel_seconds += work.kind == Kind::Kernel ? seconds : 0;
    own.copy_seconds += work.kind == Kind::Copy ? seconds : 0;
    own.end = std::max(own.end, stream->time);
    if (work.kind != Kind::Event) {
        trace(stream->device, stream->number, work.name, begin, stream->time);
    }
}

void run_front(CUstream_st *stream) {
    Work work = std::move(stream->work.front());
    stream->work.pop_front();
    double begin = begin_of(stream, work);
    double slow = slow_seconds(work, stream->device);
    double start = world_time();
    queues().duration = set_seconds(work);
    run_work(work, stream->device);
    double took = queues().duration >= 0 ? queues().duration : world_time() - start;
    std::this_thread::sleep_for(std::chrono::duration<double>(slow));
    stream->time = begin + (work.kind == Kind::Event ? 0 : took + slow);
    work.completed->time = stream->time;
    work.completed->done = true;
    count_time(stream, work, begin);
}

std::vector<CUstream_st *> ready_streams() {
    std::vector<CUstream_st *> ready;
    for (CUstream_st *stream : queues().streams) {
        if (is_ready(stream)) {
            ready.push_back(stream);
        }
    }
    return ready;
}

// Mostly those whose memory is open: turns from device to device cost.
void prefer_open(std::vector<CUstream_st *> *ready) {
    std::vector<CUstream_st *> open;
    for (CUstream_st *stream : *ready) {
        if (is_open(stream->work.front().devices)) {
            open.push_back(stream);
        }
    }
    if (!open.empty() && open.size() < ready->size() && random_below(8) != 0) {
        *ready = std::move(open);
    }
}

// Does one piece of work of a stream that chance picks. False when there is none.
bool run_one() {
    std::vector<CUstream_st *> ready = ready_streams();
    if (ready.empty()) {
        return false;
    }
    if (settings().seed != 0 && settings().devices > 1) {
        prefer_open(&ready);
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

} // namespace

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
        counts().host = std::max(counts().host, completion->time);
    }
    report();
}

namespace {

bool is_past(const Completed &completion) {
    return completion == nullptr || (completion->done && completion->time <= counts().host);
}

// The stream whose work begins next by the clocks; NULL: none has any.
CUstream_st *next_stream(double *begin) {
    CUstream_st *next = nullptr;
    for (CUstream_st *stream : ready_streams()) {
        double at = begin_of(stream, stream->work.front());
        if (next == nullptr || at < *begin) {
            next = stream;
            *begin = at;
        }
    }
    return next;
}

// Forgets the events that are past.
void prune_recorded() {
    std::vector<Completed> &recorded = queues().recorded;
    recorded.erase(std::remove_if(recorded.begin(), recorded.end(), is_past), recorded.end());
}

} // namespace

void note_recorded(const Completed &completion) {
    constexpr size_t MANY = 1 << 10;
    if (queues().recorded.size() >= MANY) {
        prune_recorded();
    }
    queues().recorded.push_back(completion);
}

namespace {

// The first of the recorded events to come, among those whose time is known.
const Completion *next_recorded() {
    const Completion *first = nullptr;
    for (const Completed &each : queues().recorded) {
        if (each->done && (first == nullptr || each->time < first->time)) {
            first = each.get();
        }
    }
    return first;
}

// Work begins, as the clocks have it, until an event is reached, and the host's clock goes along: of several
// that are asked for in turn the one that ends first is seen first.
void run_to_next_event() {
    constexpr int MOST = 64; // pieces of work a question
    Access access;
    for (int i = 0; i < MOST; i++) {
        double begin = 0;
        CUstream_st *next = next_stream(&begin);
        const Completion *event = next_recorded();
        if (event != nullptr && (next == nullptr || event->time <= begin)) {
            counts().host = std::max(counts().host, event->time);
            return;
        }
        if (next == nullptr) {
            never();
        }
        counts().host = std::max(counts().host, begin);
        run_front(next);
    }
}

} // namespace

// Whether it is done by the host's clock.
bool is_reached(const Completed &completion) {
    std::vector<Completed> &recorded = queues().recorded;
    prune_recorded();
    if (is_past(completion)) {
        return true;
    }
    if (std::find(recorded.begin(), recorded.end(), completion) == recorded.end()) { // of a stream
        recorded.push_back(completion);
    }
    run_to_next_event();
    report();
    return is_past(completion);
}

namespace {

// Now and then some work is done as soon as it is queued; not often, because opening memory costs.
void run_by_chance() {
    if (settings().seed != 0 && random_below(32) == 0) {
        Access access;
        for (uint64_t left = random_below(32); left > 0 && run_one(); left--) {
        }
    }
}

CUstream_st *stream_of(cudaStream_t stream) {
    return stream == nullptr                     ? &queues().main[current_device()]
           : queues().streams.count(stream) != 0 ? stream
                                                 : nullptr;
}

// What the rules of the default stream add: it waits for all blocking streams, and they for it.
void order_with_default(CUstream_st *stream, std::vector<Completed> *after) {
    for (CUstream_st *other : queues().streams) {
        const CUstream_st *main = &queues().main[stream->device];
        bool ordered = stream == main ? other->blocking : stream->blocking && other == main;
        if (ordered && other != stream && other->device == stream->device && !is_done(other->last)) {
            after->push_back(other->last);
        }
    }
}

} // namespace

// Copies and waits go on streams of any device, kernels and fills on those of the current one.
cudaError_t put(const Queued &queued, Completed *completed, Completed after) {
    CUstream_st *stream = stream_of(queued.stream);
    bool launched = queued.kind == Kind::Kernel || queued.kind == Kind::Fill;
    if (stream == nullptr || (launched && stream->device != current_device())) {
        return cudaErrorInvalidResourceHandle;
    }
    if (device_error(stream->device) != cudaSuccess) {
        return device_error(stream->device);
    }
    Work work{
        queued.kind,           queued.name, queued.run, {},           std::make_shared<Completion>(),
        counts().host += 1e-6, 0,           0,          queued.bytes, queued.devices | 1u << stream->device};
    if (queued.kind == Kind::Kernel) {
        work.launch = ++counts().launches;
        work.own = ++counts_of(stream->device).launches;
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

namespace {

void finish(CUstream_st *stream) {
    wait_for(Completed(stream->last));
}

cudaError_t create_stream(cudaStream_t *out, unsigned flags) {
    Call call;
    if (!call.refused()) {
        *out = new CUstream_st{
            current_device(), ++queues().made, (flags & cudaStreamNonBlocking) == 0, {}, nullptr, 0};
        queues().streams.insert(*out);
        counts().streams++;
    }
    return call.end();
}

} // namespace

cudaError_t queue_work(const Queued &work, bool waits) {
    Completed completed;
    cudaError_t error = put(work, &completed);
    if (waits && error == cudaSuccess) {
        wait_for(completed);
    }
    return error;
}

int stream_device(cudaStream_t stream) {
    const CUstream_st *found = stream_of(stream);
    return found != nullptr ? found->device : -1;
}

void finish_stream(cudaStream_t stream) {
    finish(stream_of(stream));
}

void set_duration(double seconds) {
    queues().duration = seconds;
}

void finish_device(int device) {
    for (CUstream_st *stream : queues().streams) {
        if (stream->device == device) {
            finish(stream);
        }
    }
}

} // namespace emulation

using namespace emulation;

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
    if (queues().streams.count(stream) == 0 || stream->number == 0) {
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
    return call.end(device_error(stream->device));
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
    bool reached = is_reached(Completed(stream->last));
    cudaError_t failed = device_error(stream->device);
    return call.end(failed != cudaSuccess || reached ? failed : cudaErrorNotReady);
}

extern "C" cudaError_t cudaDeviceSynchronize(void) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    finish_device(current_device());
    return call.end(device_error(current_device()));
}

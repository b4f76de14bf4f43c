// SPDX-License-Identifier: MIT
// What the parts of the emulation share. The emulated driver is one a process, as the real one is, so its
// state is too: settings (from the environment, see README.md), counts, the memory map, the streams. One lock
// guards all of it; kernels run under it, in the thread that waits for them. Devices are numbered as CUDA
// numbers them; what a call does not name a device for goes to the thread's current one.
#ifndef STRATA_CUDA_EMULATION_EMULATION_H
#define STRATA_CUDA_EMULATION_EMULATION_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_runtime_api.h"

namespace emulation {

// ---- settings.cpp ----

constexpr int DEVICES_MOST = 8;

struct Trigger { // at the Nth of something
    uint64_t at; // 0: never
    int device;  // whose alone are counted; -1: all of them, and whichever does it
};

struct Settings {
    int devices;
    int driver_version;
    size_t total_memory[DEVICES_MOST];
    size_t free_memory[DEVICES_MOST]; // when the program starts
    std::string name[DEVICES_MOST];
    size_t multiprocessor_shared; // bytes
    Trigger fail_malloc;
    uint64_t fail_malloc_host; // 0: never
    Trigger fail_launch;
    Trigger lose_device;
    const char *hang; // the call of this name that does not come back; nullptr: none
    uint64_t hang_at; // its number among those
    Trigger slow_from;
    double slow_milliseconds;
    bool peers; // devices can access one another
    // On the device's clock, of each piece of work; below 0: as long as it took here.
    double work_microseconds;
    double copy_rate;     // bytes a second of each copy beside that, by the device's clock; 0: no matter
    uint64_t slow_matmul; // 0: none
    uint64_t seed;        // 0: work is done when it is waited for and not before
    bool has_kernels;     // the program is built for this GPU
    bool has_cublaslt;
    bool odd_matmuls; // cuBLASLt has algorithms for matrices of halves of any sizes
    bool has_nvml;
    uint64_t variants;        // of each cuBLASLt algorithm
    uint64_t broken_variants; // of these, the first ones that do not run
};
const Settings &settings();

// A text setting; NULL when it is not there.
const char *setting(const char *name);

// Of a list "VALUE,VALUE@DEVICE,..." the one for this device, or the one for all; "" when there is none.
std::string setting_of(const std::string &name, int device);

struct Device_counts {
    uint64_t calls, launches, mallocs;   // as below, with this device as the current one
    uint64_t bytes;                      // of its memory, allocated now
    double kernel_seconds, copy_seconds; // by the clock, of what it did
    double end;                          // of its last work
};

struct Counts {
    Device_counts devices[DEVICES_MOST];
    uint64_t calls;    // of the runtime, but for those that free and destroy
    uint64_t launches; // kernels and matmuls, as they were queued
    uint64_t matmuls;
    uint64_t mallocs, frees, host_mallocs, host_frees;
    uint64_t device_bytes, device_bytes_most, host_bytes; // allocated now, and the most ever
    uint64_t launches_at_last_allocation;
    uint64_t pageable_copies;     // asynchronous copies from or to memory that is not pinned
    uint64_t poison_words_copied; // 4-byte words of unwritten memory that went to the host
    uint64_t peer_copies;         // from one device's memory to another's
    int64_t streams, events;
    double host; // the host's clock, seconds
};
Counts &counts();
Device_counts &counts_of(int device);

// Whether the trigger is reached when it counts `all` of all devices and `own` of this one; and whether by
// this very one.
bool triggered(const Trigger &trigger, uint64_t all, uint64_t own, int device);
bool triggers(const Trigger &trigger, uint64_t all, uint64_t own, int device);
void report(); // writes the counts to the report, if one is asked for
void trace(int device, int stream, const char *name, double begin, double end); // and a line to the trace

uint64_t random_below(uint64_t bound); // by the seed

[[noreturn]] void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- runtime.cpp ----

std::recursive_mutex &lock();
int current_device();                 // of this thread
cudaError_t device_error(int device); // that no call gets rid of; cudaSuccess: none
void fail_device(int device, cudaError_t error);
bool device_is_lost(int device);

// Every call of the runtime begins with one: takes the lock, counts, and knows whether the current device
// still answers.
enum class Counts_as { Call, End }; // an end is no call that a device can be lost at

class Call {
  public:
    // name: of the function that makes the call.
    explicit Call(Counts_as counts_as = Counts_as::Call, const char *name = __builtin_FUNCTION());
    bool refused() const {
        return error_ != cudaSuccess;
    }
    cudaError_t end(cudaError_t result); // remembers an error for cudaGetLastError
    cudaError_t end() {
        return end(cudaSuccess);
    }

  private:
    std::lock_guard<std::recursive_mutex> guard_;
    cudaError_t error_;
};

// ---- memory.cpp ----

bool is_device(const void *pointer,
               size_t bytes = 0); // all of it in one allocation (its end counts as inside)
bool is_pinned(const void *pointer, size_t bytes = 0);
bool in_device_range(const void *pointer); // of addresses, allocated or not
int device_of(const void *pointer);        // whose memory it is; -1: no device's
void describe_address(const void *pointer, char *out, size_t size);
void catch_faults(); // has faults on device memory explained; again, because tests set their own handlers

// While one of these lives, the memory of the devices that were opened last can be touched; with the last of
// them all is closed again.
class Access {
  public:
    Access();
    ~Access();
    Access(const Access &) = delete;
    Access &operator=(const Access &) = delete;
};

// Opens the memory of these devices, a bit each, and closes that of all others.
void open_memory(unsigned devices);
bool is_open(unsigned devices); // these, and no others

// ---- queues.cpp ----

enum class Kind { Copy, Fill, Kernel, Event };

// Puts work on a stream; it is done later, after what was queued before it.
struct Queued {
    cudaStream_t stream;
    Kind kind;
    const char *name;
    std::function<void()> run; // may be empty
    size_t bytes = 0;          // that a copy carries
    unsigned devices = 0;      // whose memory it touches beside that of the stream's, a bit each
};
cudaError_t queue_work(const Queued &work, bool waits = false); // waits: until it is done

int stream_device(cudaStream_t stream); // of the default stream: the current one; -1: there is no such stream
void finish_stream(cudaStream_t stream);
void set_duration(double seconds); // called by work that runs: what it took on the device's clock
void finish_device(int device);

// ---- nvml.cpp ----

struct Function { // of an emulated library
    const char *name;
    void *address;
};
const Function *nvml_functions(); // the last one has no name
size_t &cublaslt_version();       // as cublasLtGetVersion gives it: the file that was loaded says it

// ---- blocks.cpp ----

void run_grid(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
              const std::function<void()> &thread);
bool describe_running(char *out, size_t size); // kernel, block and thread; false when none runs
size_t shared_limit(const void *kernel);
void set_shared_limit(const void *kernel, size_t bytes);

enum { SHARED_DEFAULT = 48 << 10, SHARED_MOST = 99 << 10, BLOCK_THREADS = 1024 };

} // namespace emulation

#endif

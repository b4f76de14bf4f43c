// What the parts of the emulation share. The emulated driver is one a process, as the real one is, so its
// state is too: settings (from the environment, see README.md), counts, the memory map, the streams. One lock
// guards all of it; kernels run under it, in the thread that waits for them.
#ifndef STRATA_CUDA_EMULATION_EMULATION_H
#define STRATA_CUDA_EMULATION_EMULATION_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda_runtime_api.h"

namespace emulation {

// ---- settings.cpp ----

struct Settings {
    int devices;
    int driver_version;
    size_t total_memory;
    size_t free_memory;           // when the program starts
    size_t multiprocessor_shared; // bytes
    uint64_t fail_malloc;         // 0: never
    uint64_t fail_malloc_host;    // 0: never
    uint64_t fail_launch;         // 0: never
    uint64_t lose_device;         // 0: never
    uint64_t slow_from;           // 0: never
    double slow_milliseconds;
    // On the device's clock, of each piece of work; below 0: as long as it took here.
    double work_microseconds;
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

struct Counts {
    uint64_t calls;    // of the runtime, but for those that free and destroy
    uint64_t launches; // kernels and matmuls, as they were queued
    uint64_t matmuls;
    uint64_t mallocs, frees, host_mallocs, host_frees;
    uint64_t device_bytes, device_bytes_most, host_bytes; // allocated now, and the most ever
    uint64_t launches_at_last_allocation;
    uint64_t pageable_copies;     // asynchronous copies from or to memory that is not pinned
    uint64_t poison_words_copied; // 4-byte words of unwritten memory that went to the host
    int64_t streams, events;
};
Counts &counts();
void report(); // writes the counts to the report, if one is asked for

uint64_t random_below(uint64_t bound); // by the seed

[[noreturn]] void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- runtime.cpp ----

std::recursive_mutex &lock();
cudaError_t device_error(); // that no call gets rid of; cudaSuccess: none
void fail_device(cudaError_t error);
bool device_is_lost();

// Every call of the runtime begins with one: takes the lock, counts, and knows whether the device still
// answers.
enum class Counts_as { Call, End }; // an end is no call that a device can be lost at

class Call {
  public:
    explicit Call(Counts_as counts_as = Counts_as::Call);
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
void describe_address(const void *pointer, char *out, size_t size);
void catch_faults(); // has faults on device memory explained; again, because tests set their own handlers

// Device memory can be touched while one of these lives.
class Access {
  public:
    Access();
    ~Access();
    Access(const Access &) = delete;
    Access &operator=(const Access &) = delete;
};

// ---- queues.cpp ----

enum class Kind { Copy, Kernel, Event };

// Puts work on a stream; it is done later, after what was queued before it. seconds: what it takes on the
// device's clock, beside the time that `run` takes.
cudaError_t queue_work(cudaStream_t stream, Kind kind, const char *name, std::function<void()> run);
void set_duration(double seconds); // called by work that runs: what it took on the device's clock
void finish_everything();

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

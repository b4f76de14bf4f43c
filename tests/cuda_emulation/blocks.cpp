// SPDX-License-Identifier: MIT
// Kernels. Blocks run one after another; the threads of a block are fibers, one a thread of the block, made
// once and used again. A fiber runs until it must wait (a barrier, a warp collective) or ends. Threads begin
// in an order that chance picks, so that what needs a barrier and has none goes wrong.
#include "emulation.h"

#include <algorithm>
#include <boost/context/fiber.hpp>
#include <boost/context/preallocated.hpp>
#include <boost/context/stack_context.hpp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <sys/mman.h>

#include "cuda_emulation/launch.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

// Of the section that holds the kernels' shared variables.
extern unsigned char __start_cuda_shared[] __attribute__((weak));
extern unsigned char __stop_cuda_shared[] __attribute__((weak));

namespace emulation {
namespace {

namespace context = boost::context;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t STACK = 512 << 10;
#else
constexpr size_t STACK = 128 << 10;
#endif
constexpr size_t PAGE = 4096;
constexpr unsigned LANES = 32;
constexpr size_t LINE = 64; // of a cache

// Stacks are never given back; Boost asks for an allocator all the same.
struct KeptStack {
    void deallocate(context::stack_context &) {
    }
};

enum class Where { Nowhere, Running, Barrier, Collective, Ended };

struct Copy { // asynchronous, not done yet
    void *to;
    const void *from; // NULL: zeros
    size_t bytes;
    uint64_t group;
};

struct Thread {
    context::fiber fiber;  // to go on with, while it waits
    context::fiber caller; // to give way to, while it runs
    unsigned char *stack;  // lowest byte
    Where where = Where::Nowhere;
    uint3 index;
    // Of a warp collective:
    unsigned mask;
    const char *name;
    void *argument;
    std::vector<Copy> copies;
    uint64_t group = 0; // of copies to come
#if defined(__SANITIZE_ADDRESS__)
    void *fake_stack = nullptr;
    const void *caller_stack = nullptr;
    size_t caller_stack_bytes = 0;
#endif
#if defined(__SANITIZE_THREAD__)
    void *tsan = nullptr;
    void *tsan_caller = nullptr;
#endif
};

struct Blocks {
    Thread threads[BLOCK_THREADS];
    unsigned char *stacks = nullptr;
    unsigned char *shared_end = nullptr; // of dynamic shared memory: the page behind may not be touched
    size_t shared_bytes = 0;
    // Of kernels that asked for more than the default, for each device.
    std::map<const void *, size_t> shared_limits[DEVICES_MOST];

    const char *kernel = nullptr; // NULL: none runs
    const std::function<void()> *work = nullptr;
    unsigned count = 0; // threads of the block
    Thread *running = nullptr;
    std::vector<unsigned> ready; // threads that can go on, the next one last
    unsigned arrived = 0;        // at the barrier
    unsigned ended = 0;
    unsigned collecting[BLOCK_THREADS / LANES]; // of each warp, a bit a lane that waits in a collective
    const char *file = nullptr;                 // of the barrier
    int line = 0;
    uint64_t order = 0; // of the threads; mixes the seed
};

Blocks &blocks() {
    static Blocks *b = new Blocks;
    return *b;
}

void make_memory(Blocks *b) {
    size_t each = STACK + PAGE;
    size_t shared = SHARED_MOST + PAGE - SHARED_MOST % PAGE;
    void *stacks =
        mmap(nullptr, each * BLOCK_THREADS, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *memory = mmap(nullptr, shared + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED || memory == MAP_FAILED ||
        mprotect(static_cast<unsigned char *>(memory) + PAGE, shared, PROT_READ | PROT_WRITE) != 0) {
        violation("no memory for the threads of a block");
    }
    b->stacks = static_cast<unsigned char *>(stacks);
    b->shared_end = static_cast<unsigned char *>(memory) + PAGE + shared;
}

unsigned number_of(const Thread *thread) {
    return static_cast<unsigned>(thread - blocks().threads);
}

// ---- switching ----

void give_way(Thread *thread) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&thread->fake_stack, thread->caller_stack, thread->caller_stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(thread->tsan_caller, 0);
#endif
    thread->caller = std::move(thread->caller).resume();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(thread->fake_stack, &thread->caller_stack, &thread->caller_stack_bytes);
#endif
}

// A fiber's life: one thread of a block after another.
context::fiber live(Thread *thread, context::fiber &&caller) {
    thread->caller = std::move(caller);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &thread->caller_stack, &thread->caller_stack_bytes);
#endif
    for (;;) {
        (*blocks().work)();
        emulation_copy_commit();
        emulation_copy_wait(0);
        thread->where = Where::Ended;
        blocks().ended++;
        give_way(thread);
    }
}

void make_fiber(Thread *thread) {
    Blocks &b = blocks();
    thread->stack = b.stacks + number_of(thread) * (STACK + PAGE) + PAGE;
    if (mprotect(thread->stack, STACK, PROT_READ | PROT_WRITE) != 0) {
        violation("no stack for a thread");
    }
    // Tops at one place of every page would share a few sets of the cache: each is 13 lines from its
    // neighbour's.
    size_t coloured = number_of(thread) * 13 * LINE % PAGE;
    context::stack_context stack;
    stack.sp = thread->stack + STACK - coloured;
    stack.size = STACK - coloured;
    thread->fiber =
        context::fiber(std::allocator_arg, context::preallocated(stack.sp, stack.size, stack), KeptStack(),
                       [thread](context::fiber &&caller) { return live(thread, std::move(caller)); });
#if defined(__SANITIZE_THREAD__)
    thread->tsan = __tsan_create_fiber(0);
#endif
}

void go_on(Thread *thread) {
    Blocks &b = blocks();
    if (!thread->fiber) {
        make_fiber(thread);
    }
    b.running = thread;
    thread->where = Where::Running;
    threadIdx = thread->index;
#if defined(__SANITIZE_ADDRESS__)
    void *fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, thread->stack, STACK);
#endif
#if defined(__SANITIZE_THREAD__)
    thread->tsan_caller = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(thread->tsan, 0);
#endif
    thread->fiber = std::move(thread->fiber).resume();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
    b.running = nullptr;
}

// ---- a block ----

void poison_shared(const Blocks &b) {
    std::memset(b.shared_end - (b.shared_bytes + 127) / 128 * 128, 0xff, (b.shared_bytes + 127) / 128 * 128);
    for (unsigned char *byte = __start_cuda_shared; byte < __stop_cuda_shared; byte++) {
        *byte = 0xff;
    }
}

// Numbers the threads and lets each begin, in an order that differs from block to block.
void begin_threads(Blocks *b) {
    b->ready.resize(b->count);
    for (unsigned i = 0; i < b->count; i++) {
        b->ready[i] = b->count - 1 - i;
        b->threads[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    }
    if (settings().seed != 0) {
        for (unsigned i = b->count - 1; i > 0; i--) {
            std::swap(b->ready[i], b->ready[random_below(i + 1)]);
        }
    }
}

[[noreturn]] void explain_stuck(const Blocks &b) {
    unsigned collective = 0;
    const Thread *first = nullptr;
    for (unsigned i = 0; i < b.count; i++) {
        if (b.threads[i].where == Where::Collective) {
            collective++;
            first = first == nullptr ? &b.threads[i] : first;
        }
    }
    char detail[160] = "";
    if (first != nullptr) {
        std::snprintf(detail, sizeof detail, "; thread %u waits in %s for the lanes 0x%08x", number_of(first),
                      first->name, first->mask);
    }
    violation("kernel %s, block (%u, %u, %u): not all threads came to a barrier: %u wait at __syncthreads "
              "(%s:%d), %u in a "
              "warp collective, %u have ended%s",
              b.kernel, blockIdx.x, blockIdx.y, blockIdx.z, b.arrived, b.file != nullptr ? b.file : "none",
              b.line, collective, b.ended, detail);
}

void run_block(Blocks *b) {
    b->arrived = 0;
    b->ended = 0;
    b->file = nullptr;
    std::memset(b->collecting, 0, sizeof b->collecting);
    poison_shared(*b);
    begin_threads(b);
    while (!b->ready.empty()) {
        Thread *thread = &b->threads[b->ready.back()];
        b->ready.pop_back();
        go_on(thread);
    }
    if (b->ended != b->count) {
        explain_stuck(*b);
    }
}

// Faults in a kernel are explained on a stack of their own: the fiber's may be what ran out.
class FaultStack {
  public:
    FaultStack() {
        static unsigned char *memory = new unsigned char[64 << 10];
        stack_t ours{};
        ours.ss_sp = memory;
        ours.ss_size = 64 << 10;
        sigaltstack(&ours, &earlier_);
        catch_faults();
    }
    ~FaultStack() {
        sigaltstack(&earlier_, nullptr);
    }
    FaultStack(const FaultStack &) = delete;
    FaultStack &operator=(const FaultStack &) = delete;

  private:
    stack_t earlier_{};
};

// Of names that the compiler put somewhere: mostly at one place.
bool same_words(const char *a, const char *b) {
    return a == b || std::strcmp(a, b) == 0;
}

} // namespace

void run_grid(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
              const std::function<void()> &thread) {
    Blocks &b = blocks();
    FaultStack faults;
    if (b.stacks == nullptr) {
        make_memory(&b);
    }
    b.kernel = name;
    b.work = &thread;
    b.count = block.x * block.y * block.z;
    b.shared_bytes = shared_bytes;
    gridDim = grid;
    blockDim = block;
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                run_block(&b);
            }
        }
    }
    b.kernel = nullptr;
}

bool describe_running(char *out, size_t size) {
    const Blocks &b = blocks();
    if (b.kernel == nullptr) {
        return false;
    }
    std::snprintf(out, size, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", b.kernel, blockIdx.x,
                  blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    return true;
}

size_t shared_limit(const void *kernel) {
    const auto &limits = blocks().shared_limits[current_device()];
    const auto found = limits.find(kernel);
    return found != limits.end() ? found->second : static_cast<size_t>(SHARED_DEFAULT);
}

void set_shared_limit(const void *kernel, size_t bytes) {
    blocks().shared_limits[current_device()][kernel] = bytes;
}

} // namespace emulation

using namespace emulation;

void emulation_barrier(const char *file, int line) {
    Blocks &b = blocks();
    Thread *thread = b.running;
    if (b.arrived > 0 && (b.line != line || !same_words(b.file, file))) {
        violation("kernel %s, block (%u, %u, %u): thread %u is at __syncthreads in %s:%d while others wait "
                  "at %s:%d",
                  b.kernel, blockIdx.x, blockIdx.y, blockIdx.z, number_of(thread), file, line, b.file,
                  b.line);
    }
    b.file = file;
    b.line = line;
    if (++b.arrived < b.count) {
        thread->where = Where::Barrier;
        give_way(thread);
        return;
    }
    b.arrived = 0;
    for (unsigned i = 0; i < b.count; i++) {
        if (b.threads[i].where == Where::Barrier) {
            b.ready.push_back(i);
        }
    }
}

void emulation_warp_collective(unsigned mask, const char *name, void *argument,
                               void (*work)(void *const *arguments, unsigned mask)) {
    Blocks &b = blocks();
    Thread *thread = b.running;
    unsigned number = number_of(thread);
    unsigned first = number / LANES * LANES;
    unsigned &collecting = b.collecting[number / LANES];
    thread->mask = mask;
    thread->name = name;
    thread->argument = argument;
    thread->where = Where::Collective;
    collecting |= 1u << (number - first);
    bool complete = (mask >> (number - first) & 1) != 0 && (collecting & mask) == mask;
    for (unsigned lane = 0; lane < LANES && complete; lane++) {
        const Thread &other = b.threads[first + lane];
        complete = (mask >> lane & 1) == 0 || (other.mask == mask && same_words(other.name, name));
    }
    if (!complete) {
        give_way(thread);
        return;
    }
    void *arguments[LANES];
    for (unsigned lane = 0; lane < LANES; lane++) {
        arguments[lane] = (mask >> lane & 1) != 0 ? b.threads[first + lane].argument : nullptr;
    }
    work(arguments, mask);
    collecting &= ~mask;
    for (unsigned lane = 0; lane < LANES; lane++) {
        if ((mask >> lane & 1) != 0 && first + lane != number) {
            b.threads[first + lane].where = Where::Nowhere;
            b.ready.push_back(first + lane);
        }
    }
    thread->where = Where::Running;
}

void emulation_shuffle_work(void *const *arguments, unsigned mask) {
    for (unsigned lane = 0; lane < LANES; lane++) {
        auto shuffle = static_cast<emulation_shuffle *>(arguments[lane]);
        if (shuffle == nullptr) {
            continue;
        }
        auto source = static_cast<unsigned>(shuffle->source);
        if (source < LANES && (mask >> source & 1) != 0) {
            std::memcpy(shuffle->result, static_cast<emulation_shuffle *>(arguments[source])->value,
                        sizeof shuffle->result);
        } else {
            std::memset(shuffle->result, 0xff,
                        sizeof shuffle->result); // of a lane that takes no part: anything
        }
    }
}

static void copy_now(const Copy &copy) {
    if (copy.from != nullptr) {
        std::memcpy(copy.to, copy.from, copy.bytes);
    } else {
        std::memset(copy.to, 0, copy.bytes);
    }
}

void emulation_copy_async(void *to, const void *from, size_t bytes) {
    Thread *thread = blocks().running;
    Copy copy{to, from, bytes, thread->group};
    if (settings().seed != 0 && random_below(2) == 0) { // at once or as late as it may be
        copy_now(copy);
    } else {
        thread->copies.push_back(copy);
    }
}

void emulation_copy_commit(void) {
    blocks().running->group++;
}

void emulation_copy_wait(int groups) {
    Thread *thread = blocks().running;
    size_t kept = 0;
    for (const Copy &copy : thread->copies) {
        if (copy.group + static_cast<uint64_t>(groups) < thread->group) {
            copy_now(copy);
        } else {
            thread->copies[kept++] = copy;
        }
    }
    thread->copies.erase(thread->copies.begin() + static_cast<std::ptrdiff_t>(kept), thread->copies.end());
}

namespace {
struct Ballot {
    int predicate;
    unsigned result;
};
struct Exchange {
    const void *in;
    size_t bytes;
    void *all;
};
} // namespace

unsigned __ballot_sync(unsigned mask, int predicate) {
    Ballot ballot{predicate, 0};
    emulation_warp_collective(mask, "__ballot_sync", &ballot, [](void *const *arguments, unsigned) {
        unsigned result = 0;
        for (unsigned lane = 0; lane < LANES; lane++) {
            auto each = static_cast<Ballot *>(arguments[lane]);
            result |= each != nullptr && each->predicate != 0 ? 1u << lane : 0;
        }
        for (unsigned lane = 0; lane < LANES; lane++) {
            if (arguments[lane] != nullptr) {
                static_cast<Ballot *>(arguments[lane])->result = result;
            }
        }
    });
    return ballot.result;
}

void emulation_warp_exchange(const void *in, size_t bytes, void *all) {
    Exchange exchange{in, bytes, all};
    emulation_warp_collective(
        ~0u, "emulation_warp_exchange", &exchange, [](void *const *arguments, unsigned) {
            for (unsigned to = 0; to < LANES; to++) {
                for (unsigned from = 0; from < LANES; from++) {
                    auto source = static_cast<Exchange *>(arguments[from]);
                    std::memcpy(static_cast<unsigned char *>(static_cast<Exchange *>(arguments[to])->all) +
                                    from * source->bytes,
                                source->in, source->bytes);
                }
            }
        });
}

unsigned char *emulation_shared_bytes(void) {
    const Blocks &b = blocks();
    return b.shared_end - (b.shared_bytes + 127) / 128 * 128;
}

void emulation_check_argument(const char *kernel, int number, const void *pointer) {
    std::lock_guard<std::recursive_mutex> guard(lock());
    if (pointer != nullptr && (!is_device(pointer) || device_of(pointer) != current_device())) {
        char what[256];
        describe_address(pointer, what, sizeof what);
        violation("kernel %s: argument %d points to %s", kernel, number, what);
    }
}

static bool is_grid(dim3 grid, dim3 block) {
    const unsigned threads = BLOCK_THREADS;
    return grid.x > 0 && grid.x <= 0x7fffffff && grid.y > 0 && grid.y <= 65535 && grid.z > 0 &&
           grid.z <= 65535 && block.x > 0 && block.x <= threads && block.y > 0 && block.y <= threads &&
           block.z > 0 && block.z <= 64 && block.x * block.y * block.z <= threads;
}

cudaError_t emulation_queue_launch(const char *name, const void *kernel, dim3 grid, dim3 block,
                                   size_t shared_bytes, cudaStream_t stream, std::function<void()> run) {
    Call call(Counts_as::Call, name);
    if (call.refused()) {
        return call.end();
    }
    if (cudaPeekAtLastError() == cudaErrorNotReady) { // what a question left would pass for the launch's
        return cudaGetLastError();
    }
    if (!is_grid(grid, block)) {
        return call.end(cudaErrorInvalidConfiguration);
    }
    if (shared_bytes > shared_limit(kernel)) {
        return call.end(cudaErrorInvalidValue);
    }
    return call.end(queue_work({stream, Kind::Kernel, name, [=, run = std::move(run)] {
                                    run_grid(name, grid, block, shared_bytes, run);
                                }}));
}

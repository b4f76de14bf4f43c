// SPDX-License-Identifier: MIT
// Memory. Device allocations lie in a range of addresses of their own, each between pages that nobody may
// touch; while nothing runs on the device none of it can be touched, so that a host that uses a device
// pointer is caught, and so is a kernel of one device that uses a pointer of another. Both device and pinned
// memory begin as poison: every byte 0xff, a NaN in all formats and -1 as an index.
#include "emulation.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

namespace emulation {
namespace {

constexpr size_t RANGE = size_t{1} << 38;
constexpr size_t PAGE = 4096;
constexpr size_t HUGE =
    size_t{2} << 20; // a page of the larger kind, of which fewer are to be opened and closed
constexpr size_t ALIGNMENT = 256;

struct Allocation {
    size_t bytes;
    int device;
    unsigned char *pages; // without the guards
    size_t page_bytes;
};

using Allocations = std::map<uintptr_t, Allocation>; // by address

struct Memory {
    unsigned char *range = nullptr;
    size_t used = 0;   // of the range; addresses are never used twice
    int accesses = 0;  // Access objects
    unsigned open = 0; // devices whose memory can be touched, a bit each
    Allocations device;
    Allocations pinned;
};

Memory &memory() {
    static Memory *m = new Memory; // never destroyed: statics of the program may still free memory
    return *m;
}

size_t round_up(size_t bytes, size_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

const Allocation *find(const Allocations &allocations, const void *pointer, size_t bytes, uintptr_t *base) {
    auto address = reinterpret_cast<uintptr_t>(pointer);
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) {
        return nullptr;
    }
    --after;
    *base = after->first;
    size_t offset = address - after->first;
    return offset <= after->second.bytes && bytes <= after->second.bytes - offset ? &after->second : nullptr;
}

void protect(const Allocation &allocation, int protection) {
    if (mprotect(allocation.pages, allocation.page_bytes, protection) != 0) {
        violation("mprotect failed");
    }
}

// The end of the allocation stands against the guard behind it, as far as the alignment allows.
unsigned char *place(unsigned char *guarded, size_t bytes, int device, Allocation *out) {
    size_t padded = round_up(std::max(bytes, size_t{1}), ALIGNMENT);
    size_t page_bytes = round_up(padded, PAGE);
    *out = Allocation{bytes, device, guarded, page_bytes};
    return guarded + page_bytes - padded;
}

size_t pages_for(size_t bytes) {
    return round_up(std::max(bytes, size_t{1}), PAGE);
}

// A fault on device memory is explained before it takes its way.
struct sigaction earlier;

void explain_fault(int signal, siginfo_t *info, void *) {
    char what[512];
    char who[256];
    bool running = describe_running(who, sizeof who);
    if (running || in_device_range(info->si_addr)) {
        describe_address(info->si_addr, what, sizeof what);
        violation("%s touched %s", running ? who : "the host", what);
    }
    sigaction(signal, &earlier, nullptr); // not ours: once more, for whoever was there before
}

} // namespace

void catch_faults() {
    struct sigaction now;
    sigaction(SIGSEGV, nullptr, &now);
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == explain_fault) {
        return;
    }
    earlier = now;
    struct sigaction ours {};
    ours.sa_sigaction = explain_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &ours, nullptr);
}

bool in_device_range(const void *pointer) {
    const Memory &m = memory();
    auto address = static_cast<const unsigned char *>(pointer);
    return m.range != nullptr && address >= m.range && address < m.range + RANGE;
}

bool is_device(const void *pointer, size_t bytes) {
    uintptr_t base;
    return in_device_range(pointer) && find(memory().device, pointer, bytes, &base) != nullptr;
}

bool is_pinned(const void *pointer, size_t bytes) {
    uintptr_t base;
    return find(memory().pinned, pointer, bytes, &base) != nullptr;
}

int device_of(const void *pointer) {
    uintptr_t base;
    const Allocation *inside = in_device_range(pointer) ? find(memory().device, pointer, 0, &base) : nullptr;
    return inside != nullptr ? inside->device : -1;
}

void describe_address(const void *pointer, char *out, size_t size) {
    uintptr_t base = 0;
    auto address = reinterpret_cast<uintptr_t>(pointer);
    if (!in_device_range(pointer)) {
        std::snprintf(out, size, "%p, which is no device memory", pointer);
    } else if (const Allocation *inside = find(memory().device, pointer, 1, &base)) {
        int used = std::snprintf(out, size, "byte %zu of a device allocation of %zu bytes", address - base,
                                 inside->bytes);
        if (settings().devices > 1) {
            std::snprintf(out + used, size - static_cast<size_t>(used), " of GPU %d", inside->device);
        }
    } else if (base != 0) {
        std::snprintf(
            out, size,
            "device memory that is not allocated: byte %zu from the start of an allocation of %zu bytes",
            address - base, memory().device.at(base).bytes);
    } else {
        std::snprintf(out, size, "device memory that is not allocated (%p)", pointer);
    }
}

bool is_open(unsigned devices) {
    return memory().open == devices;
}

void open_memory(unsigned devices) {
    Memory &m = memory();
    for (const auto &each : m.device) {
        unsigned bit = 1u << each.second.device;
        if (((m.open ^ devices) & bit) != 0) {
            protect(each.second, (devices & bit) != 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
        }
    }
    m.open = devices;
}

Access::Access() {
    memory().accesses++;
}

Access::~Access() {
    if (--memory().accesses == 0) {
        open_memory(0);
    }
}

} // namespace emulation

using namespace emulation;

extern "C" cudaError_t cudaMalloc(void **pointer, size_t bytes) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    Counts &c = counts();
    Memory &m = memory();
    *pointer = nullptr;
    int device = current_device();
    Device_counts &own = counts_of(device);
    const size_t free_memory = settings().free_memory[device];
    c.mallocs++;
    own.mallocs++;
    c.launches_at_last_allocation = c.launches;
    catch_faults();
    if (bytes == 0) {
        return call.end();
    }
    size_t needed = pages_for(bytes) + PAGE;
    if (triggers(settings().fail_malloc, c.mallocs, own.mallocs, device) || bytes > free_memory ||
        own.bytes > free_memory - bytes) {
        return call.end(cudaErrorMemoryAllocation);
    }
    if (m.range == nullptr) {
        void *range =
            mmap(nullptr, RANGE + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED) {
            violation("no range of addresses for device memory");
        }
        m.range = static_cast<unsigned char *>(range) + HUGE - reinterpret_cast<uintptr_t>(range) % HUGE;
        madvise(m.range, RANGE, MADV_HUGEPAGE); // where the system has none, that is no matter
        m.used = PAGE;
    }
    if (bytes >= HUGE) {
        m.used = round_up(m.used, HUGE);
    }
    if (needed > RANGE - m.used) {
        return call.end(cudaErrorMemoryAllocation);
    }
    Allocation allocation;
    unsigned char *base = place(m.range + m.used, bytes, device, &allocation);
    protect(allocation, PROT_READ | PROT_WRITE);
    std::memset(allocation.pages, 0xff, allocation.page_bytes);
    if ((m.open & 1u << device) == 0) {
        protect(allocation, PROT_NONE);
    }
    m.used += needed;
    m.device[reinterpret_cast<uintptr_t>(base)] = allocation;
    own.bytes += bytes;
    c.device_bytes += bytes;
    c.device_bytes_most = std::max(c.device_bytes_most, c.device_bytes);
    *pointer = base;
    report();
    return call.end();
}

// Also on a device that failed: the process gives up its memory either way.
extern "C" cudaError_t cudaFree(void *pointer) {
    Call call(Counts_as::End);
    if (pointer == nullptr) {
        return call.end();
    }
    if (int device = device_of(pointer); device >= 0) {
        finish_device(device);
    }
    Memory &m = memory();
    auto found = m.device.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == m.device.end()) {
        return call.end(cudaErrorInvalidValue);
    }
    const Allocation &allocation = found->second;
    if (mmap(allocation.pages, allocation.page_bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        violation("device memory cannot be freed");
    }
    counts().frees++;
    counts().device_bytes -= allocation.bytes;
    counts_of(allocation.device).bytes -= allocation.bytes;
    m.device.erase(found);
    report();
    return call.end();
}

extern "C" cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    Counts &c = counts();
    *pointer = nullptr;
    c.host_mallocs++;
    c.launches_at_last_allocation = c.launches;
    if (c.host_mallocs == settings().fail_malloc_host) {
        return call.end(cudaErrorMemoryAllocation);
    }
    size_t page_bytes = pages_for(bytes);
    void *pages =
        mmap(nullptr, page_bytes + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) {
        return call.end(cudaErrorMemoryAllocation);
    }
    Allocation allocation;
    unsigned char *base =
        place(static_cast<unsigned char *>(pages) + PAGE, bytes, current_device(), &allocation);
    protect(allocation, PROT_READ | PROT_WRITE);
    std::memset(allocation.pages, 0xff, allocation.page_bytes);
    memory().pinned[reinterpret_cast<uintptr_t>(base)] = allocation;
    c.host_bytes += bytes;
    *pointer = base;
    report();
    return call.end();
}

extern "C" cudaError_t cudaMallocHost(void **pointer, size_t bytes) {
    return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault);
}

extern "C" cudaError_t cudaFreeHost(void *pointer) {
    Call call(Counts_as::End);
    if (pointer == nullptr) {
        return call.end();
    }
    for (int device = 0; device < settings().devices; device++) { // pinned memory is every device's
        finish_device(device);
    }
    Memory &m = memory();
    auto found = m.pinned.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == m.pinned.end()) {
        return call.end(cudaErrorInvalidValue);
    }
    munmap(found->second.pages - PAGE, found->second.page_bytes + 2 * PAGE);
    counts().host_frees++;
    counts().host_bytes -= found->second.bytes;
    m.pinned.erase(found);
    report();
    return call.end();
}

extern "C" cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    Call call;
    if (!call.refused()) {
        int device = current_device();
        *total = settings().total_memory[device];
        *available = settings().free_memory[device] - counts_of(device).bytes;
    }
    return call.end();
}

extern "C" cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes,
                                                const void *pointer) {
    Call call;
    if (call.refused()) {
        return call.end();
    }
    std::memset(attributes, 0, sizeof *attributes);
    attributes->device = -1;
    if (is_device(pointer, 1)) {
        attributes->type = cudaMemoryTypeDevice;
        attributes->device = device_of(pointer);
        attributes->devicePointer = const_cast<void *>(pointer);
    } else if (is_pinned(pointer, 1)) {
        attributes->type = cudaMemoryTypeHost;
        attributes->device = 0;
        attributes->devicePointer = const_cast<void *>(pointer);
        attributes->hostPointer = const_cast<void *>(pointer);
    } else {
        attributes->type = cudaMemoryTypeUnregistered;
        attributes->hostPointer = const_cast<void *>(pointer);
    }
    return call.end();
}

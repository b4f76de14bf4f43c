// Settings from the environment, counts, and the report of them.
#include "emulation.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <unistd.h>

namespace emulation {

const char *setting(const char *name) {
    std::string full = std::string("CUDA_EMULATION_") + name;
    const char *value = std::getenv(full.c_str());
    return value != nullptr && *value != 0 ? value : nullptr;
}

static uint64_t number(const char *name, uint64_t fallback) {
    const char *value = setting(name);
    if (value == nullptr) {
        return fallback;
    }
    char *end;
    uint64_t result = std::strtoull(value, &end, 10);
    if (*end != 0) {
        violation("CUDA_EMULATION_%s is '%s', not a number", name, value);
    }
    return result;
}

static Settings read_settings() {
    Settings s{};
    s.devices = static_cast<int>(number("DEVICES", 1));
    s.driver_version = static_cast<int>(number("DRIVER", CUDART_VERSION));
    s.total_memory = number("MEMORY", 8ull << 30);
    s.free_memory = number("FREE", s.total_memory - (s.total_memory >> 4));
    s.multiprocessor_shared = number("MULTIPROCESSOR_SHARED", SHARED_MOST + 1024);
    s.fail_malloc = number("FAIL_MALLOC", 0);
    s.fail_malloc_host = number("FAIL_MALLOC_HOST", 0);
    s.fail_launch = number("FAIL_LAUNCH", 0);
    s.lose_device = number("LOSE_DEVICE", 0);
    s.slow_matmul = number("SLOW_PRODUCT", 0);
    s.seed = number("SEED", 1);
    s.has_kernels = number("KERNELS", 1) != 0;
    s.has_cublaslt = number("CUBLASLT", 1) != 0;
    s.odd_matmuls = number("ODD_PRODUCTS", 1) != 0;
    s.has_nvml = number("NVML", 1) != 0;
    s.variants = 1;
    if (const char *variants = setting("VARIANTS")) {
        unsigned long long many, broken;
        if (std::sscanf(variants, "%llu:%llu", &many, &broken) != 2 || many == 0 || many > 1000) {
            violation("CUDA_EMULATION_VARIANTS is '%s', not NUMBER:BROKEN", variants);
        }
        s.variants = many;
        s.broken_variants = broken;
    }
    if (const char *slow = setting("SLOW")) {
        unsigned long long from;
        if (std::sscanf(slow, "%llu:%lf", &from, &s.slow_milliseconds) != 2 || from == 0) {
            violation("CUDA_EMULATION_SLOW is '%s', not LAUNCH:MILLISECONDS", slow);
        }
        s.slow_from = from;
    }
    s.work_microseconds =
        setting("WORK_MICROSECONDS") == nullptr ? -1 : static_cast<double>(number("WORK_MICROSECONDS", 0));
    return s;
}

const Settings &settings() {
    static const Settings s = read_settings();
    return s;
}

Counts &counts() {
    static Counts c{};
    return c;
}

uint64_t random_below(uint64_t bound) { // SplitMix64
    static uint64_t state = settings().seed;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
}

void violation(const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::fprintf(stderr, "cuda emulation: %s\n", text);
    std::fflush(stderr);
    std::abort();
}

// The file is rewritten while the program runs, so that it is there however the program ends.
void report() {
    static const char *const path = setting("REPORT");
    if (path == nullptr) {
        return;
    }
    static const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    const Counts &c = counts();
    char text[1024];
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {{"calls", c.calls},
                  {"launches", c.launches},
                  {"products", c.matmuls},
                  {"mallocs", c.mallocs},
                  {"frees", c.frees},
                  {"host_mallocs", c.host_mallocs},
                  {"host_frees", c.host_frees},
                  {"device_bytes", c.device_bytes},
                  {"device_bytes_most", c.device_bytes_most},
                  {"host_bytes", c.host_bytes},
                  {"launches_at_last_allocation", c.launches_at_last_allocation},
                  {"pageable_copies", c.pageable_copies},
                  {"poison_words_copied", c.poison_words_copied},
                  {"streams", static_cast<uint64_t>(c.streams)},
                  {"events", static_cast<uint64_t>(c.events)}};
    int used = 0;
    for (const auto &field : fields) {
        used +=
            std::snprintf(text + used, sizeof text - static_cast<size_t>(used), "%s\"%s\": %llu",
                          used == 0 ? "{" : ", ", field.name, static_cast<unsigned long long>(field.value));
    }
    std::memset(text + used, ' ',
                sizeof text - static_cast<size_t>(used)); // always as long: no rest of a longer one
    text[used] = '}';
    text[sizeof text - 1] = '\n';
    if (pwrite(file, text, sizeof text, 0) != static_cast<ssize_t>(sizeof text)) {
        violation("the report %s cannot be written", path);
    }
}

} // namespace emulation

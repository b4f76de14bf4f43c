// SPDX-License-Identifier: MIT
// Settings from the environment, counts, and the report of them.
#include "emulation.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sstream>
#include <string>
#include <unistd.h>

namespace emulation {

const char *setting(const char *name) {
    std::string full = std::string("CUDA_EMULATION_") + name;
    const char *value = std::getenv(full.c_str());
    return value != nullptr && *value != 0 ? value : nullptr;
}

std::string setting_of(const std::string &name, int device) {
    const char *text = setting(name.c_str());
    std::string all, own;
    std::istringstream list(text != nullptr ? text : "");
    for (std::string each; std::getline(list, each, ',');) {
        size_t at = each.rfind('@');
        if (at == std::string::npos) {
            all = each;
        } else if (each.substr(at + 1) == std::to_string(device)) {
            own = each.substr(0, at);
        }
    }
    return own.empty() ? all : own;
}

static uint64_t number_of(const char *name, const std::string &value) {
    char *end;
    uint64_t result = std::strtoull(value.c_str(), &end, 10);
    if (value.empty() || *end != 0) {
        violation("CUDA_EMULATION_%s is '%s', not a number", name, value.c_str());
    }
    return result;
}

static uint64_t number(const char *name, uint64_t fallback) {
    const char *value = setting(name);
    return value == nullptr ? fallback : number_of(name, value);
}

// "N" or "N@DEVICE"; with `rest`, "N:REST" and "N:REST@DEVICE".
static Trigger trigger(const char *name, std::string *rest = nullptr) {
    const char *text = setting(name);
    std::string value = text != nullptr ? text : "0";
    Trigger result{0, -1};
    size_t at = value.find('@');
    if (at != std::string::npos) {
        result.device = static_cast<int>(number_of(name, value.substr(at + 1)));
        value.resize(at);
    }
    size_t colon = value.find(':');
    if (rest != nullptr && colon != std::string::npos) {
        *rest = value.substr(colon + 1);
        value.resize(colon);
    }
    result.at = number_of(name, value);
    return result;
}

bool triggered(const Trigger &trigger, uint64_t all, uint64_t own, int device) {
    bool counts = trigger.at != 0 && (trigger.device < 0 || trigger.device == device);
    return counts && (trigger.device < 0 ? all : own) >= trigger.at;
}

bool triggers(const Trigger &trigger, uint64_t all, uint64_t own, int device) {
    return triggered(trigger, all, own, device) && (trigger.device < 0 ? all : own) == trigger.at;
}

static void read_devices(Settings *s) {
    s->devices = static_cast<int>(number("DEVICES", 1));
    if (s->devices > DEVICES_MOST) {
        violation("CUDA_EMULATION_DEVICES is %d; there are %d at most", s->devices, DEVICES_MOST);
    }
    for (int device = 0; device < DEVICES_MOST; device++) {
        std::string total = setting_of("MEMORY", device);
        std::string left = setting_of("FREE", device);
        std::string name = setting_of("NAME", device);
        s->total_memory[device] = total.empty() ? 8ull << 30 : number_of("MEMORY", total);
        s->free_memory[device] =
            left.empty() ? s->total_memory[device] - (s->total_memory[device] >> 4) : number_of("FREE", left);
        s->name[device] = name.empty() ? "Emulated GPU" : name;
    }
}

static void read_slow(Settings *s) {
    std::string milliseconds;
    s->slow_from = trigger("SLOW", &milliseconds);
    char *end;
    s->slow_milliseconds = std::strtod(milliseconds.c_str(), &end);
    if (setting("SLOW") != nullptr && (s->slow_from.at == 0 || milliseconds.empty() || *end != 0)) {
        violation("CUDA_EMULATION_SLOW is '%s', not LAUNCH:MILLISECONDS", setting("SLOW"));
    }
}

static void read_hang(Settings *s) {
    static std::string name;
    const char *text = setting("HANG");
    s->hang = nullptr;
    if (text == nullptr) {
        return;
    }
    name = text;
    size_t colon = name.find(':');
    s->hang_at = colon == std::string::npos ? 1 : number_of("HANG", name.substr(colon + 1));
    name.resize(colon == std::string::npos ? name.size() : colon);
    s->hang = name.c_str();
}

static Settings read_settings() {
    Settings s{};
    read_devices(&s);
    read_slow(&s);
    read_hang(&s);
    s.driver_version = static_cast<int>(number("DRIVER", CUDART_VERSION));
    s.multiprocessor_shared = number("MULTIPROCESSOR_SHARED", SHARED_MOST + 1024);
    s.fail_malloc = trigger("FAIL_MALLOC");
    s.fail_malloc_host = number("FAIL_MALLOC_HOST", 0);
    s.fail_launch = trigger("FAIL_LAUNCH");
    s.lose_device = trigger("LOSE_DEVICE");
    s.peers = number("PEERS", 1) != 0;
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
    s.work_microseconds =
        setting("WORK_MICROSECONDS") == nullptr ? -1 : static_cast<double>(number("WORK_MICROSECONDS", 0));
    s.copy_rate = 1e6 * static_cast<double>(number("COPY_RATE", 0));
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

Device_counts &counts_of(int device) {
    return counts().devices[device];
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

// By the emulation's clocks: the host's, and how long each device worked.
static std::string describe_times() {
    char text[256];
    std::snprintf(text, sizeof text, ", \"host_seconds\": %.9f, \"devices\": [", counts().host);
    std::string all = text;
    for (int device = 0; device < settings().devices; device++) {
        const Device_counts &d = counts_of(device);
        std::snprintf(text, sizeof text,
                      "%s{\"calls\": %llu, \"launches\": %llu, \"bytes\": %llu, \"kernel_seconds\": %.9f, "
                      "\"copy_seconds\": %.9f, \"end_seconds\": %.9f}",
                      device == 0 ? "" : ", ", static_cast<unsigned long long>(d.calls),
                      static_cast<unsigned long long>(d.launches), static_cast<unsigned long long>(d.bytes),
                      d.kernel_seconds, d.copy_seconds, d.end);
        all += text;
    }
    return all + "]";
}

static FILE *trace_file() {
    static FILE *const file = [] {
        const char *path = setting("TRACE");
        FILE *opened = path != nullptr ? std::fopen(path, "we") : nullptr;
        if (path != nullptr && opened == nullptr) {
            violation("the trace %s cannot be written", path);
        }
        if (opened != nullptr) {
            std::fprintf(opened, "device,stream,work,begin,end\n");
        }
        return opened;
    }();
    return file;
}

void trace(int device, int stream, const char *name, double begin, double end) {
    if (FILE *file = trace_file()) {
        std::fprintf(file, "%d,%d,%s,%.9f,%.9f\n", device, stream, name, begin, end);
    }
}

// The file is rewritten while the program runs, so that it is there however the program ends.
void report() {
    static const char *const path = setting("REPORT");
    if (FILE *file = trace_file()) {
        std::fflush(file);
    }
    if (path == nullptr) {
        return;
    }
    static const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    const Counts &c = counts();
    char text[4096];
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
                  {"peer_copies", c.peer_copies},
                  {"streams", static_cast<uint64_t>(c.streams)},
                  {"events", static_cast<uint64_t>(c.events)}};
    int used = 0;
    for (const auto &field : fields) {
        used +=
            std::snprintf(text + used, sizeof text - static_cast<size_t>(used), "%s\"%s\": %llu",
                          used == 0 ? "{" : ", ", field.name, static_cast<unsigned long long>(field.value));
    }
    std::string times = describe_times();
    std::memcpy(text + used, times.data(), times.size());
    used += static_cast<int>(times.size());
    std::memset(text + used, ' ',
                sizeof text - static_cast<size_t>(used)); // always as long: no rest of a longer one
    text[used] = '}';
    text[sizeof text - 1] = '\n';
    if (pwrite(file, text, sizeof text, 0) != static_cast<ssize_t>(sizeof text)) {
        violation("the report %s cannot be written", path);
    }
}

} // namespace emulation

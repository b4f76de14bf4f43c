// The table of instruction-set paths and the choice among them: a pure function of the processor's features,
// never of a timing, so that a resumed run chooses as its first start did.
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"

#if defined(__x86_64__)
#include <cpuid.h>

enum {
    LEAF1_ECX_FMA = 1 << 12,
    LEAF1_ECX_OSXSAVE = 1 << 27,
    LEAF7_EBX_AVX2 = 1 << 5,
    LEAF7_EBX_AVX512F = 1 << 16,
    LEAF7_EBX_AVX512DQ = 1 << 17,
    LEAF7_EBX_AVX512BW = 1 << 30,
    LEAF7_EDX_AMX_BF16 = 1 << 22,
    LEAF7_1_EAX_AVX512_BF16 = 1 << 5,
    XCR0_YMM = 0x06, // the system saves xmm and ymm
    XCR0_ZMM = 0xe6, // and the mask and zmm registers
};
static const unsigned LEAF7_EBX_AVX512VL = 1u << 31;

struct features {
    bool avx2;
    bool avx512;
    bool avx512bf16;
    bool amx_bf16;
};

static unsigned saved_state(void) {
    unsigned low;
    unsigned high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static struct features processor_features(void) {
    struct features found = {0};
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & LEAF1_ECX_OSXSAVE) == 0) {
        return found;
    }
    bool fma = (c & LEAF1_ECX_FMA) != 0;
    unsigned saved = saved_state();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return found;
    }
    unsigned wanted = LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL;
    unsigned subleaves = a;
    found.avx2 = fma && (b & LEAF7_EBX_AVX2) != 0 && (saved & XCR0_YMM) == XCR0_YMM;
    found.avx512 = found.avx2 && (b & wanted) == wanted && (saved & XCR0_ZMM) == XCR0_ZMM;
    found.amx_bf16 = (d & LEAF7_EDX_AMX_BF16) != 0;
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        found.avx512bf16 = found.avx512 && (a & LEAF7_1_EAX_AVX512_BF16) != 0;
    }
    return found;
}

static bool has_avx2(void) {
    return processor_features().avx2;
}

static bool has_avx512(void) {
    return processor_features().avx512;
}

static bool has_avx512bf16(void) {
    return processor_features().avx512bf16;
}

// With AMX, vdpbf16ps runs at half the rate of float32 multiply-adds (measured on a Xeon: 215 against 430
// GFLOP/s).
static bool slow_avx512bf16(void) {
    return processor_features().amx_bf16;
}
#else
static bool slow_avx512bf16(void) {
    return false;
}
#endif

static bool always(void) {
    return true;
}

// In order of preference.
static const struct cpu_path paths[] = {
#if defined(__x86_64__)
    {"avx512bf16", has_avx512bf16, &avx512_f32, &avx512bf16_bf16},
    {"avx512", has_avx512, &avx512_f32, &avx512_bf16},
    {"avx2", has_avx2, &avx2_f32, &avx2_bf16},
#endif
    {"portable", always, &portable_f32, &portable_bf16},
};
enum { PATHS = sizeof paths / sizeof paths[0] };

const char *device_cpu_path(int index, bool *available) {
    if (index < 0 || index >= PATHS) {
        return NULL;
    }
    *available = paths[index].available();
    return paths[index].name;
}

static int choose_forced(const struct cpu_path **out, const char *forced, struct error *err) {
    for (int i = 0; i < PATHS; i++) {
        if (strcmp(paths[i].name, forced) != 0) {
            continue;
        }
        if (!paths[i].available()) {
            return error_set(err, STATUS_DEVICE, "this processor does not have the CPU path '%s'", forced);
        }
        *out = &paths[i];
        return STATUS_OK;
    }
    return error_set(err, STATUS_DEVICE, "unknown CPU path '%s': avx512bf16, avx512, avx2 or portable",
                     forced);
}

int cpu_path_choose(const struct cpu_path **out, enum dtype dtype, const char *forced, char *why,
                    size_t why_size, struct error *err) {
    *out = NULL;
    if (forced != NULL) {
        snprintf(why, why_size, "path %s was asked for", forced);
        return choose_forced(out, forced, err);
    }
    const char *passed = "";
    for (int i = 0; i < PATHS; i++) {
        if (!paths[i].available()) {
            continue;
        }
        if (strcmp(paths[i].name, "avx512bf16") == 0 && (dtype == DTYPE_F32 || slow_avx512bf16())) {
            passed = dtype == DTYPE_F32 ? "" : "; avx512bf16 is there but slower on processors with AMX";
            continue;
        }
        snprintf(why, why_size, "%s is the best path of this processor for %s%s", paths[i].name,
                 dtype_name(dtype), passed);
        *out = &paths[i];
        return STATUS_OK;
    }
    return error_set(err, STATUS_DEVICE, "this processor has no CPU path");
}

// SPDX-License-Identifier: MIT
// What the processor has, what the system saves of its state, and whether this process may use tiles.
#include <errno.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    LEAF1_ECX_FMA = 1 << 12,
    LEAF1_ECX_OSXSAVE = 1 << 27,
    LEAF1_ECX_F16C = 1 << 29,
    LEAF7_EBX_AVX2 = 1 << 5,
    LEAF7_EBX_AVX512F = 1 << 16,
    LEAF7_EBX_AVX512DQ = 1 << 17,
    LEAF7_EBX_AVX512BW = 1 << 30,
    LEAF7_EDX_AMX_BF16 = 1 << 22,
    LEAF7_EDX_AMX_TILE = 1 << 24,
    LEAF7_1_EAX_AVX512_BF16 = 1 << 5,
    XCR0_YMM = 0x06,      // the system saves xmm and ymm
    XCR0_ZMM = 0xe6,      // and the mask and zmm registers
    XCR0_TILES = 3 << 17, // the configuration and the data of tiles
};
static const unsigned LEAF7_EBX_AVX512VL = 1u << 31;

bool cpu_kind_has_slow_bf16(const char vendor[12], unsigned signature) {
    unsigned family = signature >> 8 & 15;
    unsigned model = (signature >> 4 & 15) | (signature >> 16 & 15) << 4;
    return memcmp(vendor, "GenuineIntel", 12) == 0 && family == 6 && model >= 0x8f;
}

// All zeros where the processor does not say.
static void read_vendor(char vendor[12]) {
    unsigned most, b, c, d;
    memset(vendor, 0, 12);
    if (__get_cpuid(0, &most, &b, &c, &d)) {
        memcpy(vendor, &b, 4);
        memcpy(vendor + 4, &d, 4);
        memcpy(vendor + 8, &c, 4);
    }
}

static bool has_slow_bf16(const char vendor[12]) {
    unsigned signature, ignored;
    return __get_cpuid(1, &signature, &ignored, &ignored, &ignored) &&
           cpu_kind_has_slow_bf16(vendor, signature);
}

static unsigned saved_state(void) {
    unsigned low;
    unsigned high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

// Linux gives a process the 8 KB of tile registers only when asked (arch_prctl, since 5.16); asking again is
// free and answers alike, so that nothing has to be remembered here. 0, or the errno of the refusal.
static int ask_for_tiles(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; // ARCH_REQ_XCOMP_PERM, the state's number in XCR0
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 ? 0 : errno;
}

struct cpu_features cpu_features(void) {
    struct cpu_features found = {0};
    unsigned a, b, c, d;
    char vendor[12];
    read_vendor(vendor);
    found.far_level3 = memcmp(vendor, "GenuineIntel", sizeof vendor) == 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & LEAF1_ECX_OSXSAVE) == 0) {
        return found;
    }
    bool beside_avx2 = (c & LEAF1_ECX_FMA) != 0 && (c & LEAF1_ECX_F16C) != 0;
    unsigned saved = saved_state();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return found;
    }
    unsigned wanted = LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL;
    unsigned subleaves = a;
    found.avx2 = beside_avx2 && (b & LEAF7_EBX_AVX2) != 0 && (saved & XCR0_YMM) == XCR0_YMM;
    found.avx512 = found.avx2 && (b & wanted) == wanted && (saved & XCR0_ZMM) == XCR0_ZMM;
    found.amx_bf16 = (d & LEAF7_EDX_AMX_BF16) != 0 && (d & LEAF7_EDX_AMX_TILE) != 0;
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        found.avx512bf16 = found.avx512 && (a & LEAF7_1_EAX_AVX512_BF16) != 0;
    }
    found.slow_bf16 = found.avx512bf16 && (found.amx_bf16 || has_slow_bf16(vendor));
    found.tiles_saved = found.amx_bf16 && (saved & XCR0_TILES) == XCR0_TILES;
    found.tiles_refused = found.tiles_saved ? ask_for_tiles() : 0;
    return found;
}
#else
struct cpu_features cpu_features(void) {
    return (struct cpu_features){0};
}

bool cpu_kind_has_slow_bf16(const char vendor[12], unsigned signature) {
    (void)vendor;
    (void)signature;
    return false;
}
#endif

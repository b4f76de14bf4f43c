// SPDX-License-Identifier: MIT
// The table of instruction-set paths and the choice among them: a pure function of the processor's features
// and kind (and of the kernel's permission to use tiles), never of a timing, so that a resumed run chooses as
// its first start did.
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"

#if defined(__x86_64__)
static bool has_avx2(const struct cpu_features *features) {
    return features->avx2;
}

static bool has_avx512(const struct cpu_features *features) {
    return features->avx512;
}

static bool has_avx512bf16(const struct cpu_features *features) {
    return features->avx512bf16;
}

// Its rows are computed with AVX512-BF16, which every processor with AMX has.
static bool has_amxbf16(const struct cpu_features *features) {
    return features->avx512bf16 && features->amx_bf16 && features->tiles_saved &&
           features->tiles_refused == 0;
}
#endif

static bool always(const struct cpu_features *features) {
    (void)features;
    return true;
}

// In order of preference; the last is always there.
static const struct cpu_path paths[] = {
#if defined(__x86_64__)
    {"amxbf16", CPU_PATH_FOR_BF16, has_amxbf16, &avx512_f32, &avx512_f16, &amxbf16_bf16},
    {"avx512bf16", CPU_PATH_FOR_BF16, has_avx512bf16, &avx512_f32, &avx512_f16, &avx512bf16_bf16},
    {"avx512", CPU_PATH_FOR_ALL, has_avx512, &avx512_f32, &avx512_f16, &avx512_bf16},
    {"avx2", CPU_PATH_FOR_ALL, has_avx2, &avx2_f32, &avx2_f16, &avx2_bf16},
#endif
    {"amxbf16-twin", CPU_PATH_BY_NAME, always, &portable_f32, &portable_f16, &amxbf16_twin_bf16},
    {"portable", CPU_PATH_FOR_ALL, always, &portable_f32, &portable_f16, &portable_bf16},
};
enum { PATHS = sizeof paths / sizeof paths[0] };

const char *device_cpu_path(int index, bool *available) {
    if (index < 0 || index >= PATHS) {
        return NULL;
    }
    struct cpu_features features = cpu_features();
    *available = paths[index].available(&features);
    return paths[index].name;
}

// Why a processor that has AMX does not compute with it; "" where it has none, or computes with it.
static const char *tiles_missing(const struct cpu_features *features, char *text, size_t size) {
    snprintf(text, size, "%s", "");
    if (features->amx_bf16 && !features->tiles_saved) {
        snprintf(text, size, "the system does not enable the tile registers of AMX");
    } else if (features->amx_bf16 && features->tiles_refused != 0) {
        snprintf(text, size, "the kernel refuses AMX: %s", strerror(features->tiles_refused));
    } else if (features->amx_bf16 && !features->avx512bf16) {
        snprintf(text, size, "AMX is there without AVX512-BF16");
    }
    return text;
}

static int choose_forced(const struct cpu_path **out, const struct cpu_features *features, const char *forced,
                         struct error *err) {
    char names[160] = "";
    char missing[120];
    size_t used = 0;
    for (int i = 0; i < PATHS; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", paths[i].name);
        if (strcmp(paths[i].name, forced) != 0) {
            continue;
        }
        if (paths[i].available(features)) {
            *out = &paths[i];
            return STATUS_OK;
        }
        bool tiles = paths[i].bf16->tiles != NULL;
        const char *why = tiles ? tiles_missing(features, missing, sizeof missing) : "";
        return error_set(err, STATUS_DEVICE, "this processor does not have the CPU path '%s'%s%s", forced,
                         *why != 0 ? ": " : "", why);
    }
    return error_set(err, STATUS_DEVICE, "unknown CPU path '%s': %s", forced, names);
}

// vdpbf16ps against float32 multiply-adds, measured on a Xeon with AMX: 215 against 430 GFLOP/s. Such a
// processor takes the path below where it may not use tiles.
static bool slower_than_next(const struct cpu_path *path, const struct cpu_features *features) {
    return strcmp(path->name, "avx512bf16") == 0 && features->slow_bf16;
}

int cpu_path_pick(const struct cpu_path **out, const struct cpu_features *features, enum dtype dtype,
                  const char *forced, char *why, size_t why_size, struct error *err) {
    *out = NULL;
    if (forced != NULL) {
        snprintf(why, why_size, "path %s was asked for", forced);
        return choose_forced(out, features, forced, err);
    }
    char missing[120];
    tiles_missing(features, missing, sizeof missing);
    const char *slower = "";
    for (int i = 0; i < PATHS; i++) {
        const struct cpu_path *path = &paths[i];
        if (path->use == CPU_PATH_BY_NAME || !path->available(features) ||
            (path->use == CPU_PATH_FOR_BF16 && dtype != DTYPE_BF16)) {
            continue;
        }
        if (slower_than_next(path, features)) {
            slower = "; avx512bf16 is there but slower on this kind of processor";
            continue;
        }
        bool lost = dtype == DTYPE_BF16 && *missing != 0;
        snprintf(why, why_size, "%s is the best path of this processor for %s%s%s%s", path->name,
                 dtype_name(dtype), lost ? "; " : "", lost ? missing : "", slower);
        *out = path;
        return STATUS_OK;
    }
    return error_set(err, STATUS_DEVICE, "this processor has no CPU path");
}

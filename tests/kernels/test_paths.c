// SPDX-License-Identifier: MIT
// Which path is taken on which processor: the choice is a function of features, here of made-up ones.
#include "device_testing.h"

#include <errno.h>

#include "kernels/cpu/cpu_device.h"

#if defined(__x86_64__)
static const struct cpu_features none = {0};
static const struct cpu_features haswell = {.avx2 = true};
static const struct cpu_features skylake = {.avx2 = true, .avx512 = true};
static const struct cpu_features zen4 = {.avx2 = true, .avx512 = true, .avx512bf16 = true};
static const struct cpu_features sapphire_rapids = {.avx2 = true,
                                                    .avx512 = true,
                                                    .avx512bf16 = true,
                                                    .slow_bf16 = true,
                                                    .amx_bf16 = true,
                                                    .tiles_saved = true};
static const struct cpu_features old_system = {
    .avx2 = true, .avx512 = true, .avx512bf16 = true, .slow_bf16 = true, .amx_bf16 = true};
static const struct cpu_features amx_hidden = {
    .avx2 = true, .avx512 = true, .avx512bf16 = true, .slow_bf16 = true};
static const struct cpu_features refused = {.avx2 = true,
                                            .avx512 = true,
                                            .avx512bf16 = true,
                                            .slow_bf16 = true,
                                            .amx_bf16 = true,
                                            .tiles_saved = true,
                                            .tiles_refused = EPERM};

static void assert_picks(const struct cpu_features *features, enum dtype dtype, const char *name,
                         const char *part) {
    const struct cpu_path *path;
    struct error error = {0};
    char why[200];
    assert_int_equal(cpu_path_pick(&path, features, dtype, NULL, why, sizeof why, &error), STATUS_OK);
    assert_string_equal(path->name, name);
    if (strstr(why, part) == NULL || strstr(why, name) == NULL) {
        fail_msg("'%s' does not say '%s' of %s", why, part, name);
    }
}

static void test_choice(void **state) {
    (void)state;
    assert_picks(&none, DTYPE_BF16, "portable", "best path");
    assert_picks(&haswell, DTYPE_BF16, "avx2", "best path");
    assert_picks(&skylake, DTYPE_BF16, "avx512", "best path");
    assert_picks(&zen4, DTYPE_BF16, "avx512bf16", "best path");
    assert_picks(&zen4, DTYPE_F32, "avx512", "best path");
    assert_picks(&zen4, DTYPE_F16, "avx512", "best path of this processor for float16");
    assert_picks(&haswell, DTYPE_F16, "avx2", "best path");
    assert_picks(&none, DTYPE_F16, "portable", "best path");
    assert_picks(&sapphire_rapids, DTYPE_BF16, "amxbf16", "best path of this processor for bfloat16");
    assert_picks(&sapphire_rapids, DTYPE_F32, "avx512", "best path of this processor for float32");
}

static void test_tiles_not_to_be_had(void **state) {
    (void)state;
    assert_picks(&refused, DTYPE_BF16, "avx512", "the kernel refuses AMX: Operation not permitted");
    assert_picks(&refused, DTYPE_BF16, "avx512", "avx512bf16 is there but slower");
    assert_picks(&old_system, DTYPE_BF16, "avx512", "the system does not enable the tile registers");
    const struct cpu_path *path;
    struct error error = {0};
    char why[200];
    assert_picks(&refused, DTYPE_F32, "avx512", "best path");
    assert_int_equal(cpu_path_pick(&path, &refused, DTYPE_F32, NULL, why, sizeof why, &error), STATUS_OK);
    assert_null(strstr(why, "AMX")); // float32 loses nothing
    assert_picks(&refused, DTYPE_F16, "avx512", "best path");
    assert_int_equal(cpu_path_pick(&path, &refused, DTYPE_F16, NULL, why, sizeof why, &error), STATUS_OK);
    assert_null(strstr(why, "AMX"));
}

static void test_kinds(void **state) {
    (void)state;
    assert_picks(&amx_hidden, DTYPE_BF16, "avx512", "avx512bf16 is there but slower");
    assert_true(cpu_kind_has_slow_bf16("GenuineIntel", 0x000806f8));  // Sapphire Rapids
    assert_true(cpu_kind_has_slow_bf16("GenuineIntel", 0x000c06f2));  // Emerald Rapids
    assert_true(cpu_kind_has_slow_bf16("GenuineIntel", 0x000a06d1));  // Granite Rapids
    assert_false(cpu_kind_has_slow_bf16("GenuineIntel", 0x0005065b)); // Cooper Lake
    assert_false(cpu_kind_has_slow_bf16("AuthenticAMD", 0x00a10f11)); // Genoa
    assert_false(cpu_kind_has_slow_bf16("AuthenticAMD", 0x000806f8));
}

static void test_by_name(void **state) {
    (void)state;
    const struct cpu_path *path;
    struct error error = {0};
    char why[200];
    assert_int_equal(cpu_path_pick(&path, &sapphire_rapids, DTYPE_F32, "amxbf16", why, sizeof why, &error),
                     STATUS_OK);
    assert_ptr_equal(cpu_path_kernels(path, DTYPE_F32), &avx512_f32);
    assert_ptr_equal(cpu_path_kernels(path, DTYPE_F16), &avx512_f16);
    assert_ptr_equal(cpu_path_kernels(path, DTYPE_BF16), &amxbf16_bf16);
    assert_int_equal(cpu_path_pick(&path, &none, DTYPE_BF16, "amxbf16-twin", why, sizeof why, &error),
                     STATUS_OK);
    assert_string_equal(why, "path amxbf16-twin was asked for");
    assert_int_equal(cpu_path_pick(&path, &zen4, DTYPE_BF16, "amxbf16", why, sizeof why, &error),
                     STATUS_DEVICE);
    assert_null(path);
    assert_string_equal(error.message, "this processor does not have the CPU path 'amxbf16'");
    assert_int_equal(cpu_path_pick(&path, &refused, DTYPE_BF16, "amxbf16", why, sizeof why, &error),
                     STATUS_DEVICE);
    assert_non_null(strstr(error.message, "'amxbf16': the kernel refuses AMX: Operation not permitted"));
    assert_int_equal(cpu_path_pick(&path, &none, DTYPE_BF16, "mmx", why, sizeof why, &error), STATUS_DEVICE);
    assert_non_null(strstr(error.message, "unknown CPU path 'mmx': amxbf16, avx512bf16, avx512, avx2, "));
}
#endif

// What is found here is one of the processors that can exist.
static void test_found(void **state) {
    (void)state;
    struct cpu_features found = cpu_features();
    assert_true(!found.avx512 || found.avx2);
    assert_true(!found.avx512bf16 || found.avx512);
    assert_true(!found.tiles_saved || found.amx_bf16);
    assert_true(found.tiles_refused == 0 || found.tiles_saved);
    struct cpu_features again = cpu_features(); // asking twice changes nothing
    assert_true(found.avx512bf16 == again.avx512bf16 && found.tiles_saved == again.tiles_saved);
    assert_int_equal(found.tiles_refused, again.tiles_refused);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_tiles_not_to_be_had),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_by_name),
#endif
        cmocka_unit_test(test_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// Sizes that do not fit are refused before anything is allocated; arenas, buffers and blocks at their edges.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"

// ---- sizes ----

static void products_and_sums_that_fit(void **state) {
    (void)state;
    size_t out = 1;
    assert_true(size_mul(0, SIZE_MAX, &out) && out == 0);
    assert_true(size_mul(SIZE_MAX, 1, &out) && out == SIZE_MAX);
    assert_true(size_mul((size_t)1 << 32, ((size_t)1 << 32) - 1, &out) && out == SIZE_MAX - UINT32_MAX);
    assert_true(size_add(SIZE_MAX, 0, &out) && out == SIZE_MAX);
    assert_true(size_add(SIZE_MAX - 5, 5, &out) && out == SIZE_MAX);
    assert_true(size_round_up(0, 64, &out) && out == 0);
    assert_true(size_round_up(1, 64, &out) && out == 64);
    assert_true(size_round_up(64, 64, &out) && out == 64);
    assert_true(size_round_up(65, 64, &out) && out == 128);
    assert_true(size_round_up(SIZE_MAX - 63, 64, &out) && out == SIZE_MAX - 63);
    assert_true(size_round_up(7, 1, &out) && out == 7);
    assert_int_equal(size_min(2, 3), 2);
    assert_int_equal(size_min(SIZE_MAX, 0), 0);
    assert_int_equal(size_max(2, 3), 3);
    assert_true(size_max(SIZE_MAX, 0) == SIZE_MAX);
}

static void what_does_not_fit_leaves_the_result_alone(void **state) {
    (void)state;
    size_t out = 42;
    assert_false(size_mul((size_t)1 << 32, (size_t)1 << 32, &out));
    assert_false(size_mul(SIZE_MAX, 2, &out));
    assert_false(size_add(SIZE_MAX, 1, &out));
    assert_false(size_add(SIZE_MAX, SIZE_MAX, &out));
    assert_false(size_round_up(SIZE_MAX, 64, &out));
    assert_false(size_round_up(SIZE_MAX - 62, 64, &out));
    assert_int_equal(out, 42);
}

// ---- blocks ----

static void a_block_keeps_what_it_held(void **state) {
    (void)state;
    struct error err;
    void *block = NULL;
    assert_int_equal(memory_resize(&block, 4, sizeof(int), &err), STATUS_OK);
    memcpy(block, (const int[]){1, 2, 3, 4}, 4 * sizeof(int));
    assert_int_equal(memory_resize(&block, 100000, sizeof(int), &err), STATUS_OK);
    assert_memory_equal(block, ((const int[]){1, 2, 3, 4}), 4 * sizeof(int));
    assert_int_equal(memory_resize(&block, 2, sizeof(int), &err), STATUS_OK);
    assert_memory_equal(block, ((const int[]){1, 2}), 2 * sizeof(int));
    void *before = block;
    assert_int_equal(memory_resize(&block, SIZE_MAX / 2, 4, &err),
                     STATUS_INTERNAL); // the product does not fit
    assert_non_null(strstr(err.message, "out of memory"));
    assert_ptr_equal(block, before); // still the caller's
    assert_memory_equal(block, ((const int[]){1, 2}), 2 * sizeof(int));
    assert_int_equal(memory_resize(&block, 0, sizeof(int), &err), STATUS_OK);
    assert_non_null(block); // nothing is a block too: NULL stands for one that never was
    free(block);
}

static void a_new_block_is_zeros(void **state) {
    (void)state;
    struct error err;
    void *block = NULL;
    static const unsigned char zeros[640];
    assert_int_equal(memory_zeroed(&block, 10, 64, &err), STATUS_OK);
    assert_memory_equal(block, zeros, sizeof zeros);
    free(block);
    assert_int_equal(memory_zeroed(&block, 0, 64, &err), STATUS_OK);
    assert_non_null(block);
    free(block);
}

static void a_text_is_copied(void **state) {
    (void)state;
    struct error err;
    char text[] = "kept";
    char *copy = NULL;
    assert_int_equal(memory_text(&copy, text, &err), STATUS_OK);
    text[0] = 'x';
    assert_string_equal(copy, "kept");
    free(copy);
}

// ---- buffers ----

static void a_buffer_grows_and_ends_in_a_zero(void **state) {
    (void)state;
    struct error err;
    struct buffer buffer = {0};
    assert_int_equal(buffer_append(&buffer, "", 0, &err), STATUS_OK);
    assert_string_equal(buffer.data, "");
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buffer_append(&buffer, "ab\0c", 4, &err), STATUS_OK);
        assert_int_equal(buffer.data[buffer.size], 0);
    }
    assert_int_equal(buffer.size, 4000);
    assert_memory_equal(buffer.data + 3996, "ab\0c", 4);
    size_t capacity = buffer.capacity;
    buffer_clear(&buffer);
    assert_int_equal(buffer.size, 0);
    assert_int_equal(buffer_printf(&buffer, &err, "%s-%03d", "shard", 7), STATUS_OK);
    assert_string_equal(buffer.data, "shard-007");
    assert_true(buffer.capacity == capacity); // kept
    assert_int_equal(buffer_append(&buffer, "x", SIZE_MAX - 4, &err), STATUS_INTERNAL);
    assert_string_equal(buffer.data, "shard-007");
    assert_int_equal(buffer_reserve(&buffer, 1, &err), STATUS_OK);
    assert_string_equal(buffer.data, "shard-007");
    buffer_destroy(&buffer);
    assert_null(buffer.data);
    buffer_destroy(&buffer);
}

static void what_is_printed_may_be_longer_than_the_room(void **state) {
    (void)state;
    struct error err;
    struct buffer buffer = {0};
    assert_int_equal(buffer_printf(&buffer, &err, "%05000d", 1), STATUS_OK);
    assert_int_equal(buffer.size, 5000);
    assert_string_equal(buffer.data + 4998, "01");
    buffer_destroy(&buffer);
}

// ---- arenas ----

static void an_arena_hands_out_aligned_zeros_until_it_is_full(void **state) {
    (void)state;
    struct error err;
    struct arena arena;
    static const unsigned char zeros[256];
    assert_int_equal(arena_create(&arena, 256, &err), STATUS_OK);
    unsigned char *first = arena_take(&arena, 3, 1);
    unsigned char *second = arena_take(&arena, 64, 64);
    assert_ptr_equal(second, first + 64);
    assert_int_equal((uintptr_t)second % 64, 0);
    assert_null(arena_take(&arena, 129, 1)); // one more than there is
    assert_null(arena_take(&arena, SIZE_MAX, 1));
    assert_null(arena_take(&arena, 1, (size_t)1 << 63));
    assert_ptr_equal(arena_take(&arena, 128, 1), first + 128); // what was refused took nothing
    assert_null(arena_take(&arena, 1, 1));
    assert_memory_equal(first, zeros, sizeof zeros);
    arena_reset(&arena);
    assert_ptr_equal(arena_take(&arena, 256, 64), first);
    arena_destroy(&arena);
    assert_null(arena.data);
    arena_destroy(&arena);
}

static void an_arena_that_cannot_be_had(void **state) {
    (void)state;
    struct error err;
    struct arena arena;
    assert_int_equal(arena_create(&arena, (size_t)1 << 62, &err), STATUS_INTERNAL);
    assert_null(arena.data);
    assert_int_equal(arena_create(&arena, 0, &err), STATUS_OK);
    assert_null(arena_take(&arena, 1, 1));
    arena_destroy(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_and_sums_that_fit),
        cmocka_unit_test(what_does_not_fit_leaves_the_result_alone),
        cmocka_unit_test(a_block_keeps_what_it_held),
        cmocka_unit_test(a_new_block_is_zeros),
        cmocka_unit_test(a_text_is_copied),
        cmocka_unit_test(a_buffer_grows_and_ends_in_a_zero),
        cmocka_unit_test(what_is_printed_may_be_longer_than_the_room),
        cmocka_unit_test(an_arena_hands_out_aligned_zeros_until_it_is_full),
        cmocka_unit_test(an_arena_that_cannot_be_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

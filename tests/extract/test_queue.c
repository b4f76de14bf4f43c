// SPDX-License-Identifier: MIT
// The queue between two stages: order, waiting when full or empty, and its end.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "stages/queue.h"

enum { ITEMS = 20000 };

static void *item(size_t number) {
    return (void *)(uintptr_t)(number + 1);
}

static void test_order_and_end(void **state) {
    (void)state;
    struct queue queue;
    queue_open(&queue);
    for (size_t i = 0; i < QUEUE_CAPACITY; i++) {
        assert_true(queue_push(&queue, item(i)));
    }
    queue_close(&queue);
    queue_close(&queue);
    assert_false(queue_push(&queue, item(99)));
    for (size_t i = 0; i < QUEUE_CAPACITY; i++) {
        assert_ptr_equal(queue_pop(&queue), item(i));
    }
    assert_null(queue_pop(&queue));
    assert_null(queue_pop(&queue));
    queue_destroy(&queue);
}

static void test_trying(void **state) {
    (void)state;
    struct queue queue;
    void *found = &queue;
    queue_open(&queue);
    assert_false(queue_try_pop(&queue, &found));
    assert_null(found);
    assert_true(queue_push(&queue, item(1)));
    assert_true(queue_try_pop(&queue, &found));
    assert_ptr_equal(found, item(1));
    assert_false(queue_try_pop(&queue, &found));
    queue_close(&queue);
    assert_true(queue_try_pop(&queue, &found)); // the end
    assert_null(found);
    queue_destroy(&queue);
}

static void *push_all(void *context) {
    for (size_t i = 0; i < ITEMS; i++) {
        if (!queue_push(context, item(i))) {
            return NULL;
        }
    }
    queue_close(context);
    return context;
}

static void test_two_threads(void **state) {
    (void)state;
    struct queue queue;
    pthread_t thread;
    void *all;
    queue_open(&queue);
    assert_int_equal(pthread_create(&thread, NULL, push_all, &queue), 0);
    for (size_t i = 0; i < ITEMS; i++) {
        assert_ptr_equal(queue_pop(&queue), item(i));
    }
    assert_null(queue_pop(&queue));
    pthread_join(thread, &all);
    assert_non_null(all);
    queue_destroy(&queue);
}

// Closing wakes a pusher that waits for room, and what it held is not queued.
static void test_close_wakes_pusher(void **state) {
    (void)state;
    struct queue queue;
    pthread_t thread;
    void *all;
    size_t taken = 0;
    queue_open(&queue);
    assert_int_equal(pthread_create(&thread, NULL, push_all, &queue), 0);
    while (taken < 100) {
        assert_non_null(queue_pop(&queue));
        taken++;
    }
    queue_close(&queue);
    pthread_join(thread, &all);
    assert_null(all);
    while (queue_pop(&queue) != NULL) {
        taken++;
    }
    assert_true(taken <= 100 + QUEUE_CAPACITY);
    queue_destroy(&queue);
}

static void *pop_one(void *context) {
    return queue_pop(context);
}

static void test_close_wakes_taker(void **state) {
    (void)state;
    struct queue queue;
    pthread_t thread;
    void *got = item(0);
    queue_open(&queue);
    assert_int_equal(pthread_create(&thread, NULL, pop_one, &queue), 0);
    clock_sleep(0.01);
    queue_close(&queue);
    pthread_join(thread, &got);
    assert_null(got);
    queue_destroy(&queue);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_end),     cmocka_unit_test(test_trying),
        cmocka_unit_test(test_two_threads),       cmocka_unit_test(test_close_wakes_pusher),
        cmocka_unit_test(test_close_wakes_taker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

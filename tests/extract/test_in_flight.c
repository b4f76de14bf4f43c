// SPDX-License-Identifier: MIT
// Batches on the devices: when a group of them becomes a sweep, what each has of a sweep's times, and how
// sweeps go to several lanes and leave in order.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kernels/shapes.h"
#include "model/golden.h"
#include "stages/in_flight.h"

enum { GROUP = 3, MEMBERS = 4, LONG_TOKENS = MEMBERS * DEVICE_SLICE, LANES = 3 };

struct rig {
    struct golden golden;
    struct model *model;
    size_t layer;
    struct model_limits limits;
    struct drift_cost cost;
    struct guard guard;
    struct in_flight in_flight;
    struct work works[GOLDEN_TEXTS];
    int32_t starts[GOLDEN_TEXTS][2];
    struct device_span span;
};

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

static void add_devices(struct rig *rig, size_t devices) {
    static const char *const names[LANES] = {"cpu:0", "cpu:1", "cpu:2"};
    struct error err = {0};
    struct device_options options = {.dtype = DTYPE_F32, .threads = 1};
    for (size_t i = 0; i < devices; i++) {
        struct device *device;
        must(device_open(&device, "cpu", &options, &err), &err);
        must(model_add_device(rig->model, device, names[i], &err), &err);
    }
}

static void load_model(struct rig *rig, size_t devices, size_t group) {
    struct error err = {0};
    struct model_load_options loading = {0};
    struct model_plan plan;
    rig->limits = (struct model_limits){.layers = &rig->layer,
                                        .layer_count = 1,
                                        .tokens = DEVICE_SLICE,
                                        .texts = 1,
                                        .rows = 1,
                                        .longest = LONG_TOKENS,
                                        .stored = DTYPE_F32,
                                        .slots = GOLDEN_TEXTS,
                                        .group = group,
                                        .members = MEMBERS};
    must(model_open(&rig->model, rig->golden.folder, &err), &err);
    add_devices(rig, devices);
    must(model_plan(rig->model, &rig->limits, &plan, &err), &err);
    must(model_reserve(rig->model, &plan, &err), &err);
    must(model_load(rig->model, &rig->limits, &loading, &err), &err);
}

// A batch a text, numbered from 10 on.
static void make_works(struct rig *rig) {
    const struct golden *golden = &rig->golden;
    rig->span = (struct device_span){0, 1};
    for (size_t i = 0; i < golden->texts; i++) {
        size_t tokens = (size_t)(golden->starts[i + 1] - golden->starts[i]);
        rig->starts[i][1] = (int32_t)tokens;
        rig->works[i] = (struct work){.number = 10 + i,
                                      .squared_lengths = (double)(tokens * tokens),
                                      .batch = {.ids = golden->ids + golden->starts[i],
                                                .starts = rig->starts[i],
                                                .spans = &rig->span,
                                                .tokens = tokens,
                                                .texts = 1,
                                                .rows = 1,
                                                .slot = i}};
    }
}

static int open_with(void **state, size_t devices, size_t group) {
    struct rig *rig = test_calloc(1, sizeof *rig);
    golden_open(&rig->golden, "qwen3");
    rig->layer = 1;
    rig->cost = (struct drift_cost){.fixed = 3, .per_token = 0.5, .per_square = 0.25};
    pthread_mutex_init(&rig->guard.lock, NULL);
    load_model(rig, devices, group);
    make_works(rig);
    in_flight_open(&rig->in_flight, rig->model, &rig->limits, &rig->cost, &rig->guard);
    *state = rig;
    return 0;
}

static int open_rig(void **state) {
    return open_with(state, 1, GROUP);
}

static int open_lanes(void **state) {
    return open_with(state, LANES, 1);
}

static int close_rig(void **state) {
    struct rig *rig = *state;
    model_close(rig->model);
    golden_close(&rig->golden);
    pthread_mutex_destroy(&rig->guard.lock);
    test_free(rig);
    return 0;
}

static bool is_near(double a, double b) {
    return isfinite(a) && fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

static void check_sweep(const struct rig *rig, const struct sweep *sweep, size_t first, size_t count) {
    double predicted = 0;
    double seconds = 0;
    double worked = 0;
    size_t tokens = 0;
    double squares = 0;
    assert_int_equal(sweep->count, count);
    for (size_t i = 0; i < count; i++) {
        const struct work *work = &rig->works[first + i];
        assert_ptr_equal(sweep->works[i], work);
        assert_true(work->compute_seconds > 0 && work->times.worked_seconds > 0);
        predicted += work->predicted_seconds;
        seconds += work->compute_seconds;
        worked += work->times.worked_seconds;
        tokens += work->batch.tokens;
        squares += work->squared_lengths;
    }
    assert_int_equal(sweep->tokens, tokens);
    assert_true(sweep->squared_lengths == squares);
    assert_true(sweep->predicted_seconds == drift_predict(&rig->cost, sweep->parts, (double)tokens, squares));
    assert_true(is_near(predicted, sweep->predicted_seconds));
    assert_true(is_near(seconds, sweep->seconds));
    assert_true(is_near(worked, sweep->times.worked_seconds));
}

static void a_group_becomes_a_sweep(void **state) {
    struct rig *rig = *state;
    struct in_flight *in_flight = &rig->in_flight;
    struct error err = {0};
    const struct sweep *sweep;
    assert_true(rig->golden.texts > GROUP);
    for (size_t i = 0; i < GROUP; i++) {
        assert_int_equal(in_flight->count, 0);
        assert_int_equal(in_flight_gathered(in_flight), i);
        must(in_flight_add(in_flight, &rig->works[i], &err), &err);
    }
    assert_true(in_flight_full(in_flight) && in_flight_gathered(in_flight) == 0 && rig->guard.in_flight);
    assert_int_equal(rig->guard.batch, 10);
    must(in_flight_complete(in_flight, &sweep, &err), &err);
    check_sweep(rig, sweep, 0, GROUP);
    assert_false(in_flight_full(in_flight) || rig->guard.in_flight);
    // What each has goes by its prediction.
    double share = rig->works[0].predicted_seconds / sweep->predicted_seconds;
    assert_true(is_near(rig->works[0].compute_seconds, share * sweep->seconds));

    must(in_flight_flush(in_flight, &err), &err); // nothing is gathered
    assert_int_equal(in_flight->count, 0);
    must(in_flight_add(in_flight, &rig->works[GROUP], &err), &err);
    must(in_flight_flush(in_flight, &err), &err);
    assert_int_equal(in_flight->count, 1);
    must(in_flight_complete(in_flight, &sweep, &err), &err);
    check_sweep(rig, sweep, GROUP, 1);
}

// A text of so many tokens in slices, as the work that `work` was.
static void make_long(struct rig *rig, size_t work, size_t tokens) {
    static int32_t ids[LONG_TOKENS];
    rig->starts[work][1] = (int32_t)tokens;
    rig->works[work].batch.ids = ids;
    rig->works[work].batch.tokens = tokens;
    rig->works[work].squared_lengths = (double)(tokens * tokens);
}

// It takes as many places as it has slices, beside shorter texts where there is room; what is gathered goes
// before it where there is none.
static void slices_take_places(void **state) {
    struct rig *rig = *state;
    struct in_flight *in_flight = &rig->in_flight;
    struct error err = {0};
    const struct sweep *sweep;
    make_long(rig, 1, MEMBERS * DEVICE_SLICE);
    make_long(rig, 2, 2 * DEVICE_SLICE + 1);
    assert_true(in_flight_takes(in_flight, &rig->works[1]));
    must(in_flight_add(in_flight, &rig->works[0], &err), &err);
    assert_false(in_flight_takes(in_flight, &rig->works[1]));
    assert_true(in_flight_takes(in_flight, &rig->works[2]));
    must(in_flight_flush(in_flight, &err), &err);
    must(in_flight_complete(in_flight, &sweep, &err), &err);
    check_sweep(rig, sweep, 0, 1);
    assert_true(sweep->used[0] == 1 && sweep->parts == 1);

    must(in_flight_add(in_flight, &rig->works[1], &err), &err); // more than a group
    assert_true(in_flight_full(in_flight));
    must(in_flight_complete(in_flight, &sweep, &err), &err);
    check_sweep(rig, sweep, 1, 1);
    assert_true(sweep->used[0] == MEMBERS && sweep->parts == (double)MEMBERS / GROUP);

    must(in_flight_add(in_flight, &rig->works[0], &err), &err);
    rig->works[2].batch.slot = 1;
    must(in_flight_add(in_flight, &rig->works[2], &err), &err);
    assert_true(in_flight_full(in_flight));
    must(in_flight_complete(in_flight, &sweep, &err), &err);
    assert_true(sweep->count == 2 && sweep->used[0] == MEMBERS);
    assert_true(is_near(
        rig->works[0].predicted_seconds + rig->works[2].predicted_seconds,
        drift_predict(&rig->cost, (double)MEMBERS / GROUP, (double)sweep->tokens, sweep->squared_lengths)));
}

// Shares of what is not predicted are even, and no share of nothing.
static void a_cost_of_nothing(void **state) {
    struct rig *rig = *state;
    struct error err = {0};
    const struct sweep *sweep;
    rig->cost = (struct drift_cost){0};
    for (size_t i = 0; i < GROUP; i++) {
        must(in_flight_add(&rig->in_flight, &rig->works[i], &err), &err);
    }
    must(in_flight_complete(&rig->in_flight, &sweep, &err), &err);
    check_sweep(rig, sweep, 0, GROUP);
    assert_true(is_near(rig->works[1].compute_seconds, sweep->seconds / GROUP));
}

static void an_error_names_the_batches(void **state) {
    struct rig *rig = *state;
    struct error err = {0};
    int32_t wrong[] = {1 << 30};
    rig->works[2].batch.ids = wrong;
    rig->works[2].batch.tokens = 1;
    rig->starts[2][1] = 1;
    must(in_flight_add(&rig->in_flight, &rig->works[1], &err), &err);
    must(in_flight_add(&rig->in_flight, &rig->works[2], &err), &err);
    assert_true(in_flight_flush(&rig->in_flight, &err) != STATUS_OK);
    assert_int_equal(strncmp(err.message, "batches 11 to 12: ", 18), 0);
    assert_false(rig->guard.in_flight);
}

// ---- several lanes ----

static void add(struct rig *rig, size_t work) {
    struct error err = {0};
    must(in_flight_add(&rig->in_flight, &rig->works[work], &err), &err);
}

static void sweeps_go_to_the_freest_lane(void **state) {
    struct rig *rig = *state;
    struct in_flight *in_flight = &rig->in_flight;
    struct error err = {0};
    const struct sweep *sweep;
    double began = clock_seconds();
    double sum = 0;
    double longest = 0;
    for (size_t i = 0; i < LANES; i++) {
        assert_false(in_flight_full(in_flight));
        add(rig, i);
    }
    assert_true(in_flight_full(in_flight)); // until somebody looks
    assert_string_equal(rig->guard.device, "cpu:0");
    assert_true(in_flight_ready(in_flight));
    assert_false(in_flight_full(in_flight) || rig->guard.in_flight);
    for (size_t i = 0; i < LANES; i++) {
        must(in_flight_complete(in_flight, &sweep, &err), &err);
        assert_true(sweep->count == 1 && sweep->lane == i);
        const struct work *work = sweep->works[0];
        assert_ptr_equal(work, &rig->works[i]);
        assert_int_equal(work->lane, i);
        // A batch has its part of the run's seconds; a lane is judged by its own.
        double part = work->compute_seconds / sweep->seconds;
        assert_true(sweep->seconds > 0 && part > 0 && part < 1);
        assert_true(is_near(work->predicted_seconds, part * sweep->predicted_seconds));
        sum += work->compute_seconds;
        longest = fmax(longest, sweep->seconds);
        assert_true(sweep->predicted_seconds ==
                    drift_predict(&rig->cost, 1, (double)work->batch.tokens, work->squared_lengths));
    }
    assert_int_equal(in_flight->count, 0);
    assert_true(sum > 0.999 * longest && sum < clock_seconds() - began);
}

// Later ones wait behind the oldest; of them as many as there are places for.
static void sweeps_leave_in_order(void **state) {
    struct rig *rig = *state;
    struct in_flight *in_flight = &rig->in_flight;
    struct error err = {0};
    const struct sweep *sweep;
    size_t most = in_flight_sweeps(rig->model, 1);
    assert_true(most > LANES && most <= IN_FLIGHT && rig->golden.texts >= LANES);
    for (size_t turn = 0; turn < 4; turn++) { // around the ring
        for (size_t i = 0; i < most; i++) {
            assert_false(in_flight_full(in_flight));
            add(rig, i % LANES); // the same work again: it is computed when this returns
            (void)in_flight_ready(in_flight);
        }
        assert_true(in_flight_full(in_flight)); // though every lane is free
        for (size_t i = 0; i < most; i++) {
            must(in_flight_complete(in_flight, &sweep, &err), &err);
            assert_ptr_equal(sweep->works[0], &rig->works[i % LANES]);
        }
        assert_int_equal(in_flight->count, 0);
    }
}

// What the other lanes do comes first, in order; then the error.
static void a_lane_that_fails(void **state) {
    struct rig *rig = *state;
    struct in_flight *in_flight = &rig->in_flight;
    struct error err = {0};
    const struct sweep *sweep;
    int32_t wrong[] = {1 << 30};
    rig->works[1].batch.ids = wrong;
    rig->works[1].batch.tokens = 1;
    rig->starts[1][1] = 1;
    add(rig, 0);
    add(rig, 1);
    assert_true(in_flight_full(in_flight)); // for good
    must(in_flight_complete(in_flight, &sweep, &err), &err);
    assert_ptr_equal(sweep->works[0], &rig->works[0]);
    assert_true(in_flight_full(in_flight));
    assert_true(in_flight_complete(in_flight, &sweep, &err) != STATUS_OK);
    assert_int_equal(strncmp(err.message, "batch 11: ", 10), 0);
    assert_false(rig->guard.in_flight);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_group_becomes_a_sweep, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(slices_take_places, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(a_cost_of_nothing, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(an_error_names_the_batches, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(sweeps_go_to_the_freest_lane, open_lanes, close_rig),
        cmocka_unit_test_setup_teardown(sweeps_leave_in_order, open_lanes, close_rig),
        cmocka_unit_test_setup_teardown(a_lane_that_fails, open_lanes, close_rig),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

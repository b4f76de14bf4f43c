// SPDX-License-Identifier: MIT
// What running a model on a machine comes to: the formulas, at figures that are easy to follow.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "close_to.h"
#include "model/block.h"
#include "model/forecast.h"
#include "model_shapes.h"

#define GIB 0x1p30

struct setting {
    struct model_config config;
    struct footprint footprint;
    struct model_limits limits;
    struct forecast_machine machine;
    struct forecast_work work;
    size_t layer;
};

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

// A model of 70 billion parameters in texts of 300 tokens, on a card of 24 GiB that multiplies at 100
// TFLOP/s.
static void set_up(struct setting *s, enum model_quantize quantize) {
    struct error err = {0};
    *s = (struct setting){.layer = 79};
    shape_llama_70b(&s->config);
    must(footprint_of_config(&s->footprint, &s->config, s->layer, DTYPE_BF16, quantize, &err), &err);
    s->limits = (struct model_limits){.layers = &s->layer,
                                      .layer_count = 1,
                                      .tokens = 8192,
                                      .texts = 64,
                                      .rows = 512,
                                      .longest = 2048,
                                      .stored = DTYPE_F16,
                                      .slots = 4};
    s->machine = (struct forecast_machine){.has_own_memory = true,
                                           .memory = (uint64_t)(24 * GIB),
                                           .target = 0.9,
                                           .reserve = 500000000,
                                           .rate = 100e12,
                                           .link = 25e9,
                                           .disk = 2e9};
    s->work = (struct forecast_work){.tokens = 300000, .squared_lengths = 1000.0 * 300 * 300, .fill = 1};
}

static void tear_down(struct setting *s) {
    footprint_destroy(&s->footprint);
    model_config_destroy(&s->config);
}

static struct forecast make(const struct setting *s, enum forecast_way way, size_t group) {
    struct forecast forecast;
    forecast_make(&forecast, way, &s->footprint, &s->limits, &s->machine, &s->work, group);
    return forecast;
}

static double compute_rate(const struct setting *s) { // tokens a second, of all blocks
    double operations = block_flops(&s->config, 0, s->work.tokens, s->work.squared_lengths) /
                        (double)s->work.tokens * (double)s->footprint.blocks;
    return s->machine.rate / operations;
}

static void what_does_not_fit_streams_unseen(void **state) {
    (void)state;
    struct setting s;
    set_up(&s, MODEL_QUANTIZE_NONE);
    struct forecast resident = make(&s, FORECAST_RESIDENT, 0);
    assert_false(resident.fits);
    assert_int_equal(resident.bound, FORECAST_DEVICE_MEMORY);
    assert_true(resident.used > s.footprint.all_blocks && resident.tokens_per_second == 0);

    struct forecast host = make(&s, FORECAST_HOST, 0);
    assert_true(host.fits && host.bound == FORECAST_COMPUTE);
    // Of two slots an even number of blocks comes.
    assert_in_range(host.used, host.budget - 2 * s.footprint.most.held, host.budget);
    assert_int_equal((s.footprint.blocks - host.resident) % 2, 0);
    // The published arithmetic: bytes a weight times the rate, by twice the bandwidth; attention adds a
    // little.
    double expected = 2 * s.machine.rate / (2 * s.machine.link);
    assert_in_range(host.hiding_tokens, (uintmax_t)(0.97 * expected), (uintmax_t)expected);
    assert_int_equal(host.group_tokens, 8192); // whole batches
    assert_close(host.tokens_per_second, compute_rate(&s), 1e-6 * compute_rate(&s));
    assert_close(host.seconds, 300000 / compute_rate(&s), 1e-3);
    assert_true(host.resident > 0 && host.resident < 20);
    assert_int_equal(host.streaming_bytes, 2 * s.footprint.most.held);
    assert_int_equal(host.residuals, 8192 * 8192 * 2);
    assert_true(host.host > (s.footprint.blocks - host.resident) * s.footprint.most.held);

    struct forecast disk = make(&s, FORECAST_DISK, 0);
    double longer = (double)host.hiding_tokens * 25 / 2;
    assert_in_range(disk.hiding_tokens, (uintmax_t)(longer - 20), (uintmax_t)(longer + 20));
    assert_int_equal(disk.group_tokens % 8192, 0);
    assert_true(disk.group_tokens >= disk.hiding_tokens && disk.host < host.host);
    assert_close(disk.tokens_per_second, compute_rate(&s), 1e-6 * compute_rate(&s));
    tear_down(&s);
}

// A text of 32 batches: a sweep has its residual streams and keeps the keys and values of one block, whatever
// the group; a batch that held it whole would take far more.
static void a_long_text_runs_in_slices(void **state) {
    (void)state;
    const uint64_t longest = 32 * 8192;
    struct setting s;
    set_up(&s, MODEL_QUANTIZE_NONE);
    struct forecast usual = make(&s, FORECAST_HOST, 8192);
    s.limits.longest = longest;
    struct forecast sliced = make(&s, FORECAST_HOST, 8192);
    assert_true(sliced.fits && sliced.resident < usual.resident);
    assert_int_equal(sliced.group_tokens, longest);
    assert_true(sliced.group == 1 && usual.group == 1);
    assert_int_equal(sliced.residuals, longest * 8192 * 2);
    assert_int_equal(sliced.batch.keys_values, longest * 2 * 8 * 128 * 2);
    uint64_t more = sliced.batch.activations - usual.batch.activations - sliced.batch.keys_values;
    assert_in_range(more, 1, (uintmax_t)longest * 1024); // rotary tables, and what the slices are told

    s.machine.memory = (uint64_t)(400 * GIB);
    struct forecast resident = make(&s, FORECAST_RESIDENT, 0);
    assert_true(resident.fits && resident.group == 0);
    assert_int_equal(resident.residuals, longest * 8192 * 2 - 8192 * 8192 * 2); // x is an activation
    assert_int_equal(resident.used, s.footprint.all_blocks + s.footprint.embedding + s.footprint.final_norm +
                                        s.footprint.expansion + resident.batch.activations +
                                        resident.batch.scratch + resident.residuals);
    s.limits.tokens = longest;
    struct forecast whole = make(&s, FORECAST_RESIDENT, 0);
    assert_true(whole.used - s.footprint.all_blocks > 4 * (resident.used - s.footprint.all_blocks));
    tear_down(&s);
}

static void fewer_blocks_stay_where_they_may_not(void **state) {
    (void)state;
    struct setting s;
    set_up(&s, MODEL_QUANTIZE_NONE);
    struct forecast before = make(&s, FORECAST_HOST, 0);
    s.work.streamed_least = s.footprint.blocks - 2;
    struct forecast host = make(&s, FORECAST_HOST, 0);
    assert_int_equal(host.resident, s.footprint.blocks % 2 == 0 ? 2 : 1);
    assert_true(before.resident > host.resident && before.used > host.used && before.host < host.host);
    s.machine.memory = (uint64_t)(200 * GIB); // also where all would fit
    host = make(&s, FORECAST_DISK, 0);
    assert_true(host.group_tokens > 0 && host.resident < 3);
    s.work.streamed_least = s.footprint.blocks;
    assert_int_equal(make(&s, FORECAST_DISK, 0).resident, 0);
    assert_int_equal(make(&s, FORECAST_RESIDENT, 0).resident, s.footprint.blocks);
    tear_down(&s);
}

static void several_devices_share_batches_or_blocks(void **state) {
    (void)state;
    struct setting s;
    struct forecast_several several;
    set_up(&s, MODEL_QUANTIZE_NONE);
    s.machine.memory = (uint64_t)(64 * GIB);
    struct forecast one = make(&s, FORECAST_RESIDENT, 0);
    forecast_copies(&several, &one, &s.work, 4);
    assert_true(!one.fits && !several.fits && several.tokens_per_second == 0);
    double blocks = (double)s.footprint.blocks;
    for (size_t devices = 1; devices <= 8; devices *= 2) {
        forecast_layers(&several, &s.footprint, &s.limits, &s.machine, &s.work, devices);
        assert_int_equal(several.fits, devices >= 4);
        assert_int_equal(several.blocks, (s.footprint.blocks + devices - 1) / devices);
        double rate = several.fits ? compute_rate(&s) * blocks / (double)several.blocks : 0;
        assert_close(several.tokens_per_second, rate, 1e-6 * rate);
    }
    one = make(&s, FORECAST_HOST, 0);
    forecast_copies(&several, &one, &s.work, 4);
    assert_close(several.tokens_per_second, 4 * one.tokens_per_second, 1e-6);
    assert_true(several.blocks == one.resident && one.resident < s.footprint.blocks);
    one = make(&s, FORECAST_DISK, 8192); // one read serves all, each with a group of its own
    assert_int_equal(one.bound, FORECAST_DISK_READS);
    double reading = 0;
    for (size_t i = one.resident; i < s.footprint.blocks; i++) {
        reading += (double)s.footprint.block[i].file / s.machine.disk;
    }
    for (size_t devices = 2; devices <= 8; devices *= 2) {
        double group = (double)(devices * one.group_tokens);
        forecast_copies(&several, &one, &s.work, devices);
        assert_close(several.tokens_per_second, (double)devices * one.tokens_per_second, 1e-6);
        assert_true(several.tokens_per_second < group / reading);
        assert_true(several.tokens_per_second < (double)devices * compute_rate(&s));
    }
    forecast_layers(&several, &s.footprint, &s.limits, &s.machine, &s.work, s.footprint.blocks + 1);
    assert_false(several.fits);
    tear_down(&s);
}

static void a_small_group_waits_for_copies(void **state) {
    (void)state;
    struct setting s;
    set_up(&s, MODEL_QUANTIZE_NONE);
    s.limits.tokens = 512;
    s.limits.longest = 512;
    s.limits.rows = 100;
    struct forecast host = make(&s, FORECAST_HOST, 512);
    double blocks = (double)s.footprint.blocks;
    double computing = 512 / compute_rate(&s) / blocks; // seconds of a block
    double copying = (double)s.footprint.most.held / s.machine.link;
    double sweep = (double)host.resident * computing + (blocks - (double)host.resident) * copying;
    assert_true(copying > computing);
    assert_int_equal(host.bound, FORECAST_LINK);
    assert_close(host.tokens_per_second, 512 / sweep, 1e-6 * 512 / sweep);
    struct forecast disk = make(&s, FORECAST_DISK, 512);
    assert_int_equal(disk.bound, FORECAST_DISK_READS);
    assert_true(disk.tokens_per_second < host.tokens_per_second);
    s.machine.disk = 100e9; // a page cache: then the link is the limit
    disk = make(&s, FORECAST_DISK, 512);
    assert_int_equal(disk.bound, FORECAST_LINK);
    assert_close(disk.tokens_per_second, host.tokens_per_second, 1e-6);
    tear_down(&s);
}

static void a_sweep_computes_the_head(void **state) {
    (void)state;
    struct setting s;
    set_up(&s, MODEL_QUANTIZE_NONE);
    s.machine.link = 1e13; // blocks wait for nothing
    s.limits.longest_own = 2000;
    struct forecast whole = make(&s, FORECAST_HOST, 8192);
    s.limits.head = 1500;
    struct forecast behind = make(&s, FORECAST_HOST, 8192);
    double batch = 8192 / compute_rate(&s);
    double head =
        (double)s.footprint.blocks * block_flops(&s.config, 0, 1500, 1500.0 * 1500) / s.machine.rate;
    assert_true(behind.resident < s.footprint.blocks);
    assert_close(whole.tokens_per_second, 8192 / batch, 1e-6 * 8192 / batch);
    assert_close(behind.tokens_per_second, 8192 / (batch + head), 1e-6 * 8192 / batch);
    s.machine.memory =
        (uint64_t)(1000 * GIB); // all blocks stay, and the head is computed once for all batches
    behind = make(&s, FORECAST_HOST, 8192);
    assert_int_equal(behind.resident, s.footprint.blocks);
    assert_close(behind.tokens_per_second, 8192 / batch, 1e-6 * 8192 / batch);
    tear_down(&s);
}

static void memory_is_what_is_left_to_take(void **state) {
    (void)state;
    struct setting s;
    set_up(&s, MODEL_QUANTIZE_NONE);
    struct forecast all = make(&s, FORECAST_HOST, 0);
    assert_close((double)all.budget, 0.9 * 24 * GIB - 5e8, 1);
    s.machine.in_use = (uint64_t)(4 * GIB);
    struct forecast less = make(&s, FORECAST_HOST, 0);
    assert_close((double)less.budget, 0.9 * 20 * GIB - 5e8, 1);
    assert_true(less.resident < all.resident && less.most_tokens < all.most_tokens);
    s.machine.in_use = (uint64_t)(18 * GIB); // no room for two slots beside the batch
    less = make(&s, FORECAST_HOST, 0);
    assert_true(!less.fits && less.bound == FORECAST_DEVICE_MEMORY && less.used > less.budget);
    s.machine.in_use = (uint64_t)(99 * GIB); // more than there is
    less = make(&s, FORECAST_HOST, 0);
    assert_true(!less.fits && less.budget == 0 && less.most_tokens == 0);
    s.machine.in_use = 0;
    s.machine.host_memory = (uint64_t)(64 * GIB);
    less = make(&s, FORECAST_HOST, 0);
    assert_true(!less.fits && less.bound == FORECAST_HOST_MEMORY && less.host > s.machine.host_memory);
    assert_true(make(&s, FORECAST_DISK, 0).fits);
    s.machine.memory = (uint64_t)(200 * GIB); // nothing streams where everything fits
    less = make(&s, FORECAST_HOST, 0);
    assert_true(less.fits && less.resident == s.footprint.blocks && less.group_tokens == 0);
    tear_down(&s);
}

static void the_largest_batch_fits_and_no_larger(void **state) {
    (void)state;
    struct setting s;
    for (int way = FORECAST_RESIDENT; way <= FORECAST_DISK; way++) {
        set_up(&s, MODEL_QUANTIZE_NONE);
        s.machine.memory = (uint64_t)(way == FORECAST_RESIDENT ? 180 * GIB : 24 * GIB);
        size_t most = make(&s, way, 0).most_tokens;
        assert_true(most > 8192 && most % 256 == 0);
        s.limits.tokens = most;
        assert_true(make(&s, way, 0).fits);
        s.limits.tokens = most + 256;
        assert_false(make(&s, way, 0).fits);
        tear_down(&s);
    }
}

static void packed_weights_are_expanded_before_each_batch(void **state) {
    (void)state;
    struct setting s;
    set_up(&s, MODEL_QUANTIZE_NF4);
    s.machine.memory = (uint64_t)(64 * GIB);
    struct forecast free = make(&s, FORECAST_RESIDENT, 0);
    assert_close(free.tokens_per_second, compute_rate(&s), 1e-6 * compute_rate(&s));
    s.machine.bandwidth = 1e12;
    struct forecast paid = make(&s, FORECAST_RESIDENT, 0);
    double bytes = (double)(s.footprint.block[0].held + s.footprint.block[0].expanded);
    double seconds = 8192 / compute_rate(&s) + (double)s.footprint.blocks * bytes / 1e12;
    assert_close(paid.tokens_per_second, 8192 / seconds, 1e-6 * 8192 / seconds);
    tear_down(&s);
}

static void batches_that_are_not_full_cost_their_fill(void **state) {
    (void)state;
    struct setting s;
    set_up(&s, MODEL_QUANTIZE_NONE);
    s.machine.memory = (uint64_t)(200 * GIB);
    double full = make(&s, FORECAST_RESIDENT, 0).tokens_per_second;
    s.work.fill = 0.5;
    assert_close(make(&s, FORECAST_RESIDENT, 0).tokens_per_second, full / 2, 1e-6 * full);
    s.machine.rate = 0; // not known
    struct forecast unknown = make(&s, FORECAST_RESIDENT, 0);
    assert_true(unknown.fits && unknown.tokens_per_second == 0 && unknown.seconds == 0);
    tear_down(&s);
}

// A processor reads beside computing, and puts what it read into its layout itself.
static void a_processor_converts_what_it_reads(void **state) {
    (void)state;
    struct setting s;
    set_up(&s, MODEL_QUANTIZE_NONE);
    s.machine.has_own_memory = false;
    s.machine.rate = 400e9;
    s.machine.conversion = 4e9;
    struct forecast disk = make(&s, FORECAST_DISK, 0);
    double blocks = (double)s.footprint.blocks;
    double held = (double)s.footprint.most.held;
    double group = (double)disk.group_tokens;
    double seconds = group / compute_rate(&s) + (blocks - (double)disk.resident) * held / 4e9;
    assert_true(disk.fits && disk.bound == FORECAST_COMPUTE);
    assert_close(disk.tokens_per_second, group / seconds, 1e-6 * group / seconds);
    assert_int_equal(disk.streaming_bytes, 2 * s.footprint.most.held); // a slot, and a ring as large
    assert_int_equal(disk.host, 0);
    assert_true(disk.hiding_tokens < 400); // a few hundred, as no link is in between
    tear_down(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_streams_unseen),
        cmocka_unit_test(a_long_text_runs_in_slices),
        cmocka_unit_test(fewer_blocks_stay_where_they_may_not),
        cmocka_unit_test(several_devices_share_batches_or_blocks),
        cmocka_unit_test(a_small_group_waits_for_copies),
        cmocka_unit_test(a_sweep_computes_the_head),
        cmocka_unit_test(memory_is_what_is_left_to_take),
        cmocka_unit_test(the_largest_batch_fits_and_no_larger),
        cmocka_unit_test(packed_weights_are_expanded_before_each_batch),
        cmocka_unit_test(batches_that_are_not_full_cost_their_fill),
        cmocka_unit_test(a_processor_converts_what_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

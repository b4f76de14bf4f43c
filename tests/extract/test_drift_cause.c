// SPDX-License-Identifier: MIT
// Causes of a slow-down by their signatures: tables of what was seen at calibration and what is seen now. All
// figures are made up.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "watch/drift_cause.h"

static const uint64_t model = 16000000000; // bytes

// A GPU at work, and a host that does nothing else.
static struct drift_moment healthy(void) {
    struct drift_moment moment;
    drift_moment_clear(&moment);
    moment.wall_seconds = 0.100;
    moment.own_seconds = 0.098;
    moment.sample.memory_used = 19000000000;
    moment.sample.process_memory = 18000000000;
    moment.sample.utilization = 98;
    moment.sample.sm_clock = 1755;
    moment.sample.sm_clock_most = 1980;
    moment.sample.temperature = 62;
    moment.sample.foreign_processes = 0;
    moment.sample.throttle_reasons = 0x4; // at its power limit, as a GPU at work may be
    moment.sample.power = 690;
    moment.sample.power_limit = 700;
    moment.sample.pcie_received = 4e6;
    moment.sample.pcie_sent = 3e7;
    moment.sample.xid = 0;
    moment.host = (struct drift_host){.cpu = 5, .memory = 0, .io = 2, .quota = 1};
    moment.quota_share = 0;
    return moment;
}

static struct drift_moment slow(void) {
    struct drift_moment moment = healthy();
    moment.wall_seconds = 0.210;
    moment.own_seconds = 0.205;
    return moment;
}

static void expect(const struct drift_moment *calibrated, const struct drift_moment *present,
                   enum drift_cause cause, const char *words) {
    struct drift_finding found;
    drift_cause_find(calibrated, present, model, &found);
    assert_string_equal(drift_cause_name(found.cause), drift_cause_name(cause));
    if (strstr(found.text, words) == NULL) {
        fail_msg("'%s' does not say '%s'", found.text, words);
    }
}

static void test_nothing_is_unknown(void **state) {
    (void)state;
    struct drift_moment before = healthy();
    struct drift_moment now = slow();
    struct drift_moment nothing;
    drift_moment_clear(&nothing);
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "no figure");
    expect(&nothing, &nothing, DRIFT_CAUSE_UNKNOWN, "no figure");
    expect(&before, &nothing, DRIFT_CAUSE_UNKNOWN, "no figure");
    expect(&nothing, &now, DRIFT_CAUSE_UNKNOWN, "no figure");
}

static void test_hardware(void **state) {
    (void)state;
    struct drift_moment before = healthy();
    struct drift_moment now = slow();
    now.sample.xid = 94;
    now.sample.throttle_reasons = 0x20; // the error is the surer sign
    now.sample.sm_clock = 600;
    expect(&before, &now, DRIFT_CAUSE_HARDWARE, "XID 94 (the device's memory, ECC)");
    now.sample.xid = 79;
    expect(&before, &now, DRIFT_CAUSE_HARDWARE, "XID 79");
    before.sample.xid = 79; // it was there when the canary was fast
    expect(&before, &now, DRIFT_CAUSE_THROTTLING, "1755 MHz");
}

// What a neighbour's program did wrong says nothing of the device: its error comes to everybody on it.
static void test_programs_errors(void **state) {
    (void)state;
    static const int64_t codes[] = {13, 31, 43, 45};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct drift_moment before = healthy();
        struct drift_moment now = slow();
        now.sample.xid = codes[i];
        expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
        now.sample.foreign_processes = 1;
        expect(&before, &now, DRIFT_CAUSE_NEIGHBOUR, "1 other process");
        before.sample.xid = codes[i];
        now.sample.xid = 48;
        expect(&before, &now, DRIFT_CAUSE_HARDWARE, "XID 48");
    }
}

static void test_throttling(void **state) {
    (void)state;
    static const struct {
        int32_t before, most, now;
        int64_t reasons;
        enum drift_cause cause;
        const char *words;
    } rows[] = {
        {1755, 1980, 900, 0x20, DRIFT_CAUSE_THROTTLING, "900 MHz, at calibration it was 1755 MHz"},
        {1755, 1980, 900, 0x40, DRIFT_CAUSE_THROTTLING, "slowed by thermal-hardware at 62 C"},
        {1755, 1980, 900, 0x84, DRIFT_CAUSE_THROTTLING, "power+power-brake"},
        {1755, 1980, 1480, 0x20, DRIFT_CAUSE_THROTTLING, "1480 MHz"},
        {1755, 1980, 1500, 0x20, DRIFT_CAUSE_UNKNOWN, ""}, // 15 % less does not halve a speed
        {1755, 1980, 1755, 0x20, DRIFT_CAUSE_UNKNOWN, ""}, // a reason without a slower clock
        {1755, 1980, 345, 0x01, DRIFT_CAUSE_UNKNOWN, ""},  // idle
        {1755, 1980, 345, 0x00, DRIFT_CAUSE_UNKNOWN, ""},
        {1755, 1980, 345, -1, DRIFT_CAUSE_UNKNOWN, ""},
        {1755, 1980, -1, 0x20, DRIFT_CAUSE_UNKNOWN, ""},
        {-1, 1980, 1300, 0x20, DRIFT_CAUSE_THROTTLING, "the highest is 1980 MHz"},
        {-1, 1980, 1450, 0x20, DRIFT_CAUSE_UNKNOWN, ""},
        {-1, -1, 345, 0x20, DRIFT_CAUSE_UNKNOWN, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drift_moment before = healthy();
        struct drift_moment now = slow();
        before.sample.sm_clock = rows[i].before;
        now.sample.sm_clock = rows[i].now;
        now.sample.sm_clock_most = rows[i].most;
        now.sample.throttle_reasons = rows[i].reasons;
        expect(&before, &now, rows[i].cause, rows[i].words);
    }
}

static void test_offload(void **state) {
    (void)state;
    static const struct {
        int64_t own, used;
        double received, sent, power, power_before;
        enum drift_cause cause;
        const char *words;
    } rows[] = {
        {9000000000, 19000000000, 4e6, 3e7, 690, 690, DRIFT_CAUSE_OFFLOAD, "this process has 9.000 GB"},
        {-1, 9000000000, 4e6, 3e7, 690, 690, DRIFT_CAUSE_OFFLOAD, "all processes have 9.000 GB"},
        {-1, 19000000000, 4e6, 3e7, 690, 690, DRIFT_CAUSE_UNKNOWN, ""},
        {-1, -1, 4e6, 3e7, 690, 690, DRIFT_CAUSE_UNKNOWN, ""},
        {18000000000, 19000000000, 2.1e10, 3e7, 210, 690, DRIFT_CAUSE_OFFLOAD, "21.00 GB/s come over PCIe"},
        {18000000000, 19000000000, 4e6, 2.1e10, 210, 690, DRIFT_CAUSE_OFFLOAD, "21.00 GB/s go back"},
        {18000000000, 19000000000, 2.1e10, 3e7, 600, 690, DRIFT_CAUSE_UNKNOWN, ""}, // busy all the same
        {18000000000, 19000000000, 4e6, 3e7, 210, 690, DRIFT_CAUSE_UNKNOWN, ""},    // idle, not moving data
        {18000000000, 19000000000, 2.1e10, 3e7, 210, -1, DRIFT_CAUSE_OFFLOAD, "its limit: 700 W"},
        {18000000000, 19000000000, 2.1e10, 3e7, 400, -1, DRIFT_CAUSE_UNKNOWN, ""},
        {18000000000, 19000000000, -1, -1, 210, 690, DRIFT_CAUSE_UNKNOWN, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drift_moment before = healthy();
        struct drift_moment now = slow();
        now.sample.process_memory = rows[i].own;
        now.sample.memory_used = rows[i].used;
        now.sample.pcie_received = rows[i].received;
        now.sample.pcie_sent = rows[i].sent;
        now.sample.power = rows[i].power;
        before.sample.power = rows[i].power_before;
        expect(&before, &now, rows[i].cause, rows[i].words);
    }
    struct drift_moment before = healthy(); // all that traffic was there before
    struct drift_moment now = slow();
    before.sample.pcie_received = now.sample.pcie_received = 1e10;
    now.sample.power = 210;
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
    before = healthy(); // weights that stream, and nothing known of the time before
    now = slow();
    now.sample.pcie_received = 2.1e10;
    now.sample.power = 210;
    before.sample.power = before.sample.pcie_received = -1;
    expect(&before, &now, DRIFT_CAUSE_OFFLOAD, "21.00 GB/s come over PCIe");
    now.streams = true;
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
    before = healthy();
    now = slow();
    before.sample.process_memory = 1000000; // both samples are of a moment before the load
    now.sample.process_memory = 1000000;
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
    before.sample.process_memory = before.sample.memory_used = -1; // nothing was known then
    expect(&before, &now, DRIFT_CAUSE_OFFLOAD, "this process has 0.001 GB");
}

static void test_neighbour_on_the_device(void **state) {
    (void)state;
    static const struct {
        int32_t before, now;
        enum drift_cause cause;
        const char *words;
    } rows[] = {{0, 1, DRIFT_CAUSE_NEIGHBOUR, "1 other process computes on the device, 0 at calibration"},
                {2, 3, DRIFT_CAUSE_NEIGHBOUR, "3 other processes compute on the device, 2 at calibration"},
                {-1, 1, DRIFT_CAUSE_NEIGHBOUR, "1 other process"},
                {1, 1, DRIFT_CAUSE_UNKNOWN, ""},
                {1, 0, DRIFT_CAUSE_UNKNOWN, ""},
                {0, -1, DRIFT_CAUSE_UNKNOWN, ""}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drift_moment before = healthy();
        struct drift_moment now = slow();
        before.sample.foreign_processes = rows[i].before;
        now.sample.foreign_processes = rows[i].now;
        expect(&before, &now, rows[i].cause, rows[i].words);
    }
}

static void test_starved_by_the_host(void **state) {
    (void)state;
    struct drift_moment before = healthy();
    struct drift_moment now = slow();
    now.own_seconds = 0.101; // as ever, but the batch takes twice as long
    expect(&before, &now, DRIFT_CAUSE_HOST, "the device waits for this host");
    now.host.cpu = 80;
    expect(&before, &now, DRIFT_CAUSE_NEIGHBOUR,
           "tasks wait for a processor 80 % of the time, at calibration 5 %");
    now.own_seconds = 0.205; // a host under pressure does not make the device itself slow
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
    now = slow();
    now.own_seconds = 0; // its clock is not known
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
    now.wall_seconds = 0.120;
    now.own_seconds = 0.101; // nothing grew
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
}

// By the device's own clock too: it does its work as fast as it comes.
static void test_late_work(void **state) {
    (void)state;
    static const struct {
        double queueing_before, queueing;
        enum drift_cause cause;
        bool passes;
    } rows[] = {{0.004, 0.200, DRIFT_CAUSE_HOST, true},
                {0.004, 0.150, DRIFT_CAUSE_UNKNOWN, false}, // there was work for the device all the time
                {0.090, 0.200, DRIFT_CAUSE_UNKNOWN, false}, // as it was at calibration: a small model
                {0, 0.200, DRIFT_CAUSE_UNKNOWN, false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drift_moment before = healthy();
        struct drift_moment now = slow();
        struct drift_finding found;
        before.queueing_seconds = rows[i].queueing_before;
        now.queueing_seconds = rows[i].queueing;
        drift_cause_find(&before, &now, model, &found);
        assert_string_equal(drift_cause_name(found.cause), drift_cause_name(rows[i].cause));
        assert_int_equal(found.passes, rows[i].passes);
    }
}

// Nothing is known of a device, nor what its threads worked.
static void test_host(void **state) {
    (void)state;
    static const struct {
        double cpu_before, cpu, memory_before, memory, io_before, io, share_before, share;
        enum drift_cause cause;
        const char *words;
    } rows[] = {
        {5, 90, 0, 0, 2, 2, 0, 0, DRIFT_CAUSE_NEIGHBOUR, "for a processor 90 %"},
        {72, 90, 0, 0, 2, 2, 0, 0, DRIFT_CAUSE_UNKNOWN, ""}, // as busy as it always was
        {-1, 90, 0, 0, 2, 2, 0, 0, DRIFT_CAUSE_NEIGHBOUR, "for a processor 90 % of the time"},
        {-1, 45, 0, 0, 2, 2, 0, 0, DRIFT_CAUSE_UNKNOWN, ""}, // may be its own threads
        {5, -1, 0, -1, 2, -1, 0, -1, DRIFT_CAUSE_UNKNOWN, ""},
        {5, 90, 0, 30, 2, 50, 0, 0, DRIFT_CAUSE_MEMORY, "for memory 30 %"}, // what is swapped is waited for
        {5, 10, 28, 30, 2, 2, 0, 0, DRIFT_CAUSE_UNKNOWN, ""},
        {5, 10, 0, 0, 2, 55, 0, 0, DRIFT_CAUSE_STORAGE, "for storage 55 %"},
        {5, 90, 0, 0, 2, 2, 0, 0.6, DRIFT_CAUSE_QUOTA, "throttles tasks for 0.60 s per second"},
        {5, 10, 0, 0, 2, 2, 0.55, 0.6, DRIFT_CAUSE_UNKNOWN, ""},
        {5, 10, 0, 0, 2, 2, -1, 0.6, DRIFT_CAUSE_QUOTA, "quota"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drift_moment before;
        struct drift_moment now;
        drift_moment_clear(&before);
        drift_moment_clear(&now);
        before.wall_seconds = 1;
        now.wall_seconds = 2;
        before.host = (struct drift_host){
            .cpu = rows[i].cpu_before, .memory = rows[i].memory_before, .io = rows[i].io_before, .quota = 1};
        now.host =
            (struct drift_host){.cpu = rows[i].cpu, .memory = rows[i].memory, .io = rows[i].io, .quota = 2};
        before.quota_share = rows[i].share_before;
        now.quota_share = rows[i].share;
        expect(&before, &now, rows[i].cause, rows[i].words);
    }
}

// Processors that compute, on a host of four.
static struct drift_moment processors(double wall, double own) {
    struct drift_moment moment;
    drift_moment_clear(&moment);
    moment.on_host = true;
    moment.wall_seconds = wall;
    moment.own_seconds = own;
    moment.processors = 4;
    moment.others = 0.1;
    moment.stolen = 0;
    moment.quota_share = 0;
    moment.host.cpu = 5;
    moment.host.memory = 0;
    moment.host.io = 2;
    return moment;
}

// How far a cause explains that the threads themselves work longer: a run outlasts it then, and only then.
static void test_processors(void **state) {
    (void)state;
    static const struct {
        double growth; // of what the threads work
        double others, stolen, quota, cpu, memory, io;
        enum drift_cause cause;
        bool passes;
    } rows[] = {
        {1.6, 0.1, 0, 0, 5, 0, 2, DRIFT_CAUSE_UNKNOWN, false}, // an idle host: the processors are slower
        {4.5, 0.1, 0, 0, 5, 0, 2, DRIFT_CAUSE_UNKNOWN, false},
        {1.6, 2.0, 0, 0, 5, 0, 2, DRIFT_CAUSE_NEIGHBOUR, true},
        {2.4, 2.0, 0, 0, 5, 0, 2, DRIFT_CAUSE_NEIGHBOUR, true},
        {2.6, 4.0, 0.5, 0.5, 95, 0, 2, DRIFT_CAUSE_UNKNOWN, false}, // more than sharing explains
        {4.5, 4.0, 0.5, 0.5, 95, 50, 80, DRIFT_CAUSE_UNKNOWN, false},
        {1.6, 0.1, 0.5, 0, 5, 0, 2, DRIFT_CAUSE_NEIGHBOUR, true},
        {1.6, 0.1, 0, 0, 80, 0, 2, DRIFT_CAUSE_NEIGHBOUR, true},
        {1.6, 0.4, 0, 0, 5, 0, 2, DRIFT_CAUSE_UNKNOWN, false},   // a desktop's small change
        {1.6, 0.1, 0, 0.9, 5, 0, 2, DRIFT_CAUSE_UNKNOWN, false}, // a quota lets wait, not work
        {1.2, 0.1, 0, 0.9, 5, 0, 2, DRIFT_CAUSE_QUOTA, true},
        {1.6, 0.1, 0, 0, 5, 40, 2, DRIFT_CAUSE_MEMORY, true},
        {1.6, 0.1, 0, 0, 5, 0, 80, DRIFT_CAUSE_UNKNOWN, false}, // nor does storage
        {1.2, 0.1, 0, 0, 5, 0, 80, DRIFT_CAUSE_STORAGE, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drift_moment before = processors(1.1, 1);
        struct drift_moment now = processors(1.1 * rows[i].growth, rows[i].growth);
        struct drift_finding found;
        now.others = rows[i].others;
        now.stolen = rows[i].stolen;
        now.quota_share = rows[i].quota;
        now.host.cpu = rows[i].cpu;
        now.host.memory = rows[i].memory;
        now.host.io = rows[i].io;
        assert_true(fabs(drift_cause_growth(&before, &now) - rows[i].growth) < 1e-9);
        drift_cause_find(&before, &now, 0, &found);
        assert_string_equal(drift_cause_name(found.cause), drift_cause_name(rows[i].cause));
        assert_int_equal(found.passes, rows[i].passes);
    }
    struct drift_moment many = processors(1.1, 1); // of many processors others use a few
    struct drift_moment busy = processors(1.76, 1.6);
    many.processors = busy.processors = 64;
    busy.others = 3;
    expect(&many, &busy, DRIFT_CAUSE_UNKNOWN, "");
    busy.others = 30;
    expect(&many, &busy, DRIFT_CAUSE_NEIGHBOUR, "other processes use 30.0 of this host's 64 processors");
    busy.own_seconds = 4.5;
    expect(&many, &busy, DRIFT_CAUSE_UNKNOWN, "work 4.5 times as long, more than a neighbour explains");
}

// Why batches take longer than the work: always something that passes.
static void test_shares(void **state) {
    (void)state;
    struct drift_moment before = processors(1.1, 1);
    struct drift_moment now = processors(9, 1.1);
    struct drift_finding found;
    drift_cause_find_share(&before, &now, &found);
    assert_int_equal(found.cause, DRIFT_CAUSE_PAUSED);
    assert_true(found.passes && strstr(found.text, "work 1.1000 s of 9.0000 s") != NULL);
    now.others = 3.5;
    drift_cause_find_share(&before, &now, &found);
    assert_int_equal(found.cause, DRIFT_CAUSE_NEIGHBOUR);
    now.quota_share = 0.8;
    drift_cause_find_share(&before, &now, &found);
    assert_int_equal(found.cause, DRIFT_CAUSE_QUOTA);
    struct drift_moment gpu_before = healthy();
    struct drift_moment gpu = healthy();
    gpu.wall_seconds = 0.3;
    gpu.sample.xid = 94; // the device's own state is not what it is about
    gpu.others = 20;     // nor are processors that this run does not compute on
    gpu.processors = 64;
    drift_cause_find_share(&gpu_before, &gpu, &found);
    assert_int_equal(found.cause, DRIFT_CAUSE_HOST);
    assert_true(found.passes);
}

static void test_parsing(void **state) {
    (void)state;
    assert_true(drift_host_pressure("some avg10=72.44 avg60=58.14 avg300=73.32 total=4102494810\n"
                                    "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n") == 72.44);
    assert_true(drift_host_pressure("full avg10=3.00") == DRIFT_HOST_UNKNOWN);
    assert_true(drift_host_pressure("some avg10=") == DRIFT_HOST_UNKNOWN);
    assert_true(drift_host_pressure("some avg10=nan") == DRIFT_HOST_UNKNOWN);
    assert_true(drift_host_pressure("") == DRIFT_HOST_UNKNOWN);
    assert_true(drift_host_quota("usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n") == 2.5);
    assert_true(drift_host_quota("usage_usec 9\n") == DRIFT_HOST_UNKNOWN);
    const char *stat = "cpu  100 20 30 4000 50 6 7 80 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
    double each = (double)sysconf(_SC_CLK_TCK);
    assert_true(fabs(drift_host_busy(stat) - 163 / each) < 1e-9);
    assert_true(fabs(drift_host_stolen(stat) - 80 / each) < 1e-9);
    assert_true(drift_host_busy("cpu  1 2 3") == DRIFT_HOST_UNKNOWN);
    assert_true(drift_host_busy("cpu0 1 2 3 4 5 6 7 8") == DRIFT_HOST_UNKNOWN);
    assert_true(drift_host_stolen("") == DRIFT_HOST_UNKNOWN);
    struct drift_host host;
    drift_host_read(&host); // whatever this system tells
    assert_true(host.cpu <= 100 && host.memory <= 100 && host.io <= 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_unknown),
        cmocka_unit_test(test_hardware),
        cmocka_unit_test(test_programs_errors),
        cmocka_unit_test(test_throttling),
        cmocka_unit_test(test_offload),
        cmocka_unit_test(test_neighbour_on_the_device),
        cmocka_unit_test(test_starved_by_the_host),
        cmocka_unit_test(test_late_work),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_processors),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_parsing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Causes of a slow-down by their signatures: tables of what was seen at calibration and what is seen now. All
// figures are made up.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "extract/drift_cause.h"

static const uint64_t model = 16000000000; // bytes

// A GPU at work, and a host that does nothing else.
static struct drift_moment healthy(void) {
    struct drift_moment moment;
    drift_moment_clear(&moment);
    moment.wall_seconds = 0.100;
    moment.device_seconds = 0.098;
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
    moment.device_seconds = 0.205;
    return moment;
}

static void expect(const struct drift_moment *calibrated, const struct drift_moment *present,
                   enum drift_cause cause, const char *words) {
    char text[DRIFT_CAUSE_TEXT];
    enum drift_cause found = drift_cause_find(calibrated, present, model, text);
    assert_string_equal(drift_cause_name(found), drift_cause_name(cause));
    if (strstr(text, words) == NULL) {
        fail_msg("'%s' does not say '%s'", text, words);
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
    now.device_seconds = 0.101; // as ever, but the batch takes twice as long
    expect(&before, &now, DRIFT_CAUSE_HOST, "the device waits for this host");
    now.host.cpu = 80;
    expect(&before, &now, DRIFT_CAUSE_NEIGHBOUR,
           "tasks wait for a processor 80 % of the time, at calibration 5 %");
    now.device_seconds = 0.205; // a host under pressure does not make the device itself slow
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
    now = slow();
    now.device_seconds = 0; // its clock is not known
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
    now.wall_seconds = 0.120;
    now.device_seconds = 0.101; // nothing grew
    expect(&before, &now, DRIFT_CAUSE_UNKNOWN, "");
}

// On the CPU nothing is known of a device.
static void test_processor(void **state) {
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
        {5, 90, 0, 0, 2, 2, 0, 0.6, DRIFT_CAUSE_HOST, "holds tasks back for 0.60 s in each second"},
        {5, 10, 0, 0, 2, 2, 0.55, 0.6, DRIFT_CAUSE_UNKNOWN, ""},
        {5, 10, 0, 0, 2, 2, -1, 0.6, DRIFT_CAUSE_HOST, "quota"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drift_moment before;
        struct drift_moment now;
        drift_moment_clear(&before);
        drift_moment_clear(&now);
        before.wall_seconds = 1;
        now.wall_seconds = 2;
        before.host = (struct drift_host){rows[i].cpu_before, rows[i].memory_before, rows[i].io_before, 1};
        now.host = (struct drift_host){rows[i].cpu, rows[i].memory, rows[i].io, 2};
        before.quota_share = rows[i].share_before;
        now.quota_share = rows[i].share;
        expect(&before, &now, rows[i].cause, rows[i].words);
    }
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
        cmocka_unit_test(test_processor),
        cmocka_unit_test(test_parsing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

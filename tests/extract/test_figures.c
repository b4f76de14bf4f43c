// SPDX-License-Identifier: MIT
// From a device's sample to the ledger's figures: what is unknown or too old stays unknown.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "journal/figures.h"

static const struct device_sample sample = {.age_seconds = 0.5,
                                            .memory_used = INT64_C(80) << 30,
                                            .process_memory = DEVICE_UNKNOWN,
                                            .utilization = 0,
                                            .sm_clock = 1980,
                                            .temperature = 71,
                                            .throttle_reasons = 0x20,
                                            .power = 699.5,
                                            .pcie_received = 1e9,
                                            .pcie_sent = DEVICE_UNKNOWN,
                                            .xid = 0};
static const struct device_times times = {.compute_seconds = 1.5, .download_seconds = 0.25};

static double figure(const struct ledger_device *device, enum ledger_figure which) {
    double value;
    return ledger_device_get(device, which, &value) ? value : -1;
}

static void test_known_and_unknown(void **state) {
    (void)state;
    struct ledger_device out;
    figures_take(&out, &sample, &times);
    assert_true(figure(&out, FIGURE_UPLOAD_SECONDS) == 0 && figure(&out, FIGURE_DEVICE_SECONDS) == 1.5 &&
                figure(&out, FIGURE_DOWNLOAD_SECONDS) == 0.25);
    assert_true(figure(&out, FIGURE_MEMORY_USED) == 0x1p30 * 80 && figure(&out, FIGURE_PROCESS_MEMORY) == -1);
    assert_true(figure(&out, FIGURE_UTILIZATION) == 0 && figure(&out, FIGURE_SM_CLOCK) == 1980 &&
                figure(&out, FIGURE_POWER) == 699.5 && figure(&out, FIGURE_TEMPERATURE) == 71);
    assert_true(figure(&out, FIGURE_THROTTLE_REASONS) == 0x20 && figure(&out, FIGURE_PCIE_RECEIVED) == 1e9 &&
                figure(&out, FIGURE_PCIE_SENT) == -1 && figure(&out, FIGURE_XID) == 0);
}

static void test_old_samples_and_untimed_devices(void **state) {
    (void)state;
    struct ledger_device out;
    struct device_sample old = sample;
    old.age_seconds = FIGURES_OLD_SECONDS + 1;
    old.xid = 79;
    figures_take(&out, &old, &(struct device_times){0});
    assert_int_equal(out.known, 1u << FIGURE_XID);
    assert_true(figure(&out, FIGURE_XID) == 79);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_and_unknown),
        cmocka_unit_test(test_old_samples_and_untimed_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

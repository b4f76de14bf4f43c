// SPDX-License-Identifier: MIT
// Telemetry over an NVML of this file's own: what is read, what is not supported, a missing library, XID
// errors, a driver that hangs.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/nvml.h"
#include "kernels/cuda/telemetry.h"

// ---- the library ----

static struct {
    bool missing;
    bool supports_little; // only memory_info
    bool is_old;          // throttle reasons by their older name only
    bool other_process_ids;
    atomic_bool hangs; // in the temperature
    atomic_int xid;    // taken by the next look
    atomic_int looks;  // for XID errors
    atomic_int open;   // libraries and event sets
    atomic_int readings;
} fake;

static enum nvml_result fake_init(void) {
    return NVML_OK;
}

static const char *fake_error_string(enum nvml_result result) {
    return result == NVML_NOT_FOUND ? "Not Found" : "something else";
}

static enum nvml_result fake_device(const char *bus_id, struct nvml_device **device) {
    *device = NULL;
    return strcmp(bus_id, "0000:01:00.0") == 0 ? NVML_OK : NVML_NOT_FOUND;
}

static enum nvml_result fake_memory(struct nvml_device *device, struct nvml_memory *memory) {
    (void)device;
    memory->total = 80;
    memory->free = 30;
    memory->used = 50;
    return NVML_OK;
}

static enum nvml_result fake_utilization(struct nvml_device *device, struct nvml_utilization *utilization) {
    (void)device;
    utilization->gpu = 97;
    utilization->memory = 41;
    return NVML_OK;
}

static enum nvml_result fake_clock(struct nvml_device *device, enum nvml_clock clock,
                                   unsigned int *megahertz) {
    (void)device;
    *megahertz = clock == NVML_SM_CLOCK ? 1755 : 1;
    return NVML_OK;
}

static enum nvml_result fake_clock_most(struct nvml_device *device, enum nvml_clock clock,
                                        unsigned int *megahertz) {
    (void)device;
    *megahertz = clock == NVML_SM_CLOCK ? 1980 : 1;
    return NVML_OK;
}

static enum nvml_result fake_temperature(struct nvml_device *device, enum nvml_sensor sensor,
                                         unsigned int *temperature) {
    (void)device;
    while (atomic_load(&fake.hangs)) {
        usleep(1000);
    }
    *temperature = sensor == NVML_CHIP_SENSOR ? 61 : 0;
    return NVML_OK;
}

static enum nvml_result fake_power(struct nvml_device *device, unsigned int *milliwatts) {
    (void)device;
    *milliwatts = 650500;
    return NVML_OK;
}

static enum nvml_result fake_power_limit(struct nvml_device *device, unsigned int *milliwatts) {
    (void)device;
    *milliwatts = 700000;
    return NVML_OK;
}

static enum nvml_result fake_reasons(struct nvml_device *device, unsigned long long *reasons) {
    (void)device;
    *reasons = 4;
    return NVML_OK;
}

static enum nvml_result fake_older_reasons(struct nvml_device *device, unsigned long long *reasons) {
    (void)device;
    *reasons = 0x20;
    return NVML_OK;
}

static enum nvml_result fake_pcie(struct nvml_device *device, enum nvml_traffic traffic,
                                  unsigned int *kilobytes) {
    (void)device;
    *kilobytes = traffic == NVML_RECEIVED ? 3000 : 7000;
    atomic_fetch_add(&fake.readings, 1);
    return NVML_OK;
}

static enum nvml_result fake_processes(struct nvml_device *device, unsigned int *count,
                                       struct nvml_process *processes) {
    (void)device;
    assert_true(*count >= 3);
    *count = 3;
    for (unsigned int i = 0; i < 3; i++) {
        processes[i].pid = 0x40000000U + i; // beyond every process id
        processes[i].memory = 1000 + i;
    }
    if (!fake.other_process_ids) {
        processes[1].pid = (unsigned int)getpid();
    }
    return NVML_OK;
}

static enum nvml_result fake_events(struct nvml_event_set **set) {
    *set = NULL;
    atomic_fetch_add(&fake.open, 1);
    return NVML_OK;
}

static enum nvml_result fake_events_free(struct nvml_event_set *set) {
    (void)set;
    atomic_fetch_sub(&fake.open, 1);
    return NVML_OK;
}

static enum nvml_result fake_register(struct nvml_device *device, unsigned long long types,
                                      struct nvml_event_set *set) {
    (void)device;
    (void)set;
    return types == NVML_EVENT_XID ? NVML_OK : NVML_BAD_ARGUMENT;
}

static enum nvml_result fake_wait(struct nvml_event_set *set, struct nvml_event *event,
                                  unsigned int milliseconds) {
    (void)set;
    assert_true(milliseconds < 100);
    atomic_fetch_add(&fake.looks, 1);
    int xid = atomic_exchange(&fake.xid, 0);
    event->kind = NVML_EVENT_XID;
    event->detail = (unsigned long long)xid;
    return xid != 0 ? NVML_OK : NVML_TIMED_OUT;
}

struct library {
    int unused;
};

static struct library the_library;

struct library *library_open(const char *const *names, char *why, size_t why_size) {
    assert_string_equal(names[0], "libnvidia-ml.so.1");
    if (fake.missing) {
        snprintf(why, why_size, "%s: cannot open shared object file", names[0]);
        return NULL;
    }
    atomic_fetch_add(&fake.open, 1);
    return &the_library;
}

void library_file(struct library *library, char *out, size_t size) {
    assert_ptr_equal(library, &the_library);
    snprintf(out, size, "libnvidia-ml.so.1");
}

void library_close(struct library *library) {
    if (library != NULL) {
        atomic_fetch_sub(&fake.open, 1);
    }
}

typedef void (*any_function)(void);

void *library_symbol(struct library *library, const char *name) {
    static const struct {
        const char *name;
        any_function function;
        bool little;
    } table[] = {
        {"nvmlInit_v2", (any_function)fake_init, true},
        {"nvmlErrorString", (any_function)fake_error_string, true},
        {"nvmlDeviceGetHandleByPciBusId_v2", (any_function)fake_device, true},
        {"nvmlDeviceGetMemoryInfo", (any_function)fake_memory, true},
        {"nvmlDeviceGetUtilizationRates", (any_function)fake_utilization, false},
        {"nvmlDeviceGetClockInfo", (any_function)fake_clock, false},
        {"nvmlDeviceGetMaxClockInfo", (any_function)fake_clock_most, false},
        {"nvmlDeviceGetTemperature", (any_function)fake_temperature, false},
        {"nvmlDeviceGetPowerUsage", (any_function)fake_power, false},
        {"nvmlDeviceGetEnforcedPowerLimit", (any_function)fake_power_limit, false},
        {"nvmlDeviceGetCurrentClocksEventReasons", (any_function)fake_reasons, false},
        {"nvmlDeviceGetCurrentClocksThrottleReasons", (any_function)fake_older_reasons, false},
        {"nvmlDeviceGetPcieThroughput", (any_function)fake_pcie, false},
        {"nvmlDeviceGetComputeRunningProcesses_v3", (any_function)fake_processes, false},
        {"nvmlEventSetCreate", (any_function)fake_events, false},
        {"nvmlEventSetFree", (any_function)fake_events_free, false},
        {"nvmlDeviceRegisterEvents", (any_function)fake_register, false},
        {"nvmlEventSetWait_v2", (any_function)fake_wait, false},
    };
    assert_ptr_equal(library, &the_library);
    if (fake.is_old && strstr(name, "EventReasons") != NULL) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(table[i].name, name) == 0 && (table[i].little || !fake.supports_little)) {
            void *out;
            memcpy(&out, &table[i].function, sizeof out);
            return out;
        }
    }
    return NULL;
}

// ---- the tests ----

static int forget(void **state) {
    (void)state;
    memset(&fake, 0, sizeof fake);
    return 0;
}

static struct telemetry *start(const char *bus_id, char warning[200]) {
    struct telemetry *telemetry = NULL;
    struct error err;
    assert_int_equal(telemetry_start(&telemetry, bus_id, warning, 200, &err), STATUS_OK);
    return telemetry;
}

static struct device_sample first_sample(struct telemetry *telemetry) {
    struct device_sample sample;
    do {
        telemetry_sample(telemetry, &sample);
        clock_sleep(0.001);
    } while (sample.age_seconds < 0);
    return sample;
}

static void stop_and_check(struct telemetry *telemetry) {
    telemetry_stop(telemetry);
    assert_int_equal(atomic_load(&fake.open), 0);
}

static void everything_is_read_in_its_unit(void **state) {
    (void)state;
    char warning[200];
    struct telemetry *telemetry = start("0000:01:00.0", warning);
    assert_string_equal(warning, "");
    struct device_sample sample = first_sample(telemetry);
    assert_int_equal(sample.memory_used, 50);
    assert_int_equal(sample.process_memory, 1001);
    assert_int_equal(sample.foreign_processes, 2);
    assert_int_equal(sample.utilization, 97);
    assert_int_equal(sample.sm_clock, 1755);
    assert_int_equal(sample.sm_clock_most, 1980);
    assert_int_equal(sample.temperature, 61);
    assert_int_equal(sample.throttle_reasons, 4);
    assert_true(sample.power == 650.5);
    assert_true(sample.power_limit == 700);
    assert_true(sample.pcie_received == 3e6);
    assert_true(sample.pcie_sent == 7e6);
    assert_int_equal(sample.xid, 0);
    assert_int_equal(telemetry_process_bytes(telemetry), 1001);
    stop_and_check(telemetry);
}

static void what_is_not_supported_stays_unknown(void **state) {
    (void)state;
    char warning[200];
    fake.supports_little = true;
    struct telemetry *telemetry = start("0000:01:00.0", warning);
    assert_non_null(strstr(warning, "XID"));
    struct device_sample sample = first_sample(telemetry);
    assert_int_equal(sample.memory_used, 50);
    assert_int_equal(sample.process_memory, DEVICE_UNKNOWN);
    assert_int_equal(sample.foreign_processes, DEVICE_UNKNOWN);
    assert_int_equal(sample.utilization, DEVICE_UNKNOWN);
    assert_int_equal(sample.throttle_reasons, DEVICE_UNKNOWN);
    assert_true(sample.power == DEVICE_UNKNOWN);
    assert_true(sample.pcie_sent == DEVICE_UNKNOWN);
    assert_int_equal(sample.xid, DEVICE_UNKNOWN);
    assert_true(telemetry_process_bytes(telemetry) == UINT64_MAX);
    stop_and_check(telemetry);
}

static void an_older_driver_has_throttle_reasons_by_another_name(void **state) {
    (void)state;
    char warning[200];
    fake.is_old = true;
    struct telemetry *telemetry = start("0000:01:00.0", warning);
    assert_string_equal(warning, "");
    assert_int_equal(first_sample(telemetry).throttle_reasons, 0x20);
    stop_and_check(telemetry);
}

static void process_ids_of_another_namespace_tell_nothing(void **state) {
    (void)state;
    char warning[200];
    fake.other_process_ids = true;
    struct telemetry *telemetry = start("0000:01:00.0", warning);
    struct device_sample sample = first_sample(telemetry);
    assert_int_equal(sample.process_memory, DEVICE_UNKNOWN);
    assert_int_equal(sample.foreign_processes, DEVICE_UNKNOWN);
    assert_int_equal(sample.memory_used, 50);
    stop_and_check(telemetry);
}

static void expect_nothing_known(struct telemetry *telemetry) {
    struct device_sample sample;
    telemetry_sample(telemetry, &sample);
    assert_true(sample.age_seconds == DEVICE_UNKNOWN);
    assert_int_equal(sample.memory_used, DEVICE_UNKNOWN);
    assert_int_equal(sample.xid, DEVICE_UNKNOWN);
    assert_true(telemetry_process_bytes(telemetry) == UINT64_MAX);
    stop_and_check(telemetry);
}

static void no_library_is_a_warning(void **state) {
    (void)state;
    char warning[200];
    fake.missing = true;
    struct telemetry *telemetry = start("0000:01:00.0", warning);
    assert_non_null(strstr(warning, "libnvidia-ml.so.1: cannot open"));
    expect_nothing_known(telemetry);
}

static void an_unknown_device_is_a_warning(void **state) {
    (void)state;
    char warning[200];
    struct telemetry *telemetry = start("0000:02:00.0", warning);
    assert_non_null(strstr(warning, "0000:02:00.0: Not Found"));
    expect_nothing_known(telemetry);
}

// Lets the driver report it, and gives what is known once it was taken.
static struct device_sample after_xid(struct telemetry *telemetry, int xid) {
    struct device_sample sample;
    atomic_store(&fake.xid, xid);
    while (atomic_load(&fake.xid) != 0) {
        clock_sleep(0.001);
    }
    int looks = atomic_load(&fake.looks);
    while (atomic_load(&fake.looks) < looks + 2) { // what one look took is in place when the next one begins
        clock_sleep(0.001);
    }
    telemetry_sample(telemetry, &sample);
    return sample;
}

static void an_error_of_the_device_outlasts_those_of_programs(void **state) {
    (void)state;
    char warning[200];
    struct telemetry *telemetry = start("0000:01:00.0", warning);
    assert_int_equal(after_xid(telemetry, 31).xid, 31);
    assert_int_equal(after_xid(telemetry, 13).xid, 13);
    assert_int_equal(after_xid(telemetry, 48).xid, 48);
    assert_int_equal(after_xid(telemetry, 45).xid, 48);
    assert_int_equal(after_xid(telemetry, 79).xid, 79);
    stop_and_check(telemetry);
}

// A fault is told from those that the device got over before it.
static void a_fault_has_the_errors_since_the_device_last_worked(void **state) {
    (void)state;
    char warning[200];
    struct telemetry *telemetry = start("0000:01:00.0", warning);
    assert_int_equal(telemetry_fresh_xid(telemetry), 0);
    assert_int_equal(after_xid(telemetry, 63).xid, 63);
    assert_int_equal(telemetry_fresh_xid(telemetry), 63);
    telemetry_settled(telemetry);
    assert_int_equal(telemetry_fresh_xid(telemetry), 0);
    assert_int_equal(after_xid(telemetry, 31).xid, 63);
    assert_int_equal(telemetry_fresh_xid(telemetry), 31);
    assert_int_equal(after_xid(telemetry, 48).xid, 48);
    assert_int_equal(after_xid(telemetry, 45).xid, 48);
    assert_int_equal(telemetry_fresh_xid(telemetry), 48);
    stop_and_check(telemetry);
}

static void an_xid_error_is_kept(void **state) {
    (void)state;
    char warning[200];
    struct device_sample sample;
    struct telemetry *telemetry = start("0000:01:00.0", warning);
    first_sample(telemetry);
    atomic_store(&fake.xid, 79);
    do {
        clock_sleep(0.001);
        telemetry_sample(telemetry, &sample);
    } while (sample.xid == 0);
    assert_int_equal(sample.xid, 79);
    int readings = atomic_load(&fake.readings);
    while (atomic_load(&fake.readings) < readings + 4) { // two readings: the next one has not forgotten it
        clock_sleep(0.01);
    }
    telemetry_sample(telemetry, &sample);
    assert_int_equal(sample.xid, 79);
    assert_true(sample.age_seconds >= 0);
    stop_and_check(telemetry);
}

static struct telemetry *left_behind; // keeps it reachable for the leak checker

static void a_driver_that_hangs_holds_nobody_up(void **state) {
    (void)state;
    char warning[200];
    atomic_store(&fake.hangs, true);
    left_behind = start("0000:01:00.0", warning);
    struct device_sample sample;
    telemetry_sample(left_behind, &sample); // returns
    assert_true(sample.age_seconds == DEVICE_UNKNOWN);
    telemetry_stop(left_behind); // and so does this
    assert_true(atomic_load(&fake.open) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(everything_is_read_in_its_unit, forget),
        cmocka_unit_test_setup(what_is_not_supported_stays_unknown, forget),
        cmocka_unit_test_setup(an_older_driver_has_throttle_reasons_by_another_name, forget),
        cmocka_unit_test_setup(process_ids_of_another_namespace_tell_nothing, forget),
        cmocka_unit_test_setup(no_library_is_a_warning, forget),
        cmocka_unit_test_setup(an_unknown_device_is_a_warning, forget),
        cmocka_unit_test_setup(an_xid_error_is_kept, forget),
        cmocka_unit_test_setup(an_error_of_the_device_outlasts_those_of_programs, forget),
        cmocka_unit_test_setup(a_fault_has_the_errors_since_the_device_last_worked, forget),
        cmocka_unit_test_setup(a_driver_that_hangs_holds_nobody_up, forget), // last: its thread stays
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

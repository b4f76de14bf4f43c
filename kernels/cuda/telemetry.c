// SPDX-License-Identifier: MIT
#include "kernels/cuda/telemetry.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "kernels/cuda/nvml.h"

enum { MOST_PROCESSES = 256, MOST_EVENTS = 64 };

static const double tick_seconds = 0.1;   // between two looks for XID errors
static const double sample_seconds = 1.0; // between two readings
static const double grace_seconds = 2.0;  // for a thread that hangs in the driver

struct telemetry {
    struct nvml nvml; // all NULL: nothing is known and there is no thread
    struct nvml_device *device;
    struct nvml_event_set *events;
    bool watches_events;
    bool runs; // the thread was started
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
    bool read;                   // something was read
    double read_at;              // clock_seconds
    struct device_sample sample; // age_seconds is filled in for each reader
    int64_t fresh_xid;           // since telemetry_settled
};

// ---- reading ----

// Memory of this process and the number of others. The driver may know processes by other ids than they have
// here (a container): when ours is not in its list, neither is known.
static void read_processes(const struct telemetry *telemetry, struct device_sample *out) {
    struct nvml_process processes[MOST_PROCESSES];
    unsigned int count = MOST_PROCESSES;
    if (telemetry->nvml.processes == NULL ||
        telemetry->nvml.processes(telemetry->device, &count, processes) != NVML_OK) {
        return;
    }
    unsigned int own = (unsigned int)getpid();
    for (unsigned int i = 0; i < count && i < MOST_PROCESSES; i++) {
        if (processes[i].pid == own) {
            out->foreign_processes = (int32_t)count - 1;
            if (processes[i].memory <= INT64_MAX) {
                out->process_memory = (int64_t)processes[i].memory;
            }
        }
    }
}

static void read_memory_and_work(const struct telemetry *telemetry, struct device_sample *out) {
    const struct nvml *nvml = &telemetry->nvml;
    struct nvml_memory memory;
    if (nvml->memory_info != NULL && nvml->memory_info(telemetry->device, &memory) == NVML_OK) {
        out->memory_used = (int64_t)memory.used;
    }
    struct nvml_utilization utilization;
    if (nvml->utilization != NULL && nvml->utilization(telemetry->device, &utilization) == NVML_OK) {
        out->utilization = (int32_t)utilization.gpu;
    }
}

static void read_clocks_and_power(const struct telemetry *telemetry, struct device_sample *out) {
    const struct nvml *nvml = &telemetry->nvml;
    unsigned int number;
    unsigned long long reasons;
    if (nvml->clock != NULL && nvml->clock(telemetry->device, NVML_SM_CLOCK, &number) == NVML_OK) {
        out->sm_clock = (int32_t)number;
    }
    if (nvml->clock_most != NULL && nvml->clock_most(telemetry->device, NVML_SM_CLOCK, &number) == NVML_OK) {
        out->sm_clock_most = (int32_t)number;
    }
    if (nvml->throttle_reasons != NULL && nvml->throttle_reasons(telemetry->device, &reasons) == NVML_OK) {
        out->throttle_reasons = (int64_t)(reasons & INT64_MAX);
    }
    if (nvml->temperature != NULL &&
        nvml->temperature(telemetry->device, NVML_CHIP_SENSOR, &number) == NVML_OK) {
        out->temperature = (int32_t)number;
    }
    if (nvml->power != NULL && nvml->power(telemetry->device, &number) == NVML_OK) {
        out->power = number * 1e-3;
    }
    if (nvml->power_limit != NULL && nvml->power_limit(telemetry->device, &number) == NVML_OK) {
        out->power_limit = number * 1e-3;
    }
}

static double read_traffic(const struct telemetry *telemetry, enum nvml_traffic traffic) {
    unsigned int kilobytes;
    if (telemetry->nvml.pcie_throughput == NULL ||
        telemetry->nvml.pcie_throughput(telemetry->device, traffic, &kilobytes) != NVML_OK) {
        return DEVICE_UNKNOWN;
    }
    return kilobytes * 1e3;
}

static void read_all(struct telemetry *telemetry) {
    struct device_sample fresh;
    device_sample_clear(&fresh);
    read_memory_and_work(telemetry, &fresh);
    read_clocks_and_power(telemetry, &fresh);
    read_processes(telemetry, &fresh);
    fresh.pcie_received = read_traffic(telemetry, NVML_RECEIVED);
    fresh.pcie_sent = read_traffic(telemetry, NVML_SENT);
    pthread_mutex_lock(&telemetry->lock);
    fresh.xid = telemetry->sample.xid;
    telemetry->sample = fresh;
    telemetry->read = true;
    telemetry->read_at = clock_seconds();
    pthread_mutex_unlock(&telemetry->lock);
}

// One of the device is not replaced by a program's: after an uncorrectable memory error (48) the driver ends
// the programs that it struck (45).
static int64_t graver(int64_t kept, int64_t xid) {
    return kept <= 0 || device_xid_blames_program(kept) || !device_xid_blames_program(xid) ? xid : kept;
}

static void keep_xid(struct telemetry *telemetry, int64_t xid) {
    pthread_mutex_lock(&telemetry->lock);
    telemetry->sample.xid = graver(telemetry->sample.xid, xid);
    telemetry->fresh_xid = graver(telemetry->fresh_xid, xid);
    pthread_mutex_unlock(&telemetry->lock);
}

// Takes the XID errors that came since the last look.
static void read_events(struct telemetry *telemetry) {
    for (int i = 0; i < MOST_EVENTS; i++) {
        struct nvml_event event = {0};
        if (telemetry->nvml.event_set_wait(telemetry->events, &event, 1) != NVML_OK) {
            return;
        }
        if ((event.kind & NVML_EVENT_XID) != 0) {
            keep_xid(telemetry, (int64_t)event.detail);
        }
    }
}

// ---- the thread ----

static struct timespec later(clockid_t clock, double seconds) {
    struct timespec end;
    clock_gettime(clock, &end);
    long nanoseconds = end.tv_nsec + (long)(seconds * 1e9);
    end.tv_sec += nanoseconds / 1000000000;
    end.tv_nsec = nanoseconds % 1000000000;
    return end;
}

// Waits for the next tick; false when the thread shall end.
static bool wait_tick(struct telemetry *telemetry) {
    struct timespec end = later(CLOCK_MONOTONIC, tick_seconds);
    pthread_mutex_lock(&telemetry->lock);
    while (!telemetry->stop &&
           pthread_cond_timedwait(&telemetry->changed, &telemetry->lock, &end) != ETIMEDOUT) {
    }
    bool goes_on = !telemetry->stop;
    pthread_mutex_unlock(&telemetry->lock);
    return goes_on;
}

static void *telemetry_thread(void *context) {
    struct telemetry *telemetry = context;
    double due = clock_seconds();
    do {
        if (telemetry->watches_events) {
            read_events(telemetry);
        }
        if (clock_seconds() >= due) {
            read_all(telemetry);
            due = clock_seconds() + sample_seconds;
        }
    } while (wait_tick(telemetry));
    return NULL;
}

// ---- start and stop ----

static bool watch_events(struct telemetry *telemetry) {
    const struct nvml *nvml = &telemetry->nvml;
    if (nvml->event_set_create == NULL || nvml->register_events == NULL || nvml->event_set_wait == NULL ||
        nvml->event_set_create(&telemetry->events) != NVML_OK) {
        return false;
    }
    if (nvml->register_events(telemetry->device, NVML_EVENT_XID, telemetry->events) == NVML_OK) {
        return true;
    }
    if (nvml->event_set_free != NULL) {
        nvml->event_set_free(telemetry->events);
    }
    return false;
}

// False: there is no NVML, or it does not know the device; `warning` says so.
static bool find_device(struct telemetry *telemetry, const char *pci_bus_id, char *warning, size_t size) {
    char why[256];
    if (!nvml_open(&telemetry->nvml, why, sizeof why)) {
        snprintf(warning, size, "the GPU's clocks, power and errors are not available: %s", why);
        return false;
    }
    enum nvml_result result = telemetry->nvml.device_by_pci_bus_id(pci_bus_id, &telemetry->device);
    if (result != NVML_OK) {
        snprintf(warning, size, "the GPU's clocks, power and errors are not available: NVML on %s: %s",
                 pci_bus_id, nvml_error(&telemetry->nvml, result));
        nvml_close(&telemetry->nvml);
        return false;
    }
    telemetry->watches_events = watch_events(telemetry);
    if (!telemetry->watches_events) {
        snprintf(warning, size,
                 "the GPU's XID errors are not available: NVML does not report them on this device");
    }
    return true;
}

static void free_telemetry(struct telemetry *telemetry) {
    if (telemetry->watches_events && telemetry->nvml.event_set_free != NULL) {
        telemetry->nvml.event_set_free(telemetry->events);
    }
    nvml_close(&telemetry->nvml);
    pthread_cond_destroy(&telemetry->changed);
    pthread_mutex_destroy(&telemetry->lock);
    free(telemetry);
}

static void init_lock(struct telemetry *telemetry) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&telemetry->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&telemetry->lock, NULL);
}

int telemetry_start(struct telemetry **out, const char *pci_bus_id, char *warning, size_t warning_size,
                    struct error *err) {
    void *block;
    *out = NULL;
    snprintf(warning, warning_size, "%s", "");
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct telemetry *telemetry = block;
    init_lock(telemetry);
    device_sample_clear(&telemetry->sample);
    if (find_device(telemetry, pci_bus_id, warning, warning_size)) {
        telemetry->sample.xid = telemetry->watches_events ? 0 : DEVICE_UNKNOWN;
        int problem = pthread_create(&telemetry->thread, NULL, telemetry_thread, telemetry);
        if (problem != 0) {
            free_telemetry(telemetry);
            errno = problem;
            return error_set_errno(err, STATUS_INTERNAL, "cannot start the thread that watches the GPU");
        }
        telemetry->runs = true;
    }
    *out = telemetry;
    return STATUS_OK;
}

void telemetry_sample(struct telemetry *telemetry, struct device_sample *out) {
    pthread_mutex_lock(&telemetry->lock);
    *out = telemetry->sample;
    out->age_seconds = telemetry->read ? clock_seconds() - telemetry->read_at : DEVICE_UNKNOWN;
    pthread_mutex_unlock(&telemetry->lock);
}

int64_t telemetry_fresh_xid(struct telemetry *telemetry) {
    pthread_mutex_lock(&telemetry->lock);
    int64_t xid = telemetry->fresh_xid;
    pthread_mutex_unlock(&telemetry->lock);
    return xid;
}

void telemetry_settled(struct telemetry *telemetry) {
    pthread_mutex_lock(&telemetry->lock);
    telemetry->fresh_xid = 0;
    pthread_mutex_unlock(&telemetry->lock);
}

uint64_t telemetry_process_bytes(struct telemetry *telemetry) {
    struct device_sample now;
    device_sample_clear(&now);
    if (telemetry->runs) {
        read_processes(telemetry, &now);
    }
    return now.process_memory == DEVICE_UNKNOWN ? UINT64_MAX : (uint64_t)now.process_memory;
}

void telemetry_stop(struct telemetry *telemetry) {
    if (telemetry == NULL) {
        return;
    }
    if (telemetry->runs) {
        pthread_mutex_lock(&telemetry->lock);
        telemetry->stop = true;
        pthread_cond_broadcast(&telemetry->changed);
        pthread_mutex_unlock(&telemetry->lock);
        struct timespec end = later(CLOCK_REALTIME, grace_seconds);
        if (pthread_timedjoin_np(telemetry->thread, NULL, &end) != 0) {
            pthread_detach(telemetry->thread);
            return;
        }
    }
    free_telemetry(telemetry);
}

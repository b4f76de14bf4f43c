// SPDX-License-Identifier: MIT
#include "start/resident.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static json_t *purposes_json(const uint64_t bytes[DEVICE_PURPOSES]) {
    return json_pack("{s:I, s:I, s:I, s:I}", "weights", (json_int_t)bytes[DEVICE_WEIGHTS], "activations",
                     (json_int_t)bytes[DEVICE_ACTIVATIONS], "scratch", (json_int_t)bytes[DEVICE_SCRATCH],
                     "staging", (json_int_t)bytes[DEVICE_STAGING]);
}

static json_t *streaming_json(const struct inputs *inputs, const struct model_limits *limits) {
    size_t blocks = inputs_blocks(inputs);
    return json_pack("{s:I, s:I, s:b, s:I}", "streamed", (json_int_t)model_streamed(inputs->model, blocks),
                     "blocks", (json_int_t)blocks, "host", inputs->job.weights == JOB_WEIGHTS_HOST, "batches",
                     (json_int_t)limits->group);
}

static void add_driver_figures(json_t *object, const struct device_description *device,
                               const struct device_residency *report) {
    if (device->memory_free != UINT64_MAX) {
        json_object_set_new(object, "free", json_integer((json_int_t)device->memory_free));
    }
    if (report->process_bytes != UINT64_MAX) {
        json_object_set_new(object, "process_bytes", json_integer((json_int_t)report->process_bytes));
    }
}

static json_t *devices_json(const struct model *model) {
    json_t *list = json_array();
    for (size_t i = 0; i < model_devices(model); i++) {
        struct device_description device;
        struct device_residency report;
        model_describe_device(model, i, &device);
        model_residency(model, i, &report);
        json_t *object = json_pack("{s:s, s:o, s:o}", "name", model_device_name(model, i), "planned",
                                   purposes_json(report.planned), "taken", purposes_json(report.taken));
        add_driver_figures(object, &device, &report);
        json_array_append_new(list, object);
    }
    return list;
}

static int note_report(struct buffer *note, const struct model *model,
                       const struct device_description *device, const struct model_resident *resident,
                       const struct device_residency *report, json_t *streaming, struct error *err) {
    json_t *object =
        json_pack("{s:s, s:s, s:I, s:I, s:o, s:o}", "kind", device->kind, "name", device->name, "pieces",
                  (json_int_t)resident->pieces, "bytes", (json_int_t)resident->bytes, "planned",
                  purposes_json(report->planned), "taken", purposes_json(report->taken));
    if (streaming != NULL) {
        json_object_set_new(object, "streaming", streaming);
    }
    add_driver_figures(object, device, report);
    if (model_devices(model) > 1) {
        json_object_set_new(object, "devices", devices_json(model));
    }
    char *text = json_dumps(object, JSON_COMPACT);
    int status = text == NULL ? error_set(err, STATUS_INTERNAL, "out of memory for the residency report")
                              : buffer_append(note, text, strlen(text), err);
    free(text);
    json_decref(object);
    return status;
}

// resident NULL: of one among several devices, whose pieces are not counted by device.
static void log_report(struct log *log, const struct device_description *device, const char *where,
                       const struct model_resident *resident, const struct device_residency *report) {
    char left[48] = "";
    char driver[64] = "";
    char held[64];
    if (device->memory_free != UINT64_MAX) {
        snprintf(left, sizeof left, "; %.3f GB are left free", (double)device->memory_free * 1e-9);
    }
    if (report->process_bytes != UINT64_MAX) {
        snprintf(driver, sizeof driver, "; the driver counts %.3f GB for this process",
                 (double)report->process_bytes * 1e-9);
    }
    if (resident != NULL) {
        snprintf(held, sizeof held, "all %zu pieces, %.3f GB", resident->pieces,
                 (double)resident->bytes * 1e-9);
    } else {
        snprintf(held, sizeof held, "%.3f GB of weights", (double)report->taken[DEVICE_WEIGHTS] * 1e-9);
    }
    log_write(log, LOG_LEVEL_INFO,
              "resident on %s: %s (planned: weights %.3f, activations %.3f, scratch "
              "%.3f GB; staging %.3f GB of host memory)%s%s",
              where, held, (double)report->planned[DEVICE_WEIGHTS] * 1e-9,
              (double)report->planned[DEVICE_ACTIVATIONS] * 1e-9,
              (double)report->planned[DEVICE_SCRATCH] * 1e-9, (double)report->planned[DEVICE_STAGING] * 1e-9,
              left, driver);
}

enum { WHERE = 320 };

static void name_device(char where[WHERE], const char *name, const struct device_description *device) {
    snprintf(where, WHERE, "%s, %s", name, device->name);
}

static uint64_t sum_of(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b; // UINT64_MAX: not known
}

static void add_report(struct device_residency *sum, const struct device_residency *one) {
    for (int i = 0; i < DEVICE_PURPOSES; i++) {
        sum->planned[i] += one->planned[i];
        sum->taken[i] += one->taken[i];
    }
    sum->process_bytes = sum_of(sum->process_bytes, one->process_bytes);
}

// Each device's, and the sum of them.
static int check_devices(const struct model *model, struct device_residency *sum, struct log *log,
                         struct error *err) {
    *sum = (struct device_residency){0};
    for (size_t i = 0; i < model_devices(model); i++) {
        struct device_description device;
        struct device_residency report;
        model_describe_device(model, i, &device);
        model_residency(model, i, &report);
        if (report.taken[DEVICE_WEIGHTS] != report.planned[DEVICE_WEIGHTS]) {
            return error_set(err, STATUS_DEVICE,
                             "%" PRIu64 " bytes of weights were planned and %" PRIu64 " lie on %s",
                             report.planned[DEVICE_WEIGHTS], report.taken[DEVICE_WEIGHTS],
                             model_devices(model) > 1 ? model_device_name(model, i) : "the device");
        }
        if (model_devices(model) > 1) {
            char where[WHERE];
            name_device(where, model_device_name(model, i), &device);
            log_report(log, &device, where, NULL, &report);
        }
        add_report(sum, &report);
    }
    return STATUS_OK;
}

int resident_check(struct inputs *inputs, const struct model_limits *limits, struct buffer *note,
                   struct log *log, struct error *err) {
    struct device_description device;
    struct device_residency report;
    struct model_resident resident;
    TRY(model_check_resident(inputs->model, &resident, err));
    model_describe(inputs->model, &device);
    TRY(check_devices(inputs->model, &report, log, err));
    char where[WHERE] = "all devices together";
    if (model_devices(inputs->model) == 1) {
        name_device(where, device.kind, &device);
    }
    log_report(log, &device, where, &resident, &report);
    bool streams = model_streamed(inputs->model, inputs_blocks(inputs)) > 0;
    return note_report(note, inputs->model, &device, &resident, &report,
                       streams ? streaming_json(inputs, limits) : NULL, err);
}

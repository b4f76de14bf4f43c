// SPDX-License-Identifier: MIT
// Times a model's whole load beside reading and hashing its files alone: tool_load FOLDER THREADS
// Prints bytes, then seconds of the fastest of five turns of each, and of a load whose hashes were known, as
// they are from the second on where files have not changed for a minute.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "kernels/device.h"
#include "model/model.h"

enum { TURNS = 5 };

static bool keep_bytes(void *context, uint64_t done, uint64_t all, double seconds) {
    (void)done;
    (void)seconds;
    *(uint64_t *)context = all;
    return true;
}

static int time_hashing(const char *folder, double *best, struct error *err) {
    struct model *model = NULL;
    int status = model_open(&model, folder, err);
    double began = clock_seconds();
    status = status == STATUS_OK ? model_fingerprint_files(model, NULL, err) : status;
    *best = fmin(*best, clock_seconds() - began);
    model_close(model);
    return status;
}

// From the first byte read to the last one packed; the memory is reserved before.
static int time_load(const char *folder, int threads, enum model_hashes hashes, double *best, uint64_t *bytes,
                     struct error *err) {
    struct device_options options = {.threads = threads, .dtype = DTYPE_BF16};
    struct model_load_options load = {.hashes = hashes, .progress = keep_bytes, .context = bytes};
    struct model_plan plan;
    struct device *device = NULL;
    struct model *model = NULL;
    int status = device_open(&device, "cpu", &options, err);
    status = status == STATUS_OK ? model_open(&model, folder, err) : status;
    if (status == STATUS_OK) {
        status = model_add_device(model, device, "cpu", err);
        device = status == STATUS_OK ? NULL : device; // the model closes it
    }
    if (status == STATUS_OK) {
        size_t last = model_config_of(model)->layers;
        struct model_limits limits = {.layers = &last,
                                      .layer_count = 1,
                                      .tokens = 1,
                                      .texts = 1,
                                      .rows = 1,
                                      .longest = 1,
                                      .stored = DTYPE_BF16,
                                      .slots = 2};
        status = model_plan(model, &limits, &plan, err);
        status = status == STATUS_OK ? model_reserve(model, &plan, err) : status;
        double began = clock_seconds();
        status = status == STATUS_OK ? model_load(model, &limits, &load, err) : status;
        *best = fmin(*best, clock_seconds() - began);
    }
    model_close(model);
    device_close(device);
    return status;
}

int main(int count, char **arguments) {
    struct error err;
    double hashing = INFINITY;
    double loading = INFINITY;
    double known = INFINITY;
    uint64_t bytes = 0;
    if (count != 3) {
        fprintf(stderr, "usage: tool_load FOLDER THREADS\n");
        return 64;
    }
    int status = STATUS_OK;
    for (int i = 0; i < TURNS && status == STATUS_OK; i++) {
        status = time_hashing(arguments[1], &hashing, &err);
        status = status == STATUS_OK
                     ? time_load(arguments[1], atoi(arguments[2]), MODEL_HASHES_KEPT, &known, &bytes, &err)
                     : status;
        status = status == STATUS_OK
                     ? time_load(arguments[1], atoi(arguments[2]), MODEL_HASHES_MADE, &loading, &bytes, &err)
                     : status;
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    printf("%llu %.6f %.6f %.6f\n", (unsigned long long)bytes, hashing, loading, known);
    return 0;
}

#include "extract/canary.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/size.h"
#include "extract/in_flight.h"

enum {
    CANARY_SEED = 20240607,
    SHORT_TEXT = 64, // tokens
    TINY_BATCH = 16,
};

// Outputs of its own: the batches of the run may still be read from the others.
static size_t own_slot(const struct canary *canary) {
    return canary->limits.slots - 1;
}

int canary_create(struct canary *canary, struct model *model, struct device *device,
                  const struct model_limits *limits, struct error *err) {
    *canary = (struct canary){.model = model, .device = device, .limits = *limits};
    canary->has_clock = in_flight_depth(device) > 1;
    canary->vocabulary = model_config_of(model)->vocabulary;
    int status = memory_zeroed((void **)&canary->ids, limits->tokens, sizeof *canary->ids, err);
    if (status == STATUS_OK) {
        status = memory_zeroed((void **)&canary->starts, limits->texts + 1, sizeof *canary->starts, err);
    }
    if (status == STATUS_OK) {
        status = memory_zeroed((void **)&canary->spans, limits->rows, sizeof *canary->spans, err);
    }
    return status;
}

void canary_destroy(struct canary *canary) {
    free(canary->ids);
    free(canary->starts);
    free(canary->spans);
}

// A batch of up to `tokens` tokens in texts of `length`, one pooled row a text, as the limits allow.
static struct model_batch shape(struct canary *canary, size_t tokens, size_t length) {
    const struct model_limits *limits = &canary->limits;
    uint64_t state = CANARY_SEED;
    tokens = size_min(tokens, limits->tokens);
    length = size_max(size_min(size_min(length, limits->longest), tokens), 1);
    size_t texts = size_max(size_min(size_min(tokens / length, limits->texts), limits->rows), 1);
    for (size_t t = 0; t < texts; t++) {
        canary->starts[t] = (int32_t)(t * length);
        canary->spans[t] = (struct device_span){(int32_t)(t * length), (int32_t)((t + 1) * length)};
    }
    canary->starts[texts] = (int32_t)(texts * length);
    for (size_t i = 0; i < texts * length; i++) {
        canary->ids[i] = (int32_t)random_below(&state, canary->vocabulary);
    }
    return (struct model_batch){.ids = canary->ids,
                                .starts = canary->starts,
                                .spans = canary->spans,
                                .tokens = texts * length,
                                .texts = texts,
                                .rows = texts,
                                .slot = own_slot(canary)};
}

static int run_once(struct canary *canary, const struct model_batch *batch, double *seconds,
                    double *device_seconds, struct error *err) {
    struct device_mark mark;
    struct device_times times = {0};
    double began = clock_seconds();
    int status = model_forward(canary->model, batch, &mark, err);
    if (status == STATUS_OK) {
        status = device_wait(canary->device, mark, &times, err);
    }
    *seconds = clock_seconds() - began;
    *device_seconds = canary->has_clock ? times.compute_seconds : 0;
    if (canary->guard != NULL) {
        guard_start_goes_on(canary->guard);
    }
    return status;
}

static int run_fastest(struct canary *canary, const struct model_batch *batch, int runs, double *seconds,
                       struct error *err) {
    *seconds = 0;
    for (int run = 0; run < runs; run++) {
        double once;
        double on_device;
        int status = run_once(canary, batch, &once, &on_device, err);
        if (status != STATUS_OK) {
            return status;
        }
        if (run == 0 || once < *seconds) {
            *seconds = once;
            canary->device_seconds = on_device;
        }
    }
    return STATUS_OK;
}

static int hash_outputs(struct canary *canary, const struct model_batch *batch, char hex[DIGEST_HEX],
                        struct error *err) {
    struct model_output output;
    struct digest *digest;
    int status = digest_create(&digest, err);
    if (status != STATUS_OK) {
        return status;
    }
    model_outputs(canary->model, batch->slot, &output);
    size_t bytes =
        batch->rows * model_config_of(canary->model)->hidden * dtype_size(canary->limits.out_dtype);
    for (size_t l = 0; status == STATUS_OK && l < canary->limits.layer_count; l++) {
        status = digest_field(digest, output.rows[l], bytes, err);
    }
    if (status == STATUS_OK) {
        status = digest_finish(digest, hex, err);
    }
    digest_destroy(digest);
    return status;
}

// On a CPU time grows evenly, so an eighth of the budget tells enough; a GPU is timed at the sizes it will
// run.
static size_t calibration_tokens(const struct canary *canary) {
    struct device_description device;
    device_describe(canary->device, &device);
    size_t budget = canary->limits.tokens;
    bool is_cpu = device.kind[0] == 'c' && device.kind[1] == 'p';
    return is_cpu ? size_min(budget, size_max(budget / 8, 4 * SHORT_TEXT)) : budget;
}

static int time_shape(struct canary *canary, size_t tokens, size_t length, struct drift_sample *sample,
                      struct error *err) {
    struct model_batch batch = shape(canary, tokens, length);
    double each = (double)batch.tokens / (double)batch.texts;
    sample->tokens = (double)batch.tokens;
    sample->squared_lengths = (double)batch.texts * each * each;
    return run_fastest(canary, &batch, CANARY_RUNS, &sample->seconds, err);
}

int canary_calibrate(struct canary *canary, struct guard *guard, struct drift_cost *cost, struct error *err) {
    struct drift_sample samples[3];
    size_t tokens = calibration_tokens(canary);
    double warm;
    double warm_on_device;
    canary->guard = guard;
    canary->tokens = size_max(tokens / 2, 1);
    struct model_batch batch = shape(canary, canary->tokens, SHORT_TEXT);
    int status = run_once(canary, &batch, &warm, &warm_on_device, err); // first touch of every buffer
    if (status == STATUS_OK) {
        status = time_shape(canary, TINY_BATCH, TINY_BATCH, &samples[0], err);
    }
    if (status == STATUS_OK) {
        status = time_shape(canary, tokens, SHORT_TEXT, &samples[1], err);
    }
    if (status == STATUS_OK) {
        status = time_shape(canary, tokens, tokens, &samples[2], err);
    }
    if (status == STATUS_OK) {
        batch = shape(canary, canary->tokens, SHORT_TEXT);
        status = run_fastest(canary, &batch, CANARY_RUNS, &canary->seconds, err);
    }
    if (status == STATUS_OK) {
        status = hash_outputs(canary, &batch, canary->sha256, err);
        drift_fit(cost, samples);
    }
    canary->guard = NULL;
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "calibration");
}

int canary_run(struct canary *canary, double *seconds, bool *same, struct error *err) {
    char hex[DIGEST_HEX];
    struct model_batch batch = shape(canary, canary->tokens, SHORT_TEXT);
    int status = run_fastest(canary, &batch, CANARY_RUNS, seconds, err);
    if (status == STATUS_OK) {
        status = hash_outputs(canary, &batch, hex, err);
        *same = status == STATUS_OK && strcmp(hex, canary->sha256) == 0;
    }
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "canary");
}

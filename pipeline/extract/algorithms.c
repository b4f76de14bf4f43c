#include "extract/algorithms.h"

#include <stdio.h>
#include <string.h>

#include "extract/profile.h"

#define ALGORITHMS_NOTE "device.algorithms"

// What the fastest choice depends on; the choices name their shapes themselves.
static void profile_key(const struct inputs *inputs, const struct model_limits *limits,
                        char key[PROFILE_KEY]) {
    struct device_description device;
    device_describe(inputs->device, &device);
    snprintf(key, PROFILE_KEY, "algorithms: %.280s, %s, %zu tokens, model %.16s", device.identity,
             dtype_name(inputs->job.dtype), limits->tokens, model_fingerprint(inputs->model));
}

// A profile that cannot be read, or that another device wrote, is no reference.
static void take_from_profile(struct inputs *inputs, const char *key, struct log *log, bool *found) {
    struct buffer text = {0};
    struct error err;
    int status = profile_find_text_in_file(&text, key, inputs->job.profile, found, &err);
    if (status == STATUS_OK && *found) {
        status = device_set_algorithms(inputs->device, text.data, &err);
    }
    if (status != STATUS_OK) {
        *found = false;
        log_write(log, LOG_LEVEL_WARN, "run.profile was not read: %s", err.message);
    }
    buffer_destroy(&text);
}

static void put_into_profile(const struct inputs *inputs, const char *text, const char *key,
                             struct log *log) {
    struct error err;
    if (profile_store_text_in_file(text, key, inputs->job.profile, &err) != STATUS_OK) {
        log_write(log, LOG_LEVEL_WARN, "run.profile was not written: %s", err.message);
    }
}

// Only of a run that has begun: before its identity is settled nothing was computed.
static int take_from_ledger(struct inputs *inputs, struct ledger *ledger, bool *found, struct error *err) {
    struct buffer text = {0};
    int status = ledger_note(ledger, ALGORITHMS_NOTE, &text, found, err);
    if (status == STATUS_OK && *found && text.size > 0) {
        status = device_set_algorithms(inputs->device, text.data, err);
    }
    buffer_destroy(&text);
    return status;
}

// One entry a shape.
static void log_choice(struct log *log, const char *text, const char *source) {
    while (*text != 0) {
        int length = (int)strcspn(text, "\n");
        log_write(log, LOG_LEVEL_INFO, "product %.*s (%s)", length, text, source);
        text += length + (text[length] == '\n');
    }
}

int algorithms_tune(struct inputs *inputs, struct ledger *ledger, const struct model_limits *limits,
                    struct log *log, struct error *err) {
    char key[PROFILE_KEY];
    struct buffer text = {0};
    bool from_ledger = false;
    bool from_profile = false;
    int status = take_from_ledger(inputs, ledger, &from_ledger, err);
    profile_key(inputs, limits, key);
    if (status == STATUS_OK && !from_ledger && inputs->job.profile != NULL) {
        take_from_profile(inputs, key, log, &from_profile);
    }
    if (status == STATUS_OK) {
        status = model_tune(inputs->model, err);
    }
    if (status == STATUS_OK) {
        status = device_algorithms(inputs->device, &text, err);
    }
    if (status == STATUS_OK && text.size > 0) {
        const char *source = from_ledger    ? "as this run began"
                             : from_profile ? "as run.profile says"
                                            : "timed now";
        log_choice(log, text.data, source);
        if (!from_ledger && !from_profile && inputs->job.profile != NULL) {
            put_into_profile(inputs, text.data, key, log);
        }
    }
    buffer_destroy(&text);
    return status;
}

int algorithms_digest(const struct inputs *inputs, char hex[DIGEST_HEX], struct error *err) {
    struct buffer text = {0};
    struct digest *digest = NULL;
    hex[0] = 0;
    int status = device_algorithms(inputs->device, &text, err);
    if (status == STATUS_OK && text.size > 0) {
        status = digest_create(&digest, err);
        if (status == STATUS_OK) {
            status = digest_field(digest, text.data, text.size, err);
        }
        if (status == STATUS_OK) {
            status = digest_finish(digest, hex, err);
        }
        digest_destroy(digest);
    }
    buffer_destroy(&text);
    return status;
}

int algorithms_keep(const struct inputs *inputs, struct ledger *ledger, struct error *err) {
    struct buffer text = {0};
    int status = device_algorithms(inputs->device, &text, err);
    if (status == STATUS_OK && text.size > 0) {
        status = ledger_set_note(ledger, ALGORITHMS_NOTE, text.data, err);
    }
    buffer_destroy(&text);
    return status;
}

// SPDX-License-Identifier: MIT
#include "start/algorithms.h"

#include <stdio.h>
#include <string.h>

#include "watch/guard.h"
#include "watch/profile.h"

#define ALGORITHMS_NOTE "device.algorithms"

// What the fastest choice depends on; the choices name their shapes themselves.
static void profile_key(const struct inputs *inputs, const struct model_limits *limits,
                        char key[PROFILE_KEY]) {
    snprintf(key, PROFILE_KEY, "algorithms: %.280s, %s, %zu tokens, model %.16s", inputs->device.identity,
             dtype_name(inputs->job.dtype), limits->tokens, model_fingerprint(inputs->model));
}

// What the profile suggests: its text, empty where it has none. A profile that cannot be read, or that
// another device wrote, is no reference.
static void take_from_profile(struct inputs *inputs, const char *key, struct log *log, struct buffer *text) {
    bool found = false;
    struct error err;
    int status = profile_find_text_in_file(text, key, inputs->job.profile, &found, &err);
    if (status == STATUS_OK && found) {
        status = model_set_algorithms(inputs->model, text->data, false, &err);
    }
    if (status != STATUS_OK) {
        text->size = 0;
        log_write(log, LOG_LEVEL_WARN, "run.profile was not read: %s", err.message);
    }
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
    int status;
    TRY_TO(done, status = ledger_note(ledger, ALGORITHMS_NOTE, &text, found, err));
    if (*found && text.size > 0) {
        TRY_TO(done, status = model_set_algorithms(inputs->model, text.data, true, err));
    }
done:
    buffer_destroy(&text);
    return status;
}

// As the other parts of the job compute them.
static int take_from_parts(struct inputs *inputs, bool *found, struct error *err) {
    const struct buffer *text = &inputs->part.shared.algorithms;
    *found = text->size > 0;
    return *found ? model_set_algorithms(inputs->model, text->data, true, err) : STATUS_OK;
}

// One entry a shape.
static void log_choice(struct log *log, const char *text, const char *source) {
    while (*text != 0) {
        int length = (int)strcspn(text, "\n");
        log_write(log, LOG_LEVEL_INFO, "product %.*s (%s)", length, text, source);
        text += length + (text[length] == '\n');
    }
}

// Between two shapes of matmuls: tuning goes on, and a stop is heard.
static bool goes_on(void *context) {
    struct guard *guard = context;
    guard_goes_on(guard);
    return !guard_stop_requested(guard);
}

static int tune(struct inputs *inputs, struct guard *guard, struct buffer *chosen, struct error *err) {
    int status = model_tune(inputs->model, goes_on, guard, err);
    if (status == STATUS_STOPPED) {
        return error_set(err, status, "stopped by %s before the first batch", guard_signal_name(guard));
    }
    TRY(status);
    return model_algorithms(inputs->model, chosen, err);
}

int algorithms_tune(struct inputs *inputs, struct ledger *ledger, const struct model_limits *limits,
                    struct guard *guard, struct log *log, struct error *err) {
    char key[PROFILE_KEY];
    struct buffer chosen = {0};
    struct buffer suggested = {0};
    bool from_ledger = false;
    TRY(take_from_ledger(inputs, ledger, &from_ledger, err));
    if (!from_ledger) {
        TRY(take_from_parts(inputs, &from_ledger, err));
    }
    bool uses_profile = !from_ledger && inputs->job.profile != NULL;
    profile_key(inputs, limits, key);
    if (uses_profile) {
        take_from_profile(inputs, key, log, &suggested);
    }
    int status = tune(inputs, guard, &chosen, err);
    if (status == STATUS_OK && chosen.size > 0) {
        bool taken = suggested.size > 0 && strcmp(suggested.data, chosen.data) == 0;
        log_choice(log, chosen.data,
                   from_ledger          ? "as this run began"
                   : taken              ? "as run.profile says"
                   : suggested.size > 0 ? "timed now: the algorithm named by run.profile is not available"
                                        : "timed now");
        if (uses_profile && !taken) {
            put_into_profile(inputs, chosen.data, key, log);
        }
    }
    buffer_destroy(&suggested);
    buffer_destroy(&chosen);
    return status;
}

int algorithms_adopt(struct inputs *inputs, struct guard *guard, struct error *err) {
    struct buffer chosen = {0};
    bool found = false;
    TRY(take_from_parts(inputs, &found, err));
    int status = found ? tune(inputs, guard, &chosen, err) : STATUS_OK;
    buffer_destroy(&chosen);
    return status;
}

int algorithms_digest(const struct inputs *inputs, char hex[DIGEST_HEX], struct error *err) {
    struct buffer text = {0};
    struct digest *digest = NULL;
    int status;
    hex[0] = 0;
    TRY_TO(done, status = model_algorithms(inputs->model, &text, err));
    if (text.size > 0) {
        TRY_TO(done, status = digest_create(&digest, err));
        TRY_TO(done, status = digest_field(digest, text.data, text.size, err));
        TRY_TO(done, status = digest_finish(digest, hex, err));
    }
done:
    digest_destroy(digest);
    buffer_destroy(&text);
    return status;
}

int algorithms_keep(const struct inputs *inputs, struct ledger *ledger, struct error *err) {
    struct buffer text = {0};
    int status;
    TRY_TO(done, status = model_algorithms(inputs->model, &text, err));
    if (text.size > 0) {
        TRY_TO(done, status = ledger_set_note(ledger, ALGORITHMS_NOTE, text.data, err));
    }
done:
    buffer_destroy(&text);
    return status;
}

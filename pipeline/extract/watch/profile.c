// SPDX-License-Identifier: MIT
#include "watch/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

#define LOCK_PAUSE 0.1 // seconds

enum { FILE_LIMIT = 16 << 20, KEY_SIZE = 512, LOCK_ATTEMPTS = 50 };

static json_t *to_json(const struct profile *profile) {
    json_t *object = json_object();
    json_object_set_new(object, "fixed", json_real(profile->cost.fixed));
    json_object_set_new(object, "per_token", json_real(profile->cost.per_token));
    json_object_set_new(object, "per_square", json_real(profile->cost.per_square));
    json_object_set_new(object, "canary_seconds", json_real(profile->canary_seconds));
    json_object_set_new(object, "own_fixed", json_real(profile->own_cost.fixed));
    json_object_set_new(object, "own_per_token", json_real(profile->own_cost.per_token));
    json_object_set_new(object, "own_per_square", json_real(profile->own_cost.per_square));
    json_object_set_new(object, "canary_own_seconds", json_real(profile->canary_own_seconds));
    json_object_set_new(object, "sm_clock", json_real(profile->sm_clock));
    json_object_set_new(object, "canary_sha256", json_string(profile->canary_sha256));
    return object;
}

static bool cost_is_sound(const struct drift_cost *cost, double canary_seconds) {
    return canary_seconds > 0 && cost->fixed >= 0 && cost->per_token >= 0 && cost->per_square >= 0 &&
           cost->fixed + cost->per_token > 0;
}

static int from_json(struct profile *profile, const json_t *object, struct error *err) {
    *profile = (struct profile){0};
    const struct {
        const char *key;
        double *value;
    } numbers[] = {
        {"fixed", &profile->cost.fixed},
        {"per_token", &profile->cost.per_token},
        {"per_square", &profile->cost.per_square},
        {"canary_seconds", &profile->canary_seconds},
        {"own_fixed", &profile->own_cost.fixed},
        {"own_per_token", &profile->own_cost.per_token},
        {"own_per_square", &profile->own_cost.per_square},
        {"canary_own_seconds", &profile->canary_own_seconds},
    };
    const char *sha256 = "";
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        TRY(json_get_number(object, numbers[i].key, numbers[i].value, err));
    }
    if (json_member(object, "sm_clock") != NULL) { // older calibrations have none
        TRY(json_get_number(object, "sm_clock", &profile->sm_clock, err));
    }
    TRY(json_get_string(object, "canary_sha256", &sha256, err));
    snprintf(profile->canary_sha256, sizeof profile->canary_sha256, "%s", sha256);
    bool sound =
        cost_is_sound(&profile->cost, profile->canary_seconds) &&
        (profile->canary_own_seconds == 0 || cost_is_sound(&profile->own_cost, profile->canary_own_seconds));
    return sound ? STATUS_OK : error_set(err, STATUS_DATA, "a calibration with impossible times");
}

static void ledger_key(char out[KEY_SIZE], const char *key) {
    snprintf(out, KEY_SIZE, "calibration.%s", key);
}

int profile_find(struct profile *profile, const char *key, struct ledger *ledger, bool *found,
                 struct error *err) {
    char name[KEY_SIZE];
    struct buffer text = {0};
    json_t *object = NULL;
    int status;
    ledger_key(name, key);
    TRY_TO(done, status = ledger_note(ledger, name, &text, found, err));
    if (*found) {
        TRY_TO(done, status = json_parse(&object, text.data, text.size, "the ledger's calibration", err));
        status = from_json(profile, object, err);
        json_decref(object);
    }
done:
    buffer_destroy(&text);
    return status;
}

static int read_file(json_t **root, const char *path, struct error *err) {
    TRY(json_parse_file(root, path, FILE_LIMIT, err));
    if (!json_is_object(*root)) {
        json_decref(*root);
        return error_set(err, STATUS_DATA, "%s is not a JSON object", path);
    }
    return STATUS_OK;
}

// What a file holds under the key, NULL for nothing; it belongs to *root, which the caller gives back.
static int find_in_file(json_t **root, const json_t **value, const char *key, const char *path,
                        struct error *err) {
    *root = NULL;
    *value = NULL;
    if (!file_exists(path)) {
        return STATUS_OK;
    }
    int status = read_file(root, path, err);
    if (status != STATUS_OK) {
        *root = NULL;
        return status;
    }
    *value = json_member(*root, key);
    return STATUS_OK;
}

int profile_find_in_file(struct profile *profile, const char *key, const char *path, bool *found,
                         struct error *err) {
    json_t *root;
    const json_t *object;
    *found = false;
    int status = find_in_file(&root, &object, key, path, err);
    if (status != STATUS_OK || object == NULL) {
        json_decref(root);
        return status;
    }
    status = from_json(profile, object, err);
    *found = status == STATUS_OK;
    json_decref(root);
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "%s", path);
}

// Takes `value`.
static int add_to_file(json_t *value, const char *key, const char *path, struct error *err) {
    json_t *root = NULL;
    int status = file_exists(path) ? read_file(&root, path, err) : STATUS_OK;
    if (status != STATUS_OK) {
        json_decref(value);
        return status;
    }
    root = root == NULL ? json_object() : root;
    json_object_set_new(root, key, value);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(root);
    if (text == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory for %s", path);
    }
    status = file_write_atomic(path, text, strlen(text), err);
    free(text);
    return status;
}

// Takes `value`. One run at a time.
static int add_locked(json_t *value, const char *key, const char *path, struct error *err) {
    char lock[PATH_SIZE];
    int descriptor = -1;
    bool held = false;
    if (snprintf(lock, sizeof lock, "%s.lock", path) >= (int)sizeof lock) {
        json_decref(value);
        return error_set(err, STATUS_WRITE, "path too long: %s", path);
    }
    int status = STATUS_OK;
    for (int attempt = 0; status == STATUS_OK && !held && attempt < LOCK_ATTEMPTS; attempt++) {
        clock_sleep(attempt == 0 ? 0 : LOCK_PAUSE);
        status = file_lock(lock, &descriptor, &held, err);
    }
    if (status == STATUS_OK && !held) {
        status = error_set(err, STATUS_WRITE, "%s stays locked by another run", path);
    }
    if (status != STATUS_OK) {
        json_decref(value);
        return status;
    }
    status = add_to_file(value, key, path, err);
    close(descriptor);
    return status;
}

int profile_store_in_file(const struct profile *profile, const char *key, const char *path,
                          struct error *err) {
    return add_locked(to_json(profile), key, path, err);
}

int profile_find_text_in_file(struct buffer *text, const char *key, const char *path, bool *found,
                              struct error *err) {
    json_t *root;
    const json_t *value;
    *found = false;
    int status;
    TRY_TO(done, status = find_in_file(&root, &value, key, path, err));
    if (value != NULL) {
        *found = json_is_string(value);
        status = *found ? buffer_append(text, json_string_value(value), json_string_length(value), err)
                        : error_set(err, STATUS_DATA, "%s: '%s' is not a text", path, key);
    }
done:
    json_decref(root);
    return status;
}

int profile_store_text_in_file(const char *text, const char *key, const char *path, struct error *err) {
    return add_locked(json_string(text), key, path, err);
}

int profile_store(const struct profile *profile, const char *key, struct ledger *ledger, struct error *err) {
    char name[KEY_SIZE];
    json_t *object = to_json(profile);
    char *text = json_dumps(object, JSON_COMPACT);
    ledger_key(name, key);
    int status = text == NULL ? error_set(err, STATUS_INTERNAL, "out of memory for a calibration")
                              : ledger_set_note(ledger, name, text, err);
    free(text);
    json_decref(object);
    return status;
}

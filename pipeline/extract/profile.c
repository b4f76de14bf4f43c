#include "extract/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

enum { FILE_LIMIT = 16 << 20, KEY_SIZE = 512 };

static json_t *to_json(const struct profile *profile) {
    json_t *object = json_object();
    json_object_set_new(object, "fixed", json_real(profile->cost.fixed));
    json_object_set_new(object, "per_token", json_real(profile->cost.per_token));
    json_object_set_new(object, "per_square", json_real(profile->cost.per_square));
    json_object_set_new(object, "canary_seconds", json_real(profile->canary_seconds));
    json_object_set_new(object, "canary_sha256", json_string(profile->canary_sha256));
    return object;
}

static int from_json(struct profile *profile, const json_t *object, struct error *err) {
    const char *sha256 = "";
    *profile = (struct profile){0};
    int status = json_get_number(object, "fixed", &profile->cost.fixed, err);
    if (status == STATUS_OK) {
        status = json_get_number(object, "per_token", &profile->cost.per_token, err);
    }
    if (status == STATUS_OK) {
        status = json_get_number(object, "per_square", &profile->cost.per_square, err);
    }
    if (status == STATUS_OK) {
        status = json_get_number(object, "canary_seconds", &profile->canary_seconds, err);
    }
    if (status == STATUS_OK) {
        status = json_get_string(object, "canary_sha256", &sha256, err);
    }
    snprintf(profile->canary_sha256, sizeof profile->canary_sha256, "%s", sha256);
    return status;
}

static void ledger_key(char out[KEY_SIZE], const char *key) {
    snprintf(out, KEY_SIZE, "calibration.%s", key);
}

static int find_in_ledger(struct profile *profile, const char *key, struct ledger *ledger, bool *found,
                          struct error *err) {
    char name[KEY_SIZE];
    struct buffer text = {0};
    json_t *object = NULL;
    ledger_key(name, key);
    int status = ledger_note(ledger, name, &text, found, err);
    if (status == STATUS_OK && *found) {
        status = json_parse(&object, text.data, text.size, "the ledger's calibration", err);
        if (status == STATUS_OK) {
            status = from_json(profile, object, err);
        }
        json_decref(object);
    }
    buffer_destroy(&text);
    return status;
}

int profile_find(struct profile *profile, const char *key, struct ledger *ledger, const char *path,
                 bool *found, struct error *err) {
    int status = find_in_ledger(profile, key, ledger, found, err);
    if (status != STATUS_OK || *found || path == NULL || !file_exists(path)) {
        return status;
    }
    json_t *root;
    status = json_parse_file(&root, path, FILE_LIMIT, err);
    if (status != STATUS_OK) {
        return error_wrap(err, "run.profile");
    }
    const json_t *object = json_member(root, key);
    if (object != NULL) {
        status = from_json(profile, object, err);
        *found = status == STATUS_OK;
    }
    json_decref(root);
    return status;
}

static int store_in_file(json_t *object, const char *key, const char *path, struct error *err) {
    json_t *root = NULL;
    int status = file_exists(path) ? json_parse_file(&root, path, FILE_LIMIT, err) : STATUS_OK;
    if (status != STATUS_OK) {
        return error_wrap(err, "run.profile");
    }
    root = root == NULL ? json_object() : root;
    json_object_set(root, key, object);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(root);
    if (text == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory for %s", path);
    }
    status = file_write_atomic(path, text, strlen(text), err);
    free(text);
    return status;
}

int profile_store(const struct profile *profile, const char *key, struct ledger *ledger, const char *path,
                  struct error *err) {
    char name[KEY_SIZE];
    json_t *object = to_json(profile);
    char *text = json_dumps(object, JSON_COMPACT);
    ledger_key(name, key);
    int status = text == NULL ? error_set(err, STATUS_INTERNAL, "out of memory for a calibration")
                              : ledger_set_note(ledger, name, text, err);
    if (status == STATUS_OK && path != NULL) {
        status = store_in_file(object, key, path, err);
    }
    free(text);
    json_decref(object);
    return status;
}

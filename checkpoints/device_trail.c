// SPDX-License-Identifier: MIT
#include "checkpoints/device_trail.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

#define TRAIL_NOTE "device.changes" // lines "FIRST_BATCH IDENTITY"

static const char cpu[] = "cpu ";
static const char path_word[] = "path=";

static int add(struct device_trail *trail, uint64_t first_batch, const char *identity, size_t length,
               struct error *err) {
    void *grown = trail->entries;
    if (length >= DEVICE_TRAIL_IDENTITY) {
        return error_set(err, STATUS_DATA, "a device's identity of %zu bytes is too long", length);
    }
    TRY(memory_resize(&grown, trail->count + 1, sizeof *trail->entries, err));
    trail->entries = grown;
    struct device_trail_entry *entry = &trail->entries[trail->count++];
    *entry = (struct device_trail_entry){.first_batch = first_batch};
    memcpy(entry->identity, identity, length);
    return STATUS_OK;
}

static int read_lines(struct device_trail *trail, const char *text, struct error *err) {
    while (*text != 0) {
        char *identity;
        unsigned long long first_batch = strtoull(text, &identity, 10);
        size_t length = strcspn(identity, "\n");
        if (*text < '0' || *text > '9' || *identity != ' ' || length < 2 ||
            first_batch < device_trail_last(trail)->first_batch) {
            return error_set(err, STATUS_DATA, "the ledger's note %s is damaged: '%.60s'", TRAIL_NOTE, text);
        }
        TRY(add(trail, first_batch, identity + 1, length - 1, err));
        text = identity + length + (identity[length] == '\n');
    }
    return STATUS_OK;
}

int device_trail_read(struct device_trail *trail, struct ledger *ledger, struct error *err) {
    struct identity identity = {0};
    struct buffer note = {0};
    bool found = false;
    *trail = (struct device_trail){0};
    int status;
    TRY_TO(done, status = ledger_identity(ledger, &identity, &found, err));
    const char *first = identity_get(&identity, "device.identity");
    if (first != NULL) {
        TRY_TO(done, status = add(trail, 0, first, strlen(first), err));
    }
    if (first != NULL) {
        TRY_TO(done, status = ledger_note(ledger, TRAIL_NOTE, &note, &found, err));
    }
    if (note.size > 0) {
        TRY_TO(done, status = buffer_append(&note, "", 1, err));
        TRY_TO(done, status = read_lines(trail, note.data, err));
    }
done:
    buffer_destroy(&note);
    identity_destroy(&identity);
    return status;
}

void device_trail_destroy(struct device_trail *trail) {
    free(trail->entries);
    *trail = (struct device_trail){0};
}

const struct device_trail_entry *device_trail_last(const struct device_trail *trail) {
    return trail->count == 0 ? NULL : &trail->entries[trail->count - 1];
}

const struct device_trail_entry *device_trail_at(const struct device_trail *trail, uint64_t batch) {
    const struct device_trail_entry *found = trail->count == 0 ? NULL : &trail->entries[0];
    for (size_t i = 1; i < trail->count && trail->entries[i].first_batch <= batch; i++) {
        found = &trail->entries[i];
    }
    return found;
}

int device_trail_follow(struct device_trail *trail, uint64_t first_batch, const char *identity,
                        struct error *err) {
    while (trail->count > 1 && device_trail_last(trail)->first_batch >= first_batch) {
        trail->count--;
    }
    if (trail->count > 0 && strcmp(device_trail_last(trail)->identity, identity) == 0) {
        return STATUS_OK; // back again before anything was sealed
    }
    return add(trail, first_batch, identity, strlen(identity), err);
}

int device_trail_text(const struct device_trail *trail, struct buffer *out, struct error *err) {
    for (size_t i = 1; i < trail->count; i++) {
        TRY(buffer_printf(out, err, "%" PRIu64 " %s\n", trail->entries[i].first_batch,
                          trail->entries[i].identity));
    }
    return STATUS_OK;
}

int device_trail_write(const struct device_trail *trail, struct ledger *ledger, struct error *err) {
    struct buffer text = {0};
    int status;
    TRY_TO(done, status = device_trail_text(trail, &text, err));
    TRY_TO(done, status = ledger_set_note(ledger, TRAIL_NOTE, text.size == 0 ? "" : text.data, err));
done:
    buffer_destroy(&text);
    return status;
}

// The next entry begins where this one does: only the first, when nothing was sealed before the change.
static bool is_empty(const struct device_trail *trail, size_t entry) {
    return entry + 1 < trail->count &&
           trail->entries[entry + 1].first_batch == trail->entries[entry].first_batch;
}

bool device_trail_changed(const struct device_trail *trail) {
    return trail->count > 2 || (trail->count == 2 && !is_empty(trail, 0));
}

int device_trail_describe(const struct device_trail *trail, struct buffer *out, struct error *err) {
    for (size_t i = 0; i < trail->count; i++) {
        const struct device_trail_entry *entry = &trail->entries[i];
        char path[DEVICE_TRAIL_PATH];
        if (is_empty(trail, i)) {
            continue;
        }
        device_trail_path(entry->identity, path);
        TRY(entry->first_batch == 0
                ? buffer_printf(out, err, "%s", path)
                : buffer_printf(out, err, ", %s from batch %" PRIu64, path, entry->first_batch));
    }
    return STATUS_OK;
}

// The word "path=NAME": where its name begins, and its length; NULL without one.
static const char *find_path(const char *identity, size_t *length) {
    const char *word = strncmp(identity, cpu, sizeof cpu - 1) == 0 ? strstr(identity, path_word) : NULL;
    if (word == NULL) {
        *length = 0;
        return NULL;
    }
    *length = strcspn(word + sizeof path_word - 1, " ");
    return word + sizeof path_word - 1;
}

void device_trail_path(const char *identity, char out[DEVICE_TRAIL_PATH]) {
    size_t length;
    const char *path = find_path(identity, &length);
    snprintf(out, DEVICE_TRAIL_PATH, "%.*s", (int)size_min(length, DEVICE_TRAIL_PATH - 1),
             path == NULL ? "" : path);
}

bool device_trail_only_path_differs(const char *one, const char *other) {
    size_t lengths[2];
    const char *paths[2] = {find_path(one, &lengths[0]), find_path(other, &lengths[1])};
    if (paths[0] == NULL || paths[1] == NULL || strcmp(one, other) == 0) {
        return false;
    }
    size_t before = (size_t)(paths[0] - one);
    return before == (size_t)(paths[1] - other) && memcmp(one, other, before) == 0 &&
           strcmp(paths[0] + lengths[0], paths[1] + lengths[1]) == 0;
}

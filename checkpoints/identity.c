// SPDX-License-Identifier: MIT
#include "checkpoints/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/printable.h"

int identity_add(struct identity *identity, const char *key, const char *value, struct error *err) {
    if (identity_get(identity, key) != NULL) {
        return error_set(err, STATUS_INTERNAL, "the identity has two values for %s", key);
    }
    void *grown = identity->entries;
    TRY(memory_resize(&grown, identity->count + 1, sizeof *identity->entries, err));
    identity->entries = grown;
    struct identity_entry *entry = &identity->entries[identity->count];
    *entry = (struct identity_entry){0};
    int status;
    TRY_TO(done, status = memory_text(&entry->key, key, err));
    TRY_TO(done, status = memory_text(&entry->value, value, err));
done:
    if (status != STATUS_OK) {
        free(entry->key);
        return status;
    }
    identity->count++;
    return STATUS_OK;
}

int identity_add_number(struct identity *identity, const char *key, long long value, struct error *err) {
    char text[24];
    snprintf(text, sizeof text, "%lld", value);
    return identity_add(identity, key, text, err);
}

int identity_replace(struct identity *identity, const char *key, const char *value, struct error *err) {
    int status = error_set(err, STATUS_INTERNAL, "the identity has no value for %s", key);
    for (size_t i = 0; i < identity->count; i++) {
        char *copy;
        if (strcmp(identity->entries[i].key, key) != 0) {
            continue;
        }
        status = memory_text(&copy, value, err);
        if (status == STATUS_OK) {
            free(identity->entries[i].value);
            identity->entries[i].value = copy;
        }
    }
    return status;
}

const char *identity_get(const struct identity *identity, const char *key) {
    for (size_t i = 0; i < identity->count; i++) {
        if (strcmp(identity->entries[i].key, key) == 0) {
            return identity->entries[i].value;
        }
    }
    return NULL;
}

static int by_key(const void *left, const void *right) {
    const struct identity_entry *a = left;
    const struct identity_entry *b = right;
    return strcmp(a->key, b->key);
}

// Keys are hashed in their own order: an identity is a set, and a later version may add its values elsewhere.
int identity_hash(const struct identity *identity, char hex[DIGEST_HEX], struct error *err) {
    struct digest *digest = NULL;
    void *block = NULL;
    TRY(memory_zeroed(&block, identity->count, sizeof *identity->entries, err));
    struct identity_entry *sorted = block;
    if (identity->count > 0) {
        memcpy(sorted, identity->entries, identity->count * sizeof *sorted);
        qsort(sorted, identity->count, sizeof *sorted, by_key);
    }
    int status;
    TRY_TO(done, status = digest_create(&digest, err));
    for (size_t i = 0; i < identity->count; i++) {
        TRY_TO(done, status = digest_field(digest, sorted[i].key, strlen(sorted[i].key), err));
        TRY_TO(done, status = digest_field(digest, sorted[i].value, strlen(sorted[i].value), err));
    }
    TRY_TO(done, status = digest_finish(digest, hex, err));
done:
    digest_destroy(digest);
    free(block);
    return status;
}

// "key: stored 'a', now 'b'", in one line whatever the values hold. NULL: missing.
static int describe(struct buffer *lines, const char *key, const char *stored, const char *now,
                    struct error *err) {
    const char *const parts[] = {key,
                                 stored == NULL ? ": stored missing" : ": stored '",
                                 stored == NULL ? "" : stored,
                                 stored == NULL ? "" : "'",
                                 now == NULL ? ", now missing" : ", now '",
                                 now == NULL ? "" : now,
                                 now == NULL ? "" : "'"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        TRY(printable_append(lines, parts[i], err));
    }
    return buffer_append(lines, "\n", 1, err);
}

int identity_compare(const struct identity *stored, const struct identity *now, struct buffer *lines,
                     size_t *differences, struct error *err) {
    *differences = 0;
    for (size_t i = 0; i < stored->count; i++) {
        const struct identity_entry *entry = &stored->entries[i];
        const char *value = identity_get(now, entry->key);
        if (value == NULL || strcmp(value, entry->value) != 0) {
            TRY(describe(lines, entry->key, entry->value, value, err));
            ++*differences;
        }
    }
    for (size_t i = 0; i < now->count; i++) {
        const struct identity_entry *entry = &now->entries[i];
        if (identity_get(stored, entry->key) == NULL) {
            TRY(describe(lines, entry->key, NULL, entry->value, err));
            ++*differences;
        }
    }
    return STATUS_OK;
}

void identity_destroy(struct identity *identity) {
    for (size_t i = 0; i < identity->count; i++) {
        free(identity->entries[i].key);
        free(identity->entries[i].value);
    }
    free(identity->entries);
    *identity = (struct identity){0};
}

// SPDX-License-Identifier: MIT
// What a model says of itself by key, whatever holds it: config.json today. A view has the keys of its
// holder; lists and maps under a key are views of their own. The getters leave *out as it was where a key is
// absent or null, and answer STATUS_DATA, naming the key as the holder writes it, where it has another type
// or is out of range.
#ifndef STRATA_MODEL_VALUES_H
#define STRATA_MODEL_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum value_kind {
    VALUE_ABSENT,
    VALUE_NULL,
    VALUE_PLAIN, // a number, a text, true or false
    VALUE_LIST,
    VALUE_MAP,
};

// How one kind of holder is read. Nodes are its own; NULL stands for neither a list nor a map, without
// members.
struct values_holder {
    int (*integer)(const void *map, const char *key, int64_t minimum, int64_t maximum, int64_t *out,
                   struct error *err);
    int (*number)(const void *map, const char *key, double *out, struct error *err);
    int (*boolean)(const void *map, const char *key, bool *out, struct error *err);
    int (*text)(const void *map, const char *key, const char **out, struct error *err);
    enum value_kind (*kind)(const void *map, const char *key);
    void *(*member)(const void *map, const char *key);
    size_t (*count)(const void *list_or_map);
    void *(*element)(const void *list, size_t index);
    const char *(*text_at)(const void *list, size_t index);
    bool (*integer_at)(const void *list, size_t index, int64_t *out);
    bool (*number_at)(const void *list, size_t index, double *out);
    const char *(*next_key)(void *map, const char *key);
    void (*close)(void *node);
};

struct values {
    const struct values_holder *holder;
    void *node;
};

// JSON as Python writes it, one object; `name` stands for it in messages. Texts that the getters give belong
// to the values.
int values_open_json(struct values *out, const char *text, size_t size, const char *name, struct error *err);

// Of what was opened, never of a member.
static inline void values_close(struct values *values) {
    values->holder->close(values->node);
}

// Whole numbers may be written as 1000000.0.
static inline int values_integer(const struct values *map, const char *key, int64_t minimum, int64_t maximum,
                                 int64_t *out, struct error *err) {
    return map->holder->integer(map->node, key, minimum, maximum, out, err);
}

static inline int values_number(const struct values *map, const char *key, double *out, struct error *err) {
    return map->holder->number(map->node, key, out, err);
}

static inline int values_boolean(const struct values *map, const char *key, bool *out, struct error *err) {
    return map->holder->boolean(map->node, key, out, err);
}

static inline int values_text(const struct values *map, const char *key, const char **out,
                              struct error *err) {
    return map->holder->text(map->node, key, out, err);
}

static inline enum value_kind values_kind(const struct values *map, const char *key) {
    return map->holder->kind(map->node, key);
}

// True unless the key is absent or null.
static inline bool values_has(const struct values *map, const char *key) {
    return values_kind(map, key) > VALUE_NULL;
}

// The list or map under the key.
static inline struct values values_member(const struct values *map, const char *key) {
    return (struct values){map->holder, map->holder->member(map->node, key)};
}

static inline size_t values_count(const struct values *list_or_map) {
    return list_or_map->holder->count(list_or_map->node);
}

// The list or map at this place of a list.
static inline struct values values_element(const struct values *list, size_t index) {
    return (struct values){list->holder, list->holder->element(list->node, index)};
}

// An entry of a list, or NULL where there is none or it is no text.
static inline const char *values_text_at(const struct values *list, size_t index) {
    return list->holder->text_at(list->node, index);
}

// False, and *out as it was, where there is no such entry or it is no whole number.
static inline bool values_integer_at(const struct values *list, size_t index, int64_t *out) {
    return list->holder->integer_at(list->node, index, out);
}

static inline bool values_number_at(const struct values *list, size_t index, double *out) {
    return list->holder->number_at(list->node, index, out);
}

// The key behind `key` in the holder's order, the first one behind NULL; NULL behind the last one.
static inline const char *values_next_key(const struct values *map, const char *key) {
    return map->holder->next_key(map->node, key);
}

#endif

// SPDX-License-Identifier: MIT
#include "export/split.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

static const char source_test[] = "test";

// Names become names of files and folders on any system.
static bool is_name(const char *text, size_t size) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    if (size == 0 || size >= SPLIT_NAME || text[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] == 0 || strchr(allowed, text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static int parse_part(struct split_rule *rule, const char *part, size_t size, struct error *err) {
    const char *equals = memchr(part, '=', size);
    size_t name_size = equals == NULL ? 0 : (size_t)(equals - part);
    if (equals == NULL || !is_name(part, name_size)) {
        return error_set(err, STATUS_USAGE, "--split: '%.*s' is not NAME=FRACTION", (int)size, part);
    }
    char number[32] = "";
    size_t number_size = size - name_size - 1;
    char *end = number;
    double fraction = 0;
    if (number_size > 0 && number_size < sizeof number) {
        memcpy(number, equals + 1, number_size);
        fraction = strtod(number, &end);
    }
    if (end == number || *end != 0 || !(fraction > 0 && fraction <= 1)) {
        return error_set(err, STATUS_USAGE, "--split: the fraction of '%.*s' is not above 0 and at most 1",
                         (int)name_size, part);
    }
    for (size_t i = 0; i < rule->count; i++) {
        if (strlen(rule->names[i]) == name_size && memcmp(rule->names[i], part, name_size) == 0) {
            return error_set(err, STATUS_USAGE, "--split: '%s' is named twice", rule->names[i]);
        }
    }
    if (rule->count == SPLIT_MAXIMUM) {
        return error_set(err, STATUS_USAGE, "--split: more than %d splits", SPLIT_MAXIMUM);
    }
    memcpy(rule->names[rule->count], part, name_size);
    rule->names[rule->count][name_size] = 0;
    rule->fractions[rule->count++] = fraction;
    return STATUS_OK;
}

int split_parse(struct split_rule *rule, const char *text, const char *column, uint64_t seed,
                struct error *err) {
    *rule = (struct split_rule){.seed = seed};
    if (snprintf(rule->column, sizeof rule->column, "%s", column) >= (int)sizeof rule->column) {
        return error_set(err, STATUS_USAGE, "--split-column: the name is too long");
    }
    if (text == NULL) {
        return STATUS_OK;
    }
    if (strcmp(text, "source") == 0) {
        rule->kind = SPLIT_SOURCE;
        return STATUS_OK;
    }
    rule->kind = SPLIT_RATIO;
    double sum = 0;
    for (const char *part = text;; part++) {
        size_t size = strcspn(part, ",");
        TRY(parse_part(rule, part, size, err));
        sum += rule->fractions[rule->count - 1];
        part += size;
        if (*part == 0) {
            break;
        }
    }
    if (!(fabs(sum - 1) <= 1e-6)) {
        return error_set(err, STATUS_USAGE, "--split: the fractions sum to %.6g, not to 1", sum);
    }
    return STATUS_OK;
}

// Uniform in [0, 1): the first 53 bits of SHA-256(seed, id).
static int unit_of(uint64_t seed, const char *id, size_t id_size, double *unit, struct error *err) {
    struct digest *digest;
    char hex[DIGEST_HEX];
    int status;
    TRY(digest_create(&digest, err));
    TRY_TO(done, status = digest_number(digest, seed, err));
    TRY_TO(done, status = digest_field(digest, id, id_size, err));
    TRY_TO(done, status = digest_finish(digest, hex, err));
    hex[16] = 0;
    *unit = (double)(strtoull(hex, NULL, 16) >> 11) * 0x1p-53;
done:
    digest_destroy(digest);
    return status;
}

int split_choose(const struct split_rule *rule, const char *id, size_t id_size, const json_t *metadata,
                 char name[SPLIT_NAME], struct error *err) {
    if (rule->kind == SPLIT_NONE) {
        strcpy(name, "all");
        return STATUS_OK;
    }
    const json_t *value = json_member(metadata, rule->column);
    const char *text = json_string_value(value);
    size_t size = json_string_length(value);
    if (rule->kind == SPLIT_SOURCE) {
        if (value == NULL) {
            strcpy(name, "unsplit");
            return STATUS_OK;
        }
        if (text == NULL || !is_name(text, size)) {
            return error_set(err, STATUS_DATA, "problem %.*s: its column '%s' cannot be the name of a split",
                             (int)id_size, id, rule->column);
        }
        memcpy(name, text, size);
        name[size] = 0;
        return STATUS_OK;
    }
    if (text != NULL && strcmp(text, source_test) == 0) {
        strcpy(name, source_test);
        return STATUS_OK;
    }
    double unit;
    TRY(unit_of(rule->seed, id, id_size, &unit, err));
    size_t chosen = 0;
    double above = rule->fractions[0];
    while (unit >= above && chosen + 1 < rule->count) {
        above += rule->fractions[++chosen];
    }
    strcpy(name, rule->names[chosen]);
    return STATUS_OK;
}

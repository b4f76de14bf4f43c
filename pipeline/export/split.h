// SPDX-License-Identifier: MIT
// Which split a problem goes to: all of them to one, by a column of the source, or at random by a seeded hash
// of the id, so that a problem keeps its split when others join or leave.
#ifndef STRATA_EXPORT_SPLIT_H
#define STRATA_EXPORT_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

enum { SPLIT_MAXIMUM = 32, SPLIT_NAME = 64 };
enum split_kind { SPLIT_NONE, SPLIT_SOURCE, SPLIT_RATIO };

struct split_rule {
    enum split_kind kind;
    char column[128]; // of the metadata; its value "test" is honoured by SPLIT_RATIO too
    uint64_t seed;
    size_t count; // SPLIT_RATIO
    char names[SPLIT_MAXIMUM][SPLIT_NAME];
    double fractions[SPLIT_MAXIMUM];
};

// NULL: no split. "source": the column as it is. "train=0.9,validation=0.1": fractions that sum to 1 (to
// 1e-6). STATUS_USAGE with what is wrong.
int split_parse(struct split_rule *rule, const char *text, const char *column, uint64_t seed,
                struct error *err);

// The split of one problem. `metadata` is its JSON object. A problem without the column goes to "unsplit"
// under SPLIT_SOURCE. STATUS_DATA when the column's value cannot be the name of a file.
int split_choose(const struct split_rule *rule, const char *id, size_t id_size, const json_t *metadata,
                 char name[SPLIT_NAME], struct error *err);

#endif

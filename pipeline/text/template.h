// SPDX-License-Identifier: MIT
// A text template over columns: "{statement}\n{steps}". Doubled braces are literal. {steps} is the steps
// joined by the separator when steps come from a column; any other name is a column of the query.
#ifndef STRATA_TEXT_TEMPLATE_H
#define STRATA_TEXT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/memory.h"

struct template_part {
    char *text; // literal, or the column's name
    size_t size;
    bool is_column;
};

struct template {
    struct template_part *parts;
    size_t count;
};

// STATUS_JOB with the place when a brace is not closed or a name is empty.
int template_parse(struct template *template, const char *text, struct error *err);
void template_destroy(struct template *template); // accepts zeros; leaves zeros

// True when the template names this column.
bool template_uses(const struct template *template, const char *column);

struct template_value {
    const char *bytes;
    size_t size;
};

// Appends the rendering of the parts to `out`. value(context, name, &v) gives a column's bytes (or an error
// status). Where the part named `marked` (may be NULL) first begins in `out` is put in *marked_at, SIZE_MAX
// when it does not occur.
int template_render(const struct template *template, struct buffer *out, const char *marked,
                    size_t *marked_at,
                    int (*value)(void *context, const char *name, struct template_value *out,
                                 struct error *err),
                    void *context, struct error *err);
size_t template_count(const struct template *template, const char *column); // how often a name occurs

#endif

// SPDX-License-Identifier: MIT
// The "normalizer" of tokenizer.json: steps that rewrite a piece of text and keep its alignment.
#ifndef STRATA_TEXT_NORMALIZER_H
#define STRATA_TEXT_NORMALIZER_H

#include <jansson.h>

#include "base/memory.h"
#include "text/aligned.h"
#include "text/normal_form.h"
#include "text/pattern.h"

enum { NORMALIZER_STEPS = 32 };

enum normalizer_kind {
    NORMALIZE_FORM,
    NORMALIZE_PREPEND,
    NORMALIZE_REPLACE,
    NORMALIZE_LOWERCASE,
    NORMALIZE_STRIP,
};

struct normalizer_step {
    enum normalizer_kind kind;
    enum normal_form form; // NORMALIZE_FORM
    char *text;            // prepended, or put in place of a match
    size_t text_size;
    struct pattern *pattern; // NORMALIZE_REPLACE
    bool strip_left;
    bool strip_right;
};

struct normalizer {
    struct normalizer_step steps[NORMALIZER_STEPS];
    size_t count;
};

struct normalizer_scratch {
    struct aligned_text texts[2]; // steps write one and read the other
    struct normal_scratch forms;
    struct buffer subject;
    struct pattern_scratch *patterns; // borrowed
};

// Reads the file's block (NULL: no normalizer). STATUS_DATA names what is unknown or wrong.
int normalizer_load(struct normalizer *normalizer, const json_t *json, struct error *err);

// Whether both rewrite texts by the same steps.
bool normalizer_same(const struct normalizer *a, const struct normalizer *b);
void normalizer_destroy(struct normalizer *normalizer); // leaves zeros

// *out is the normalized piece: `in` itself, or text in the scratch, valid until its next use.
int normalizer_apply(const struct normalizer *normalizer, struct normalizer_scratch *scratch, struct piece in,
                     struct piece *out, struct error *err);
void normalizer_scratch_destroy(struct normalizer_scratch *scratch); // leaves zeros

#endif

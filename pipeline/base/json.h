// SPDX-License-Identifier: MIT
// JSON (jansson) with errors that name the file, the place and the key.
#ifndef STRATA_BASE_JSON_H
#define STRATA_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

// Parses one document; duplicate keys and trailing bytes are errors. `name` stands for the source in
// messages. The caller owns *out (json_decref). STATUS_DATA with line and column when it is not JSON.
int json_parse(json_t **out, const char *text, size_t size, const char *name, struct error *err);

// The same of files that Python writes (config.json, tokenizer.json ...), as its json module takes them: the
// last of two equal keys counts, NaN, Infinity and integers beyond 64 bits are no fault until a getter below
// asks for them, and a byte order mark is skipped. Half of a surrogate pair in a value becomes a NUL, so that
// no getter gives the text. json_parse_file first says what a file is that is no JSON at all,
// json_parse_vocabulary refuses such halves.
int json_parse_python(json_t **out, const char *text, size_t size, const char *name, struct error *err);
int json_parse_vocabulary(json_t **out, const char *text, size_t size, const char *name, struct error *err);
int json_parse_file(json_t **out, const char *path, size_t limit, struct error *err);

// True when a document was not read because memory ran out, of which jansson says nothing more: no fault of
// the text.
bool json_lacked_memory(const json_error_t *problem);

// "NaN", "Infinity" or "-Infinity" where json_parse_python found one of them, or a number that no double
// holds; else NULL.
const char *json_odd_number(const json_t *value);

// What json_mend put in the place of what Python's json.dumps writes and JSON, or 64 bits, do not have.
struct json_mended {
    uint64_t halves;     // of surrogate pairs, in values: U+FFFD each
    uint64_t not_finite; // NaN, Infinity, -Infinity and numbers beyond a double's range: null
    uint64_t beyond;     // integers beyond 64 bits: strings of their digits
    size_t first;        // offset of the first of them in the text, if there is one
};

uint64_t json_mended_count(const struct json_mended *mended);

// Writes `text` into *out (cleared first) with the above in place, and otherwise as it is: what is no JSON
// for another reason stays none. blank: null in the place of every value that is mended, which tells where
// they are. STATUS_INTERNAL when memory is out.
int json_mend(struct buffer *out, const char *text, size_t size, bool blank, struct json_mended *mended,
              struct error *err);

// Members of an object. A missing or null member leaves *out as it was; another type is STATUS_DATA.
// Whole numbers may be written as 1000000.0; *out must be in [minimum, maximum].
int json_get_integer(const json_t *object, const char *key, int64_t minimum, int64_t maximum, int64_t *out,
                     struct error *err);
int json_get_number(const json_t *object, const char *key, double *out, struct error *err);
int json_get_boolean(const json_t *object, const char *key, bool *out, struct error *err);
int json_get_string(const json_t *object, const char *key, const char **out,
                    struct error *err); // owned by the object

// New values to be printed: NULL when memory is out, which json_pack takes as its own failure. null where the
// value is not known, or is none: NaN, text that is not UTF-8.
json_t *json_count(uint64_t value);
json_t *json_count_if(bool known, uint64_t value);
json_t *json_real_if(bool known, double value);
json_t *json_text_if(bool known, const char *text);

// The member, or NULL when it is missing or null.
json_t *json_member(const json_t *object, const char *key);

#endif

// SPDX-License-Identifier: MIT
// The metadata of a GGUF file: typed values under keys, parsed and bounded; what they mean is their readers'
// business (model/gguf_config.h, and whoever reads the tokenizer's keys).
//
//   struct gguf_metadata metadata;
//   TRY(gguf_metadata_read(&metadata, "model.gguf", err));
//   const struct gguf_value *tokens = gguf_metadata_find(&metadata, "tokenizer.ggml.tokens");
//   for (size_t i = 0; tokens != NULL && i < tokens->count; i++) {
//       if (gguf_value_text(tokens, i, &text, &length)) ...
//   }
//   gguf_metadata_destroy(&metadata);
#ifndef STRATA_MODEL_GGUF_METADATA_H
#define STRATA_MODEL_GGUF_METADATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

enum gguf_type { // the numbers are the format's
    GGUF_UINT8,
    GGUF_INT8,
    GGUF_UINT16,
    GGUF_INT16,
    GGUF_UINT32,
    GGUF_INT32,
    GGUF_FLOAT32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY, // never the type of a gguf_value
    GGUF_UINT64,
    GGUF_INT64,
    GGUF_FLOAT64,
};

struct gguf_value {
    const char *key; // not terminated, as texts are not
    size_t key_length;
    enum gguf_type type; // of its elements
    bool list;           // an array; else one element
    size_t count;        // of elements
    const unsigned char *bytes;
    size_t *texts; // GGUF_STRING: where in `bytes` each element's length stands
};

struct gguf_metadata {
    struct gguf_value *values; // ascending by key, no key twice
    size_t count;
    struct buffer bytes; // that the values point into, where they came from a file
};

// Of one file; of a split model the first part has it all. STATUS_DATA with the file and the reason.
int gguf_metadata_read(struct gguf_metadata *out, const char *path, struct error *err);
void gguf_metadata_destroy(struct gguf_metadata *metadata); // accepts zeros; leaves zeros

// NULL where the key is absent.
const struct gguf_value *gguf_metadata_find(const struct gguf_metadata *metadata, const char *key);

// Element `index`: false, and *out as it was, where there is none or it is of another type. Texts are valid
// UTF-8 without NUL and not terminated; numbers are of any numeric type, as doubles; whole numbers are of any
// integer type, GGUF_BOOL included, and fit.
bool gguf_value_text(const struct gguf_value *value, size_t index, const char **out, size_t *length);
bool gguf_value_number(const struct gguf_value *value, size_t index, double *out);
bool gguf_value_integer(const struct gguf_value *value, size_t index, int64_t *out);

// "an array of uint32", for messages.
enum { GGUF_TYPE_TEXT = 32 };
const char *gguf_value_type(const struct gguf_value *value, char out[GGUF_TYPE_TEXT]);

#endif

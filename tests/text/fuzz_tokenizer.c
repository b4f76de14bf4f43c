// SPDX-License-Identifier: MIT
// libFuzzer: bytes before the first NUL as tokenizer.json, the rest as a text to encode with it.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size == 0 ? NULL : memchr(data, 0, size);
    size_t json = end == NULL ? size : (size_t)(end - data);
    const char *text = end == NULL ? "abc Step 1: x" : (const char *)end + 1;
    size_t text_size = end == NULL ? strlen(text) : size - json - 1;
    struct error err = {0};
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_scratch *scratch = NULL;
    struct encoding encoding;
    if (tokenizer_parse(&tokenizer, (const char *)data, json, "fuzz", &err) == STATUS_OK &&
        tokenizer_scratch_create(&scratch, tokenizer, &err) == STATUS_OK &&
        tokenizer_encode(tokenizer, scratch, text, text_size, true, &encoding, &err) == STATUS_OK) {
        fuzz_accepted++;
        for (size_t i = 0; i < encoding.count; i++) {
            if (encoding.start[i] > encoding.end[i] || encoding.end[i] > text_size || encoding.ids[i] < 0 ||
                (size_t)encoding.ids[i] >= tokenizer_id_limit(tokenizer)) {
                __builtin_trap();
            }
        }
    }
    tokenizer_scratch_destroy(scratch);
    tokenizer_destroy(tokenizer);
    return 0;
}

// SPDX-License-Identifier: MIT
// Fuzz target: JSON of foreign files, and the getters on what it says.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

// What is JSON says the same as JSON of Python, unless a key stands there twice, which only Python takes.
static void check_python(const json_t *strict, const unsigned char *data, size_t size) {
    struct error err = {0};
    json_t *document = NULL;
    int status = json_parse_python(&document, (const char *)data, size, "fuzz", &err);
    if ((status == STATUS_OK) != (document != NULL) || (status != STATUS_OK && err.message[0] == 0) ||
        (strict != NULL && !json_equal(strict, document))) {
        abort();
    }
    json_decref(document);
}

// What is JSON stays as it is; what is JSON once it is mended needs no more of it, blank or not.
static void check_mended(const json_t *strict, const unsigned char *data, size_t size, bool blank) {
    struct error err = {0};
    struct buffer once = {0};
    struct buffer twice = {0};
    struct json_mended first = {0};
    struct json_mended second = {0};
    json_error_t problem;
    if (json_mend(&once, (const char *)data, size, blank, &first, &err) != STATUS_OK) {
        abort();
    }
    bool same = once.size == size && (size == 0 || memcmp(once.data, data, size) == 0);
    if (same != (json_mended_count(&first) == 0) || (strict != NULL && !same)) {
        abort();
    }
    json_t *mended = json_loadb(once.data == NULL ? "" : once.data, once.size, JSON_ALLOW_NUL, &problem);
    if (mended != NULL && (json_mend(&twice, once.data, once.size, blank, &second, &err) != STATUS_OK ||
                           json_mended_count(&second) != 0)) {
        abort();
    }
    json_decref(mended);
    buffer_destroy(&once);
    buffer_destroy(&twice);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    struct error err = {0};
    json_t *document = NULL;
    int status = json_parse(&document, (const char *)data, size, "fuzz", &err);
    if ((status == STATUS_OK) != (document != NULL) || (status != STATUS_OK && err.message[0] == 0)) {
        abort();
    }
    fuzz_accepted += status == STATUS_OK;
    check_python(document, data, size);
    check_mended(document, data, size, false);
    check_mended(document, data, size, true);
    const char *key;
    json_t *value;
    json_object_foreach(document, key, value) {
        int64_t integer = 0;
        double number = 0;
        bool yes = false;
        const char *text = NULL;
        if (json_get_integer(document, key, -1000, 1000, &integer, &err) == STATUS_OK &&
            (integer < -1000 || integer > 1000)) {
            abort();
        }
        json_get_number(document, key, &number, &err);
        json_get_boolean(document, key, &yes, &err);
        json_get_string(document, key, &text, &err);
    }
    json_decref(document);
    return 0;
}

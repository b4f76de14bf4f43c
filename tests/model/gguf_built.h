// SPDX-License-Identifier: MIT
// GGUF files for tests, built from a text of words, each of them a piece of the file:
//   =abc raw bytes; sabc a text with its length; b1 h2 u3 q4 one, two, four, eight bytes; i-5 a signed four;
//   f1.5 a float32; d1.5 a float64; z7 seven zero bytes; p32 zero bytes up to a multiple of 32; xC0FF raw
//   bytes.
#ifndef STRATA_TESTS_MODEL_GGUF_BUILT_H
#define STRATA_TESTS_MODEL_GGUF_BUILT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"

static void built_add(struct buffer *out, const void *bytes, size_t size) {
    struct error err = {0};
    assert_int_equal(buffer_append(out, bytes, size, &err), STATUS_OK);
}

static void built_zeros(struct buffer *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        built_add(out, "", 1);
    }
}

static void built_word(struct buffer *out, const char *word, size_t length) {
    char text[512];
    assert_true(length < sizeof text);
    memcpy(text, word + 1, length - 1);
    text[length - 1] = 0;
    uint64_t number = strtoull(text, NULL, 0);
    uint64_t size = length - 1;
    float single = strtof(text, NULL);
    double number_double = strtod(text, NULL);
    switch (word[0]) {
    case 's':
        built_add(out, &size, sizeof size);
        built_add(out, text, size);
        break;
    case '=':
        built_add(out, text, size);
        break;
    case 'b':
    case 'h':
    case 'u':
    case 'q':
    case 'i':
        built_add(out, &number, word[0] == 'b' ? 1 : word[0] == 'h' ? 2 : word[0] == 'q' ? 8 : 4);
        break;
    case 'f':
        built_add(out, &single, sizeof single);
        break;
    case 'd':
        built_add(out, &number_double, sizeof number_double);
        break;
    case 'z':
        built_zeros(out, number);
        break;
    case 'p':
        built_zeros(out, (number - out->size % number) % number);
        break;
    case 'x':
        for (size_t i = 0; i + 1 < size; i += 2) {
            char digits[3] = {text[i], text[i + 1], 0};
            unsigned char byte = (unsigned char)strtoul(digits, NULL, 16);
            built_add(out, &byte, 1);
        }
        break;
    default:
        fail_msg("no such word: %s", word);
    }
}

// Appends what the words stand for.
static void built(struct buffer *out, const char *words) {
    while (*words != 0) {
        size_t length = strcspn(words, " ");
        if (length > 0) {
            built_word(out, words, length);
        }
        words += length + (words[length] == ' ');
    }
}

#endif

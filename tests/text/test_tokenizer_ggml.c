// SPDX-License-Identifier: MIT
// Tokenizers from the arrays of a GGUF file: what JSON cannot hold, fingerprints, and ids worked out by hand.
// tests/text/test_tokenizer_ggml.py compares with the tokenizers library.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/tokenizer_ggml.h"

#define TEXT(literal)                                                                                        \
    { literal, sizeof(literal) - 1 }
enum { N = GGML_TOKEN_NORMAL, C = GGML_TOKEN_CONTROL, U = GGML_TOKEN_USER_DEFINED, B = GGML_TOKEN_BYTE };

static const struct ggml_text byte_tokens[] = {TEXT("a"),  TEXT("b"),       TEXT("c"),
                                               TEXT("ab"), TEXT("abc"),     TEXT("bca"),
                                               TEXT("Ġ"),  TEXT("<think>"), TEXT("<s>")};
static const int32_t byte_types[] = {N, N, N, N, N, N, N, U, C};
static const struct ggml_text byte_merges[] = {TEXT("a b"), TEXT("ab c")};

static const struct ggml_text space_tokens[] = {TEXT("<unk>"),  TEXT("<s>"), TEXT("</s>"), TEXT("<0xC3>"),
                                                TEXT("<0xA9>"), TEXT("▁"),   TEXT("a"),    TEXT("b"),
                                                TEXT("ab"),     TEXT("ba"),  TEXT("▁ab")};
static const int32_t space_types[] = {GGML_TOKEN_UNKNOWN, C, C, B, B, N, N, N, N, N, N};
static const float space_scores[] = {0, 0, 0, 0, 0, -9, -9, -9, -2, -1, -3};

static struct ggml_vocabulary byte_level(void) {
    return (struct ggml_vocabulary){.model = "gpt2",
                                    .pre = "llama-bpe",
                                    .tokens = byte_tokens,
                                    .token_count = 9,
                                    .token_types = byte_types,
                                    .token_type_count = 9,
                                    .merges = byte_merges,
                                    .merge_count = 2,
                                    .bos_token_id = 8,
                                    .eos_token_id = GGML_ABSENT,
                                    .unknown_token_id = GGML_ABSENT,
                                    .add_bos_token = GGML_ABSENT,
                                    .add_eos_token = GGML_ABSENT,
                                    .add_space_prefix = GGML_ABSENT};
}

static struct ggml_vocabulary sentencepiece(void) {
    return (struct ggml_vocabulary){.model = "llama",
                                    .tokens = space_tokens,
                                    .token_count = 11,
                                    .token_types = space_types,
                                    .token_type_count = 11,
                                    .scores = space_scores,
                                    .score_count = 11,
                                    .bos_token_id = 1,
                                    .eos_token_id = 2,
                                    .unknown_token_id = 0,
                                    .add_bos_token = GGML_ABSENT,
                                    .add_eos_token = GGML_ABSENT,
                                    .add_space_prefix = GGML_ABSENT};
}

static struct tokenizer *make(const struct ggml_vocabulary *vocabulary) {
    struct tokenizer *tokenizer = NULL;
    struct error err = {0};
    if (tokenizer_from_ggml(&tokenizer, vocabulary, "model.gguf", &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    return tokenizer;
}

// "id:start-end" of each token, joined by spaces.
static void expect(const struct ggml_vocabulary *vocabulary, const char *text, const char *wanted) {
    struct tokenizer *tokenizer = make(vocabulary);
    struct tokenizer_scratch *scratch = NULL;
    struct encoding encoding;
    struct error err = {0};
    char got[1024] = "";
    size_t used = 0;
    assert_int_equal(tokenizer_scratch_create(&scratch, tokenizer, &err), STATUS_OK);
    assert_int_equal(tokenizer_encode(tokenizer, scratch, text, strlen(text), true, &encoding, &err), 0);
    for (size_t i = 0; i < encoding.count; i++) {
        used +=
            (size_t)snprintf(got + used, sizeof got - used, "%s%d:%u-%u", i == 0 ? "" : " ",
                             (int)encoding.ids[i], (unsigned)encoding.start[i], (unsigned)encoding.end[i]);
        assert_true(used < sizeof got);
    }
    assert_string_equal(got, wanted);
    tokenizer_scratch_destroy(scratch);
    tokenizer_destroy(tokenizer);
}

static void refuse(const struct ggml_vocabulary *vocabulary, const char *words) {
    struct tokenizer *tokenizer = NULL;
    struct error err = {0};
    assert_int_equal(tokenizer_from_ggml(&tokenizer, vocabulary, "model.gguf", &err), STATUS_DATA);
    assert_null(tokenizer);
    if (strstr(err.message, words) == NULL || strncmp(err.message, "model.gguf: ", 12) != 0) {
        fail_msg("'%s' does not say '%s'", err.message, words);
    }
}

static void test_byte_level(void **state) {
    (void)state;
    struct ggml_vocabulary vocabulary = byte_level();
    expect(&vocabulary, "abcab", "8:0-0 4:0-3 3:3-5");
    expect(&vocabulary, "bca bca", "8:0-0 5:0-3 6:3-4 1:4-5 2:5-6 0:6-7"); // a word that is a token, and not
    expect(&vocabulary, "ab<think>c<s>", "8:0-0 3:0-2 7:2-9 2:9-10 8:10-13");
    vocabulary.pre = "qwen2";
    expect(&vocabulary, "bca", "1:0-1 2:1-2 0:2-3");
    vocabulary.add_bos_token = 1;
    vocabulary.add_eos_token = 1;
    vocabulary.eos_token_id = 7;
    expect(&vocabulary, "a", "8:0-0 0:0-1 7:0-0");
}

static void test_sentencepiece(void **state) {
    (void)state;
    struct ggml_vocabulary vocabulary = sentencepiece();
    expect(&vocabulary, "ab", "1:0-0 10:0-2");
    expect(&vocabulary, "aba", "1:0-0 5:0-1 6:0-1 9:1-3"); // ba before ab
    expect(&vocabulary, "b ab<s>ab", "1:0-0 5:0-1 7:0-1 10:1-4 1:4-7 8:7-9");
    expect(&vocabulary, "b\xC3\xA9!", "1:0-0 5:0-1 7:0-1 3:1-3 4:1-3 0:3-4");
    vocabulary.add_space_prefix = 0;
    vocabulary.add_bos_token = 0;
    vocabulary.add_eos_token = 1;
    expect(&vocabulary, "ab", "8:0-2 2:0-0");
}

static void test_queries(void **state) {
    (void)state;
    struct ggml_vocabulary vocabulary = byte_level();
    struct tokenizer *tokenizer = make(&vocabulary);
    size_t size = 0;
    assert_int_equal(tokenizer_id_limit(tokenizer), 9);
    assert_memory_equal(tokenizer_token(tokenizer, 4, &size), "abc", 3);
    assert_int_equal(size, 3);
    assert_true(tokenizer_knows(tokenizer, "<think>", 7));
    assert_false(tokenizer_knows(tokenizer, "abc", 3));
    assert_string_equal(tokenizer_changes(tokenizer), "");
    assert_string_equal(tokenizer_changes_fingerprint(tokenizer), "");
    tokenizer_destroy(tokenizer);
}

static void note_fingerprint(char seen[][DIGEST_HEX], size_t *count,
                             const struct ggml_vocabulary *vocabulary) {
    struct tokenizer *tokenizer = make(vocabulary);
    for (size_t i = 0; i < *count; i++) {
        assert_string_not_equal(seen[i], tokenizer_fingerprint(tokenizer));
    }
    strcpy(seen[(*count)++], tokenizer_fingerprint(tokenizer));
    tokenizer_destroy(tokenizer);
}

static void test_fingerprint(void **state) {
    (void)state;
    char seen[16][DIGEST_HEX];
    size_t count = 0;
    struct ggml_vocabulary vocabulary = sentencepiece();
    struct ggml_vocabulary other = vocabulary;
    note_fingerprint(seen, &count, &vocabulary);
    assert_string_equal(seen[0], "2c59f24cbbed1ac404d077300282a86e2aa93a295c5b06365ec47dfeeab96291");
    other.pre = "default"; // counts, though it changes no id
    note_fingerprint(seen, &count, &other);
    other = vocabulary;
    struct ggml_text tokens[11];
    memcpy(tokens, space_tokens, sizeof tokens);
    tokens[9] = (struct ggml_text)TEXT("bb");
    other.tokens = tokens;
    note_fingerprint(seen, &count, &other);
    other = vocabulary;
    int32_t types[11];
    memcpy(types, space_types, sizeof types);
    types[7] = GGML_TOKEN_UNUSED;
    other.token_types = types;
    note_fingerprint(seen, &count, &other);
    other = vocabulary;
    float scores[11];
    memcpy(scores, space_scores, sizeof scores);
    scores[0] = 1;
    other.scores = scores;
    note_fingerprint(seen, &count, &other);
    other = vocabulary;
    other.merges = byte_merges;
    other.merge_count = 1;
    note_fingerprint(seen, &count, &other);
    int64_t *const numbers[] = {&other.bos_token_id, &other.eos_token_id, &other.unknown_token_id};
    int *const flags[] = {&other.add_bos_token, &other.add_eos_token, &other.add_space_prefix};
    for (size_t i = 0; i < 3; i++) {
        other = vocabulary;
        *numbers[i] = 6;
        note_fingerprint(seen, &count, &other);
        other = vocabulary;
        *flags[i] = 0;
        note_fingerprint(seen, &count, &other);
    }
}

static void test_hostile(void **state) {
    (void)state;
    struct ggml_vocabulary vocabulary = byte_level();
    struct ggml_text tokens[9];
    memcpy(tokens, byte_tokens, sizeof tokens);
    vocabulary.tokens = tokens;
    tokens[4] = (struct ggml_text)TEXT("a\xFFz");
    refuse(&vocabulary, "tokens: number 4: it is not valid UTF-8 at byte 1");
    tokens[4] = (struct ggml_text)TEXT("\xED\xA0\x80");
    refuse(&vocabulary, "it is not valid UTF-8 at byte 0");
    tokens[4] = (struct ggml_text){NULL, 0};
    refuse(&vocabulary, "number 4: it is empty");
    tokens[4] = (struct ggml_text){"a", SIZE_MAX};
    refuse(&vocabulary, "number 4: it is longer than");
    vocabulary = byte_level();
    vocabulary.token_count = SIZE_MAX;
    refuse(&vocabulary, "more than 16777216");
    vocabulary = byte_level();
    const struct ggml_text broken[] = {TEXT("a b"), {NULL, 0}};
    vocabulary.merges = broken;
    refuse(&vocabulary, "merges: number 1");
    const struct ggml_text bytes[] = {TEXT("a b"), TEXT("\xFF \xFE")};
    vocabulary.merges = bytes;
    refuse(&vocabulary, "merges: number 1");
    const struct ggml_text nul[] = {TEXT("a b"), TEXT("a\0 b")};
    vocabulary.merges = nul;
    refuse(&vocabulary, "merges: number 1");
    vocabulary.merge_count = UINT32_MAX;
    refuse(&vocabulary, "merges is too long");
    vocabulary = byte_level();
    vocabulary.bos_token_id = INT64_MIN;
    refuse(&vocabulary, "bos_token_id is -9223372036854775808");
    vocabulary = sentencepiece();
    float scores[11];
    memcpy(scores, space_scores, sizeof scores);
    vocabulary.scores = scores;
    scores[3] = NAN;
    refuse(&vocabulary, "scores: number 3 is not finite");
    scores[3] = -INFINITY;
    refuse(&vocabulary, "scores: number 3 is not finite");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level), cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_queries),    cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

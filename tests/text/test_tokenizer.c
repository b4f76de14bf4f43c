// SPDX-License-Identifier: MIT
// Every component of tokenizer.json on small files made here, and files that are broken or hostile.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/tokenizer.h"

// A vocabulary of single letters and a few merges: a 0, b 1, c 2, ab 3, abc 4, then what a test adds.
#define LETTERS "\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4"
#define MERGES "[\"a b\",[\"ab\",\"c\"]]"
#define MODEL(vocab, merges, rest)                                                                           \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":" merges rest "}"
#define BYTES_MODEL                                                                                          \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{" LETTERS                                                        \
    ",\"\u0120\":5,\"\u0120a\":6,\"1\":7,\"2\":8,\"\u00c3\":9,\"\u00a9\":10,\".\":11},"                      \
    "\"merges\":[\"a b\",\"ab c\",\"\u0120 a\"]}"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define ADDED(id, content, flags) "{\"id\":" #id ",\"content\":\"" content "\"" flags "}"

struct fixture {
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
};

static int parse(struct fixture *fixture, const char *parts, struct error *err) {
    char json[8192];
    int size = snprintf(json, sizeof(json), "{\"version\":\"1.0\",%s}", parts);
    assert_in_range(size, 1, (int)sizeof(json) - 1);
    return tokenizer_parse(&fixture->tokenizer, json, (size_t)size, "tokenizer.json", err);
}

static void open_parts(struct fixture *fixture, const char *parts) {
    struct error err = {0};
    *fixture = (struct fixture){0};
    if (parse(fixture, parts, &err) != STATUS_OK ||
        tokenizer_scratch_create(&fixture->scratch, fixture->tokenizer, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
}

static void close_parts(struct fixture *fixture) {
    tokenizer_scratch_destroy(fixture->scratch);
    tokenizer_destroy(fixture->tokenizer);
}

// "id:start-end" of each token, joined by spaces.
static void expect(const struct fixture *fixture, const char *text, bool special, const char *wanted) {
    struct encoding encoding;
    struct error err = {0};
    char got[4096] = "";
    size_t used = 0;
    if (tokenizer_encode(fixture->tokenizer, fixture->scratch, text, strlen(text), special, &encoding,
                         &err) != 0) {
        fail_msg("%s", err.message);
    }
    for (size_t i = 0; i < encoding.count; i++) {
        used +=
            (size_t)snprintf(got + used, sizeof(got) - used, "%s%d:%u-%u", i == 0 ? "" : " ",
                             (int)encoding.ids[i], (unsigned)encoding.start[i], (unsigned)encoding.end[i]);
        assert_true(used < sizeof(got));
    }
    assert_string_equal(got, wanted);
}

static void expect_once(const char *parts, const char *text, const char *wanted) {
    struct fixture fixture;
    open_parts(&fixture, parts);
    expect(&fixture, text, true, wanted);
    close_parts(&fixture);
}

static void refuse(const char *parts, const char *word) {
    struct fixture fixture = {0};
    struct error err = {0};
    assert_int_equal(parse(&fixture, parts, &err), STATUS_DATA);
    assert_null(fixture.tokenizer);
    if (strstr(err.message, word) == NULL || strstr(err.message, "tokenizer.json") == NULL) {
        fail_msg("'%s' does not name '%s'", err.message, word);
    }
}

static void test_merges(void **state) {
    (void)state;
    const char *parts = MODEL(LETTERS, MERGES, "");
    expect_once(parts, "abcab", "4:0-3 3:3-5");
    expect_once(parts, "aabc", "0:0-1 4:1-4");
    expect_once(parts, "", "");
    // The heap (long pieces) and the scan (short ones) agree.
    char text[301];
    for (size_t i = 0; i < 300; i++) {
        text[i] = "abcab"[i % 5];
    }
    text[300] = '\0';
    struct fixture fixture;
    struct encoding encoding;
    struct error err;
    open_parts(&fixture, parts);
    assert_int_equal(tokenizer_encode(fixture.tokenizer, fixture.scratch, text, 300, true, &encoding, &err),
                     0);
    assert_int_equal(encoding.count, 120);
    for (size_t i = 0; i < encoding.count; i++) {
        assert_int_equal(encoding.ids[i], i % 2 == 0 ? 4 : 3);
    }
    close_parts(&fixture);
}

static void test_unknown(void **state) {
    (void)state;
    struct fixture fixture;
    struct encoding encoding;
    struct error err = {0};
    open_parts(&fixture, MODEL(LETTERS, MERGES, ""));
    assert_int_equal(tokenizer_encode(fixture.tokenizer, fixture.scratch, "abx", 3, true, &encoding, &err),
                     STATUS_DATA);
    assert_non_null(strstr(err.message, "'x'"));
    assert_int_equal(tokenizer_encode(fixture.tokenizer, fixture.scratch, "ab\xff", 3, true, &encoding, &err),
                     STATUS_DATA);
    assert_non_null(strstr(err.message, "byte 2"));
    close_parts(&fixture);
    expect_once(MODEL(LETTERS ",\"?\":5", MERGES, ",\"unk_token\":\"?\""), "axyb", "0:0-1 5:1-2 5:2-3 1:3-4");
    expect_once(MODEL(LETTERS ",\"?\":5", MERGES, ",\"unk_token\":\"?\",\"fuse_unk\":true"), "axyb",
                "0:0-1 5:1-3 1:3-4");
    // A character without a token becomes its bytes; each stands for the whole character.
    expect_once(MODEL(LETTERS ",\"<0xC3>\":5,\"<0xA9>\":6", MERGES, ",\"byte_fallback\":true"), "a\u00e9",
                "0:0-1 5:1-3 6:1-3");
    refuse(MODEL(LETTERS, MERGES, ",\"unk_token\":\"?\""), "unk_token");
}

static void test_byte_level(void **state) {
    (void)state;
    expect_once(BYTES_MODEL ",\"pre_tokenizer\":" BYTE_LEVEL, "ab \u00e9", "3:0-2 5:2-3 9:3-5 10:3-5");
    expect_once(BYTES_MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "abc ab",
                "5:0-1 4:0-3 5:3-4 3:4-6");
    // Trimming leaves the space out; the exact first byte keeps it.
    struct fixture fixture;
    struct encoding encoding;
    struct error err;
    open_parts(
        &fixture, BYTES_MODEL
        ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
        "\"post_processor\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}");
    expect(&fixture, "a a", true, "0:0-1 6:2-3");
    assert_int_equal(tokenizer_encode(fixture.tokenizer, fixture.scratch, "a a", 3, true, &encoding, &err),
                     0);
    assert_int_equal(encoding.first[1], 1);
    close_parts(&fixture);
    // After ByteLevel come its characters, not the bytes: the second one of U+00E9 is U+00A9.
    expect_once(BYTES_MODEL
                ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[" BYTE_LEVEL
                ",{\"type\":\"Split\",\"pattern\":{\"String\":\"\u00a9\"},\"behavior\":\"Removed\"}]}",
                "ab \u00e9", "3:0-2 5:2-3 9:3-5");
}

static void test_ignore_merges(void **state) {
    (void)state;
    const char *vocab = MODEL(LETTERS ",\"cab\":5", MERGES, ",\"ignore_merges\":true");
    expect_once(vocab, "cab", "5:0-3");
    expect_once(vocab, "cabc", "2:0-1 4:1-4");
}

static void test_normalizers(void **state) {
    (void)state;
    expect_once("\"normalizer\":{\"type\":\"Lowercase\"}," MODEL(LETTERS, MERGES, ""), "ABC", "4:0-3");
    expect_once("\"normalizer\":{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}," MODEL(
                    LETTERS, MERGES, ""),
                "  ab ", "3:2-4");
    expect_once(
        "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x+\"},\"content\":\"b\"}," MODEL(
            LETTERS, MERGES, ""),
        "axxxc", "4:0-5");
    expect_once(
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"a\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"c\"}]}," MODEL(LETTERS, MERGES,
                                                                                           ""),
        "b c", "4:0-2 2:2-3");
    // e + combining acute is one character under NFC, with the span of the e.
    expect_once("\"normalizer\":{\"type\":\"NFC\"}," MODEL(LETTERS ",\"\u00e9\":5", MERGES, ""), "ae\u0301b",
                "0:0-1 5:1-2 1:4-5");
    expect_once("\"normalizer\":{\"type\":\"NFKD\"}," MODEL(LETTERS ",\"f\":5,\"i\":6", MERGES, ""), "\ufb01",
                "5:0-3 6:0-3");
    refuse("\"normalizer\":{\"type\":\"Precompiled\"}," MODEL(LETTERS, MERGES, ""), "Precompiled");
    refuse("\"normalizer\":{\"type\":\"NFC\",\"extra\":1}," MODEL(LETTERS, MERGES, ""), "extra");
    refuse("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*\"},\"content\":\"b\"}," MODEL(
               LETTERS, MERGES, ""),
           "empty");
}

static void test_split_behaviors(void **state) {
    (void)state;
    static const struct {
        const char *behavior;
        const char *wanted;
    } cases[] = {
        {"Removed", "0:0-1 1:3-4 2:5-6"},
        {"Isolated", "0:0-1 5:1-2 5:2-3 1:3-4 5:4-5 2:5-6"},
        {"MergedWithPrevious", "0:0-1 5:1-2 5:2-3 1:3-4 5:4-5 2:5-6"},
        {"Contiguous", "0:0-1 6:1-3 1:3-4 5:4-5 2:5-6"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char parts[1024];
        snprintf(parts, sizeof(parts),
                 "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"-\"},\"behavior\":\"%s\","
                 "\"invert\":false}," MODEL(LETTERS ",\"-\":5,\"--\":6", "[\"- -\"]", ""),
                 cases[i].behavior);
        expect_once(parts, "a--b-c", cases[i].wanted);
    }
    refuse("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"-\"},\"behavior\":\"Sideways\"}"
           "," MODEL(LETTERS, MERGES, ""),
           "Sideways");
}

static void test_metaspace(void **state) {
    (void)state;
#define SPACED MODEL(LETTERS ",\"\u2581\":5,\"\u2581a\":6", "[[\"\u2581\",\"a\"]]", "")
    expect_once("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":"
                "\"always\",\"split\":true}," SPACED,
                "a  a", "6:0-1 5:1-2 6:2-4");
    expect_once("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":"
                "\"never\",\"split\":false}," SPACED,
                "a a", "0:0-1 6:1-3");
    expect_once("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":"
                "\"first\"},\"added_tokens\":[" ADDED(7, "<x>", ",\"normalized\":false") "]," SPACED,
                "a<x>a", "6:0-1 7:1-4 0:4-5");
    refuse("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"add_prefix_space\":false}"
           "," SPACED,
           "contradict");
}

static void test_digits(void **state) {
    (void)state;
    const char *model = MODEL(LETTERS ",\"1\":5,\"11\":6", "[\"1 1\"]", "");
    char parts[1024];
    snprintf(parts, sizeof(parts), "\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":true},%s",
             model);
    expect_once(parts, "a11", "0:0-1 5:1-2 5:2-3");
    snprintf(parts, sizeof(parts), "\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":false},%s",
             model);
    expect_once(parts, "a11", "0:0-1 6:1-3");
}

static void test_added_tokens(void **state) {
    (void)state;
#define WITH(flags) "\"added_tokens\":[" ADDED(6, "<x>", flags) "]," MODEL(LETTERS ",\" \":5", MERGES, "")
    expect_once(WITH(",\"normalized\":false"), "a <x> b", "0:0-1 5:1-2 6:2-5 5:5-6 1:6-7");
    expect_once(WITH(",\"normalized\":false,\"lstrip\":true"), "a  <x> b", "0:0-1 6:1-6 5:6-7 1:7-8");
    expect_once(WITH(",\"normalized\":false,\"rstrip\":true"), "a <x>  b", "0:0-1 5:1-2 6:2-7 1:7-8");
    expect_once("\"added_tokens\":[" ADDED(5, "abc", ",\"single_word\":true,\"normalized\":false") "]," MODEL(
                    "\"a\":0,\"b\":1,\"c\":2,\"-\":3,\"x\":4", "[]", ""),
                "abc-xabc", "5:0-3 3:3-4 4:4-5 0:5-6 1:6-7 2:7-8");
    // Leftmost, then longest.
    expect_once(
        "\"added_tokens\":[" ADDED(5, "ca", ",\"normalized\":false") "," ADDED(
            6, "cab", ",\"normalized\":false") "," ADDED(7, "bb", ",\"normalized\":false") "]," MODEL(LETTERS,
                                                                                                      MERGES,
                                                                                                      ""),
        "acabbb", "0:0-1 6:1-4 7:4-6");
    // normalized:true is looked for in its normalized form.
    expect_once("\"normalizer\":{\"type\":\"Lowercase\"},\"added_tokens\":[" ADDED(
                    5, "BC", ",\"normalized\":true") "]," MODEL(LETTERS, MERGES, ""),
                "aBcA", "0:0-1 5:1-3 0:3-4");
    refuse("\"added_tokens\":[" ADDED(9, "<x>", "") "]," MODEL(LETTERS, MERGES, ""), "its id is 9");
    refuse("\"added_tokens\":[" ADDED(5, "<x>", "") "," ADDED(6, "<x>", "") "]," MODEL(LETTERS, MERGES, ""),
           "twice");
    refuse("\"added_tokens\":[" ADDED(5, "<x>", ",\"color\":1") "]," MODEL(LETTERS, MERGES, ""), "color");
}

#define TEMPLATE                                                                                             \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"a\","       \
    "\"type_id\":0}},"                                                                                       \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"c\",\"type_id\":0}}],\"pair\":" \
    "[],"                                                                                                    \
    "\"special_tokens\":{\"a\":{\"id\":\"a\",\"ids\":[0],\"tokens\":[\"a\"]},\"c\":{\"id\":\"c\",\"ids\":["  \
    "2],\"tokens\":[\"c\"]}}},"

static void test_template(void **state) {
    (void)state;
    struct fixture fixture;
    struct encoding encoding;
    struct error err;
    bool truncated = false;
    open_parts(&fixture, TEMPLATE MODEL(LETTERS, MERGES, ""));
    expect(&fixture, "abb", true, "0:0-0 3:0-2 1:2-3 2:0-0");
    expect(&fixture, "abb", false, "3:0-2 1:2-3");
    expect(&fixture, "", true, "0:0-0 2:0-0");
    for (size_t limit = 1; limit <= 5; limit++) {
        assert_int_equal(tokenizer_encode_truncated(fixture.tokenizer, fixture.scratch, "abb", 3, true, limit,
                                                    &truncated, &encoding, &err),
                         0);
        assert_int_equal(truncated, limit < 4);
        assert_int_equal(encoding.count, limit < 2 ? 2 : limit > 4 ? 4 : limit);
        assert_int_equal(encoding.ids[0], 0);
        assert_int_equal(encoding.ids[encoding.count - 1], 2);
        assert_int_equal(encoding.special_count, 2);
        assert_int_equal(encoding.first[0], TOKEN_ADDED_BY_TEMPLATE);
    }
    close_parts(&fixture);
    refuse("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}"
           "," MODEL(LETTERS, MERGES, ""),
           "single");
    refuse("\"post_processor\":{\"type\":\"RobertaProcessing\"}," MODEL(LETTERS, MERGES, ""),
           "RobertaProcessing");
}

static void test_patterns(void **state) {
    (void)state;
    static const char *const refused[] = {"(a?b*)+",
                                          "(?:a|)*a",
                                          "(a*?){2}",
                                          "a{0,2}+",
                                          "(?i:a|)+",
                                          "[\\\\W]",
                                          "[[:alpha:]]",
                                          "[a&&]",
                                          "[&&a]",
                                          "[a[]]",
                                          "a++?",
                                          "(?<n>a)",
                                          "\\\\p{Alpha}",
                                          "(?i:ss)",
                                          "(?i:[a-z])",
                                          "(?i:[s])",
                                          "(?i:\\\\p{L})",
                                          "a{,3}",
                                          "*a",
                                          "(?=a)+a",
                                          "(?#x)a",
                                          "[a",
                                          "[a-",
                                          "(a",
                                          "a)",
                                          "\\\\",
                                          "\\\\x",
                                          "\\\\xE9",
                                          "\\\\u00E",
                                          "\\\\uD800",
                                          "\\\\x{110000}",
                                          "[z-a]",
                                          "[a-c-e]",
                                          "[\\\\s-z]",
                                          "[a-\\\\s]",
                                          "[a-[b]]",
                                          "[\\\\p{L",
                                          "a|",
                                          "(?=a)",
                                          "\\\\K",
                                          "\\\\1",
                                          "$",
                                          "\\\\p{L}[\\\\x{1C89}]"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        char parts[1024];
        snprintf(parts, sizeof(parts),
                 "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":"
                 "\"Isolated\"}," MODEL(LETTERS, MERGES, ""),
                 refused[i]);
        refuse(parts, "pattern");
    }
    char deep[512] = "";
    for (int i = 0; i < 40; i++) {
        strcat(deep, "[a");
    }
    char parts[1024];
    snprintf(parts, sizeof(parts),
             "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"%s\"},\"content\":\"\"}," MODEL(
                 LETTERS, MERGES, ""),
             deep);
    refuse(parts, "so deep within others");
    // (?i:s) takes U+017F along, as Oniguruma does.
    expect_once("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s)\"},\"behavior\":"
                "\"Removed\"}," MODEL(LETTERS, MERGES, ""),
                "a'\u017fb'Sc", "0:0-1 1:4-5 2:7-8");
}

static void test_hostile(void **state) {
    (void)state;
    refuse("\"model\":7", "model");
    refuse("\"model\":{\"type\":\"BPE\"}", "vocab");
    refuse(MODEL("\"a\":-1", "[]", ""), "'a'");
    refuse(MODEL("\"a\":99999999999", "[]", ""), "'a'");
    refuse(MODEL("\"a\":1.5", "[]", ""), "'a'");
    refuse(MODEL("\"a\":0,\"b\":0", "[]", ""), "two tokens");
    refuse(MODEL("\"a\":0,\"b\":1,\"a\":1", "[]", ""), "two tokens"); // of two equal keys the last counts
    refuse(MODEL("\"a\":NaN", "[]", ""), "'a'");
    refuse(MODEL("\"a\":0", "[]", ",\"dropout\":NaN"), "'dropout' is NaN");
    refuse(MODEL(LETTERS, "[\"ab\"]", ""), "merges");
    refuse(MODEL(LETTERS, "[\"a b c\"]", ""), "merges");
    refuse(MODEL(LETTERS, "[[\"a\"]]", ""), "merges");
    refuse(MODEL(LETTERS, "[[\"a\",\"\"]]", ""), "merges");
    refuse(MODEL(LETTERS, "[\"b a\"]", ""), "merges");
    refuse(MODEL(LETTERS, "[5]", ""), "merges");
    refuse(MODEL(LETTERS, "5", ""), "merges");
    refuse("\"normalizer\":[]," MODEL(LETTERS, MERGES, ""), "normalizer");
    refuse("\"added_tokens\":{}," MODEL(LETTERS, MERGES, ""), "added_tokens");
    refuse("\"added_tokens\":[3]," MODEL(LETTERS, MERGES, ""), "added_tokens");
    refuse("\"flavour\":1," MODEL(LETTERS, MERGES, ""), "flavour");
    refuse("\"model\":", "line");
    char deep[4096] = "\"normalizer\":";
    for (int i = 0; i < 40; i++) {
        strcat(deep, "{\"type\":\"Sequence\",\"normalizers\":[");
    }
    strcat(deep, "{\"type\":\"NFC\"}");
    for (int i = 0; i < 40; i++) {
        strcat(deep, "]}");
    }
    strcat(deep, "," MODEL(LETTERS, MERGES, ""));
    refuse(deep, "deep");
}

static void test_file(void **state) {
    (void)state;
    char path[] = "/tmp/strata-tokenizer-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    const char *json = "{\"version\":\"1.0\"," MODEL(LETTERS, MERGES, "") "}";
    assert_int_equal(write(descriptor, json, strlen(json)), (ssize_t)strlen(json));
    close(descriptor);
    struct tokenizer *tokenizer = NULL;
    struct error err = {0};
    char hex[DIGEST_HEX];
    assert_int_equal(tokenizer_load(&tokenizer, path, &err), 0);
    assert_int_equal(digest_file(path, hex, &err), 0);
    assert_string_equal(tokenizer_fingerprint(tokenizer), hex);
    assert_int_equal(tokenizer_id_limit(tokenizer), 5);
    size_t size = 0;
    assert_memory_equal(tokenizer_token(tokenizer, 4, &size), "abc", 3);
    assert_int_equal(size, 3);
    assert_null(tokenizer_token(tokenizer, 5, &size));
    assert_null(tokenizer_token(tokenizer, -1, &size));
    tokenizer_destroy(tokenizer);
    unlink(path);
    assert_int_equal(tokenizer_load(&tokenizer, path, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, path));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges),       cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_byte_level),   cmocka_unit_test(test_ignore_merges),
        cmocka_unit_test(test_normalizers),  cmocka_unit_test(test_split_behaviors),
        cmocka_unit_test(test_metaspace),    cmocka_unit_test(test_digits),
        cmocka_unit_test(test_added_tokens), cmocka_unit_test(test_template),
        cmocka_unit_test(test_patterns),     cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// A job, a database and a tokenizer of single bytes for the tests of this room: text positions are token
// positions.
#ifndef STRATA_TESTS_EXTRACT_TESTING_H
#define STRATA_TESTS_EXTRACT_TESTING_H

#include "problems/scratch.h"
#include "stages/prepare.h"

struct testing {
    struct job job;
    struct source *source;
    struct tokenizer *tokenizer;
    struct preparer *preparer;
};

// Every byte is a token whose id is its value; `bos` puts token 256 before each text.
static inline void testing_tokenizer(struct tokenizer **out, bool bos) {
    static char json[16384];
    size_t size = 0;
    struct error err;
    size += (size_t)snprintf(
        json + size, sizeof json - size,
        "{\"added_tokens\":[{\"id\":256,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
        "\"rstrip\":false,\"normalized\":false,\"special\":true}],\"normalizer\":null,"
        "\"pre_tokenizer\":null,\"decoder\":null,\"post_processor\":");
    size += (size_t)snprintf(json + size, sizeof json - size, "%s",
                             bos ? "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
                                   "\"<s>\",\"type_id\":0}},"
                                   "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_"
                                   "tokens\":{\"<s>\":{\"id\":\"<s>\","
                                   "\"ids\":[256],\"tokens\":[\"<s>\"]}}}"
                                 : "null");
    size += (size_t)snprintf(
        json + size, sizeof json - size,
        ",\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"merges\":[],\"vocab\":{\"<s>\":256");
    for (int i = 0; i < 256; i++) {
        size += (size_t)snprintf(json + size, sizeof json - size, ",\"<0x%02X>\":%d", i, i);
    }
    size += (size_t)snprintf(json + size, sizeof json - size, "}}}");
    if (tokenizer_parse(out, json, size, "bytes", &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
}

// keys: the problems section beyond database and id, in YAML's flow style, with a leading comma; pooling may
// be NULL.
static inline int testing_open(struct testing *testing, const char *sql, const char *keys,
                               const char *pooling, bool bos, size_t vocabulary, struct error *err) {
    char yaml[2048];
    static int number;
    char database[32];
    *testing = (struct testing){0};
    snprintf(database, sizeof database, "%d.db", number++);
    scratch_sql(database, sql);
    int size = snprintf(
        yaml, sizeof yaml,
        "problems: {database: %s, id: id%s}\nmodel: {path: m}\nlatents: {pooling: %s}\nrun: {output: o}\n",
        database, keys, pooling == NULL ? "step_mean" : pooling);
    testing_tokenizer(&testing->tokenizer, bos);
    int status = job_parse(&testing->job, yaml, (size_t)size, "test", scratch_folder, err);
    if (status == STATUS_OK) {
        status = source_open(&testing->source, testing->job.database, testing->job.query, 0, NULL, err);
    }
    return status == STATUS_OK ? preparer_create(&testing->preparer, &testing->job, testing->source,
                                                 testing->tokenizer, vocabulary, err)
                               : status;
}

static inline void testing_close(struct testing *testing) {
    preparer_destroy(testing->preparer);
    source_close(testing->source);
    tokenizer_destroy(testing->tokenizer);
    job_destroy(&testing->job);
}

#endif

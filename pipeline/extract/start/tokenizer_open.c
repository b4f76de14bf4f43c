// SPDX-License-Identifier: MIT
#include "start/tokenizer_open.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/gguf_metadata.h"
#include "model/place.h"
#include "text/tokenizer_ggml.h"

// What a vocabulary points into beside the metadata.
struct arrays {
    struct ggml_text *tokens;
    struct ggml_text *merges;
    int32_t *types;
    float *scores;
    char *model;
    char *pre;
};

struct opening {
    const struct gguf_metadata *metadata;
    struct ggml_vocabulary vocabulary;
    struct arrays arrays;
};

static int wrong_type(const char *key, const char *wanted, struct error *err) {
    return error_set(err, STATUS_DATA, "'%s' is not %s", key, wanted);
}

// NULL where the key is absent; STATUS_DATA where it is no list, or one value that is one.
static int find(const struct opening *opening, const char *key, bool list, const struct gguf_value **out,
                struct error *err) {
    *out = gguf_metadata_find(opening->metadata, key);
    return *out == NULL || (*out)->list == list ? STATUS_OK
                                                : wrong_type(key, list ? "a list" : "one value", err);
}

static int read_text(const struct opening *opening, const char *key, char **copy, const char **out,
                     struct error *err) {
    const struct gguf_value *value;
    const char *text;
    size_t length;
    void *block;
    TRY(find(opening, key, false, &value, err));
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!gguf_value_text(value, 0, &text, &length)) {
        return wrong_type(key, "a text", err);
    }
    TRY(memory_zeroed(&block, length + 1, 1, err));
    *copy = block;
    memcpy(*copy, text, length);
    *out = *copy;
    return STATUS_OK;
}

static int read_texts(const struct opening *opening, const char *key, struct ggml_text **copy, size_t *count,
                      struct error *err) {
    const struct gguf_value *value;
    void *block;
    TRY(find(opening, key, true, &value, err));
    if (value == NULL || value->count == 0) {
        return STATUS_OK;
    }
    TRY(memory_zeroed(&block, value->count, sizeof **copy, err));
    *copy = block;
    for (size_t i = 0; i < value->count; i++) {
        if (!gguf_value_text(value, i, &(*copy)[i].bytes, &(*copy)[i].size)) {
            return wrong_type(key, "a list of texts", err);
        }
    }
    *count = value->count;
    return STATUS_OK;
}

static int read_types(struct opening *opening, struct error *err) {
    static const char key[] = "tokenizer.ggml.token_type";
    const struct gguf_value *value;
    void *block;
    TRY(find(opening, key, true, &value, err));
    if (value == NULL || value->count == 0) {
        return STATUS_OK;
    }
    TRY(memory_zeroed(&block, value->count, sizeof opening->arrays.types[0], err));
    opening->arrays.types = block;
    for (size_t i = 0; i < value->count; i++) {
        int64_t type = 0;
        if (!gguf_value_integer(value, i, &type) || type < INT32_MIN || type > INT32_MAX) {
            return wrong_type(key, "a list of small whole numbers", err);
        }
        opening->arrays.types[i] = (int32_t)type;
    }
    opening->vocabulary.token_types = opening->arrays.types;
    opening->vocabulary.token_type_count = value->count;
    return STATUS_OK;
}

static int read_scores(struct opening *opening, struct error *err) {
    static const char key[] = "tokenizer.ggml.scores";
    const struct gguf_value *value;
    void *block;
    TRY(find(opening, key, true, &value, err));
    if (value == NULL || value->count == 0) {
        return STATUS_OK;
    }
    TRY(memory_zeroed(&block, value->count, sizeof opening->arrays.scores[0], err));
    opening->arrays.scores = block;
    for (size_t i = 0; i < value->count; i++) {
        double score = 0;
        if (!gguf_value_number(value, i, &score)) {
            return wrong_type(key, "a list of numbers", err);
        }
        opening->arrays.scores[i] = (float)score;
    }
    opening->vocabulary.scores = opening->arrays.scores;
    opening->vocabulary.score_count = value->count;
    return STATUS_OK;
}

static int read_numbers(struct opening *opening, struct error *err) {
    struct ggml_vocabulary *v = &opening->vocabulary;
    int64_t add_bos = GGML_ABSENT;
    int64_t add_eos = GGML_ABSENT;
    int64_t add_space = GGML_ABSENT;
    v->bos_token_id = v->eos_token_id = v->unknown_token_id = GGML_ABSENT;
    const struct {
        const char *key;
        int64_t *out;
        int64_t most;
    } numbers[] = {
        {"tokenizer.ggml.bos_token_id", &v->bos_token_id, INT32_MAX},
        {"tokenizer.ggml.eos_token_id", &v->eos_token_id, INT32_MAX},
        {"tokenizer.ggml.unknown_token_id", &v->unknown_token_id, INT32_MAX},
        {"tokenizer.ggml.add_bos_token", &add_bos, 1},
        {"tokenizer.ggml.add_eos_token", &add_eos, 1},
        {"tokenizer.ggml.add_space_prefix", &add_space, 1},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct gguf_value *value;
        TRY(find(opening, numbers[i].key, false, &value, err));
        if (value != NULL && (!gguf_value_integer(value, 0, numbers[i].out) || *numbers[i].out < 0 ||
                              *numbers[i].out > numbers[i].most)) {
            return wrong_type(numbers[i].key, numbers[i].most == 1 ? "true or false" : "a token's id", err);
        }
    }
    v->add_bos_token = (int)add_bos;
    v->add_eos_token = (int)add_eos;
    v->add_space_prefix = (int)add_space;
    return STATUS_OK;
}

static int read_all(struct opening *opening, struct error *err) {
    struct ggml_vocabulary *v = &opening->vocabulary;
    struct arrays *arrays = &opening->arrays;
    TRY(read_text(opening, "tokenizer.ggml.model", &arrays->model, &v->model, err));
    TRY(read_text(opening, "tokenizer.ggml.pre", &arrays->pre, &v->pre, err));
    TRY(read_texts(opening, "tokenizer.ggml.tokens", &arrays->tokens, &v->token_count, err));
    TRY(read_texts(opening, "tokenizer.ggml.merges", &arrays->merges, &v->merge_count, err));
    v->tokens = arrays->tokens;
    v->merges = arrays->merges;
    TRY(read_types(opening, err));
    TRY(read_scores(opening, err));
    return read_numbers(opening, err);
}

static int open_own_keys(struct tokenizer **out, const char *path, struct error *err) {
    struct gguf_metadata metadata;
    TRY(gguf_metadata_read(&metadata, path, err));
    struct opening opening = {.metadata = &metadata};
    int status = read_all(&opening, err);
    status = status == STATUS_OK ? tokenizer_from_ggml(out, &opening.vocabulary, path, err)
                                 : error_wrap(err, "%s", path);
    free(opening.arrays.tokens);
    free(opening.arrays.merges);
    free(opening.arrays.types);
    free(opening.arrays.scores);
    free(opening.arrays.model);
    free(opening.arrays.pre);
    gguf_metadata_destroy(&metadata);
    return status;
}

int tokenizer_open(struct tokenizer **out, const char *path, struct error *err) {
    enum model_form form;
    TRY(model_form(path, &form, err));
    return form == MODEL_FORM_GGUF ? open_own_keys(out, path, err) : tokenizer_load(out, path, err);
}

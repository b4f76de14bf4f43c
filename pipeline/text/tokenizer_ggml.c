// SPDX-License-Identifier: MIT
#include "text/tokenizer_ggml.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/ggml_merges.h"
#include "text/merge_text.h"
#include "text/tokenizer_internal.h"

enum {
    TOKEN_SIZE_LIMIT = 2048, // bytes of a token; the longest of Qwen2 has 256
    TEXTS_LIMIT = 16 << 20,  // bytes of all tokens: real vocabularies have two million
    FLOAT_BYTES = sizeof(float)
};

// A key without which, or with whose value (NULL: none), no tokenizer can be made.
static int refuse(const char *key, const char *value, struct error *err) {
    return value == NULL
               ? error_set(err, STATUS_DATA, "%s is missing; " GGML_ADVICE, key)
               : error_set(err, STATUS_DATA, "%s '%.100s' is not supported; " GGML_ADVICE, key, value);
}

// ---- counts and types ----

static int check_count(const char *key, const void *values, size_t count, size_t wanted, struct error *err) {
    return values == NULL || count == wanted
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "%s has %zu values, and there are %zu tokens", key, count,
                           wanted);
}

static int check_arrays(const struct ggml_vocabulary *vocabulary, struct error *err) {
    size_t count = vocabulary->token_count;
    if (vocabulary->tokens == NULL || count == 0) {
        return refuse("tokenizer.ggml.tokens", NULL, err);
    }
    if (count > TOKEN_ID_LIMIT) {
        return error_set(err, STATUS_DATA, "tokenizer.ggml.tokens: more than %d", (int)TOKEN_ID_LIMIT);
    }
    if (vocabulary->token_types == NULL) {
        return error_set(
            err, STATUS_DATA,
            "tokenizer.ggml.token_type is missing, so that special tokens are not known; " GGML_ADVICE);
    }
    TRY(check_count("tokenizer.ggml.token_type", vocabulary->token_types, vocabulary->token_type_count, count,
                    err));
    TRY(check_count("tokenizer.ggml.scores", vocabulary->scores, vocabulary->score_count, count, err));
    for (size_t i = 0; i < count; i++) {
        int32_t type = vocabulary->token_types[i];
        if (type < GGML_TOKEN_NORMAL || type > GGML_TOKEN_BYTE) {
            return error_set(err, STATUS_DATA,
                             "tokenizer.ggml.token_type: number %zu is %d, which is no type", i, (int)type);
        }
    }
    return STATUS_OK;
}

static int check_id(const char *key, int64_t id, size_t count, struct error *err) {
    return id == GGML_ABSENT || (id >= 0 && (uint64_t)id < count)
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "%s is %lld, and there are %zu tokens", key, (long long)id,
                           count);
}

// ---- tokens ----

static int check_token(const struct ggml_text *text, struct error *err) {
    size_t offset;
    if (text->size == 0) {
        return error_set(err, STATUS_DATA, "it is empty");
    }
    if (text->size > TOKEN_SIZE_LIMIT) {
        return error_set(err, STATUS_DATA, "it is longer than %d bytes", (int)TOKEN_SIZE_LIMIT);
    }
    if (!utf8_valid(text->bytes, text->size, &offset)) {
        return error_set(err, STATUS_DATA, "it is not valid UTF-8 at byte %zu", offset);
    }
    return STATUS_OK;
}

static int load_tokens(struct bpe *bpe, const struct ggml_vocabulary *vocabulary, struct error *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < vocabulary->token_count; i++) {
        int status = check_token(&vocabulary->tokens[i], err);
        if (status != STATUS_OK) {
            return error_wrap(err, "tokenizer.ggml.tokens: number %zu", i);
        }
        bytes += vocabulary->tokens[i].size;
    }
    if (bytes > TEXTS_LIMIT) {
        return error_set(err, STATUS_DATA, "tokenizer.ggml.tokens: more than %d MiB", TEXTS_LIMIT >> 20);
    }
    TRY(vocabulary_create(&bpe->vocabulary, vocabulary->token_count, bytes, vocabulary->token_count, err));
    for (size_t i = 0; i < vocabulary->token_count; i++) {
        const struct ggml_text *text = &vocabulary->tokens[i];
        int status = vocabulary_add(&bpe->vocabulary, text->bytes, text->size, (int32_t)i, err);
        if (status != STATUS_OK) {
            return error_wrap(err, "tokenizer.ggml.tokens: number %zu", i);
        }
    }
    return STATUS_OK;
}

static int load_added(struct added_set *set, const struct ggml_vocabulary *vocabulary, struct error *err) {
    for (size_t i = 0; i < vocabulary->token_count; i++) {
        int32_t type = vocabulary->token_types[i];
        if (type == GGML_TOKEN_CONTROL || type == GGML_TOKEN_USER_DEFINED || type == GGML_TOKEN_UNKNOWN) {
            const struct ggml_text *text = &vocabulary->tokens[i];
            TRY(added_set_add(set, text->bytes, text->size, (struct added_token){.id = (int32_t)i}, err));
        }
    }
    return STATUS_OK;
}

// ---- merges ----

static int load_merges(struct bpe *bpe, const struct ggml_vocabulary *vocabulary, struct error *err) {
    if (vocabulary->merge_count >= UINT32_MAX) {
        return error_set(err, STATUS_DATA, "tokenizer.ggml.merges is too long");
    }
    TRY(bpe_create_merges(bpe, vocabulary->merge_count, err));
    struct buffer joined = {0};
    int status = STATUS_OK;
    for (size_t i = 0; i < vocabulary->merge_count; i++) {
        const struct ggml_text *text = &vocabulary->merges[i];
        struct merge_text merge;
        if (text->size == 0 || !merge_text_split(&merge, text->bytes, text->size)) {
            status =
                error_set(err, STATUS_DATA, "merges: number %zu is not two texts with a space between", i);
            break;
        }
        TRY_TO(done, status = merge_text_add(bpe, &merge, (uint32_t)i, &joined, err));
    }
done:
    buffer_destroy(&joined);
    return status == STATUS_OK ? status : error_wrap(err, "tokenizer.ggml");
}

// ---- the two kinds ----

static int load_byte_level(struct tokenizer *tokenizer, const struct ggml_vocabulary *vocabulary,
                           struct error *err) {
    const char *name = vocabulary->pre;
    const struct ggml_pre *pre = name == NULL ? NULL : ggml_pre_find(name);
    struct bpe *bpe = &tokenizer->bpe;
    if (pre == NULL) {
        return refuse("tokenizer.ggml.pre", name, err);
    }
    if (vocabulary->merges == NULL) {
        return refuse("tokenizer.ggml.merges", NULL, err);
    }
    tokenizer->ggml_pre = pre;
    bpe->byte_level = true;
    bpe->ignore_merges = pre->ignore_merges;
    bpe->unknown = TOKEN_NONE;
    TRY(ggml_pre_load(&tokenizer->pretokenizer, pre, err));
    return load_merges(bpe, vocabulary, err);
}

static int load_spaces(struct pretokenizer *pretokenizer, bool prefix, struct error *err) {
    json_t *block = json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", "\xE2\x96\x81",
                              "prepend_scheme", prefix ? "first" : "never", "split", 0);
    if (block == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory for a pre-tokenizer");
    }
    int status = pretokenizer_load(pretokenizer, block, err);
    json_decref(block);
    return status;
}

// The token of the type unknown, where the file does not give its id.
static int32_t unknown_token(const struct ggml_vocabulary *vocabulary) {
    int32_t found = (int32_t)vocabulary->unknown_token_id;
    for (size_t i = 0; found == GGML_ABSENT && i < vocabulary->token_count; i++) {
        found = vocabulary->token_types[i] == GGML_TOKEN_UNKNOWN ? (int32_t)i : found;
    }
    return found == GGML_ABSENT ? TOKEN_NONE : found;
}

static int note_bytes(struct bpe *bpe, const struct ggml_vocabulary *vocabulary, struct error *err) {
    for (size_t i = 0; i < vocabulary->token_count; i++) {
        const struct ggml_text *text = &vocabulary->tokens[i];
        if (vocabulary->token_types[i] != GGML_TOKEN_BYTE) {
            continue;
        }
        if (text->size != 6 || memcmp(text->bytes, "<0x", 3) != 0 || text->bytes[5] != '>') {
            return error_set(err, STATUS_DATA,
                             "tokenizer.ggml.tokens: number %zu has the type of a byte, and "
                             "its text is not <0xNN>",
                             i);
        }
        bpe->byte_fallback = true;
    }
    return STATUS_OK;
}

static int load_sentencepiece(struct tokenizer *tokenizer, const struct ggml_vocabulary *vocabulary,
                              struct error *err) {
    struct bpe *bpe = &tokenizer->bpe;
    TRY(note_bytes(bpe, vocabulary, err));
    bpe->fuse_unknown = true;
    bpe->unknown = unknown_token(vocabulary);
    TRY(load_spaces(&tokenizer->pretokenizer, vocabulary->add_space_prefix != 0, err));
    return vocabulary->merge_count > 0 ? load_merges(bpe, vocabulary, err)
                                       : ggml_derive_merges(bpe, vocabulary, err);
}

// ---- the whole ----

static int add_special(int32_t *ids, size_t *count, const char *flag, const char *key, bool wanted,
                       int64_t id, struct error *err) {
    if (wanted && id == GGML_ABSENT) {
        return error_set(err, STATUS_DATA, "%s is missing, and %s is not false", key, flag);
    }
    if (wanted) {
        ids[(*count)++] = (int32_t)id;
    }
    return STATUS_OK;
}

static int load_specials(struct postprocessor *post, const struct ggml_vocabulary *vocabulary,
                         bool bos_otherwise, struct error *err) {
    bool bos = vocabulary->add_bos_token == GGML_ABSENT ? bos_otherwise : vocabulary->add_bos_token != 0;
    bool eos = vocabulary->add_eos_token != GGML_ABSENT && vocabulary->add_eos_token != 0;
    post->has_template = true;
    TRY(add_special(post->before, &post->before_count, "tokenizer.ggml.add_bos_token",
                    "tokenizer.ggml.bos_token_id", bos, vocabulary->bos_token_id, err));
    return add_special(post->after, &post->after_count, "tokenizer.ggml.add_eos_token",
                       "tokenizer.ggml.eos_token_id", eos, vocabulary->eos_token_id, err);
}

static int load_parts(struct tokenizer *tokenizer, const struct ggml_vocabulary *vocabulary,
                      struct error *err) {
    const char *model = vocabulary->model;
    bool bytes = model != NULL && strcmp(model, "gpt2") == 0;
    size_t count = vocabulary->token_count;
    if (!bytes && (model == NULL || strcmp(model, "llama") != 0)) {
        return refuse("tokenizer.ggml.model", model, err);
    }
    TRY(check_arrays(vocabulary, err));
    TRY(check_id("tokenizer.ggml.bos_token_id", vocabulary->bos_token_id, count, err));
    TRY(check_id("tokenizer.ggml.eos_token_id", vocabulary->eos_token_id, count, err));
    TRY(check_id("tokenizer.ggml.unknown_token_id", vocabulary->unknown_token_id, count, err));
    TRY(load_tokens(&tokenizer->bpe, vocabulary, err));
    TRY(bytes ? load_byte_level(tokenizer, vocabulary, err) : load_sentencepiece(tokenizer, vocabulary, err));
    TRY(bpe_finish(&tokenizer->bpe, err));
    TRY(load_added(&tokenizer->raw_tokens, vocabulary, err));
    TRY(load_specials(&tokenizer->postprocessor, vocabulary, !bytes || tokenizer->ggml_pre->add_bos, err));
    tokenizer->from_ggml = true;
    tokenizer->id_limit = count;
    return STATUS_OK;
}

// ---- the fingerprint ----

static int digest_text(struct digest *digest, const char *text, struct error *err) {
    return text == NULL ? digest_number(digest, (uint64_t)GGML_ABSENT, err)
                        : digest_field(digest, text, strlen(text), err);
}

static int digest_texts(struct digest *digest, const struct ggml_text *texts, size_t count,
                        struct error *err) {
    TRY(digest_number(digest, texts == NULL ? (uint64_t)GGML_ABSENT : count, err));
    for (size_t i = 0; i < count; i++) {
        TRY(digest_field(digest, texts[i].bytes, texts[i].size, err));
    }
    return STATUS_OK;
}

// Numbers of 4 bytes each.
static int digest_numbers(struct digest *digest, const void *numbers, size_t count, struct error *err) {
    TRY(digest_number(digest, numbers == NULL ? (uint64_t)GGML_ABSENT : count, err));
    return count == 0 ? STATUS_OK : digest_update(digest, numbers, count * FLOAT_BYTES, err);
}

static int digest_vocabulary(struct digest *digest, const struct ggml_vocabulary *vocabulary,
                             struct error *err) {
    const int64_t rest[] = {vocabulary->bos_token_id,     vocabulary->eos_token_id,
                            vocabulary->unknown_token_id, vocabulary->add_bos_token,
                            vocabulary->add_eos_token,    vocabulary->add_space_prefix};
    TRY(digest_text(digest, vocabulary->model, err));
    TRY(digest_text(digest, vocabulary->pre, err));
    TRY(digest_texts(digest, vocabulary->tokens, vocabulary->token_count, err));
    TRY(digest_numbers(digest, vocabulary->token_types, vocabulary->token_type_count, err));
    TRY(digest_numbers(digest, vocabulary->scores, vocabulary->score_count, err));
    TRY(digest_texts(digest, vocabulary->merges, vocabulary->merge_count, err));
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        TRY(digest_number(digest, (uint64_t)rest[i], err));
    }
    return STATUS_OK;
}

static int fingerprint(char hex[DIGEST_HEX], const struct ggml_vocabulary *vocabulary, struct error *err) {
    struct digest *digest = NULL;
    int status;
    TRY_TO(done, status = digest_create(&digest, err));
    TRY_TO(done, status = digest_vocabulary(digest, vocabulary, err));
    TRY_TO(done, status = digest_finish(digest, hex, err));
done:
    digest_destroy(digest);
    return status;
}

int tokenizer_from_ggml(struct tokenizer **out, const struct ggml_vocabulary *vocabulary, const char *name,
                        struct error *err) {
    *out = NULL;
    void *block = NULL;
    TRY(memory_zeroed(&block, 1, sizeof(struct tokenizer), err));
    struct tokenizer *tokenizer = block;
    int status = load_parts(tokenizer, vocabulary, err);
    if (status != STATUS_OK) {
        error_wrap(err, "%s", name);
        goto done;
    }
    status = fingerprint(tokenizer->fingerprint, vocabulary, err);
done:
    if (status != STATUS_OK) {
        tokenizer_destroy(tokenizer);
        return status;
    }
    *out = tokenizer;
    return STATUS_OK;
}

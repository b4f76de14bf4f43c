// SPDX-License-Identifier: MIT
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/tokenizer_internal.h"

struct tokenizer_scratch {
    struct pattern_scratch *patterns;
    struct normalizer_scratch normalizer;
    struct pretokenizer_scratch pretokenizer;
    struct bpe_scratch *bpe;
    int32_t *ids; // the four columns of the encoding, [capacity]
    uint32_t *start;
    uint32_t *end;
    int64_t *first;
    size_t count;
    size_t capacity;
};

// One call of tokenizer_encode.
struct encoder {
    const struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    const char *text;
    size_t before; // tokens that the template put there already
};

void tokenizer_destroy(struct tokenizer *tokenizer) {
    if (tokenizer != NULL) {
        added_set_destroy(&tokenizer->raw_tokens);
        added_set_destroy(&tokenizer->normalized_tokens);
        normalizer_destroy(&tokenizer->normalizer);
        pretokenizer_destroy(&tokenizer->pretokenizer);
        bpe_destroy(&tokenizer->bpe);
        vocabulary_destroy(&tokenizer->added_texts);
        tokenizer_companions_destroy(&tokenizer->companions);
        free(tokenizer);
    }
}

size_t tokenizer_id_limit(const struct tokenizer *tokenizer) {
    return tokenizer->id_limit;
}

const char *tokenizer_fingerprint(const struct tokenizer *tokenizer) {
    return tokenizer->fingerprint;
}

const char *tokenizer_token(const struct tokenizer *tokenizer, int32_t id, size_t *size) {
    const struct vocabulary *both[] = {&tokenizer->bpe.vocabulary, &tokenizer->added_texts};
    for (size_t i = 0; i < 2 && id >= 0; i++) {
        if ((size_t)id < both[i]->limit && both[i]->entries[id].text != NULL) {
            *size = both[i]->entries[id].size;
            return both[i]->entries[id].text;
        }
    }
    *size = 0;
    return NULL;
}

bool tokenizer_knows(const struct tokenizer *tokenizer, const char *text, size_t size) {
    const struct added_set *sets[] = {&tokenizer->raw_tokens, &tokenizer->normalized_tokens};
    for (size_t i = 0; i < 2; i++) {
        struct added_walk walk = {.text = text, .size = size};
        struct added_part part;
        if (added_set_next(sets[i], &walk, &part) && part.token != NULL && part.to - part.from == size) {
            return true;
        }
    }
    return false;
}

void tokenizer_scratch_destroy(struct tokenizer_scratch *scratch) {
    if (scratch != NULL) {
        pattern_scratch_destroy(scratch->patterns);
        normalizer_scratch_destroy(&scratch->normalizer);
        pretokenizer_scratch_destroy(&scratch->pretokenizer);
        bpe_scratch_destroy(scratch->bpe);
        free(scratch->ids);
        free(scratch->start);
        free(scratch->end);
        free(scratch->first);
        free(scratch);
    }
}

// Room for `extra` more tokens in all four columns.
static int reserve_tokens(struct tokenizer_scratch *scratch, size_t extra, struct error *err) {
    size_t wanted = scratch->count + extra;
    if (wanted <= scratch->capacity) {
        return STATUS_OK;
    }
    wanted = size_max(size_max(wanted, 1024), scratch->capacity * 2);
    void *columns[] = {scratch->ids, scratch->start, scratch->end, scratch->first};
    const size_t widths[] = {sizeof(*scratch->ids), sizeof(*scratch->start), sizeof(*scratch->end),
                             sizeof(*scratch->first)};
    int status = STATUS_OK;
    for (size_t i = 0; i < 4 && status == STATUS_OK; i++) {
        status = memory_resize(&columns[i], wanted, widths[i], err);
    }
    scratch->ids = columns[0];
    scratch->start = columns[1];
    scratch->end = columns[2];
    scratch->first = columns[3];
    if (status == STATUS_OK) {
        scratch->capacity = wanted;
    }
    return status;
}

int tokenizer_scratch_create(struct tokenizer_scratch **out, const struct tokenizer *tokenizer,
                             struct error *err) {
    (void)tokenizer; // every tokenizer needs the same working memory
    *out = NULL;
    void *block = NULL;
    TRY(memory_zeroed(&block, 1, sizeof(struct tokenizer_scratch), err));
    struct tokenizer_scratch *scratch = block;
    int status;
    TRY_TO(failed, status = pattern_scratch_create(&scratch->patterns, err));
    scratch->normalizer.patterns = scratch->patterns;
    scratch->pretokenizer.patterns = scratch->patterns;
    TRY_TO(failed, status = bpe_scratch_create(&scratch->bpe, err));
    TRY_TO(failed, status = reserve_tokens(scratch, 1, err)); // an empty encoding has columns, too
    *out = scratch;
    return STATUS_OK;
failed:
    tokenizer_scratch_destroy(scratch);
    return status;
}

// Adds a token of the text; `own` is the token's own text, for trimming. There is room for it.
static void add_token(const struct encoder *encoder, int32_t id, struct source_span span, const char *own,
                      size_t own_size) {
    struct tokenizer_scratch *scratch = encoder->scratch;
    size_t at = scratch->count++;
    scratch->ids[at] = id;
    scratch->start[at] = span.start;
    scratch->end[at] = span.end;
    scratch->first[at] = span.start;
    if (encoder->tokenizer->postprocessor.trim_offsets) {
        postprocessor_trim(&encoder->tokenizer->postprocessor, encoder->text, own, own_size,
                           at == encoder->before, &scratch->start[at], &scratch->end[at]);
    }
}

// A word of the pre-tokenizer: through BPE to tokens.
static int encode_word(void *context, const struct piece *word, struct error *err) {
    const struct encoder *encoder = context;
    const struct bpe_token *tokens = NULL;
    size_t count = 0;
    TRY(bpe_encode(&encoder->tokenizer->bpe, encoder->scratch->bpe, word->bytes, word->size, &tokens, &count,
                   err));
    TRY(reserve_tokens(encoder->scratch, count, err));
    const struct vocabulary_entry *entries = encoder->tokenizer->bpe.vocabulary.entries;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const struct vocabulary_entry *own = &entries[tokens[i].id];
        add_token(encoder, tokens[i].id, piece_span(word, at, at + tokens[i].size), own->text, own->size);
        at += tokens[i].size;
    }
    return STATUS_OK;
}

static int encode_added(const struct encoder *encoder, const struct piece *piece,
                        const struct added_part *part, struct error *err) {
    TRY(reserve_tokens(encoder->scratch, 1, err));
    add_token(encoder, part->token->id, piece_span(piece, part->from, part->to), piece->bytes + part->from,
              part->to - part->from);
    return STATUS_OK;
}

// Text without raw added tokens: normalize, cut out the other added tokens, encode what is left.
static int encode_ordinary(struct encoder *encoder, struct piece piece, struct error *err) {
    const struct tokenizer *tokenizer = encoder->tokenizer;
    TRY(normalizer_apply(&tokenizer->normalizer, &encoder->scratch->normalizer, piece, &piece, err));
    struct added_walk walk = {.text = piece.bytes, .size = piece.size};
    struct added_part part;
    while (added_set_next(&tokenizer->normalized_tokens, &walk, &part)) {
        if (part.token != NULL) {
            TRY(encode_added(encoder, &piece, &part, err));
        } else {
            TRY(pretokenizer_run(&tokenizer->pretokenizer, &encoder->scratch->pretokenizer,
                                 piece_slice(&piece, part.from, part.to), encode_word, encoder, err));
        }
    }
    return STATUS_OK;
}

static int encode_text(struct encoder *encoder, size_t size, struct error *err) {
    struct piece whole = {encoder->text, size, NULL, 0};
    struct added_walk walk = {.text = encoder->text, .size = size};
    struct added_part part;
    while (added_set_next(&encoder->tokenizer->raw_tokens, &walk, &part)) {
        if (part.token != NULL) {
            TRY(encode_added(encoder, &whole, &part, err));
        } else {
            TRY(encode_ordinary(encoder, piece_slice(&whole, part.from, part.to), err));
        }
    }
    return STATUS_OK;
}

static int add_template(struct tokenizer_scratch *scratch, const int32_t *ids, size_t count,
                        struct error *err) {
    TRY(reserve_tokens(scratch, count, err));
    for (size_t i = 0; i < count; i++) {
        size_t at = scratch->count++;
        scratch->ids[at] = ids[i];
        scratch->start[at] = 0;
        scratch->end[at] = 0;
        scratch->first[at] = TOKEN_ADDED_BY_TEMPLATE;
    }
    return STATUS_OK;
}

int tokenizer_encode_truncated(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                               const char *text, size_t size, bool special_tokens, size_t max_tokens,
                               bool *truncated, struct encoding *out, struct error *err) {
    size_t bad = 0;
    *out = (struct encoding){0};
    *truncated = false;
    if (size > UINT32_MAX) {
        return error_set(err, STATUS_DATA, "the text is longer than 4 GiB");
    }
    if (!utf8_valid(text, size, &bad)) {
        return error_set(err, STATUS_DATA, "the text is not valid UTF-8 at byte %zu", bad);
    }
    const struct postprocessor *post = &tokenizer->postprocessor;
    size_t before = special_tokens ? post->before_count : 0;
    size_t after = special_tokens ? post->after_count : 0;
    struct encoder encoder = {tokenizer, scratch, text, before};
    scratch->count = 0;
    TRY(add_template(scratch, post->before, before, err));
    TRY(encode_text(&encoder, size, err));
    if (max_tokens > 0) {
        size_t kept = size_max(max_tokens, before + after) - after;
        *truncated = scratch->count > kept;
        scratch->count = size_min(scratch->count, kept);
    }
    int status = add_template(scratch, post->after, after, err);
    *out = (struct encoding){scratch->ids,   scratch->start, scratch->end,
                             scratch->first, scratch->count, post->before_count + post->after_count};
    return status;
}

int tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch, const char *text,
                     size_t size, bool special_tokens, struct encoding *out, struct error *err) {
    bool truncated = false;
    return tokenizer_encode_truncated(tokenizer, scratch, text, size, special_tokens, 0, &truncated, out,
                                      err);
}

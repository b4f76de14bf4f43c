// SPDX-License-Identifier: MIT
#include "stages/markup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"

#define SHARE 10 // one in so many texts of the sample is no accident

// ---- one text ----

static bool is_name(char c, bool wide) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || (wide && (unsigned char)c >= 0x80);
}

// Bytes of `word` when the text goes on with it.
static size_t starts(const char *text, size_t size, const char *word) {
    size_t length = strlen(word);
    return size >= length && memcmp(text, word, length) == 0 ? length : 0;
}

// The bytes of <|name|>, of the same with the wide bars of DeepSeek, or of <start_of_name> and <end_of_name>
// where the text begins with one, else 0. [INST] is left out: templates of Llama 2 and Mistral write it as
// plain text.
static size_t piece_size(const char *text, size_t size) {
    static const struct {
        const char *open;
        const char *close;
        bool wide;
    } forms[] = {{"<|", "|>", false},
                 {"<\xEF\xBD\x9C", "\xEF\xBD\x9C>", true},
                 {"<start_of_", ">", false},
                 {"<end_of_", ">", false}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        size_t open = starts(text, size, forms[i].open);
        size_t at = open;
        while (open > 0 && at < size && is_name(text[at], forms[i].wide) &&
               starts(text + at, size - at, forms[i].close) == 0) {
            at++;
        }
        size_t close = open > 0 && at > open ? starts(text + at, size - at, forms[i].close) : 0;
        if (close > 0 && at + close < MARKUP_PIECE) {
            return at + close;
        }
    }
    return 0;
}

static void count_piece(struct markup *markup, const char *text, size_t size) {
    size_t i = 0;
    while (i < markup->count &&
           (strlen(markup->pieces[i].text) != size || memcmp(markup->pieces[i].text, text, size) != 0)) {
        i++;
    }
    if (i == MARKUP_PIECES) {
        return;
    }
    struct markup_piece *piece = &markup->pieces[i];
    if (i == markup->count) {
        memcpy(piece->text, text, size);
        markup->count++;
    }
    piece->texts += piece->last != markup->texts;
    piece->last = (uint32_t)markup->texts;
}

void markup_look(struct markup *markup, const struct prepared *prepared) {
    if (prepared->state != PROBLEM_DONE) {
        return;
    }
    markup->texts++;
    if (prepared->doubled_token >= 0 && markup->doubled++ == 0) {
        markup->doubled_token = prepared->doubled_token;
        snprintf(markup->doubled_id, sizeof markup->doubled_id, "%.*s",
                 (int)size_min(prepared->id_size, MARKUP_ID), prepared->id);
    }
    const char *end = prepared->text + prepared->text_size;
    const char *at = prepared->text;
    while (markup->texts <= MARKUP_SAMPLE && (at = memchr(at, '<', (size_t)(end - at))) != NULL) {
        size_t size = piece_size(at, (size_t)(end - at));
        if (size > 0) {
            count_piece(markup, at, size);
        }
        at += size_max(size, 1);
    }
}

// ---- of all texts ----

int markup_refuse_doubled(const struct markup *markup, const struct tokenizer *tokenizer, struct error *err) {
    if (markup->doubled == 0) {
        return STATUS_OK;
    }
    size_t size;
    const char *token = tokenizer_token(tokenizer, markup->doubled_token, &size);
    return error_set(err, STATUS_JOB,
                     "%" PRIu64 " of %" PRIu64 " texts begin with %.*s (the first: problem %s), and "
                     "problems.special_tokens: true puts another before it, as transformers would: set it to "
                     "false for texts that a chat template rendered%s",
                     markup->doubled, markup->texts, (int)size_min(size, 100), token == NULL ? "" : token,
                     markup->doubled_id,
                     markup->doubled < markup->texts ? ", or leave these out in problems.query" : "");
}

// How many tokens the piece is.
static int count_tokens(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                        const char *piece, size_t *tokens, struct error *err) {
    struct encoding encoding;
    struct error unknown;
    *tokens = 1;
    if (tokenizer_knows(tokenizer, piece, strlen(piece))) {
        return STATUS_OK;
    }
    int status = tokenizer_encode(tokenizer, scratch, piece, strlen(piece), false, &encoding, &unknown);
    if (status == STATUS_OK) {
        *tokens = encoding.count;
    } else if (status != STATUS_DATA) {
        *err = unknown;
        return status;
    }
    return STATUS_OK;
}

static bool is_named(const struct buffer *said, const char *piece) {
    return said->size > 0 && memmem(said->data, said->size, piece, strlen(piece)) != NULL;
}

static int add_pieces(const struct markup *markup, const struct tokenizer *tokenizer,
                      struct tokenizer_scratch *scratch, const struct buffer *said, struct buffer *line,
                      struct error *err) {
    uint64_t sample = markup->texts < MARKUP_SAMPLE ? markup->texts : MARKUP_SAMPLE;
    for (size_t i = 0; i < markup->count; i++) {
        const struct markup_piece *piece = &markup->pieces[i];
        size_t tokens = 0;
        TRY(count_tokens(tokenizer, scratch, piece->text, &tokens, err));
        if (tokens > 1 && !is_named(said, piece->text) && piece->texts * (uint64_t)SHARE >= sample) {
            TRY(buffer_printf(line, err, "%s%s (%zu tokens, in %" PRIu32 " of the first %" PRIu64 " texts)",
                              line->size == 0 ? "" : ", ", piece->text, tokens, piece->texts, sample));
        }
    }
    return STATUS_OK;
}

int markup_warn(const struct markup *markup, const struct tokenizer *tokenizer, const struct buffer *said,
                struct buffer *lines, struct error *err) {
    struct tokenizer_scratch *scratch = NULL;
    struct buffer line = {0};
    int status = STATUS_OK;
    if (markup->count == 0) {
        return STATUS_OK;
    }
    TRY_TO(done, status = tokenizer_scratch_create(&scratch, tokenizer, err));
    TRY_TO(done, status = add_pieces(markup, tokenizer, scratch, said, &line, err));
    if (line.size > 0) {
        status =
            buffer_printf(lines, err,
                          "the texts have markup that is no token of this tokenizer: %.*s; was it another "
                          "model's chat template that rendered them?\n",
                          (int)line.size, line.data);
    }
done:
    buffer_destroy(&line);
    tokenizer_scratch_destroy(scratch);
    return status;
}

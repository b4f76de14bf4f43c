// SPDX-License-Identifier: MIT
// Encodes texts for tests and benchmarks that are not written in C.
//
//   text_tool_encode TOKENIZER [--no-special] < TEXTS > ENCODINGS
//   text_tool_encode --time TOKENIZER TEXTS
//   text_tool_encode --warnings TOKENIZER MODEL_TYPE CLASS
//
// TOKENIZER: a tokenizer.json, or the vocabulary of a GGUF file as NAME.ggml, which is JSON: an object of the
// keys tokenizer.ggml.* without that prefix. TEXTS: for each text a little-endian uint32 of its bytes, then
// the bytes. ENCODINGS: for each text an int32, the number of tokens or a negative status, then int32 ids,
// uint32 starts, uint32 ends, int64 firsts; after a negative status a uint32 of the message's bytes and the
// message. --time prints the seconds that loading took, and the bytes per second of the best of five passes
// over the file, by one thread.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_ggml.h"

enum { PASSES = 5 };

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int fail(const struct error *err) {
    fprintf(stderr, "%s\n", err->message);
    return error_exit_code(err->status);
}

// The texts of a list; NULL when there is none.
static struct ggml_text *read_texts(const json_t *list, size_t *count) {
    *count = json_array_size(list);
    struct ggml_text *texts = list == NULL ? NULL : calloc(*count + 1, sizeof *texts);
    for (size_t i = 0; texts != NULL && i < *count; i++) {
        const json_t *text = json_array_get(list, i);
        texts[i] = (struct ggml_text){json_string_value(text), json_string_length(text)};
    }
    return texts;
}

static int32_t *read_types(const json_t *list, size_t *count) {
    *count = json_array_size(list);
    int32_t *types = list == NULL ? NULL : calloc(*count + 1, sizeof *types);
    for (size_t i = 0; types != NULL && i < *count; i++) {
        types[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return types;
}

static float *read_scores(const json_t *list, size_t *count) {
    *count = json_array_size(list);
    float *scores = list == NULL ? NULL : calloc(*count + 1, sizeof *scores);
    for (size_t i = 0; scores != NULL && i < *count; i++) {
        scores[i] = (float)json_number_value(json_array_get(list, i));
    }
    return scores;
}

static int64_t read_id(const json_t *root, const char *key) {
    const json_t *id = json_member(root, key);
    return id == NULL ? GGML_ABSENT : json_integer_value(id);
}

static int read_flag(const json_t *root, const char *key) {
    const json_t *flag = json_member(root, key);
    return flag == NULL ? GGML_ABSENT : json_is_true(flag);
}

static int load_ggml(struct tokenizer **out, const char *path, struct error *err) {
    json_t *root = NULL;
    TRY(json_parse_file(&root, path, (size_t)1 << 30, err));
    struct ggml_vocabulary vocabulary = {
        .model = json_string_value(json_member(root, "model")),
        .pre = json_string_value(json_member(root, "pre")),
        .bos_token_id = read_id(root, "bos_token_id"),
        .eos_token_id = read_id(root, "eos_token_id"),
        .unknown_token_id = read_id(root, "unknown_token_id"),
        .add_bos_token = read_flag(root, "add_bos_token"),
        .add_eos_token = read_flag(root, "add_eos_token"),
        .add_space_prefix = read_flag(root, "add_space_prefix"),
    };
    struct ggml_text *tokens = read_texts(json_member(root, "tokens"), &vocabulary.token_count);
    struct ggml_text *merges = read_texts(json_member(root, "merges"), &vocabulary.merge_count);
    int32_t *types = read_types(json_member(root, "token_type"), &vocabulary.token_type_count);
    float *scores = read_scores(json_member(root, "scores"), &vocabulary.score_count);
    vocabulary.tokens = tokens;
    vocabulary.merges = merges;
    vocabulary.token_types = types;
    vocabulary.scores = scores;
    int status = tokenizer_from_ggml(out, &vocabulary, path, err);
    free(tokens);
    free(merges);
    free(types);
    free(scores);
    json_decref(root);
    return status;
}

static int load(struct tokenizer **out, const char *path, struct error *err) {
    const char *end = strrchr(path, '.');
    return end != NULL && strcmp(end, ".ggml") == 0 ? load_ggml(out, path, err)
                                                    : tokenizer_load(out, path, err);
}

static int write_encoding(int status, const struct encoding *encoding, const struct error *err) {
    int32_t head = status == STATUS_OK ? (int32_t)encoding->count : (int32_t)status;
    fwrite(&head, sizeof(head), 1, stdout);
    if (status != STATUS_OK) {
        uint32_t size = (uint32_t)strlen(err->message);
        fwrite(&size, sizeof(size), 1, stdout);
        fwrite(err->message, 1, size, stdout);
    } else {
        fwrite(encoding->ids, sizeof(*encoding->ids), encoding->count, stdout);
        fwrite(encoding->start, sizeof(*encoding->start), encoding->count, stdout);
        fwrite(encoding->end, sizeof(*encoding->end), encoding->count, stdout);
        fwrite(encoding->first, sizeof(*encoding->first), encoding->count, stdout);
    }
    return ferror(stdout) ? 73 : 0;
}

static int encode_stream(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch, bool special) {
    uint32_t size;
    struct buffer text = {0};
    struct error err = {0};
    int code = 0;
    while (code == 0 && fread(&size, sizeof(size), 1, stdin) == 1) {
        buffer_clear(&text);
        if (buffer_reserve(&text, (size_t)size + 1, &err) != STATUS_OK ||
            fread(text.data, 1, size, stdin) != size) {
            code = 65;
            break;
        }
        struct encoding encoding;
        int status = tokenizer_encode(tokenizer, scratch, text.data, size, special, &encoding, &err);
        code = write_encoding(status, &encoding, &err);
    }
    buffer_destroy(&text);
    return code;
}

// One pass over a file of texts; the tokens it made, or -1.
static int64_t encode_file(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                           const struct file_map *map, struct error *err) {
    int64_t tokens = 0;
    uint32_t size;
    for (size_t at = 0; at + sizeof(size) <= map->size; at += size) {
        memcpy(&size, map->data + at, sizeof(size));
        at += sizeof(size);
        struct encoding encoding;
        if (size > map->size - at) {
            error_set(err, STATUS_DATA, "the last text is cut off");
            return -1;
        }
        if (tokenizer_encode(tokenizer, scratch, (const char *)map->data + at, size, true, &encoding, err) !=
            0) {
            return -1;
        }
        tokens += (int64_t)encoding.count;
    }
    return tokens;
}

static int time_file(const char *tokenizer_path, const char *texts) {
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_scratch *scratch = NULL;
    struct file_map map = {0};
    struct error err = {0};
    double start = seconds_now();
    int status = load(&tokenizer, tokenizer_path, &err);
    double load = seconds_now() - start;
    if (status == STATUS_OK) {
        status = tokenizer_scratch_create(&scratch, tokenizer, &err);
    }
    if (status == STATUS_OK) {
        status = file_map(&map, texts, &err);
    }
    double best = 1e30;
    int64_t tokens = 0;
    for (int pass = 0; pass < PASSES && status == STATUS_OK; pass++) {
        start = seconds_now();
        tokens = encode_file(tokenizer, scratch, &map, &err);
        double took = seconds_now() - start;
        best = took < best ? took : best;
        status = tokens < 0 ? STATUS_DATA : STATUS_OK;
    }
    if (status == STATUS_OK) {
        printf("load_seconds %.3f\nbytes_per_second %.0f\ntokens %lld\n", load, (double)map.size / best,
               (long long)tokens);
    }
    file_unmap(&map);
    tokenizer_scratch_destroy(scratch);
    tokenizer_destroy(tokenizer);
    return status == STATUS_OK ? 0 : fail(&err);
}

// What may make the ids of transformers' AutoTokenizer others.
static int print_warnings(const char *tokenizer_path, const char *model_type, const char *class_name) {
    struct tokenizer *tokenizer = NULL;
    struct buffer lines = {0};
    struct error err = {0};
    int status = load(&tokenizer, tokenizer_path, &err);
    if (status == STATUS_OK) {
        status = tokenizer_warnings(tokenizer, model_type, class_name, &lines, &err);
    }
    printf("%s", lines.data == NULL ? "" : lines.data);
    buffer_destroy(&lines);
    tokenizer_destroy(tokenizer);
    return status == STATUS_OK ? 0 : fail(&err);
}

int main(int count, char **arguments) {
    if (count == 5 && strcmp(arguments[1], "--warnings") == 0) {
        return print_warnings(arguments[2], arguments[3], arguments[4]);
    }
    if (count == 4 && strcmp(arguments[1], "--time") == 0) {
        return time_file(arguments[2], arguments[3]);
    }
    bool special = !(count == 3 && strcmp(arguments[2], "--no-special") == 0);
    if (count != 2 && special) {
        fprintf(stderr, "usage: %s TOKENIZER [--no-special] | --time TOKENIZER TEXTS\n", arguments[0]);
        return 64;
    }
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_scratch *scratch = NULL;
    struct error err = {0};
    int status = load(&tokenizer, arguments[1], &err);
    if (status == STATUS_OK) {
        status = tokenizer_scratch_create(&scratch, tokenizer, &err);
    }
    int code = status == STATUS_OK ? encode_stream(tokenizer, scratch, special) : fail(&err);
    tokenizer_scratch_destroy(scratch);
    tokenizer_destroy(tokenizer);
    return code;
}

// SPDX-License-Identifier: MIT
// Reading tokenizer.json: what is not known is refused by name.
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/first_bytes.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/size.h"
#include "text/component.h"
#include "text/merge_text.h"
#include "text/tokenizer_internal.h"

enum { FILE_LIMIT = 256 << 20 }; // bytes; the largest real files are about 35 MB

static int check_version(const json_t *root, struct error *err) {
    const char *version = NULL;
    TRY(component_keys(root, err, "version", "truncation", "padding", "added_tokens", "normalizer",
                       "pre_tokenizer", "post_processor", "decoder", "model", NULL));
    TRY(json_get_string(root, "version", &version, err));
    if (version != NULL && strcmp(version, "1.0") != 0) {
        return error_set(err, STATUS_DATA, "version '%.100s' is not supported", version);
    }
    return STATUS_OK;
}

static int load_vocabulary(struct bpe *bpe, const json_t *model, struct error *err) {
    json_t *vocab = json_member(model, "vocab");
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
        return error_set(err, STATUS_DATA, "vocab is not an object with tokens");
    }
    const char *text;
    json_t *value;
    size_t bytes = 0;
    int64_t highest = 0;
    json_object_foreach(vocab, text, value) {
        bytes += strlen(text);
        int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= TOKEN_ID_LIMIT) {
            return error_set(err, STATUS_DATA, "vocab: the id of '%.100s' is not a number from 0 to %d", text,
                             TOKEN_ID_LIMIT - 1);
        }
        highest = id > highest ? id : highest;
    }
    TRY(vocabulary_create(&bpe->vocabulary, json_object_size(vocab), bytes, (size_t)highest + 1, err));
    json_object_foreach(vocab, text, value) {
        int status =
            vocabulary_add(&bpe->vocabulary, text, strlen(text), (int32_t)json_integer_value(value), err);
        if (status != STATUS_OK) {
            return error_wrap(err, "vocab");
        }
    }
    return STATUS_OK;
}

// A pair of texts, or one text.
static bool read_merge(const json_t *json, struct merge_text *out) {
    if (json_is_string(json)) {
        return merge_text_split(out, json_string_value(json), json_string_length(json));
    }
    const json_t *left = json_array_get(json, 0);
    const json_t *right = json_array_get(json, 1);
    if (json_array_size(json) != 2 || !json_is_string(left) || !json_is_string(right)) {
        return false;
    }
    *out = (struct merge_text){json_string_value(left), json_string_length(left), json_string_value(right),
                               json_string_length(right)};
    return out->left_size > 0 && out->right_size > 0;
}

static int load_merges(struct bpe *bpe, const json_t *model, struct error *err) {
    const json_t *merges = NULL;
    TRY(component_list(&merges, model, "merges", err));
    if (json_array_size(merges) >= UINT32_MAX) {
        return error_set(err, STATUS_DATA, "merges is too long");
    }
    TRY(bpe_create_merges(bpe, json_array_size(merges), err));
    struct buffer joined = {0};
    uint32_t rank = 0;
    int status = STATUS_OK;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *json = json_array_get(merges, i);
        // A first line of merges.txt that some converters keep; the library skips it too.
        if (json_is_string(json) && strncmp(json_string_value(json), "#version", 8) == 0) {
            continue;
        }
        struct merge_text merge;
        if (!read_merge(json, &merge)) {
            status = error_set(err, STATUS_DATA, "merges: number %zu is not a pair of texts", i);
            goto done;
        }
        TRY_TO(done, status = merge_text_add(bpe, &merge, rank++, &joined, err));
    }
done:
    buffer_destroy(&joined);
    return status;
}

// Settings that change what the model does and are not supported when set.
static int refuse_settings(const json_t *model, struct error *err) {
    static const char *const texts[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    double dropout = 0;
    TRY(json_get_number(model, "dropout", &dropout, err));
    if (dropout != 0) {
        return error_set(err, STATUS_DATA, "dropout is not supported");
    }
    for (size_t i = 0; i < 2; i++) {
        const char *text = "";
        TRY(json_get_string(model, texts[i], &text, err));
        if (*text != '\0') {
            return error_set(err, STATUS_DATA, "%s is not supported", texts[i]);
        }
    }
    return STATUS_OK;
}

static int load_flags(struct bpe *bpe, const json_t *model, struct error *err) {
    TRY(json_get_boolean(model, "fuse_unk", &bpe->fuse_unknown, err));
    TRY(json_get_boolean(model, "byte_fallback", &bpe->byte_fallback, err));
    TRY(json_get_boolean(model, "ignore_merges", &bpe->ignore_merges, err));
    const char *unknown = "";
    TRY(json_get_string(model, "unk_token", &unknown, err));
    bpe->unknown =
        *unknown == '\0' ? TOKEN_NONE : vocabulary_find(&bpe->vocabulary, unknown, strlen(unknown));
    return STATUS_OK;
}

// What is done about characters without a token, unless there are none.
static int check_unknown(const struct bpe *bpe, const json_t *model, struct error *err) {
    const char *unknown = "";
    TRY(json_get_string(model, "unk_token", &unknown, err));
    if (bpe_covers_bytes(bpe)) {
        return STATUS_OK;
    }
    if (*unknown != '\0' && bpe->unknown == TOKEN_NONE) {
        return error_set(err, STATUS_DATA, "unk_token '%.100s' is not in vocab", unknown);
    }
    return bpe->byte_fallback && bpe->byte_level
               ? error_set(
                     err, STATUS_DATA,
                     "byte_fallback with a ByteLevel pre-tokenizer is not supported where vocab lacks bytes")
               : STATUS_OK;
}

static int load_model(struct bpe *bpe, const json_t *model, struct error *err) {
    const char *type = "BPE"; // old files leave it out
    if (!json_is_object(model)) {
        return error_set(err, STATUS_DATA, "model is missing");
    }
    int status;
    TRY_TO(done, status = json_get_string(model, "type", &type, err));
    if (strcmp(type, "BPE") != 0) {
        return error_set(err, STATUS_DATA, "model: type '%.100s' is not supported", type);
    }
    TRY_TO(done, status = component_keys(model, err, "type", "dropout", "unk_token",
                                         "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                                         "byte_fallback", "ignore_merges", "vocab", "merges", NULL));
    TRY_TO(done, status = refuse_settings(model, err));
    TRY_TO(done, status = load_vocabulary(bpe, model, err));
    TRY_TO(done, status = load_flags(bpe, model, err));
    TRY_TO(done, status = load_merges(bpe, model, err));
    TRY_TO(done, status = bpe_finish(bpe, err));
    TRY_TO(done, status = check_unknown(bpe, model, err));
done:
    return status == STATUS_OK ? status : error_wrap(err, "model");
}

// An added token as the file has it.
struct added_entry {
    char *content;
    size_t size;
    int64_t id;
    bool normalized;
    struct added_token token;
};

static int read_added(struct added_entry *entry, const json_t *json, struct error *err) {
    bool special = false; // matters to decoding only
    *entry = (struct added_entry){.id = -1, .normalized = true};
    if (!json_is_object(json)) {
        return error_set(err, STATUS_DATA, "not an object");
    }
    TRY(component_keys(json, err, "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special",
                       NULL));
    struct {
        const char *key;
        bool *flag;
    } flags[] = {{"single_word", &entry->token.single_word},
                 {"lstrip", &entry->token.left_strip},
                 {"rstrip", &entry->token.right_strip},
                 {"normalized", &entry->normalized},
                 {"special", &special}};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        TRY(json_get_boolean(json, flags[i].key, flags[i].flag, err));
    }
    TRY(json_get_integer(json, "id", 0, TOKEN_ID_LIMIT - 1, &entry->id, err));
    return component_text(&entry->content, &entry->size, json, "content", err);
}

// The id that the library gives a token: the model's, or the next after the vocabulary. The file must agree.
static int settle_id(struct tokenizer *tokenizer, struct added_entry *entry, struct error *err) {
    int32_t known = vocabulary_find(&tokenizer->bpe.vocabulary, entry->content, entry->size);
    int32_t id = known;
    if (known == TOKEN_NONE) {
        id = (int32_t)(tokenizer->bpe.vocabulary.count + tokenizer->added_texts.count);
    }
    if (entry->id >= 0 && entry->id != id) {
        return error_set(err, STATUS_DATA, "its id is %lld, but it gets %d by its place in the file",
                         (long long)entry->id, (int)id);
    }
    entry->token.id = id;
    if (known != TOKEN_NONE) {
        return STATUS_OK;
    }
    if ((size_t)id < tokenizer->bpe.vocabulary.limit && tokenizer->bpe.vocabulary.entries[id].text != NULL) {
        return error_set(err, STATUS_DATA, "id %d belongs to another token", (int)id);
    }
    return vocabulary_add(&tokenizer->added_texts, entry->content, entry->size, id, err);
}

static int add_entry(struct tokenizer *tokenizer, struct added_entry *entry,
                     struct normalizer_scratch *scratch, struct error *err) {
    TRY(settle_id(tokenizer, entry, err));
    if (!entry->normalized) {
        return added_set_add(&tokenizer->raw_tokens, entry->content, entry->size, entry->token, err);
    }
    struct piece content = {entry->content, entry->size, NULL, 0};
    TRY(normalizer_apply(&tokenizer->normalizer, scratch, content, &content, err));
    return added_set_add(&tokenizer->normalized_tokens, content.bytes, content.size, entry->token, err);
}

static int load_one_added(struct tokenizer *tokenizer, const json_t *json, size_t number,
                          struct normalizer_scratch *scratch, struct error *err) {
    struct added_entry entry;
    int status;
    TRY_TO(done, status = read_added(&entry, json, err));
    if (entry.size > 0) { // the library skips empty ones
        TRY_TO(done, status = add_entry(tokenizer, &entry, scratch, err));
    }
done:
    if (status != STATUS_OK) {
        error_wrap(err, "added_tokens: number %zu ('%.100s')", number,
                   entry.content == NULL ? "" : entry.content);
    }
    free(entry.content);
    return status;
}

static int load_added_list(struct tokenizer *tokenizer, const json_t *list,
                           struct normalizer_scratch *scratch, struct error *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        bytes += json_string_length(json_member(json_array_get(list, i), "content"));
    }
    size_t limit = tokenizer->bpe.vocabulary.count + json_array_size(list);
    TRY(vocabulary_create(&tokenizer->added_texts, json_array_size(list), bytes, limit, err));
    for (size_t i = 0; i < json_array_size(list); i++) {
        TRY(load_one_added(tokenizer, json_array_get(list, i), i, scratch, err));
    }
    return STATUS_OK;
}

static int load_added(struct tokenizer *tokenizer, const json_t *root, struct error *err) {
    json_t *none = NULL;
    const json_t *list = json_member(root, "added_tokens");
    if (list == NULL) {
        list = none = json_array();
    }
    if (!json_is_array(list)) {
        return error_set(err, STATUS_DATA, "added_tokens is not a list");
    }
    struct normalizer_scratch scratch = {0};
    int status;
    TRY_TO(done, status = pattern_scratch_create(&scratch.patterns, err));
    TRY_TO(done, status = load_added_list(tokenizer, list, &scratch, err));
done:
    pattern_scratch_destroy(scratch.patterns);
    normalizer_scratch_destroy(&scratch);
    json_decref(none);
    return status;
}

static void set_id_limit(struct tokenizer *tokenizer) {
    const struct postprocessor *post = &tokenizer->postprocessor;
    tokenizer->id_limit = tokenizer->bpe.vocabulary.limit;
    if (tokenizer->added_texts.count > 0) {
        tokenizer->id_limit =
            size_max(tokenizer->id_limit, tokenizer->bpe.vocabulary.count + tokenizer->added_texts.count);
    }
    for (size_t i = 0; i < post->before_count; i++) {
        tokenizer->id_limit = size_max(tokenizer->id_limit, (size_t)post->before[i] + 1);
    }
    for (size_t i = 0; i < post->after_count; i++) {
        tokenizer->id_limit = size_max(tokenizer->id_limit, (size_t)post->after[i] + 1);
    }
}

static int load_parts(struct tokenizer *tokenizer, const json_t *root, struct error *err) {
    if (!json_is_object(root)) {
        return error_set(err, STATUS_DATA, "not an object");
    }
    TRY(check_version(root, err));
    TRY(normalizer_load(&tokenizer->normalizer, json_member(root, "normalizer"), err));
    TRY(pretokenizer_load(&tokenizer->pretokenizer, json_member(root, "pre_tokenizer"), err));
    TRY(postprocessor_load(&tokenizer->postprocessor, json_member(root, "post_processor"), err));
    tokenizer->bpe.byte_level = tokenizer->pretokenizer.byte_level;
    TRY(load_model(&tokenizer->bpe, json_member(root, "model"), err));
    TRY(load_added(tokenizer, root, err));
    set_id_limit(tokenizer);
    return STATUS_OK;
}

static int fingerprint(char hex[DIGEST_HEX], const char *bytes, size_t size, struct error *err) {
    struct digest *digest = NULL;
    int status;
    TRY_TO(done, status = digest_create(&digest, err));
    TRY_TO(done, status = digest_update(digest, bytes, size, err));
    TRY_TO(done, status = digest_finish(digest, hex, err));
done:
    digest_destroy(digest);
    return status;
}

static int fingerprints(struct tokenizer *tokenizer, const char *json, size_t size, struct error *err) {
    const struct buffer *changes = &tokenizer->companions.changes;
    int status = fingerprint(tokenizer->fingerprint, json, size, err);
    return status != STATUS_OK || changes->size == 0
               ? status
               : fingerprint(tokenizer->changes_fingerprint, changes->data, changes->size, err);
}

// What the classes of transformers look at beside the parts.
static void note_words(struct tokenizer *tokenizer, const json_t *root, const char *json, size_t size) {
    static const char word[] = "\"ByteLevel\"";
    const char *direction = json_string_value(json_member(json_member(root, "truncation"), "direction"));
    tokenizer->says_byte_level = memmem(json, size, word, strlen(word)) != NULL;
    tokenizer->cuts_left = direction != NULL && strcmp(direction, "Left") == 0;
}

// The files beside it are looked for in `folder`; NULL: there are none.
static int parse(struct tokenizer **out, const char *json, size_t size, const char *name, const char *folder,
                 struct error *err) {
    *out = NULL;
    void *block = NULL;
    json_t *root = NULL;
    TRY(memory_zeroed(&block, 1, sizeof(struct tokenizer), err));
    struct tokenizer *tokenizer = block;
    int status;
    TRY_TO(done, status = json_parse_vocabulary(&root, json, size, name, err));
    if (folder != NULL) {
        TRY_TO(done, status = tokenizer_companions_apply(&tokenizer->companions, root, folder, err));
    }
    status = load_parts(tokenizer, root, err);
    if (status != STATUS_OK) {
        error_wrap(err, "%s", name);
        goto done;
    }
    note_words(tokenizer, root, json, size);
    status = fingerprints(tokenizer, json, size, err);
done:
    json_decref(root);
    if (status != STATUS_OK) {
        tokenizer_destroy(tokenizer);
        return status;
    }
    *out = tokenizer;
    return STATUS_OK;
}

int tokenizer_parse(struct tokenizer **out, const char *json, size_t size, const char *name,
                    struct error *err) {
    return parse(out, json, size, name, NULL, err);
}

int tokenizer_load(struct tokenizer **out, const char *path, struct error *err) {
    *out = NULL;
    struct file_map map = {0};
    char folder[PATH_SIZE];
    int status;
    TRY_TO(done, status = path_folder(folder, sizeof folder, path, err));
    TRY_TO(done, status = file_map(&map, path, err));
    if (map.size > FILE_LIMIT) {
        status = error_set(err, STATUS_DATA, "%s: larger than %d MiB", path, FILE_LIMIT >> 20);
        goto done;
    }
    TRY_TO(done, status = first_bytes_check(map.data, map.size, map.size, path, FIRST_BYTES_JSON, err));
    TRY_TO(done, status = parse(out, (const char *)map.data, map.size, path, folder, err));
done:
    file_unmap(&map);
    return status;
}

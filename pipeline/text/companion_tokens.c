// SPDX-License-Identifier: MIT
#include "text/companion_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"

static const char *const named_tokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                           "pad_token", "cls_token", "mask_token"};
enum { NAMED = sizeof named_tokens / sizeof named_tokens[0] };

static const char *const flag_names[] = {"single_word", "lstrip", "rstrip", "normalized"};
enum { FLAGS = sizeof flag_names / sizeof flag_names[0] };

static const char model_specific[] = "model_specific_special_tokens";

static int out_of_memory(struct error *err) {
    return error_set(err, STATUS_INTERNAL, "out of memory for added tokens");
}

static bool is_named(const char *key) {
    for (size_t i = 0; i < NAMED; i++) {
        if (strcmp(key, named_tokens[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool get_flag(const json_t *token, const char *key, bool otherwise) {
    const json_t *value = json_member(token, key);
    return value == NULL ? otherwise : json_is_true(value);
}

// Texts that a vocabulary can hold: not empty, no NUL byte.
static const char *text_of(const json_t *token) {
    const json_t *content = json_is_object(token) ? json_member(token, "content") : token;
    const char *text = json_string_value(content);
    return text != NULL && text[0] != 0 && strlen(text) == json_string_length(content) ? text : NULL;
}

// Where text_of has none: an empty one is passed over, as transformers does.
static int check_no_text(const json_t *token, struct error *err) {
    const json_t *content = json_is_object(token) ? json_member(token, "content") : token;
    return json_string_length(content) == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "a token has a NUL character or half of a surrogate pair");
}

static json_t *find(const struct companion_tokens *tokens, const char *text) {
    const json_t *place = json_object_get(tokens->index, text);
    return place == NULL ? NULL : json_array_get(tokens->list, (size_t)json_integer_value(place));
}

static int note_place(struct companion_tokens *tokens, const char *text, size_t place, struct error *err) {
    return json_object_set_new(tokens->index, text, json_integer((json_int_t)place)) == 0
               ? STATUS_OK
               : out_of_memory(err);
}

static int describe(struct companion_tokens *tokens, const json_t *token, const char *what,
                    struct error *err) {
    char *text = json_dumps(token, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
    if (text == NULL) {
        return out_of_memory(err);
    }
    int status = buffer_printf(tokens->changes, err, "%s %s\n", what, text);
    free(text);
    return status;
}

// A token of the files as tokenizer.json would write it, without an id.
static json_t *make_entry(const char *text, const json_t *flags, bool normalized) {
    json_t *entry = json_pack("{s:s}", "content", text);
    for (size_t i = 0; entry != NULL && i < FLAGS; i++) {
        bool otherwise = strcmp(flag_names[i], "normalized") == 0 && normalized;
        if (json_object_set_new(entry, flag_names[i],
                                json_boolean(get_flag(flags, flag_names[i], otherwise))) != 0) {
            json_decref(entry);
            return NULL;
        }
    }
    return entry;
}

static int append(struct companion_tokens *tokens, const char *text, json_t *entry, struct error *err) {
    int status;
    TRY_TO(done, status = entry == NULL ? out_of_memory(err) : describe(tokens, entry, "adds", err));
    TRY_TO(done, status = note_place(tokens, text, json_array_size(tokens->list), err));
done:
    if (status != STATUS_OK) {
        json_decref(entry);
        return status;
    }
    return json_array_append_new(tokens->list, entry) == 0 ? STATUS_OK : out_of_memory(err);
}

// Other flags than those the token has: the new ones count.
static int change_flags(struct companion_tokens *tokens, json_t *known, const json_t *entry,
                        struct error *err) {
    bool differs = false;
    for (size_t i = 0; i < FLAGS; i++) {
        bool otherwise = strcmp(flag_names[i], "normalized") == 0;
        bool wanted = get_flag(entry, flag_names[i], false);
        if (get_flag(known, flag_names[i], otherwise) != wanted) {
            differs = true;
            if (json_object_set_new(known, flag_names[i], json_boolean(wanted)) != 0) {
                return out_of_memory(err);
            }
        }
    }
    return differs ? describe(tokens, entry, "changes", err) : STATUS_OK;
}

// A token of added_tokens_decoder or added_tokens.json: adds it, or gives it these flags.
static int put(struct companion_tokens *tokens, const char *text, const json_t *flags, bool normalized,
               struct error *err) {
    json_t *known = find(tokens, text);
    json_t *entry = make_entry(text, flags, normalized);
    if (entry == NULL || known == NULL) {
        return append(tokens, text, entry, err);
    }
    int status = change_flags(tokens, known, entry, err);
    json_decref(entry);
    return status;
}

static bool has_flag(const json_t *token) {
    for (size_t i = 0; i < FLAGS; i++) {
        if (get_flag(token, flag_names[i], false)) {
            return true;
        }
    }
    return false;
}

// A special token: added when nothing had its text before; of several such the last one's flags count.
static int put_special(struct companion_tokens *tokens, const json_t *token, struct error *err) {
    const char *text = text_of(token);
    if (text == NULL) {
        return check_no_text(token, err);
    }
    const json_t *place = json_object_get(tokens->index, text);
    bool is_known = place != NULL && (size_t)json_integer_value(place) < tokens->known;
    if (!is_known) {
        TRY(put(tokens, text, json_is_object(token) ? token : NULL, false, err));
    }
    tokens->flagged = tokens->flagged || has_flag(find(tokens, text));
    return STATUS_OK;
}

static int put_list(struct companion_tokens *tokens, const json_t *list, struct error *err) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        TRY(put_special(tokens, json_array_get(list, i), err));
    }
    return STATUS_OK;
}

static bool is_token(const json_t *value) {
    const char *type = json_string_value(json_object_get(value, "__type"));
    return json_is_string(value) || (type != NULL && strcmp(type, "AddedToken") == 0);
}

static int put_values(struct companion_tokens *tokens, const json_t *object, struct error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        int status = is_token(value) ? put_special(tokens, value, err) : STATUS_OK;
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static bool is_other_token(const char *key, const json_t *value) {
    size_t length = strlen(key);
    return length > 6 && strcmp(key + length - 6, "_token") == 0 && !is_named(key) && is_token(value);
}

// transformers takes model_specific_special_tokens only where tokenizer_config.json itself has no other
// *_token member and no extra special tokens by name: those replace it.
void companion_tokens_drop_replaced(json_t *config) {
    bool replaced = json_is_object(json_object_get(config, "extra_special_tokens"));
    const char *key;
    json_t *value;
    json_object_foreach(config, key, value) {
        replaced = replaced || (json_is_string(value) && is_other_token(key, value));
    }
    if (replaced) {
        (void)json_object_del(config, model_specific);
    }
}

// Where both have a token of that name, the map's counts.
static const json_t *named_token(const json_t *config, const char *key) {
    const json_t *specific = json_member(json_object_get(config, model_specific), key);
    return specific == NULL ? json_member(config, key) : specific;
}

// bos_token and the like, other *_token members, extra special tokens: in this order.
int companion_tokens_put_specials(struct companion_tokens *tokens, const json_t *config, struct error *err) {
    tokens->known = json_array_size(tokens->list);
    for (size_t i = 0; i < NAMED; i++) {
        TRY(put_special(tokens, named_token(config, named_tokens[i]), err));
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value) {
        if (is_other_token(key, value)) {
            TRY(put_special(tokens, named_token(config, key), err));
        }
    }
    TRY(put_values(tokens, json_object_get(config, model_specific), err));
    const json_t *extra = json_object_get(config, "extra_special_tokens");
    extra = extra == NULL ? json_object_get(config, "additional_special_tokens") : extra;
    return json_is_object(extra) ? put_values(tokens, extra, err) : put_list(tokens, extra, err);
}

// True where Qwen2Tokenizer has another list: it adds all tokens in the order of the files' numbers, each
// special one anew, without flags, and where the configuration does not name these three, its own.
bool companion_tokens_differ_in_qwen2(const struct companion_tokens *tokens, const json_t *config) {
    static const char *const named[] = {"unk_token", "eos_token", "pad_token"};
    const json_t *own = find(tokens, "<|endoftext|>");
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (json_object_get(config, named[i]) == NULL && (own == NULL || has_flag(own))) {
            return true;
        }
    }
    return tokens->flagged || tokens->moved;
}

// ---- added_tokens_decoder, added_tokens.json ----

struct numbered {
    int64_t id;
    const char *text;
    const json_t *flags; // NULL: plain
    bool normalized;
};

static int by_id(const void *left, const void *right) {
    const struct numbered *a = left;
    const struct numbered *b = right;
    return (a->id > b->id) - (a->id < b->id);
}

static int put_numbered(struct companion_tokens *tokens, struct numbered *list, size_t count,
                        struct error *err) {
    qsort(list, count, sizeof *list, by_id);
    size_t last = 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *known = json_object_get(tokens->index, list[i].text);
        size_t place = known == NULL ? SIZE_MAX : (size_t)json_integer_value(known);
        tokens->moved = tokens->moved || place < last;
        last = place;
    }
    for (size_t i = 0; i < count; i++) {
        TRY(put(tokens, list[i].text, list[i].flags, list[i].normalized, err));
    }
    return STATUS_OK;
}

// True when each token of tokenizer.json is in the list.
static bool holds_all(const json_t *names, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = text_of(json_array_get(list, i));
        if (text != NULL && json_object_get(names, text) == NULL) {
            return false;
        }
    }
    return true;
}

static int read_decoder(struct numbered *out, size_t *count, json_t *names, const json_t *decoder,
                        struct error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)decoder, key, value) {
        char *end = NULL;
        long long id = strtoll(key, &end, 10);
        if (end == key || *end != 0) {
            return error_set(err, STATUS_DATA, "added_tokens_decoder: '%.100s' is not an id", key);
        }
        if (!json_is_object(value) || !json_is_string(json_member(value, "content"))) {
            return error_set(err, STATUS_DATA,
                             "added_tokens_decoder: entry '%.100s' is not an object with a content", key);
        }
        const char *text = text_of(value);
        if (text == NULL) {
            int status = check_no_text(value, err);
            if (status != STATUS_OK) {
                return error_wrap(err, "added_tokens_decoder");
            }
            continue;
        }
        if (json_object_set_new(names, text, json_true()) != 0) {
            return out_of_memory(err);
        }
        out[(*count)++] = (struct numbered){id, text, value, !get_flag(value, "special", false)};
    }
    return STATUS_OK;
}

int companion_tokens_put_decoder(struct companion_tokens *tokens, const json_t *decoder, bool *lacks,
                                 struct error *err) {
    void *block = NULL;
    size_t count = 0;
    if (!json_is_object(decoder)) {
        return error_set(err, STATUS_DATA, "added_tokens_decoder is not an object");
    }
    TRY(memory_zeroed(&block, size_max(json_object_size(decoder), 1), sizeof(struct numbered), err));
    struct numbered *list = block;
    json_t *names = json_object();
    int status;
    TRY_TO(done, status = names == NULL ? out_of_memory(err) : STATUS_OK);
    TRY_TO(done, status = read_decoder(list, &count, names, decoder, err));
    *lacks = !holds_all(names, tokens->list);
    TRY_TO(done, status = put_numbered(tokens, list, count, err));
done:
    free(list);
    json_decref(names);
    return status;
}

// A set of the ids that tokenizer.json gives: what added_tokens.json says of them does not count.
static json_t *ids_taken(const json_t *list) {
    json_t *ids = json_object();
    for (size_t i = 0; ids != NULL && i < json_array_size(list); i++) {
        char key[24];
        snprintf(key, sizeof key, "%lld",
                 (long long)json_integer_value(json_member(json_array_get(list, i), "id")));
        if (json_object_set_new(ids, key, json_true()) != 0) {
            json_decref(ids);
            return NULL;
        }
    }
    return ids;
}

static bool precedes(json_int_t id, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (id < json_integer_value(json_member(json_array_get(list, i), "id"))) {
            return true;
        }
    }
    return false;
}

static bool is_special(const json_t *config, const char *text) {
    for (size_t i = 0; i < NAMED; i++) {
        const char *named = text_of(json_member(config, named_tokens[i]));
        if (named != NULL && strcmp(named, text) == 0) {
            return true;
        }
    }
    const json_t *extra = json_member(config, "extra_special_tokens");
    for (size_t i = 0; i < json_array_size(extra); i++) {
        const char *special = text_of(json_array_get(extra, i));
        if (special != NULL && strcmp(special, text) == 0) {
            return true;
        }
    }
    return false;
}

int companion_tokens_put_added(struct companion_tokens *tokens, const json_t *added, const json_t *config,
                               struct error *err) {
    void *block = NULL;
    size_t count = 0;
    const char *text;
    json_t *id;
    if (!json_is_object(added)) {
        return error_set(err, STATUS_DATA, "not a JSON object");
    }
    TRY(memory_zeroed(&block, size_max(json_object_size(added), 1), sizeof(struct numbered), err));
    struct numbered *list = block;
    json_t *taken = ids_taken(tokens->list);
    int status;
    TRY_TO(done, status = taken == NULL ? out_of_memory(err) : STATUS_OK);
    json_object_foreach((json_t *)(uintptr_t)added, text, id) {
        char key[24];
        if (!json_is_integer(id)) {
            status = error_set(err, STATUS_DATA, "the id of '%.100s' is not a whole number", text);
            goto done;
        }
        snprintf(key, sizeof key, "%lld", (long long)json_integer_value(id));
        if (text[0] != 0 && json_object_get(taken, key) == NULL) {
            list[count++] = (struct numbered){json_integer_value(id), text, NULL, !is_special(config, text)};
            tokens->moved = tokens->moved || precedes(json_integer_value(id), tokens->list);
        }
    }
    TRY_TO(done, status = put_numbered(tokens, list, count, err));
done:
    free(list);
    json_decref(taken);
    return status;
}

int companion_tokens_index(struct companion_tokens *tokens, struct error *err) {
    tokens->index = json_object();
    if (tokens->index == NULL) {
        return out_of_memory(err);
    }
    for (size_t i = 0; i < json_array_size(tokens->list); i++) {
        const char *text = text_of(json_array_get(tokens->list, i));
        TRY(text == NULL ? STATUS_OK : note_place(tokens, text, i, err));
    }
    return STATUS_OK;
}

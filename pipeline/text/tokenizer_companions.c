// SPDX-License-Identifier: MIT
#include "text/tokenizer_companions.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "text/companion_tokens.h"

enum { COMPANION_LIMIT = 64 << 20 }; // bytes of a file

static int out_of_memory(struct error *err) {
    return error_set(err, STATUS_INTERNAL, "out of memory for added tokens");
}

// The document, or NULL where there is no such file.
static int read_file(json_t **out, const char *folder, const char *name, struct error *err) {
    char path[PATH_SIZE];
    *out = NULL;
    int status = path_join(path, sizeof path, folder, name, err);
    if (status != STATUS_OK || !file_exists(path)) {
        return status;
    }
    TRY(json_parse_file(out, path, COMPANION_LIMIT, err));
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return error_set(err, STATUS_DATA, "%s: not a JSON object", path);
    }
    return STATUS_OK;
}

// Members of the map win, but for a list of extra special tokens, which follows that of the configuration.
static int merge_map(json_t *config, json_t *map, struct error *err) {
    json_t *ours = json_object_get(config, "extra_special_tokens");
    json_t *theirs = json_object_get(map, "extra_special_tokens");
    if (json_is_array(ours) && json_is_array(theirs)) {
        json_t *both = json_copy(ours);
        bool kept = both != NULL && json_array_extend(both, theirs) == 0 &&
                    json_object_set(map, "extra_special_tokens", both) == 0;
        json_decref(both);
        if (!kept) {
            return out_of_memory(err);
        }
    }
    return json_object_update(config, map) == 0 ? STATUS_OK : out_of_memory(err);
}

// Without added_tokens_decoder the older files count.
static int apply_older(struct companion_tokens *tokens, json_t *config, const char *folder,
                       struct error *err) {
    json_t *map = NULL;
    json_t *added = NULL;
    int status;
    TRY_TO(done, status = read_file(&map, folder, "special_tokens_map.json", err));
    if (map != NULL) {
        TRY_TO(done, status = merge_map(config, map, err));
    }
    TRY_TO(done, status = read_file(&added, folder, "added_tokens.json", err));
    if (added != NULL) {
        status = companion_tokens_put_added(tokens, added, config, err);
        if (status != STATUS_OK) {
            error_wrap(err, "%s/added_tokens.json", folder);
        }
    }
done:
    json_decref(map);
    json_decref(added);
    return status;
}

static int flag_of(const json_t *config, const char *key) {
    const json_t *value = json_member(config, key);
    return json_is_boolean(value) ? json_is_true(value) : -1;
}

// For messages: printable ASCII, as names of classes and files are.
static void copy_name(char out[TOKENIZER_CLASS], const json_t *value) {
    const char *name = json_string_value(value);
    for (size_t i = 0; name != NULL && i + 1 < TOKENIZER_CLASS && name[i] >= 0x20 && name[i] < 0x7F; i++) {
        out[i] = name[i];
    }
}

static bool has_file(const char *folder, const char *name) {
    char path[PATH_SIZE];
    struct error ignored;
    return path_join(path, sizeof path, folder, name, &ignored) == STATUS_OK && file_exists(path);
}

// Of the files tokenizer.VERSION.json that the list names, one that is there.
static void find_other_file(char out[TOKENIZER_CLASS], const json_t *list, const char *folder) {
    for (size_t i = 0; out[0] == 0 && i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const char *version = name == NULL ? NULL : strstr(name, "tokenizer.");
        version = version == NULL ? NULL : version + strlen("tokenizer.");
        if (version != NULL && strstr(version, ".json") != NULL && has_file(folder, name)) {
            copy_name(out, json_array_get(list, i));
        }
    }
}

static void read_facts(struct tokenizer_companions *out, const json_t *config, const char *folder) {
    const json_t *map = json_member(config, "auto_map");
    copy_name(out->class_name, json_member(config, "tokenizer_class"));
    find_other_file(out->other_file, json_member(config, "fast_tokenizer_files"), folder);
    out->add_bos = flag_of(config, "add_bos_token");
    out->add_eos = flag_of(config, "add_eos_token");
    out->legacy = flag_of(config, "legacy");
    out->add_prefix_space = flag_of(config, "add_prefix_space");
    out->splits_special = flag_of(config, "split_special_tokens") == 1;
    const char *side = json_string_value(json_member(config, "truncation_side"));
    out->cuts_left = side != NULL && strcmp(side, "left") == 0;
    out->cuts_right = side != NULL && !out->cuts_left;
    out->has_tekken = has_file(folder, "tekken.json");
    out->fixes_mistral = flag_of(config, "fix_mistral_regex") == 1;
    out->has_code = json_is_array(map) || json_member(map, "AutoTokenizer") != NULL;
}

// The older name of extra_special_tokens; what special_tokens_map.json says under it comes later and does not
// count then.
static int rename_additional(json_t *config, struct error *err) {
    json_t *extra = json_object_get(config, "extra_special_tokens");
    json_t *additional = json_object_get(config, "additional_special_tokens");
    if (additional == NULL || json_array_size(extra) > 0 || json_object_size(extra) > 0) {
        return STATUS_OK;
    }
    return json_object_set(config, "extra_special_tokens", additional) == 0 ? STATUS_OK : out_of_memory(err);
}

// Tokens by their numbers: the decoder's, or the older files'.
static int put_listed(struct tokenizer_companions *out, struct companion_tokens *tokens, json_t *config,
                      const char *folder, struct error *err) {
    const json_t *decoder = json_object_get(config, "added_tokens_decoder");
    if (decoder == NULL) {
        return apply_older(tokens, config, folder, err);
    }
    int status = companion_tokens_put_decoder(tokens, decoder, &out->lacks_tokens, err);
    return status == STATUS_OK ? status : error_wrap(err, "%s/tokenizer_config.json", folder);
}

static int apply(struct tokenizer_companions *out, json_t *list, json_t *config, const char *folder,
                 struct error *err) {
    struct companion_tokens tokens = {.list = list, .changes = &out->changes};
    int status;
    TRY_TO(done, status = companion_tokens_index(&tokens, err));
    companion_tokens_drop_replaced(config);
    TRY_TO(done, status = rename_additional(config, err));
    TRY_TO(done, status = put_listed(out, &tokens, config, folder, err));
    status = companion_tokens_put_specials(&tokens, config, err);
    if (status != STATUS_OK) {
        error_wrap(err, "%s/tokenizer_config.json (or special_tokens_map.json)", folder);
    }
    out->renumbers = tokens.moved;
    out->differs_in_qwen2 = companion_tokens_differ_in_qwen2(&tokens, config);
done:
    json_decref(tokens.index);
    return status;
}

// The list of added tokens, made where the document has none; NULL where it is something else, which its
// reader refuses.
static int added_list(json_t **out, json_t *root, struct error *err) {
    *out = json_object_get(root, "added_tokens");
    if (json_is_object(root) && (*out == NULL || json_is_null(*out))) {
        *out = json_array();
        return json_object_set_new(root, "added_tokens", *out) == 0 ? STATUS_OK : out_of_memory(err);
    }
    *out = json_is_array(*out) ? *out : NULL;
    return STATUS_OK;
}

int tokenizer_companions_apply(struct tokenizer_companions *out, json_t *root, const char *folder,
                               struct error *err) {
    json_t *config = NULL;
    json_t *list = NULL;
    *out = (struct tokenizer_companions){.add_bos = -1, .add_eos = -1};
    int status;
    TRY_TO(done, status = read_file(&config, folder, "tokenizer_config.json", err));
    if (config == NULL) {
        config = json_object();
        TRY_TO(done, status = config == NULL ? out_of_memory(err) : STATUS_OK);
    }
    read_facts(out, config, folder);
    TRY_TO(done, status = added_list(&list, root, err));
    if (list != NULL) {
        TRY_TO(done, status = apply(out, list, config, folder, err));
    }
    out->config = json_incref(config);
done:
    json_decref(config);
    return status;
}

void tokenizer_companions_destroy(struct tokenizer_companions *companions) {
    buffer_destroy(&companions->changes);
    json_decref(companions->config);
    *companions = (struct tokenizer_companions){0};
}

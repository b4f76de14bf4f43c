// What AutoTokenizer of transformers 5 would do otherwise than the tokenizers library does with
// tokenizer.json: some classes build their own normalizer and pre-tokenizer around the vocabulary of the
// file.
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "text/tokenizer_internal.h"

static bool is_text(const json_t *object, const char *key, const char *wanted) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL && strcmp(text, wanted) == 0;
}

static bool is_set(const json_t *object, const char *key) {
    return json_is_true(json_object_get(object, key));
}

static bool splits_as_qwen2(const json_t *root) {
    const json_t *steps = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    const json_t *split = json_array_get(steps, 0);
    const json_t *bytes = json_array_get(steps, 1);
    return is_text(json_object_get(root, "normalizer"), "type", "NFC") && json_array_size(steps) == 2 &&
           is_text(split, "type", "Split") &&
           is_text(json_object_get(split, "pattern"), "Regex", QWEN2_PATTERN) &&
           is_text(split, "behavior", "Isolated") && !is_set(split, "invert") &&
           is_text(bytes, "type", "ByteLevel") && json_is_false(json_object_get(bytes, "add_prefix_space")) &&
           json_is_false(json_object_get(bytes, "use_regex")) &&
           !is_set(json_object_get(root, "model"), "ignore_merges");
}

static bool splits_as_llama(const json_t *root) {
    const json_t *words = json_object_get(root, "pre_tokenizer");
    return json_member(root, "normalizer") == NULL && is_text(words, "type", "Metaspace") &&
           is_text(words, "replacement", "\xE2\x96\x81") && json_is_false(json_object_get(words, "split"));
}

void tokenizer_note_shape(struct tokenizer *tokenizer, const json_t *root) {
    tokenizer->splits_as_qwen2 = splits_as_qwen2(root);
    const char *rule =
        json_string_value(json_object_get(json_object_get(root, "pre_tokenizer"), "prepend_scheme"));
    if (splits_as_llama(root) && rule != NULL) {
        snprintf(tokenizer->llama_prefix, sizeof tokenizer->llama_prefix, "%s", rule);
    }
}

// The rule that LlamaTokenizer takes from tokenizer_config.json.
static const char *llama_prefix(const struct tokenizer_companions *companions) {
    return companions->add_prefix_space == 0 ? "never" : companions->legacy == 1 ? "always" : "first";
}

// Without the "Fast" of earlier versions.
static bool is_class(const char *name, const char *wanted) {
    size_t length = strlen(wanted);
    return strncmp(name, wanted, length) == 0 && (name[length] == 0 || strcmp(name + length, "Fast") == 0);
}

static bool is_general(const char *name) {
    return name[0] == 0 || is_class(name, "PreTrainedTokenizer") || is_class(name, "TokenizersBackend") ||
           is_class(name, "PythonBackend");
}

// The class that AutoTokenizer takes where it is one of those that build their own parts; NULL: it follows
// tokenizer.json.
static const char *building_class(const struct tokenizer *tokenizer, const char *model_type,
                                  const char *named) {
    bool is_qwen2 = strcmp(model_type, "qwen2") == 0;
    if (strcmp(model_type, "mistral") == 0 ||
        (is_class(named, "LlamaTokenizer") && tokenizer->bpe.byte_level && !is_qwen2)) {
        return NULL;
    }
    if (is_qwen2 || (strcmp(model_type, "qwen3") == 0 && named[0] == 0)) {
        return "Qwen2Tokenizer";
    }
    return is_general(named) ? NULL : named;
}

// What Qwen2Tokenizer does otherwise where it splits texts as tokenizer.json does.
static int warn_of_qwen2(const struct tokenizer_companions *companions, struct buffer *out,
                         struct error *err) {
    if (companions->lacks_tokens) {
        TRY(buffer_printf(
            out, err,
            "tokenizer_config.json: added_tokens_decoder lacks tokens of tokenizer.json; transformers' "
            "Qwen2Tokenizer leaves them out, strata takes them\n"));
    }
    if (companions->differs_in_qwen2) {
        TRY(buffer_printf(
            out, err,
            "transformers' Qwen2Tokenizer numbers added tokens anew, drops the flags (lstrip, rstrip, "
            "single_word, normalized) of special ones and takes <|endoftext|> for one; strata follows the "
            "files, so that token ids may differ\n"));
    }
    return STATUS_OK;
}

static int warn_of_class(const struct tokenizer *tokenizer, const char *model_type, const char *config_class,
                         struct buffer *out, struct error *err) {
    const char *own = tokenizer->companions.class_name;
    const char *name = building_class(tokenizer, model_type, own[0] != 0 ? own : config_class);
    bool is_qwen2 = name != NULL && is_class(name, "Qwen2Tokenizer");
    bool prefixes = tokenizer->companions.add_prefix_space == 1;
    if (name == NULL || (is_qwen2 && tokenizer->splits_as_qwen2 && !prefixes) ||
        (is_class(name, "LlamaTokenizer") &&
         strcmp(tokenizer->llama_prefix, llama_prefix(&tokenizer->companions)) == 0)) {
        return is_qwen2 ? warn_of_qwen2(&tokenizer->companions, out, err) : STATUS_OK;
    }
    return buffer_printf(
        out, err,
        "transformers 5 takes the class %s for this tokenizer, which splits texts in its own way; strata "
        "follows tokenizer.json, so that token ids may differ\n",
        name);
}

static int warn_of_flag(const char *key, int wanted, bool has, struct buffer *out, struct error *err) {
    if (wanted < 0 || (wanted == 1) == has) {
        return STATUS_OK;
    }
    return buffer_printf(out, err,
                         "tokenizer_config.json: %s is %s, and the post-processor of tokenizer.json says "
                         "otherwise; strata and "
                         "transformers 5 follow tokenizer.json, transformers 4 may not\n",
                         key, wanted == 1 ? "true" : "false");
}

// Of a tokenizer without tokenizer.json: what the keys of its file leave open.
static int warn_of_ggml(const struct tokenizer *tokenizer, struct buffer *out, struct error *err) {
    const struct ggml_pre *pre = tokenizer->ggml_pre;
    if (pre != NULL && pre->composes) {
        return buffer_printf(
            out, err,
            "the file's own vocabulary (tokenizer.ggml.pre: %s) does not say that texts are normalised: text "
            "that is not in NFC may get other token ids than with the model's tokenizer.json\n",
            pre->name);
    }
    if (pre == NULL && tokenizer->pretokenizer.steps[0].prefix_rule != PREFIX_NEVER) {
        return buffer_printf(
            out, err,
            "the file's own vocabulary does not say where spaces are put: text that begins with a space or "
            "holds special tokens may get other token ids than with the model's tokenizer.json\n");
    }
    return STATUS_OK;
}

int tokenizer_warnings(const struct tokenizer *tokenizer, const char *model_type, const char *config_class,
                       struct buffer *out, struct error *err) {
    const struct tokenizer_companions *companions = &tokenizer->companions;
    const struct postprocessor *post = &tokenizer->postprocessor;
    if (tokenizer->from_ggml) {
        return warn_of_ggml(tokenizer, out, err);
    }
    TRY(warn_of_class(tokenizer, model_type, config_class, out, err));
    TRY(warn_of_flag("add_bos_token", companions->add_bos, post->before_count > 0, out, err));
    TRY(warn_of_flag("add_eos_token", companions->add_eos, post->after_count > 0, out, err));
    if (companions->splits_special) {
        TRY(buffer_printf(
            out, err,
            "tokenizer_config.json: split_special_tokens is true: transformers takes special tokens in texts "
            "for plain text, strata for tokens\n"));
    }
    if (companions->cuts_left) {
        TRY(buffer_printf(out, err,
                          "tokenizer_config.json: truncation_side is left: transformers cuts long texts "
                          "at their beginning, "
                          "strata at their end\n"));
    }
    if (companions->other_file[0] != 0) {
        TRY(buffer_printf(
            out, err,
            "tokenizer_config.json: fast_tokenizer_files names %s, which transformers may read in place of "
            "tokenizer.json; strata reads tokenizer.json\n",
            companions->other_file));
    }
    if (companions->has_code) {
        TRY(buffer_printf(
            out, err,
            "tokenizer_config.json: auto_map names a tokenizer in the folder's own code, which transformers "
            "runs with trust_remote_code=True; strata follows tokenizer.json\n"));
    }
    return STATUS_OK;
}

int tokenizer_notes(const struct tokenizer *tokenizer, struct buffer *out, struct error *err) {
    const char *at = tokenizer_changes(tokenizer);
    size_t count = 0;
    for (; *at != 0; at += strcspn(at, "\n") + 1) {
        count++;
    }
    return count == 0 ? STATUS_OK
                      : buffer_printf(out, err,
                                      "files beside tokenizer.json change its added tokens (%zu): %.*s%s\n",
                                      count, (int)strcspn(tokenizer_changes(tokenizer), "\n"),
                                      tokenizer_changes(tokenizer), count > 1 ? " ..." : "");
}

const char *tokenizer_changes(const struct tokenizer *tokenizer) {
    const struct buffer *changes = &tokenizer->companions.changes;
    return changes->data == NULL ? "" : changes->data;
}

const char *tokenizer_changes_fingerprint(const struct tokenizer *tokenizer) {
    return tokenizer->changes_fingerprint;
}

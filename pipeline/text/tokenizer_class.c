// SPDX-License-Identifier: MIT
// What AutoTokenizer of transformers 5 would do otherwise than the tokenizers library does with
// tokenizer.json: some classes build their own normalizer and pre-tokenizer around the vocabulary of the
// file.
#include <string.h>

#include "base/json.h"
#include "text/auto_class.h"
#include "text/tokenizer_internal.h"

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

// What a class does otherwise that builds the tokenizer anew around the words of tokenizer.json.
static int warn_of_tokens(const struct tokenizer *tokenizer, const char *name, struct buffer *out,
                          struct error *err) {
    const struct tokenizer_companions *companions = &tokenizer->companions;
    const struct postprocessor *post = &tokenizer->postprocessor;
    if (companions->lacks_tokens || companions->renumbers) {
        TRY(buffer_printf(out, err,
                          "tokenizer_config.json: added_tokens_decoder lacks tokens of tokenizer.json or "
                          "numbers them otherwise; transformers' %s follows it, strata tokenizer.json\n",
                          name));
    }
    for (const struct auto_token *own = auto_class_tokens(name); own->key != NULL; own++) {
        bool named = json_object_get(companions->config, own->key) != NULL;
        if (!named && !tokenizer_knows(tokenizer, own->text, strlen(own->text))) {
            TRY(buffer_printf(out, err,
                              "transformers' %s takes %s for a token of its own (%s, which no file names), "
                              "strata for plain text\n",
                              name, own->text, own->key));
        }
    }
    return strncmp(name, "GPTNeoX", strlen("GPTNeoX")) == 0 && post->before_count + post->after_count > 0
               ? buffer_printf(out, err,
                               "transformers' %s puts no token before or after a text, strata those of "
                               "tokenizer.json's post-processor\n",
                               name)
               : STATUS_OK;
}

static int warn_of_class(const struct tokenizer *tokenizer, const char *model_type, const char *config_class,
                         struct buffer *out, struct error *err) {
    const char *own = tokenizer->companions.class_name;
    const char *name = auto_class(model_type, own[0] != 0 ? own : config_class, tokenizer->says_byte_level);
    bool same = true;
    TRY(name == NULL ? STATUS_OK : auto_class_compare(&same, tokenizer, name, err));
    if (name == NULL || same) {
        bool is_qwen2 = name != NULL && strncmp(name, "Qwen2Tokenizer", strlen("Qwen2Tokenizer")) == 0;
        return name == NULL ? STATUS_OK
               : is_qwen2   ? warn_of_qwen2(&tokenizer->companions, out, err)
                            : warn_of_tokens(tokenizer, name, out, err);
    }
    return buffer_printf(
        out, err,
        "transformers 5 takes the class %s for this tokenizer, which splits texts in its own way; strata "
        "follows tokenizer.json, so that token ids may differ\n",
        name);
}

// fix_mistral_regex puts the pattern of Mistral's newer vocabularies in place of the first step's.
static int warn_of_mistral(const struct tokenizer *tokenizer, const char *model_type, struct buffer *out,
                           struct error *err) {
    if (tokenizer->companions.has_tekken && auto_class_reads_tekken(model_type)) {
        TRY(buffer_printf(
            out, err,
            "tekken.json is beside tokenizer.json: transformers reads it where mistral-common is "
            "installed, and takes special tokens in texts for plain text then; strata follows "
            "tokenizer.json\n"));
    }
    const struct pattern *first = tokenizer->pretokenizer.steps[0].pattern;
    if (!tokenizer->companions.fixes_mistral || pattern_is(first, ggml_pre_find("tekken")->patterns[0])) {
        return STATUS_OK;
    }
    return buffer_printf(
        out, err,
        "tokenizer_config.json: fix_mistral_regex is true: transformers may split texts by another "
        "pattern than tokenizer.json says; strata follows tokenizer.json\n");
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
    TRY(warn_of_mistral(tokenizer, model_type, out, err));
    TRY(warn_of_flag("add_bos_token", companions->add_bos, post->before_count > 0, out, err));
    TRY(warn_of_flag("add_eos_token", companions->add_eos, post->after_count > 0, out, err));
    if (companions->splits_special) {
        TRY(buffer_printf(
            out, err,
            "tokenizer_config.json: split_special_tokens is true: transformers takes special tokens in texts "
            "for plain text, strata for tokens\n"));
    }
    if (companions->cuts_left || (tokenizer->cuts_left && !companions->cuts_right)) {
        TRY(buffer_printf(out, err,
                          "%s is left: transformers cuts long texts at their beginning, strata at their "
                          "end\n",
                          companions->cuts_left ? "tokenizer_config.json: truncation_side"
                                                : "tokenizer.json: the direction of truncation"));
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

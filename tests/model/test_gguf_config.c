// SPDX-License-Identifier: MIT
// The shape of a model from GGUF metadata: the config.json that it is translated into, the numbers that have
// no key there, what is refused by name.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gguf_folder.h"
#include "model/gguf_config.h"
#include "model/rope.h"

// A file of metadata and tensors of 24 numbers each, but for the last, which may have less.
struct made {
    char words[4096];
    int keys;
    int tensors;
    char tensor_words[1024];
    char data[1024];
};

static void add_key(struct made *made, const char *words) {
    size_t used = strlen(made->words);
    snprintf(made->words + used, sizeof made->words - used, "%s ", words);
    made->keys++;
}

static void add_tensor(struct made *made, const char *name, const char *sizes, const char *data) {
    size_t used = strlen(made->tensor_words);
    snprintf(made->tensor_words + used, sizeof made->tensor_words - used, "s%s %s u0 q%d ", name, sizes,
             96 * made->tensors++);
    used = strlen(made->data);
    snprintf(made->data + used, sizeof made->data - used, "%s ", data);
}

// Every key but those that `without` names, a word of the list, and `more`.
static void make(struct made *made, const char *architecture, const char *without, const char *more) {
    static const char *const keys[][2] = {
        {"block_count", "u4 u2"},
        {"context_length", "u4 u64"},
        {"embedding_length", "u4 u8"},
        {"feed_forward_length", "u4 u16"},
        {"attention.head_count", "u4 u4"},
        {"attention.head_count_kv", "u4 u2"},
        {"attention.layer_norm_rms_epsilon", "u6 f0.5"},
        {"rope.freq_base", "u6 f500000"},
    };
    char text[512];
    *made = (struct made){0};
    if (strcmp(without, "general.architecture") != 0) {
        snprintf(text, sizeof text, "sgeneral.architecture u8 s%s", architecture);
        add_key(made, text);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(without, keys[i][0]) != 0) {
            snprintf(text, sizeof text, "s%s.%s %s", architecture, keys[i][0], keys[i][1]);
            add_key(made, text);
        }
    }
    for (const char *at = more;
         *at != 0;) { // keys are separated by commas, ARCH. stands for the architecture
        size_t length = strcspn(at, ",");
        bool own = strncmp(at, "ARCH.", 5) == 0;
        snprintf(text, sizeof text, "s%s%s%.*s", own ? architecture : "", own ? "." : "",
                 (int)(own ? length - 5 : length), own ? at + 5 : at);
        add_key(made, text);
        at += length + (at[length] == ',');
    }
    if (strcmp(without, "token_embd.weight") != 0) {
        add_tensor(made, "token_embd.weight", "u2 q8 q3", "z96");
    }
}

static const char *write_made(const struct gguf_folder *folder, const struct made *made) {
    char words[8192];
    snprintf(words, sizeof words, "=GGUF u3 q%d q%d %s%sp32 %s", made->tensors, made->keys, made->words,
             made->tensor_words, made->data);
    return gguf_folder_write(folder, "made.gguf", words);
}

static void translated(const struct gguf_folder *folder, const struct made *made, const char *expected) {
    struct gguf_model model;
    struct error err = {0};
    struct buffer text = {0};
    if (gguf_open(&model, write_made(folder, made), &err) != STATUS_OK ||
        gguf_config_text(&text, &model, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    for (char *at = text.data; *at != 0; at++) {
        *at = *at == '\n' ? ' ' : *at;
    }
    assert_non_null(strstr(text.data, expected));
    gguf_close(&model);
    buffer_destroy(&text);
}

#define SHAPE                                                                                                \
    "\"num_hidden_layers\": 2,  \"hidden_size\": 8,  \"intermediate_size\": 16,  "                           \
    "\"max_position_embeddings\": 64,  \"num_attention_heads\": 4,  \"num_key_value_heads\": 2,  "

static void metadata_is_translated(void **state) {
    const struct gguf_folder *folder = *state;
    struct made made;
    make(&made, "llama", "", "");
    translated(folder, &made,
               "{\"model_type\": \"llama\",  " SHAPE "\"head_dim\": 2,  \"rms_norm_eps\": 0.5,  "
               "\"vocab_size\": 3,  \"tie_word_embeddings\": true,  \"attention_bias\": false,  "
               "\"mlp_bias\": false,  \"rope_theta\": 500000} ");
    add_tensor(&made, "output.weight", "u2 q8 q3", "z96");
    add_tensor(&made, "blk.0.attn_q.bias", "u1 q24", "z96");
    add_tensor(&made, "blk.0.ffn_up.bias", "u1 q24", "z96");
    translated(folder, &made,
               "\"tie_word_embeddings\": false,  \"attention_bias\": true,  \"mlp_bias\": true,  ");
    make(&made, "qwen2", "", "ARCH.attention.key_length u4 u6,ARCH.attention.value_length u4 u6");
    translated(folder, &made,
               "{\"model_type\": \"qwen2\",  " SHAPE "\"head_dim\": 6,  \"rms_norm_eps\": 0.5,  "
               "\"vocab_size\": 3,  \"tie_word_embeddings\": true,  \"mlp_bias\": false");
    make(&made, "llama", "", "ARCH.attention.sliding_window u4 u5");
    translated(folder, &made, "{\"model_type\": \"mistral\",  \"sliding_window\": 5,  \"num");
    make(&made, "qwen3", "rope.freq_base", "ARCH.attention.sliding_window u4 u5");
    translated(folder, &made,
               "\"sliding_window\": 5,  \"use_sliding_window\": true,  \"max_window_layers\": 0,  \"num");
    translated(folder, &made, "\"rope_theta\": 10000} ");
    make(&made, "qwen3", "attention.head_count_kv", "ARCH.attention.sliding_window u4 u0");
    translated(folder, &made, "{\"model_type\": \"qwen3\",  \"num_hidden_layers\"");
    translated(folder, &made, "\"num_key_value_heads\": 4");
    make(&made, "qwen3", "", "ARCH.rope.scaling.factor u6 f4,ARCH.rope.scaling.type u8 syarn");
    translated(folder, &made,
               "\"rope_theta\": 500000,  \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, "
               "\"original_max_position_embeddings\": 64}} ");
    make(&made, "qwen3", "", "ARCH.rope.scaling.factor u6 f1,ARCH.rope.scaling.type u8 syarn");
    translated(folder, &made, "\"rope_theta\": 500000} ");
    make(&made, "qwen3", "feed_forward_length",
         "ARCH.feed_forward_length u9 u5 q2 i16 i16,ARCH.expert_count u4 u0,ARCH.attention.causal u7 b1,"
         "general.type u8 smodel,general.quantization_version u4 u2");
    translated(folder, &made, "\"intermediate_size\": 16");
}

static void factors_are_read_from_the_file(void **state) {
    const struct gguf_folder *folder = *state;
    struct made made;
    struct model_config config;
    struct error err = {0};
    make(&made, "llama", "attention.head_count",
         "ARCH.attention.head_count u4 u2,ARCH.rope.scaling.attn_factor u6 f1.5");
    add_tensor(&made, "rope_freqs.weight", "u1 q2", "f2 f4");
    if (gguf_config_read(&config, write_made(folder, &made), &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    assert_true(config.rope.divisors[0] == 2 && config.rope.divisors[1] == 4);
    assert_true(config.rope.attention_factor == 1.5);
    assert_string_equal(model_config_holder(&config), "the file's metadata");
    float frequencies[2];
    rope_frequencies(&config, &config.rope, 8, frequencies);
    struct rope_config plain = config.rope;
    float whole[2];
    config.rope.divisors = NULL;
    rope_frequencies(&config, &config.rope, 8, whole);
    config.rope = plain;
    assert_true(frequencies[0] == whole[0] / 2 && frequencies[1] == whole[1] / 4 && whole[1] > 0);
    model_config_destroy(&config);
    assert_null(config.rope.divisors);
}

static void what_is_not_supported_is_refused(void **state) {
    const struct gguf_folder *folder = *state;
    static const struct {
        const char *without, *more, *said;
    } cases[] = {
        {"general.architecture", "", "'general.architecture' is missing"},
        {"general.architecture", "general.architecture u4 u1",
         "'general.architecture' is uint32, not a text"},
        {"general.architecture", "general.architecture u8 sgpt2",
         "'gpt2'; supported are llama, qwen2 and qwen3"},
        {"general.architecture", "general.architecture u9 u8 q1 sllama", "is an array of string, not a text"},
        {"", "general.type u8 sadapter", "'general.type' is 'adapter', not 'model': merge the adapter"},
        {"", "general.type u8 smmproj", "'general.type' is 'mmproj'"},
        {"", "general.quantization_version u4 u1", "'general.quantization_version' is not 2"},
        {"block_count", "", "'llama.block_count' is missing"},
        {"context_length", "", "'llama.context_length' is missing"},
        {"embedding_length", "", "'llama.embedding_length' is missing"},
        {"feed_forward_length", "", "'llama.feed_forward_length' is missing"},
        {"attention.head_count", "", "'llama.attention.head_count' is missing"},
        {"attention.layer_norm_rms_epsilon", "", "'llama.attention.layer_norm_rms_epsilon' is missing"},
        {"token_embd.weight", "", "there is no tensor 'token_embd.weight'"},
        {"block_count", "ARCH.block_count u8 stwo", "'llama.block_count' is string, not a whole number"},
        {"block_count", "ARCH.block_count u6 f2", "'llama.block_count' is float32, not a whole number"},
        {"block_count", "ARCH.block_count u5 i-2", "'llama.block_count' is negative"},
        {"block_count", "ARCH.block_count u10 q0xFFFFFFFFFFFFFFFF",
         "'llama.block_count' is uint64, not a whole"},
        {"block_count", "ARCH.block_count u4 u0", "'num_hidden_layers'"},
        {"block_count", "ARCH.block_count u4 u5000", "'num_hidden_layers'"},
        {"attention.head_count", "ARCH.attention.head_count u4 u0", "'num_attention_heads'"},
        {"attention.head_count_kv", "ARCH.attention.head_count_kv u9 u5 q2 i2 i4",
         "'llama.attention.head_count_kv' differs by block (2, then 4)"},
        {"attention.head_count_kv", "ARCH.attention.head_count_kv u9 u5 q0", "head_count_kv' is empty"},
        {"attention.head_count_kv", "ARCH.attention.head_count_kv u4 u3", "is not a multiple"},
        {"attention.layer_norm_rms_epsilon", "ARCH.attention.layer_norm_rms_epsilon u6 x0000C07F",
         "is not finite"},
        {"attention.layer_norm_rms_epsilon", "ARCH.attention.layer_norm_rms_epsilon u6 f2",
         "'rms_norm_eps' is 2"},
        {"rope.freq_base", "ARCH.rope.freq_base u8 sx", "'llama.rope.freq_base' is string, not a number"},
        {"rope.freq_base", "ARCH.rope.freq_base u6 f0", "'rope_theta' is 0"},
        {"", "ARCH.attention.value_length u4 u4", "'llama.attention.value_length' is 4"},
        {"", "ARCH.rope.dimension_count u4 u1", "'llama.rope.dimension_count' is 1 of the heads' 2"},
        {"", "ARCH.expert_count u4 u8", "'llama.expert_count' is 8, which is not supported"},
        {"", "ARCH.attention.causal u7 b0", "'llama.attention.causal' is not true"},
        {"", "ARCH.use_parallel_residual u7 b1", "'llama.use_parallel_residual' is not false"},
        {"", "ARCH.attention.clamp_kqv u6 f8", "'llama.attention.clamp_kqv' is 8"},
        {"", "ARCH.attention.scale u6 f0.1", "'llama.attention.scale' is 0.1"},
        {"", "ARCH.attn_logit_softcapping u6 f30", "'llama.attn_logit_softcapping' is 30"},
        {"", "ARCH.residual_scale u6 f0.2", "'llama.residual_scale' is 0.2"},
        {"", "ARCH.attention.sliding_window_pattern u4 u4", "sliding_window_pattern' is not supported"},
        {"", "ARCH.rope.scaling.type u8 slongrope", "'longrope'; supported are none, linear and yarn"},
        {"", "ARCH.rope.scaling.type u4 u1", "'llama.rope.scaling.type' is uint32, not a text"},
        {"", "ARCH.rope.scaling.factor u6 f-1", "'factor'"},
        {"", "ARCH.rope.scaling.attn_factor u6 f0", "'llama.rope.scaling.attn_factor' is 0"},
        {"", "ARCH.rope.scaling.yarn_ext_factor u6 f0.5", "yarn_ext_factor' is 0.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct made made;
        struct model_config config;
        struct error err = {0};
        make(&made, "llama", cases[i].without, cases[i].more);
        assert_int_equal(gguf_config_read(&config, write_made(folder, &made), &err), STATUS_DATA);
        if (strstr(err.message, cases[i].said) == NULL || strstr(err.message, "made.gguf: ") == NULL) {
            fail_msg("without '%s', with '%s': %s", cases[i].without, cases[i].more, err.message);
        }
        assert_null(config.layer_slides);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_is_translated),
        cmocka_unit_test(factors_are_read_from_the_file),
        cmocka_unit_test(what_is_not_supported_is_refused),
    };
    return cmocka_run_group_tests(tests, gguf_folder_make, gguf_folder_remove);
}

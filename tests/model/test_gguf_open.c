// SPDX-License-Identifier: MIT
// Models in GGUF files: tensors under transformers' names, the order of llama's rows, parts of split files
// and what contradicts them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gguf_folder.h"
#include "model/gguf_names.h"
#include "model/gguf_open.h"

#define SPLIT(number, count, tensors)                                                                        \
    "ssplit.no u2 h" number " ssplit.count u2 h" count " ssplit.tensors.count u5 i" tensors " "
#define TENSOR(name) "s" name " u1 q8 u0 q0 "
#define DATA "p32 z32"

static void names_are_those_of_transformers(void **state) {
    static const struct {
        const char *file, *model;
    } cases[] = {
        {"token_embd.weight", "model.embed_tokens.weight"},
        {"output_norm.weight", "model.norm.weight"},
        {"output.weight", "lm_head.weight"},
        {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
        {"blk.10.attn_q.weight", "model.layers.10.self_attn.q_proj.weight"},
        {"blk.1.attn_k.bias", "model.layers.1.self_attn.k_proj.bias"},
        {"blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj.weight"},
        {"blk.1.attn_q_norm.weight", "model.layers.1.self_attn.q_norm.weight"},
        {"blk.1.attn_k_norm.weight", "model.layers.1.self_attn.k_norm.weight"},
        {"blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj.weight"},
        {"blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm.weight"},
        {"blk.1.ffn_gate.weight", "model.layers.1.mlp.gate_proj.weight"},
        {"blk.1.ffn_up.weight", "model.layers.1.mlp.up_proj.weight"},
        {"blk.1.ffn_down.bias", "model.layers.1.mlp.down_proj.bias"},
        // what has no name there keeps its own
        {"blk.01.ffn_down.weight", NULL},
        {"blk..ffn_down.weight", NULL},
        {"blk.1.ffn_gate_exps.weight", NULL},
        {"blk.1.weight", NULL},
        {"blk.1.attn_q.scale", NULL},
        {"blk.1.attn_q", NULL},
        {"blk.99999999.attn_q.weight", NULL},
        {"output", NULL},
        {"output_norm.x.weight", NULL},
        {"rope_freqs.weight", NULL},
        {".weight", NULL},
    };
    (void)state;
    struct tensors tensors = {0};
    struct error err = {0};
    size_t count = sizeof cases / sizeof cases[0];
    assert_int_equal(tensors_reserve(&tensors, count, &err), STATUS_OK);
    for (; tensors.count < count; tensors.count++) {
        tensors.entries[tensors.count] = (struct tensor){.name = strdup(cases[tensors.count].file)};
    }
    assert_int_equal(gguf_names_translate(&tensors, 0, &err), STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(tensors.entries[i].name, cases[i].model == NULL ? cases[i].file : cases[i].model);
    }
    tensors_destroy(&tensors);
}

// Queries and keys of the architecture llama alone, each row of each head once.
static void rows_of_heads_alternate(void **state) {
    (void)state;
    struct tensor tensors[] = {{.name = strdup("model.layers.3.self_attn.q_proj.weight")},
                               {.name = strdup("model.layers.3.self_attn.k_proj.bias")},
                               {.name = strdup("model.layers.3.self_attn.v_proj.weight")},
                               {.name = strdup("model.layers.3.self_attn.q_norm.weight")}};
    struct tensors all = {.entries = tensors, .count = 4};
    static const size_t expected[] = {0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11};
    static const char *const families[] = {"qwen2", "qwen3", "llama", "mistral"};
    for (size_t i = 0; i < 4; i++) {
        struct model_config config = {.head_dim = 6};
        strcpy(config.model_type, families[i]);
        tensors[0].head_rows = tensors[1].head_rows = 0;
        gguf_names_interleave(&all, &config);
        assert_int_equal(tensors[0].head_rows, i < 2 ? 0 : 6);
        assert_int_equal(tensors[1].head_rows, i < 2 ? 0 : 6);
        assert_true(tensors[2].head_rows == 0 && tensors[3].head_rows == 0);
        for (size_t row = 0; row < 12; row++) {
            assert_int_equal(tensor_file_row(&tensors[0], row), i < 2 ? row : expected[row]);
            assert_int_equal(tensor_file_row(&tensors[2], row), row);
        }
    }
    for (size_t i = 0; i < 4; i++) {
        free(tensors[i].name);
    }
}

static void parts_are_one_model(void **state) {
    const struct gguf_folder *folder = *state;
    struct gguf_model model;
    struct error err = {0};
    gguf_folder_write(folder, "good-00002-of-00003.gguf",
                      "=GGUF u3 q1 q3 " SPLIT("1", "3", "3") TENSOR("output.weight") DATA);
    gguf_folder_write(folder, "good-00003-of-00003.gguf",
                      "=GGUF u3 q1 q3 " SPLIT("2", "3", "3") TENSOR("rope_freqs.weight") DATA);
    const char *path = gguf_folder_write(
        folder, "good-00001-of-00003.gguf",
        "=GGUF u3 q1 q4 " SPLIT("0", "3", "3") "sk u0 b1 " TENSOR("token_embd.weight") DATA);
    if (gguf_open(&model, path, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(model.checkpoint.count, 3);
    assert_string_equal(model.checkpoint.files[2].name, "good-00003-of-00003.gguf");
    assert_int_equal(model.checkpoint.tensors.count, 2);
    assert_int_equal(tensors_find(&model.checkpoint.tensors, "lm_head.weight")->file, 1);
    assert_string_equal(model.rope_factors.name, "rope_freqs.weight");
    assert_int_equal(model.rope_factors.file, 2);
    assert_non_null(gguf_metadata_find(&model.metadata, "k"));
    gguf_close(&model);
    struct gguf_metadata metadata;
    assert_int_equal(gguf_metadata_read(&metadata, path, &err), STATUS_OK);
    assert_int_equal(metadata.count, 4);
    gguf_metadata_destroy(&metadata);
}

static void a_vocabulary_of_megabytes_is_read_in_pieces(void **state) {
    enum { TOKENS = 150000 };
    const struct gguf_folder *folder = *state;
    struct buffer file = {0};
    struct gguf_model model;
    struct error err = {0};
    char path[256];
    uint64_t count = TOKENS;
    built(&file, "=GGUF u3 q1 q1 stokenizer.ggml.tokens u9 u8");
    built_add(&file, &count, sizeof count);
    for (int i = 0; i < TOKENS; i++) {
        char word[32];
        snprintf(word, sizeof word, "stoken%d", i);
        built(&file, word);
    }
    built(&file, TENSOR("output.weight") DATA);
    snprintf(path, sizeof path, "%s/large.gguf", folder->path);
    assert_int_equal(file_write_atomic(path, file.data, file.size, &err), STATUS_OK);
    if (gguf_open(&model, path, &err) != STATUS_OK) {
        fail_msg("%s", err.message);
    }
    const char *text;
    size_t length;
    const struct gguf_value *tokens = gguf_metadata_find(&model.metadata, "tokenizer.ggml.tokens");
    assert_int_equal(tokens->count, TOKENS);
    assert_true(gguf_value_text(tokens, TOKENS - 1, &text, &length) &&
                memcmp(text, "token149999", length) == 0);
    gguf_close(&model);
    buffer_destroy(&file);
}

struct part {
    const char *name, *words;
};

static void refused(const struct gguf_folder *folder, const struct part *parts, size_t count,
                    const char *said) {
    struct gguf_model model;
    struct error err = {0};
    const char *path = NULL;
    for (size_t i = count; i > 0; i--) {
        path = gguf_folder_write(folder, parts[i - 1].name, parts[i - 1].words);
    }
    assert_int_equal(gguf_open(&model, path, &err), STATUS_DATA);
    if (strstr(err.message, said) == NULL || strstr(err.message, folder->path) == NULL) {
        fail_msg("%s: expected \"%s\", got: %s", parts[0].name, said, err.message);
    }
    assert_null(model.checkpoint.files);
}

static void contradicting_parts_are_refused(void **state) {
    const struct gguf_folder *folder = *state;
#define HEAD(tensors, keys) "=GGUF u3 q" tensors " q" keys " "
#define A TENSOR("a.weight") DATA
#define B TENSOR("b.weight") DATA
    static const struct {
        struct part parts[2];
        size_t count;
        const char *said;
    } cases[] = {
        {{{"x.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A}},
         1,
         "'split.count' is 2, and its name is that of a whole file"},
        {{{"x-00001-of-00002.gguf", HEAD("1", "0") A}},
         1,
         "'split.count' is 1, and its name is that of a part"},
        {{{"x-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "3", "2") A}}, 1, "'split.count' is 3"},
        {{{"x-00001-of-00002.gguf", HEAD("1", "3") SPLIT("1", "2", "2") A}},
         1,
         "'split.no' is 1, and its name is that of part 1"},
        {{{"x-00002-of-00002.gguf", HEAD("1", "3") SPLIT("1", "2", "2") A}},
         1,
         "is part 2 of a model of 2: give the path of the first"},
        {{{"x-00000-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A}}, 1, "is named part 0 of 2"},
        {{{"x-00003-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A}}, 1, "is named part 3 of 2"},
        {{{"x-00001-of-99999.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A}},
         1,
         "of 99999, outside 1 to 4096"},
        {{{"y-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A}}, 1, "y-00002-of-00002.gguf"},
        {{{"z-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A},
          {"z-00002-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") B}},
         2,
         "z-00002-of-00002.gguf: 'split.no' is 0, and its name is that of part 2"},
        {{{"z-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A},
          {"z-00002-of-00002.gguf", HEAD("1", "3") SPLIT("1", "3", "2") B}},
         2,
         "'split.count' is 3"},
        {{{"z-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A},
          {"z-00002-of-00002.gguf", HEAD("1", "0") B}},
         2,
         "'split.count' is 1"},
        {{{"z-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A},
          {"z-00002-of-00002.gguf", HEAD("1", "3") SPLIT("1", "2", "3") B}},
         2,
         "'split.tensors.count' is 3 here and 2 in the first part"},
        {{{"z-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "3") A},
          {"z-00002-of-00002.gguf", HEAD("1", "3") SPLIT("1", "2", "3") B}},
         2,
         "'split.tensors.count' is 3, and there are 2"},
        {{{"z-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A},
          {"z-00002-of-00002.gguf", HEAD("1", "3") SPLIT("1", "2", "2") A}},
         2,
         "tensor 'a.weight' is both in"},
        {{{"z-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A},
          {"z-00002-of-00002.gguf", "=GGUF u3"}},
         2,
         "z-00002-of-00002.gguf: the number of tensors"},
        {{{"z-00001-of-00002.gguf", HEAD("1", "3") SPLIT("0", "2", "2") A},
          {"z-00002-of-00002.gguf", "=version =https://git-lfs.github.com/spec"}},
         2,
         "z-00002-of-00002.gguf"},
        {{{"x.gguf", HEAD("1", "1") "ssplit.count u8 stwo " A}}, 1, "'split.count' is not a whole number"},
        {{{"x.gguf", HEAD("1", "1") "ssplit.no u5 i-1 " A}}, 1, "'split.no' is not a whole number"},
        {{{"x.gguf", HEAD("1", "1") "ssplit.tensors.count u9 u5 q1 i1 " A}},
         1,
         "'split.tensors.count' is not a whole number"},
        {{{"x.gguf",
           HEAD("2", "0") "stoken_embd.weight u1 q8 u0 q0 smodel.embed_tokens.weight u1 q8 u0 q32 p32 z64"}},
         1,
         "tensor 'model.embed_tokens.weight' is both in"},
        {{{"x.gguf", ""}}, 1, "empty"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refused(folder, cases[i].parts, cases[i].count, cases[i].said);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_those_of_transformers),
        cmocka_unit_test(rows_of_heads_alternate),
        cmocka_unit_test(parts_are_one_model),
        cmocka_unit_test(a_vocabulary_of_megabytes_is_read_in_pieces),
        cmocka_unit_test(contradicting_parts_are_refused),
    };
    return cmocka_run_group_tests(tests, gguf_folder_make, gguf_folder_remove);
}

// SPDX-License-Identifier: MIT
// Checkpoint folders: each tensor in its place, and every way a folder can be wrong answered with the
// tensor's name.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden.h"
#include "model/layer_names.h"
#include "model/model.h"

static void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

// Opening the folder must fail and say this.
static void refused(const struct golden *golden, const char *said) {
    struct model *model;
    struct error err = {0};
    assert_int_equal(model_open(&model, golden->folder, &err), STATUS_DATA);
    assert_null(model);
    if (strstr(err.message, said) == NULL) {
        fail_msg("instead of '%s': %s", said, err.message);
    }
}

static json_t *find_tensor(const struct golden *golden, const char *name, size_t *index) {
    json_t *tensors = json_object_get(golden->json, "tensors");
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        if (strcmp(json_string_value(json_array_get(json_array_get(tensors, i), 0)), name) == 0) {
            *index = i;
            return json_array_get(tensors, i);
        }
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static void rewrite(struct golden *golden) {
    golden_remove(golden->folder);
    golden_checkpoint(golden);
}

static void good_folders_open_and_are_counted(void **state) {
    (void)state;
    for (size_t i = 0; i < GOLDEN_COUNT; i++) {
        struct golden golden;
        struct model *model;
        struct error err = {0};
        golden_open(&golden, golden_names[i]);
        must(model_open(&model, golden.folder, &err), &err);
        json_t *tensors = json_object_get(golden.json, "tensors");
        uint64_t numbers = 0;
        for (size_t k = 0; k < json_array_size(tensors); k++) {
            json_t *shape = json_array_get(json_array_get(tensors, k), 1);
            uint64_t count = 1;
            for (size_t d = 0; d < json_array_size(shape); d++) {
                count *= (uint64_t)json_integer_value(json_array_get(shape, d));
            }
            numbers += count;
        }
        assert_int_equal(model_parameters(model), numbers);
        model_close(model);
        golden_close(&golden);
    }
}

static void wrong_tensors_are_named(void **state) {
    (void)state;
    struct golden golden;
    size_t index;
    golden_open(&golden, "qwen3");
    json_t *tensors = json_object_get(golden.json, "tensors");

    json_t *tensor = json_incref(find_tensor(&golden, "model.layers.1.self_attn.k_norm.weight", &index));
    json_array_remove(tensors, index);
    rewrite(&golden);
    refused(&golden, "'model.layers.1.self_attn.k_norm.weight' is missing");
    json_array_append_new(tensors, tensor);

    json_t *extra = json_deep_copy(tensor);
    json_array_append(tensors, extra);
    json_array_set_new(extra, 0, json_string("model.layers.x.input_layernorm.weight"));
    rewrite(&golden);
    refused(&golden, "'model.layers.x.input_layernorm.weight'");
    json_array_set_new(extra, 0, json_string("model.layers.0.self_attn.q_proj.bias"));
    rewrite(&golden);
    refused(&golden, "'model.layers.0.self_attn.q_proj.bias'");
    json_array_set_new(extra, 0,
                       json_string("model.layers.0.self_attn.rotary_emb.inv_freq")); // stale, harmless
    rewrite(&golden);
    struct model *model;
    struct error err = {0};
    must(model_open(&model, golden.folder, &err), &err);
    model_close(model);
    json_array_remove(tensors, json_array_size(tensors) - 1);
    json_decref(extra);

    json_t *shape = json_array_get(find_tensor(&golden, "model.layers.2.mlp.down_proj.weight", &index), 1);
    json_array_set_new(shape, 0, json_integer(48));
    json_array_set_new(shape, 1, json_integer(32));
    rewrite(&golden);
    refused(&golden,
            "'model.layers.2.mlp.down_proj.weight' has shape [48, 32]; config.json asks for [32, 48]");
    golden_close(&golden);
}

// Replaces text of equal length in the first bytes of a file.
static void replace(const struct golden *golden, const char *name, const char *from, const char *to) {
    char path[GOLDEN_PATH + 256];
    struct buffer file = {0};
    struct error err;
    assert_int_equal(strlen(from), strlen(to));
    snprintf(path, sizeof path, "%s/%s", golden->folder, name);
    must(file_read(&file, path, 1 << 24, &err), &err);
    char *at = memmem(file.data, file.size, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    golden_write(golden->folder, name, file.data, file.size);
    buffer_destroy(&file);
}

static void wrong_dtypes_and_files_are_refused(void **state) {
    (void)state;
    struct golden golden;
    char path[GOLDEN_PATH + 32];
    golden_open(&golden, "qwen3");
    replace(&golden, "model.safetensors", "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\"",
            "{\"model.embed_tokens.weight\":{\"dtype\":\"I32\"");
    refused(&golden, "'model.embed_tokens.weight' has dtype I32");
    rewrite(&golden);
    snprintf(path, sizeof path, "%s/model.safetensors", golden.folder);
    assert_int_equal(truncate(path, 100000), 0);
    refused(&golden, "the file is truncated");
    assert_int_equal(truncate(path, 5), 0);
    refused(&golden, "too short");
    assert_int_equal(truncate(path, 0), 0);
    refused(&golden, "model.safetensors is empty");
    assert_int_equal(truncate(path, 4096), 0);
    refused(&golden, "filled with zeros");
    golden_write(golden.folder, "model.safetensors", "GGUF\3\0\0\0\0\0\0", 11);
    refused(&golden, "model.safetensors is a GGUF file");
    unlink(path);
    refused(&golden, "holds neither model.safetensors nor model.safetensors.index.json");
    rewrite(&golden);
    json_object_set_new(json_object_get(golden.json, "config"), "intermediate_size", json_integer(64));
    golden_config(&golden);
    refused(&golden, "mlp.gate_proj.weight' has shape [48, 32]; config.json asks for [64, 32]");
    golden_close(&golden);
}

static void wrong_indices_are_refused(void **state) {
    (void)state;
    struct golden golden;
    static const char index[] = "model.safetensors.index.json";
    golden_open(&golden, "qwen3-tied");
    static const struct {
        const char *from;
        const char *to;
        const char *said;
    } cases[] = {
        {"\"model.norm.weight\": \"model-00003-of-00003.safetensors\"",
         "\"model.norm.weight\": \"../el-00003-of-00003.safetensors\"",
         "'model.norm.weight' is not mapped to a plain file name"},
        {"\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"model-00001",
         "'model.norm.weight' is missing from model-00001"},
        {"\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"model-00009",
         "model-00009-of-00003.safetensors"},
        {"\"model.norm.weight\"", "\"model.norm.wEight\"", "'model.norm.wEight' is missing from"},
        {"\"weight_map\"", "\"weight_mop\"", "'weight_map' is not an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        replace(&golden, index, cases[i].from, cases[i].to);
        refused(&golden, cases[i].said);
        rewrite(&golden);
    }
    // The same tensor in two shards, and one that the index does not know.
    json_t *tensors = json_object_get(golden.json, "tensors");
    size_t count = json_array_size(tensors);
    golden_shard(golden.folder, "model-00001-of-00003.safetensors", tensors, 0, count / 3 + 1, "BF16");
    refused(&golden, "is both in");
    rewrite(&golden);
    golden_shard(golden.folder, "model-00002-of-00003.safetensors", tensors, count / 3, count * 2 / 3 - 1,
                 "BF16");
    refused(&golden, "is missing from model-00002-of-00003.safetensors");
    rewrite(&golden);
    json_t *more = json_deep_copy(tensors);
    json_array_set_new(json_array_get(more, count / 3), 0, json_string("model.stowaway"));
    golden_shard(golden.folder, "model-00001-of-00003.safetensors", more, 0, count / 3 + 1, "BF16");
    refused(&golden, "'model.stowaway' of model-00001-of-00003.safetensors is not in the index");
    json_decref(more);
    golden_close(&golden);
}

// Opens the folder; the notes must name this.
static void noted(const struct golden *golden, const char *said) {
    struct model *model;
    struct error err = {0};
    must(model_open(&model, golden->folder, &err), &err);
    if (strstr(model_notes(model), said) == NULL) {
        fail_msg("instead of '%s': %s", said, model_notes(model));
    }
    model_close(model);
}

static void tensors_beside_the_blocks_are_named_and_skipped(void **state) {
    (void)state;
    struct golden golden;
    size_t index;
    golden_open(&golden, "qwen3");
    json_t *tensors = json_object_get(golden.json, "tensors");
    json_t *extra = json_deep_copy(find_tensor(&golden, "model.norm.weight", &index));
    json_array_append_new(tensors, extra);
    static const char *const beside[] = {"score.weight",
                                         "score.0.bias",
                                         "v_head.summary.weight",
                                         "value_head.weight",
                                         "medusa_head.0.0.linear.weight",
                                         "mtp.layers.0.self_attn.q_proj.weight",
                                         "model.mtp_layers.0.final_layernorm.weight",
                                         "model.layers.0.self_attn.rotary_emb.cos_cached",
                                         "regression_layer.weight",
                                         "qa_outputs.bias"};
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        json_array_set_new(extra, 0, json_string(beside[i]));
        rewrite(&golden);
        noted(&golden, beside[i]);
    }
    // What is not known may be a part of the model under another name.
    static const char *const unknown[] = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                                          "model.layers.0.self_attn.q_proj.lora_A.weight",
                                          "model.layers.0.mlp.gate.weight",
                                          "model.embed_positions.weight",
                                          "model.score_norm.weight",
                                          "transformer.norm.weight",
                                          "encoder.layers.0.weight",
                                          "head_norm.weight"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        json_array_set_new(extra, 0, json_string(unknown[i]));
        rewrite(&golden);
        refused(&golden, unknown[i]);
    }
    // Behind the blocks.
    json_array_set_new(extra, 0, json_string("model.layers.3.eh_proj.weight"));
    rewrite(&golden);
    noted(&golden, "the weights hold layer 3 (tensors: 1) behind the 3 blocks that config.json counts");
    json_array_set_new(extra, 0, json_string("model.layers.3"));
    rewrite(&golden);
    refused(&golden, "model.layers.3");
    golden_close(&golden);
}

// transformers computes the first blocks as well, and lists the rest as unexpected.
static void a_config_may_count_fewer_blocks(void **state) {
    (void)state;
    struct golden golden;
    golden_open(&golden, "llama");
    json_t *config = json_object_get(golden.json, "config");
    size_t blocks = (size_t)json_integer_value(json_object_get(config, "num_hidden_layers"));
    assert_true(blocks > 2);
    json_object_set_new(config, "num_hidden_layers", json_integer(1));
    rewrite(&golden);
    noted(&golden, " behind the 1 blocks that config.json counts");
    json_object_set_new(config, "num_hidden_layers", json_integer((json_int_t)blocks + 1));
    rewrite(&golden);
    refused(&golden, ".input_layernorm.weight' is missing");
    golden_close(&golden);
}

// Only where config.json ties them: elsewhere the table is missing, whatever the head is.
static void a_tied_embedding_may_be_the_heads(void **state) {
    (void)state;
    struct golden golden;
    size_t index;
    golden_open(&golden, "qwen3-tied");
    json_t *embedding = find_tensor(&golden, "model.embed_tokens.weight", &index);
    json_array_set_new(embedding, 0, json_string("lm_head.weight"));
    rewrite(&golden);
    noted(&golden, "the embedding is read from lm_head.weight");
    json_object_set_new(json_object_get(golden.json, "config"), "tie_word_embeddings", json_false());
    rewrite(&golden);
    refused(&golden, "'model.embed_tokens.weight' is missing");
    golden_close(&golden);
}

static void an_index_may_differ_beside_the_blocks(void **state) {
    (void)state;
    struct golden golden;
    struct buffer file = {0};
    struct error err = {0};
    char path[GOLDEN_PATH + 64];
    golden_open(&golden, "qwen3-tied");
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", golden.folder);
    must(file_read(&file, path, 1 << 20, &err), &err);
    static const struct {
        const char *entry;
        const char *said;
    } cases[] = {
        {"\"model.layers.0.self_attn.rotary_emb.inv_freq\": \"model-00001-of-00003.safetensors\"",
         "inv_freq"},
        {"\"lm_head.weight\": \"model-00003-of-00003.safetensors\"", "lm_head.weight"},
        {"\"mtp.fc.weight\": \"mtp.safetensors\"", "mtp.safetensors is missing"},
        {"\"model.layers.3.eh_proj.weight\": \"model-00001-of-00003.safetensors\"", "eh_proj"},
        {"\"model.layers.3.eh_proj.weight\": \"next.safetensors\"", "next.safetensors is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer changed = {0};
        const char *at = strstr(file.data, "\"model.embed_tokens.weight\"");
        assert_non_null(at);
        must(
            buffer_printf(&changed, &err, "%.*s%s, %s", (int)(at - file.data), file.data, cases[i].entry, at),
            &err);
        golden_write(golden.folder, "model.safetensors.index.json", changed.data, changed.size);
        noted(&golden, cases[i].said);
        buffer_destroy(&changed);
    }
    rewrite(&golden);
    // In a shard alone: the index knows nothing of it.
    json_t *more = json_deep_copy(json_object_get(golden.json, "tensors"));
    size_t count = json_array_size(more);
    json_t *extra = json_deep_copy(json_array_get(more, 0));
    json_array_set_new(extra, 0, json_string("score.weight"));
    json_array_insert_new(more, count / 3, extra);
    golden_shard(golden.folder, "model-00001-of-00003.safetensors", more, 0, count / 3 + 1, "BF16");
    noted(&golden, "differ in 1 tensor that no hidden state needs (score.weight)");
    json_array_set_new(extra, 0, json_string("model.layers.3.eh_proj.weight"));
    golden_shard(golden.folder, "model-00001-of-00003.safetensors", more, 0, count / 3 + 1, "BF16");
    noted(&golden, "differ in 1 tensor that no hidden state needs (model.layers.3.eh_proj.weight)");
    json_decref(more);
    buffer_destroy(&file);
    golden_close(&golden);
}

static void layers_resolve_as_transformers_counts_them(void **state) {
    (void)state;
    struct model_config config = {.layers = 36};
    struct error err = {0};
    const char *const wanted[] = {"-2", "0", "35", "-1", "36", "-37", "7"};
    size_t layers[7];
    size_t count;
    must(model_resolve_layers(&config, wanted, 7, layers, &count, &err), &err);
    const size_t expected[] = {0, 7, 35, 36};
    assert_int_equal(count, 4);
    assert_memory_equal(layers, expected, sizeof expected);
    const char *const outside[] = {"37", "-38", "9223372036854775807", "-9223372036854775808"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(model_resolve_layers(&config, &outside[i], 1, layers, &count, &err), STATUS_JOB);
    }
    const struct model_config projected = {.layers = 24, .hidden = 1024, .embedding_width = 512};
    must(model_resolve_layers(&projected, &(const char *){"-2"}, 1, layers, &count, &err), &err);
    assert_int_equal(layers[0], 23);
    assert_int_equal(model_resolve_layers(&projected, &(const char *){"-1"}, 1, layers, &count, &err),
                     STATUS_JOB);
    assert_non_null(strstr(err.message, "hidden_states[24] has 512 numbers"));
}

// The hidden state of a name in the model of a golden; -1: it is refused, with `words` in the message.
static void resolves(const char *golden_name, const char *name, int64_t layer, const char *words) {
    struct golden golden;
    struct model_config config = {0};
    struct buffer text = {0};
    struct error err = {0};
    size_t found;
    size_t count;
    golden_open(&golden, golden_name);
    must(model_config_read(&config, &text, golden.folder, &err), &err);
    int status = model_resolve_layers(&config, &name, 1, &found, &count, &err);
    if (layer < 0) {
        assert_int_equal(status, STATUS_JOB);
        assert_non_null(strstr(err.message, words));
    } else {
        must(status, &err);
        assert_int_equal(found, layer);
    }
    model_config_destroy(&config);
    buffer_destroy(&text);
    golden_close(&golden);
}

// test_parity.py holds the names that are printed to transformers' modules.
static void layers_have_the_names_of_their_modules(void **state) {
    (void)state;
    const struct {
        const char *golden;
        const char *name;
        int64_t layer;
        const char *words;
    } cases[] = {
        {"qwen3", "model.layers.0", 1, NULL},
        {"qwen3", "layers.1", 2, NULL},
        {"qwen3", "model.layers.2", 4, NULL}, // the last one: pre_norm
        {"qwen3", "pre_norm", 4, NULL},
        {"qwen3", "model.norm", 3, NULL},
        {"qwen3", "model.embed_tokens", 0, NULL},
        {"qwen3", "blocks.0.hook_resid_pre", 0, NULL},
        {"qwen3", "blocks.2.hook_resid_pre", 2, NULL},
        {"qwen3", "blocks.1.hook_resid_post", 2, NULL},
        {"qwen3", "blocks.2.hook_resid_post", 4, NULL},
        {"qwen3", "model.layers.3", -1, "blocks model.layers.0 to model.layers.2"},
        {"qwen3", "model.layers.00", -1, "does not exist"},
        {"qwen3", "model.layers.", -1, "does not exist"},
        {"qwen3", "model.layers.99999999999999999999", -1, "does not exist"},
        {"qwen3", "model.layers.1.self_attn", -1, "is a part of a block"},
        {"qwen3", "blocks.3.hook_resid_pre", -1, "does not exist"},
        {"qwen3", "blocks.x", -1, "names no block"},
        {"qwen3", "blocks.1", -1, "hook_resid_pre and hook_resid_post"},
        {"qwen3", "model.norm.weight", -1, "names no hidden state"},
        {"qwen3", "", -1, "names no hidden state"},
        {"gpt2", "transformer.h.0", 1, NULL},
        {"gpt2", "transformer.ln_f", 3, NULL},
        {"gpt2", "model.layers.0", -1, "blocks transformer.h.0 to transformer.h.2"},
        {"gpt2", "transformer.wte", -1, "learned positions are added"},
        {"gemma", "model.embed_tokens", -1, "multiplied by a scale"},
        {"bloom", "transformer.word_embeddings", -1, "a norm comes behind it"},
        {"gpt_neox", "gpt_neox.layers.1", 2, NULL},
        {"gpt_neox", "gpt_neox.final_layer_norm", 3, NULL},
        {"opt", "model.decoder.layers.0", 1, NULL},
        {"opt", "decoder.final_layer_norm", 3, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        resolves(cases[i].golden, cases[i].name, cases[i].layer, cases[i].words);
    }
}

// A fingerprint made without loading; one byte of weights or of config.json changes it.
static void fingerprints_name_the_bytes(void **state) {
    (void)state;
    char seen[3][DIGEST_HEX];
    struct golden golden;
    struct error err = {0};
    golden_open(&golden, "qwen3-tied");
    for (size_t i = 0; i < 3; i++) {
        struct model *model;
        must(model_open(&model, golden.folder, &err), &err);
        must(model_fingerprint_files(model, NULL, &err), &err);
        assert_int_equal(strlen(model_fingerprint(model)), 64);
        strcpy(seen[i], model_fingerprint(model));
        model_close(model);
        if (i == 1) {
            json_array_set_new(json_array_get(json_object_get(golden.json, "tensors"), 5), 2, json_real(0.5));
            rewrite(&golden);
        }
    }
    assert_string_equal(seen[0], seen[1]);
    assert_string_not_equal(seen[1], seen[2]);
    golden_close(&golden);
}

static void operations_are_counted_by_hand(void **state) {
    (void)state;
    struct golden golden;
    struct model *model;
    struct error err = {0};
    golden_open(&golden, "qwen3"); // 4 heads and 2 kv heads of 16, hidden 32, intermediate 48
    must(model_open(&model, golden.folder, &err), &err);
    double products = (64 + 32 + 32) * 32 + 32 * 64 + 3 * 48 * 32;
    double attention = 2 * 64 * (4 * 5 + 6 * 7); // texts of 4 and 6 tokens
    assert_true(model_flops(model, 2, 10, 4 * 4 + 6 * 6) == 2 * (2 * 10 * products + attention));
    model_close(model);
    golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_folders_open_and_are_counted),
        cmocka_unit_test(wrong_tensors_are_named),
        cmocka_unit_test(wrong_dtypes_and_files_are_refused),
        cmocka_unit_test(wrong_indices_are_refused),
        cmocka_unit_test(tensors_beside_the_blocks_are_named_and_skipped),
        cmocka_unit_test(a_config_may_count_fewer_blocks),
        cmocka_unit_test(a_tied_embedding_may_be_the_heads),
        cmocka_unit_test(an_index_may_differ_beside_the_blocks),
        cmocka_unit_test(layers_resolve_as_transformers_counts_them),
        cmocka_unit_test(layers_have_the_names_of_their_modules),
        cmocka_unit_test(fingerprints_name_the_bytes),
        cmocka_unit_test(operations_are_counted_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// What config.json says of packed weights: every method's keys, and what is refused, with what to do instead.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/quantization.h"

static int read_text(struct quantization *out, const char *text, struct error *err) {
    struct values values;
    if (values_open_json(&values, text, strlen(text), "config.json", err) != STATUS_OK) {
        fail_msg("%s", err->message);
    }
    int status = quantization_read(out, &values, err);
    values_close(&values);
    return status;
}

static int read_config(struct quantization *out, const char *members, struct error *err) {
    char text[4096];
    snprintf(text, sizeof text, "{\"quantization_config\": {%s}}", members);
    return read_text(out, text, err);
}

static struct quantization accepted(const char *members) {
    struct quantization out;
    struct error err = {0};
    if (read_config(&out, members, &err) != STATUS_OK) {
        fail_msg("{%s}: %s", members, err.message);
    }
    return out;
}

static void refused(const char *members, const char *words) {
    struct quantization out;
    struct error err = {0};
    int status = read_config(&out, members, &err);
    if (status != STATUS_DATA || strstr(err.message, words) == NULL) {
        fail_msg("{%s}: instead of '%s': %d, %s", members, words, status,
                 status == STATUS_OK ? "accepted" : err.message);
    }
    if (strncmp(err.message, "'quantization_config': ", strlen("'quantization_config': ")) != 0) {
        fail_msg("{%s}: %s", members, err.message);
    }
}

static void a_config_without_any_says_nothing(void **state) {
    (void)state;
    struct quantization out;
    struct quantization zeros = {0};
    struct error err;
    static const char *const texts[] = {"{}", "{\"quantization_config\": null}"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(read_text(&out, texts[i], &err), STATUS_OK);
        assert_memory_equal(&out, &zeros, sizeof out);
    }
    assert_int_equal(read_text(&out, "{\"quantization_config\": [1]}", &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "'quantization_config' is not an object"));
}

static void awq_is_read(void **state) {
    (void)state;
    struct quantization q = accepted("\"quant_method\": \"awq\"");
    assert_int_equal(q.method, QUANTIZATION_AWQ);
    assert_string_equal(q.name, "awq");
    assert_int_equal(q.bits, 4);
    assert_int_equal(q.group, 128);
    q = accepted(
        "\"quant_method\": \"awq\", \"version\": \"GEMM\", \"w_bit\": 4, \"q_group_size\": 64,"
        " \"zero_point\": true, \"backend\": \"autoawq\", \"modules_to_not_convert\": [\"lm_head\"]");
    assert_int_equal(q.group, 64);
    q = accepted("\"quant_method\": \"awq\", \"checkpoint_format\": \"gemm\", \"group_size\": -1");
    assert_int_equal(q.group, 0);
    static const char *const versions[] = {"gemv", "gemv_fast", "exllama", "marlin", "llm-awq"};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        char members[128];
        char words[64];
        snprintf(members, sizeof members, "\"quant_method\": \"awq\", \"version\": \"%s\"", versions[i]);
        snprintf(words, sizeof words, "awq: 'version' is '%s'", versions[i]);
        refused(members, words);
        snprintf(members, sizeof members, "\"quant_method\": \"awq\", \"format\": \"%s\"", versions[i]);
        refused(members, "saved with version gemm");
    }
    refused("\"quant_method\": \"awq\", \"backend\": \"llm-awq\"", "'backend' is 'llm-awq'");
    refused("\"quant_method\": \"awq\", \"bits\": 3", "'bits' is 3; of AWQ only 4 is supported");
    refused("\"quant_method\": \"awq\", \"w_bit\": 8", "'w_bit' is 8");
    refused("\"quant_method\": \"awq\", \"group_size\": 0", "'group_size' is 0");
    refused("\"quant_method\": \"awq\", \"group_size\": -2", "'group_size' is -2");
    refused("\"quant_method\": \"awq\", \"group_size\": \"128\"", "'group_size'");
}

static void gptq_is_read(void **state) {
    (void)state;
    struct quantization q = accepted("\"quant_method\": \"gptq\", \"bits\": 4");
    assert_int_equal(q.method, QUANTIZATION_GPTQ);
    assert_int_equal(q.group, 128);
    assert_false(q.gptq_v2 || q.gptq_by_order || q.gptq_overrides || q.zeros_in_middle);
    q = accepted(
        "\"quant_method\": \"gptq\", \"bits\": 8, \"group_size\": 32, \"desc_act\": true, \"sym\": false,"
        " \"checkpoint_format\": \"gptq_v2\", \"dynamic\": {\"-:.*q_proj\": {}}, \"lm_head\": false");
    assert_int_equal(q.bits, 8);
    assert_int_equal(q.group, 32);
    assert_true(q.gptq_v2 && q.gptq_by_order && q.gptq_overrides);
    assert_int_equal(q.gptq_setting_count, 0);
    q = accepted(
        "\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 64, \"dynamic\": {\"a\": {\"bits\": 8},"
        " \"+:b\": {\"group_size\": -1, \"desc_act\": true}, \"c\": {\"bits\": 3}, \"d\": {\"bits\": 8}}");
    assert_int_equal(q.gptq_setting_count, 2);
    assert_true(q.gptq_settings[0].bits == 8 && q.gptq_settings[0].group == 64);
    assert_true(q.gptq_settings[1].bits == 4 && q.gptq_settings[1].group == 0);
    assert_true(!q.gptq_settings[0].by_order && q.gptq_settings[1].by_order);
    assert_true(accepted("\"quant_method\": \"gptq\", \"bits\": 4, \"format\": \"gptq_v2\"").gptq_v2);
    assert_false(
        accepted("\"quant_method\": \"gptq\", \"bits\": 4, \"format\": \"gptq\", \"dynamic\": {}").gptq_v2);
    refused("\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": {\"x\": {\"group_size\": 0}}",
            "'dynamic': 'x': 'group_size' is 0");
    refused("\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": {\"x\": []}",
            "'dynamic': 'x': the value is not an object");
    refused("\"quant_method\": \"gptq\"", "gptq: 'bits' is missing");
    refused("\"quant_method\": \"gptq\", \"bits\": 2", "'bits' is 2; of GPTQ 4 and 8 are supported");
    refused("\"quant_method\": \"gptq\", \"bits\": 3", "'bits' is 3");
    refused("\"quant_method\": \"gptq\", \"bits\": 4, \"checkpoint_format\": \"marlin\"",
            "'checkpoint_format' is 'marlin'");
    refused("\"quant_method\": \"gptq\", \"bits\": 4, \"is_marlin_format\": true",
            "'is_marlin_format' is 'true'");
    refused("\"quant_method\": \"gptq\", \"bits\": 4, \"desc_act\": 1", "'desc_act'");
}

static void bitsandbytes_is_read(void **state) {
    (void)state;
    struct quantization q = accepted("\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true,"
                                     " \"load_in_8bit\": false");
    assert_int_equal(q.method, QUANTIZATION_BITSANDBYTES);
    assert_int_equal(q.bits, 4);
    assert_int_equal(accepted("\"load_in_8bit\": true").bits, 8);
    refused("\"quant_method\": \"bitsandbytes\"", "neither of 'load_in_4bit' and 'load_in_8bit' is true");
    refused("\"load_in_4bit\": true, \"load_in_8bit\": true", "both of");
    refused("\"quant_method\": \"awq\", \"load_in_4bit\": true",
            "'quant_method' is 'awq', but 'load_in_4bit'");
}

static void fp8_is_read(void **state) {
    (void)state;
    struct quantization q =
        accepted("\"quant_method\": \"fp8\", \"weight_block_size\": [128, 64], \"fmt\": \"e4m3\","
                 " \"activation_scheme\": \"dynamic\", \"scale_fmt\": \"ue8m0\"");
    assert_int_equal(q.method, QUANTIZATION_FP8);
    assert_int_equal(q.block_rows, 128);
    assert_int_equal(q.block_columns, 64);
    assert_int_equal(accepted("\"quant_method\": \"fp8\"").block_rows, 0);
    refused("\"quant_method\": \"fp8\", \"fmt\": \"e5m2\"", "'fmt' is 'e5m2'");
    static const char *const blocks[] = {
        "[0, 128]",  "[128]",    "[128, 1.5]", "[128, 128, 1]", "[128, -1]",     "128", "\"128\"", "\"128x\"",
        "\"12x3 \"", "[1, 1e9]", "{}",         "\"-1x4\"",      "[1, 999999999]"};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        char members[128];
        snprintf(members, sizeof members, "\"quant_method\": \"fp8\", \"weight_block_size\": %s", blocks[i]);
        refused(members, "'weight_block_size' is not a block of rows and columns");
    }
}

static void other_methods_are_refused_with_what_to_do_instead(void **state) {
    (void)state;
    static const char *const methods[] = {"auto-round", "hqq",     "aqlm",       "eetq",   "quip", "quanto",
                                          "higgs",      "torchao", "bitnet",     "spqr",   "vptq", "modelopt",
                                          "mxfp8",      "nvfp4",   "fbgemm_fp8", "no_such"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        char members[64];
        char words[64];
        snprintf(members, sizeof members, "\"quant_method\": \"%s\"", methods[i]);
        snprintf(words, sizeof words, "the method '%s' is not supported (supported are awq, gptq, ",
                 methods[i]);
        refused(members, words);
    }
    refused("\"quant_method\": \"hqq\"", "get the model's own weights");
    refused("\"quant_method\": \"auto-round\"", "auto_gptq or auto_awq");
    refused("\"quant_method\": \"fbgemm_fp8\"", "float-quantized");
    refused("\"quant_method\": \"gguf\"", "model.path");
    refused("\"bits\": 4", "'quant_method' is missing");
    refused("", "'quant_method' is missing");
    refused("\"quant_method\": 4", "'quant_method'");
}

// ---- compressed-tensors ----

#define CT(more) "\"quant_method\": \"compressed-tensors\", " more
#define GROUP(weights)                                                                                       \
    "\"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\": {" weights "}}}"

static void schemes_of_compressed_tensors_are_read(void **state) {
    (void)state;
    struct quantization q = accepted(CT(
        "\"format\": \"mixed-precision\", \"quantization_status\": \"compressed\", \"ignore\": [\"lm_head\"],"
        " \"sparsity_config\": {}, \"transform_config\": {}, \"kv_cache_scheme\": null, \"config_groups\": {"
        "\"a\": {\"format\": \"float-quantized\", \"weights\": {\"num_bits\": 8, \"type\": \"float\","
        " \"strategy\": \"block\", \"block_structure\": [128, 64], \"symmetric\": true}},"
        "\"b\": {\"format\": \"pack-quantized\", \"weights\": {\"num_bits\": 4, \"type\": \"int\","
        " \"strategy\": \"group\", \"group_size\": 32, \"symmetric\": false, \"actorder\": \"group\"}},"
        "\"c\": {\"weights\": null, \"input_activations\": {\"num_bits\": 8}},"
        "\"d\": {\"weights\": {\"strategy\": \"channel\", \"actorder\": \"weight\"}},"
        "\"e\": {\"weights\": {\"strategy\": \"tensor\", \"actorder\": true}},"
        "\"f\": {\"weights\": {\"group_size\": 64, \"actorder\": null}},"
        "\"g\": {\"weights\": {\"group_size\": -1, \"block_structure\": \"16x8\"}}, \"h\": {\"weights\": "
        "{}}}"));
    static const struct quantization_scheme wanted[] = {
        {.is_float = true, .bits = 8, .strategy = STRATEGY_BLOCK, .block_rows = 128, .block_columns = 64},
        {.bits = 4, .strategy = STRATEGY_GROUP, .group = 32, .has_zeros = true, .by_order = true},
        {.bits = 8, .strategy = STRATEGY_CHANNEL},
        {.bits = 8, .strategy = STRATEGY_TENSOR, .by_order = true},
        {.bits = 8, .strategy = STRATEGY_GROUP, .group = 64},
        {.bits = 8, .strategy = STRATEGY_CHANNEL, .block_rows = 16, .block_columns = 8},
        {.bits = 8, .strategy = STRATEGY_TENSOR},
    };
    assert_int_equal(q.method, QUANTIZATION_COMPRESSED_TENSORS);
    assert_int_equal(q.scheme_count, sizeof wanted / sizeof wanted[0]);
    for (size_t i = 0; i < q.scheme_count; i++) {
        const struct quantization_scheme *s = &q.schemes[i];
        assert_int_equal(s->is_float, wanted[i].is_float);
        assert_int_equal(s->bits, wanted[i].bits);
        assert_int_equal(s->strategy, wanted[i].strategy);
        assert_int_equal(s->group, wanted[i].group);
        assert_int_equal(s->block_rows, wanted[i].block_rows);
        assert_int_equal(s->block_columns, wanted[i].block_columns);
        assert_int_equal(s->has_zeros, wanted[i].has_zeros);
        assert_int_equal(s->by_order, wanted[i].by_order);
    }
    struct quantization old;
    struct error err;
    assert_int_equal(read_text(&old, "{\"compression_config\": {" CT(GROUP("")) "}}", &err), STATUS_OK);
    assert_int_equal(old.scheme_count, 1);
}

static void what_compressed_tensors_has_more_is_refused(void **state) {
    (void)state;
    static const char *const formats[] = {"nvfp4-pack-quantized",
                                          "mxfp4-pack-quantized",
                                          "mxfp6-pack-quantized",
                                          "mxfp8-quantized",
                                          "marlin-24",
                                          "sparse-24-bitmask"};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        char members[256];
        char words[64];
        snprintf(words, sizeof words, "'format' is '%s', which is not supported: get a", formats[i]);
        snprintf(members, sizeof members, CT("\"format\": \"%s\", ") GROUP(""), formats[i]);
        refused(members, words);
        snprintf(members, sizeof members, CT("\"config_groups\": {\"a\": {\"format\": \"%s\"}}"), formats[i]);
        refused(members, words);
    }
    refused(CT("\"format\": \"int-quantized\""), "compressed-tensors: 'config_groups' is missing");
    refused(CT("\"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}, ") GROUP(""), "sparse weights");
    refused(CT("\"transform_config\": {\"config_groups\": {}}, ") GROUP(""), "'transform_config' rotates");
    refused(CT(GROUP("\"type\": \"bool\"")), "'group_0': 'type' is 'bool'");
    refused(CT(GROUP("\"num_bits\": 4, \"type\": \"float\"")), "'num_bits' is 4 of type float");
    refused(CT(GROUP("\"num_bits\": 16")), "'num_bits' is 16 of type int");
    refused(CT(GROUP("\"strategy\": \"tensor_group\"")), "'strategy' is 'tensor_group'");
    refused(CT(GROUP("\"strategy\": \"group\"")), "'group_size' is missing");
    refused(CT(GROUP("\"strategy\": \"block\"")), "'block_structure' is missing");
    refused(CT(GROUP("\"block_structure\": [1]")), "'block_structure' is not a block");
    refused(CT(GROUP("\"actorder\": 3")), "'actorder'");
    refused(CT(GROUP("\"symmetric\": 3")), "'symmetric'");
    char many[4096] = CT("\"config_groups\": {\"0\": {\"weights\": {}}");
    for (int i = 1; i <= QUANTIZATION_SCHEMES; i++) {
        snprintf(many + strlen(many), sizeof many - strlen(many), ", \"%d\": {\"weights\": {}}", i);
    }
    strcat(many, "}");
    refused(many, "'16': more than 16 groups");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_without_any_says_nothing),
        cmocka_unit_test(awq_is_read),
        cmocka_unit_test(gptq_is_read),
        cmocka_unit_test(bitsandbytes_is_read),
        cmocka_unit_test(fp8_is_read),
        cmocka_unit_test(other_methods_are_refused_with_what_to_do_instead),
        cmocka_unit_test(schemes_of_compressed_tensors_are_read),
        cmocka_unit_test(what_compressed_tensors_has_more_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

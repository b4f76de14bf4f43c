#include "model/family.h"

#include <string.h>

#include "base/names.h"

// ---- what several families share ----

static const char *const plain_prefixes[] = {"model.", "", NULL};
// What is saved now, and before.
static const char *const text_prefixes[] = {"model.language_model.", "language_model.model.", "model.", "",
                                            NULL};
static const char *const gpt2_prefixes[] = {"transformer.", "", NULL};
static const char *const neox_prefixes[] = {"gpt_neox.", "", NULL};

#define ATTENTION_BIAS                                                                                       \
    { .key = "attention_bias" }
#define ALWAYS                                                                                               \
    { .always = true }
#define LAYER_NORM_EPS .keys = {.epsilon = "layer_norm_eps"}

static const struct family_experts qwen3_experts = {
    .count_key = "num_experts",
    .other_count_key = "num_local_experts",
    .count = 128,
    .chosen = 8,
    .width_key = "moe_intermediate_size",
    .width = 768,
    .normalised_key = "norm_topk_prob",
    .rounds_weights = true,
    .some_blocks = true,
};

static const struct family_experts mixtral_experts = {
    .count_key = "num_local_experts",
    .count = 8,
    .chosen = 2,
    .width_key = "intermediate_size",
    .width = 14336,
};

static const struct family_experts olmoe_experts = {
    .count_key = "num_experts",
    .other_count_key = "num_local_experts",
    .count = 64,
    .chosen = 8,
    .width_key = "intermediate_size",
    .width = 2048,
    .normalised_key = "norm_topk_prob",
    .rounds_weights = true,
};

// ---- the rows ----

// Defaults in the order of struct family_defaults: layers, hidden, intermediate, heads, kv_heads, head_dim,
// vocabulary, positions, window, epsilon, theta, part, tied.
static const struct family_row rows[] = {
    {.model_type = "llama",
     .defaults = {32, 4096, 11008, 32, 0, 0, 32000, 2048, 0, 1e-6, 1e4, 0, false},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .mlp_bias = {.key = "mlp_bias"}},
    {.model_type = "mistral",
     .prefixes = text_prefixes,
     .defaults = {32, 4096, 14336, 32, 8, 0, 32000, 4096 * 32, 4096, 1e-6, 1e4, 0, false},
     .windows = WINDOWS_ALL},
    {.model_type = "qwen2",
     .defaults = {32, 4096, 22016, 32, 32, 0, 151936, 32768, 4096, 1e-6, 1e4, 0, false},
     .qkv_bias = ALWAYS,
     .windows = WINDOWS_IF_USED},
    {.model_type = "qwen3",
     .defaults = {32, 4096, 22016, 32, 32, 128, 151936, 32768, 4096, 1e-6, 1e4, 0, false},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .qk_norm = QK_NORM_HEADS,
     .windows = WINDOWS_IF_USED},
    {.model_type = "gemma",
     .defaults = {28, 3072, 24576, 16, 16, 256, 256000, 8192, 0, 1e-6, 1e4, 0, true},
     .norm = DEVICE_NORM_RMS_PLUS_ONE,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .activation = DEVICE_GELU_TANH,
     .embedding_root = true},
    {.model_type = "gemma2",
     .weights = &weight_table_gemma,
     .keys = {.activation = "hidden_activation"},
     .defaults = {26, 2304, 9216, 8, 4, 256, 256000, 8192, 4096, 1e-6, 1e4, 0, true},
     .norm = DEVICE_NORM_RMS_PLUS_ONE,
     .norms = NORMS_AROUND,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .activation = DEVICE_GELU_TANH,
     .scale_key = "query_pre_attn_scalar",
     .scale_default = 256,
     .scale_is_root = true,
     .softcap_key = "attn_logit_softcapping",
     .softcap_default = 50,
     .embedding_root = true,
     .windows = WINDOWS_BY_TYPE,
     .full_every = 2},
    {.model_type = "gemma3_text",
     .weights = &weight_table_gemma,
     .prefixes = text_prefixes,
     .keys = {.activation = "hidden_activation"},
     .defaults = {26, 2304, 9216, 8, 4, 256, 262208, 131072, 4096, 1e-6, 1e6, 0, true},
     .norm = DEVICE_NORM_RMS_PLUS_ONE,
     .norms = NORMS_AROUND,
     .qk_norm = QK_NORM_HEADS,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .activation = DEVICE_GELU_TANH,
     .scale_key = "query_pre_attn_scalar",
     .scale_default = 256,
     .scale_is_root = true,
     .embedding_root = true,
     .windows = WINDOWS_BY_TYPE,
     .full_every = 6,
     .ropes = ROPES_LOCAL},
    {.model_type = "phi3",
     .weights = &weight_table_fused,
     .defaults = {32, 3072, 8192, 32, 0, 0, 32064, 4096, 0, 1e-5, 1e4, 1, false},
     .windows = WINDOWS_ALL},
    {.model_type = "olmo2",
     .weights = &weight_table_norms_after,
     .defaults = {32, 4096, 11008, 32, 0, 0, 50304, 2048, 0, 1e-5, 1e4, 0, false},
     .norm = DEVICE_NORM_RMS_ONCE,
     .norms = NORMS_AFTER,
     .qk_norm = QK_NORM_WHOLE,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .rope_rounding = DEVICE_ROPE_ROUNDS_ONCE},
    {.model_type = "olmo3",
     .weights = &weight_table_norms_after,
     .defaults = {32, 4096, 11008, 32, 0, 0, 50304, 2048, 4096, 1e-5, 5e5, 0, false},
     .norm = DEVICE_NORM_RMS_ONCE,
     .norms = NORMS_AFTER,
     .qk_norm = QK_NORM_WHOLE,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .windows = WINDOWS_BY_TYPE,
     .full_every = 4,
     .ropes = ROPES_UNSCALED_WINDOWS,
     .rope_rounding = DEVICE_ROPE_ROUNDS_ONCE},
    {.model_type = "granite",
     .defaults = {32, 4096, 11008, 32, 0, 0, 32000, 2048, 0, 1e-6, 1e4, 0, false},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .mlp_bias = {.key = "mlp_bias"},
     .scale_key = "attention_multiplier",
     .scale_default = 1,
     .embedding_key = "embedding_multiplier",
     .residual_key = "residual_multiplier"},
    {.model_type = "smollm3",
     .defaults = {36, 2048, 11008, 16, 4, 0, 128256, 32768, 0, 1e-6, 2e6, 0, true},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .mlp_bias = {.key = "mlp_bias"},
     .windows = WINDOWS_WITHOUT_ROPE,
     .ropes = ROPES_LISTED},
    {.model_type = "seed_oss",
     .defaults = {64, 4096, 27648, 80, 8, 128, 155136, 524288, 0, 1e-6, 1e4, 0, false},
     .qkv_bias = {.key = "attention_bias", .otherwise = true},
     .output_bias = {.key = "attention_out_bias"},
     .mlp_bias = {.key = "mlp_bias"}},
    {.model_type = "ernie4_5",
     .defaults = {18, 1024, 3072, 16, 2, 128, 103424, 131072, 0, 1e-5, 5e5, 0, true},
     .qkv_bias = {.key = "use_bias"},
     .output_bias = {.key = "use_bias"},
     .mlp_bias = {.key = "use_bias"},
     .pairing = DEVICE_PAIR_NEIGHBOURS,
     .rope_rounding = DEVICE_ROPE_ROUNDS_ONCE},
    {.model_type = "exaone4",
     .weights = &weight_table_norms_after,
     .defaults = {32, 4096, 16384, 32, 32, 0, 102400, 2048, 4096, 1e-5, 1e4, 0, false},
     .norms = NORMS_AFTER,
     .qk_norm = QK_NORM_HEADS,
     .windows = WINDOWS_BY_TYPE,
     .full_every = 4,
     .ropes = ROPES_WINDOWS_IF_ANY},
    {.model_type = "hunyuan_v1_dense",
     .weights = &weight_table_hunyuan,
     .defaults = {32, 4096, 11008, 32, 0, 0, 290943, 2048, 0, 1e-5, 1e4, 0, false},
     .qk_norm = QK_NORM_AFTER,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS},
    {.model_type = "glm4",
     .weights = &weight_table_glm4,
     .defaults = {40, 4096, 13696, 32, 2, 128, 151552, 131072, 0, 1.5625e-7, 1e4, 0.5, false},
     .norms = NORMS_AROUND,
     .qkv_bias = {.key = "attention_bias", .otherwise = true},
     .pairing = DEVICE_PAIR_NEIGHBOURS},
    {.model_type = "cohere",
     LAYER_NORM_EPS,
     .defaults = {40, 8192, 22528, 64, 0, 0, 256000, 8192, 0, 1e-5, 5e5, 0, true},
     .norm = DEVICE_NORM_LAYER,
     .branches = BRANCHES_ONE_NORM,
     .parallel = ALWAYS,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .pairing = DEVICE_PAIR_NEIGHBOURS,
     .rope_rounding = DEVICE_ROPE_ROUNDS_TABLES},
    {.model_type = "cohere2",
     LAYER_NORM_EPS,
     .defaults = {40, 8192, 22528, 64, 0, 128, 256000, 8192, 4096, 1e-5, 1e4, 0, true},
     .norm = DEVICE_NORM_LAYER,
     .branches = BRANCHES_ONE_NORM,
     .parallel = ALWAYS,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .windows = WINDOWS_BY_TYPE,
     .full_every = 4,
     .ropes = ROPES_WINDOWS_ONLY,
     .pairing = DEVICE_PAIR_NEIGHBOURS,
     .rope_rounding = DEVICE_ROPE_ROUNDS_TABLES},
    {.model_type = "stablelm",
     LAYER_NORM_EPS,
     .defaults = {32, 2560, 6912, 32, 32, 0, 50304, 4096, 0, 1e-5, 1e4, 0.25, false},
     .norm = DEVICE_NORM_LAYER,
     .norm_bias = true,
     .branches = BRANCHES_ONE_NORM,
     .parallel = {.key = "use_parallel_residual"},
     .qkv_bias = {.key = "use_qkv_bias"}},
    {.model_type = "starcoder2",
     .weights = &weight_table_starcoder2,
     .keys = {.epsilon = "norm_epsilon"},
     .defaults = {30, 3072, 12288, 24, 2, 0, 49152, 4096, 0, 1e-5, 1e4, 0, true},
     .norm = DEVICE_NORM_LAYER,
     .norm_bias = true,
     .qkv_bias = {.key = "use_bias", .otherwise = true},
     .output_bias = {.key = "use_bias", .otherwise = true},
     .mlp_bias = {.key = "use_bias", .otherwise = true},
     .activation = DEVICE_GELU_TANH,
     .plain_mlp = true,
     .windows = WINDOWS_ALL},
    {.model_type = "phi",
     .weights = &weight_table_phi,
     LAYER_NORM_EPS,
     .defaults = {24, 2048, 8192, 32, 0, 0, 51200, 2048, 0, 1e-5, 1e4, 0.5, false},
     .norm = DEVICE_NORM_LAYER,
     .norm_bias = true,
     .branches = BRANCHES_ONE_NORM,
     .parallel = ALWAYS,
     .qkv_bias = ALWAYS,
     .output_bias = ALWAYS,
     .mlp_bias = ALWAYS,
     .activation = DEVICE_GELU_TANH,
     .plain_mlp = true},
    {.model_type = "gpt_neox",
     .weights = &weight_table_neox,
     .prefixes = neox_prefixes,
     LAYER_NORM_EPS,
     .defaults = {44, 6144, 24576, 64, 0, 0, 50432, 2048, 0, 1e-5, 1e4, 0.25, false},
     .norm = DEVICE_NORM_LAYER,
     .norm_bias = true,
     .branches = BRANCHES_TWO_NORMS,
     .parallel = {.key = "use_parallel_residual", .otherwise = true},
     .qkv_bias = {.key = "attention_bias", .otherwise = true},
     .output_bias = {.key = "attention_bias", .otherwise = true},
     .mlp_bias = ALWAYS,
     .activation = DEVICE_GELU,
     .plain_mlp = true},
    {.model_type = "gpt2",
     .weights = &weight_table_gpt2,
     .prefixes = gpt2_prefixes,
     .keys = {"n_layer", "n_embd", "n_inner", "n_head", "n_positions", "layer_norm_epsilon",
              "activation_function"},
     .defaults = {12, 768, 0, 12, 0, 0, 50257, 1024, 0, 1e-5, 1e4, 0, true},
     .norm = DEVICE_NORM_LAYER,
     .norm_bias = true,
     .qkv_bias = ALWAYS,
     .output_bias = ALWAYS,
     .mlp_bias = ALWAYS,
     .activation = DEVICE_GELU_TANH,
     .plain_mlp = true,
     .learned_positions = true,
     .ropes = ROPES_NONE},
    {.model_type = "qwen2_5_vl_text",
     .prefixes = text_prefixes,
     .defaults = {80, 8192, 29568, 64, 8, 0, 152064, 32768, 4096, 1e-5, 1e6, 0, false},
     .qkv_bias = ALWAYS,
     .windows = WINDOWS_IF_USED},
    {.model_type = "qwen3_vl_text",
     .prefixes = text_prefixes,
     .defaults = {32, 4096, 22016, 32, 32, 128, 151936, 128000, 0, 1e-6, 5e5, 0, false},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .qk_norm = QK_NORM_HEADS},
    {.model_type = "qwen3_moe",
     .weights = &weight_table_experts,
     .defaults = {24, 2048, 6144, 32, 4, 0, 151936, 32768, 4096, 1e-6, 1e4, 0, false},
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .qk_norm = QK_NORM_HEADS,
     .windows = WINDOWS_ALL_IF_USED,
     .experts = &qwen3_experts},
    {.model_type = "mixtral",
     .weights = &weight_table_mixtral,
     .defaults = {32, 4096, 14336, 32, 8, 0, 32000, 4096 * 32, 0, 1e-5, 1e6, 0, false},
     .windows = WINDOWS_ALL,
     .experts = &mixtral_experts},
    {.model_type = "olmoe",
     .weights = &weight_table_experts,
     .defaults = {16, 2048, 2048, 16, 0, 0, 50304, 4096, 0, 1e-5, 1e4, 0, false},
     .qk_norm = QK_NORM_WHOLE,
     .qkv_bias = ATTENTION_BIAS,
     .output_bias = ATTENTION_BIAS,
     .experts = &olmoe_experts},
};

static const struct family_nest nests[] = {
    {"gemma3", "gemma3_text"},
    {"mistral3", "mistral"},
    {"qwen2_5_vl", "qwen2_5_vl_text"},
    {"qwen3_vl", "qwen3_vl_text"},
};

enum { ROWS = sizeof rows / sizeof rows[0], NESTS = sizeof nests / sizeof nests[0] };

const struct family_row *family_find(const char *model_type) {
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].model_type, model_type) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

const struct family_nest *family_nest_find(const char *model_type) {
    for (size_t i = 0; i < NESTS; i++) {
        if (strcmp(nests[i].model_type, model_type) == 0) {
            return &nests[i];
        }
    }
    return NULL;
}

const struct weight_table *family_weights(const struct family_row *row) {
    return row->weights == NULL ? &weight_table_dense : row->weights;
}

const char *const *family_prefixes(const struct family_row *row) {
    return row == NULL || row->prefixes == NULL ? plain_prefixes : row->prefixes;
}

void family_names(char *out, size_t size) {
    for (size_t i = 0; i < ROWS + NESTS; i++) {
        names_append(out, size, i < ROWS ? rows[i].model_type : nests[i - ROWS].model_type, i, ROWS + NESTS);
    }
}

// SPDX-License-Identifier: MIT
// Goldens (tools/make_goldens.py): a tiny checkpoint described by streams of numbers, and the hidden states
// that transformers computes from it in float32. The checkpoint is written anew into a temporary folder.
#ifndef STRATA_TESTS_MODEL_GOLDEN_H
#define STRATA_TESTS_MODEL_GOLDEN_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dtype.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/random.h"

static const char *const golden_names[] = {
    "qwen3",      "qwen3-tied",        "qwen3-bias-window", "qwen2-window",  "qwen2-layer-types",
    "llama",      "llama-bias",        "llama-linear",      "llama-dynamic", "llama-llama3",
    "llama-yarn", "llama-yarn-mscale", "mistral-window",    "mistral-full",  "qwen3-wide-heads",
};

// The same of other families, whose flags differ more.
static const char *const golden_families[] = {
    "afmoe",
    "apertus",
    "arcee",
    "bamba",
    "bloom",
    "cohere",
    "cohere-norms",
    "cohere2",
    "cwm",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v3-plain",
    "deepseek_v32",
    "dots1",
    "ernie4_5",
    "ernie4_5_moe",
    "ernie4_5_moe-interval",
    "exaone4",
    "exaone4-full",
    "exaone_moe",
    "falcon",
    "falcon-newer",
    "falcon-serial",
    "flex_olmo",
    "gemma",
    "gemma2",
    "gemma2-full",
    "gemma3",
    "gemma3-linear",
    "gemma3-nested",
    "gemma3-nested-old",
    "gemma3-v5",
    "gemma4",
    "gemma4-experts",
    "gemma4_unified",
    "gemma4-experts-takers",
    "gemma4-inputs",
    "gemma4-shared",
    "gemma4-takers",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "gpt2",
    "gpt2-bare",
    "gpt_neo",
    "gpt_neox",
    "gpt_neox-serial",
    "gpt_oss",
    "gptj",
    "granite",
    "granitemoe",
    "granitemoehybrid",
    "granitemoehybrid-dense",
    "helium",
    "hunyuan",
    "hunyuan_v1_moe",
    "hy_v3",
    "lfm2",
    "lfm2_moe",
    "lfm2_moe-plain",
    "llama4",
    "llama4-dense",
    "llama4-full",
    "llama4-listed",
    "llama4-steps",
    "minimax_m2",
    "ministral3",
    "mistral3",
    "mistral3-old",
    "mistral4",
    "mistral4-plain",
    "mixtral",
    "mpt",
    "nanochat",
    "nemotron",
    "nemotron_h",
    "nemotron_h-fused",
    "nemotron_h-latent",
    "nemotron_h-moe",
    "olmo",
    "olmo2",
    "olmo3",
    "olmoe",
    "olmoe-clip",
    "opt",
    "opt-after",
    "opt-projected",
    "phi",
    "phi3",
    "phi3-longrope",
    "phi3-partial",
    "phimoe",
    "phimoe-plain",
    "qwen2_5_vl",
    "qwen2_moe",
    "qwen2_moe-windows",
    "qwen3_5",
    "qwen3_5-text",
    "qwen3_5_moe",
    "qwen3_5_moe-fused",
    "qwen3_moe",
    "qwen3_moe-steps",
    "qwen3_next",
    "qwen3_next-bias",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_vl_moe-saved",
    "seed_oss",
    "smollm3",
    "smollm3-interval",
    "solar_open",
    "stablelm",
    "stablelm-norms",
    "starcoder2",
    "vaultgemma",
    "youtu",
};

enum { GOLDEN_FAMILIES = sizeof golden_families / sizeof golden_families[0] };

enum { GOLDEN_COUNT = sizeof golden_names / sizeof golden_names[0], GOLDEN_TEXTS = 8, GOLDEN_PATH = 4096 };

struct golden {
    json_t *json;
    struct buffer states_file;
    const float *states; // [layers + 1, tokens, hidden]
    size_t layers;
    size_t hidden;
    size_t tokens;
    size_t texts;
    int32_t *ids; // [tokens]
    int32_t starts[GOLDEN_TEXTS + 1];
    char folder[GOLDEN_PATH]; // of the checkpoint
};

static inline void golden_must(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "golden: %s\n", what);
        abort();
    }
}

static inline void golden_folder(char out[GOLDEN_PATH]) {
    snprintf(out, GOLDEN_PATH, "%s/strata-model-XXXXXX",
             getenv("TMPDIR") == NULL ? "/tmp" : getenv("TMPDIR"));
    golden_must(mkdtemp(out) != NULL, "cannot make a temporary folder");
}

static inline void golden_write(const char *folder, const char *name, const void *bytes, size_t size) {
    char path[GOLDEN_PATH + 256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    golden_must(file != NULL && fwrite(bytes, 1, size, file) == size && fclose(file) == 0, path);
}

static inline void golden_remove(const char *folder) {
    char command[GOLDEN_PATH + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    golden_must(system(command) == 0, command);
}

// Appends a tensor's numbers: mean + amplitude * u + gap * sign(u), u uniform in [-1, 1).
static inline void golden_numbers(struct buffer *out, const json_t *tensor, enum dtype dtype) {
    size_t count = 1;
    for (size_t i = 0; i < json_array_size(json_array_get(tensor, 1)); i++) {
        count *= (size_t)json_integer_value(json_array_get(json_array_get(tensor, 1), i));
    }
    double mean = json_number_value(json_array_get(tensor, 2));
    double amplitude = json_number_value(json_array_get(tensor, 3));
    double gap = json_number_value(json_array_get(tensor, 4));
    uint64_t state = strtoull(json_string_value(json_array_get(tensor, 5)), NULL, 16);
    for (size_t i = 0; i < count; i++) {
        double u = (double)(random_next(&state) >> 11) * 0x1p-52 - 1.0;
        float value = (float)(mean + amplitude * u + gap * (u < 0 ? -1.0 : 1.0));
        unsigned char number[4];
        dtype_convert(number, dtype, &value, DTYPE_F32, 1);
        buffer_append(out, number, dtype_size(dtype), NULL);
    }
}

static inline void golden_shard(const char *folder, const char *name, json_t *tensors, size_t first,
                                size_t end, const char *dtype_text) {
    enum dtype dtype = strcmp(dtype_text, "F32") == 0   ? DTYPE_F32
                       : strcmp(dtype_text, "F16") == 0 ? DTYPE_F16
                                                        : DTYPE_BF16;
    struct buffer data = {0};
    struct buffer file = {0};
    json_t *header = json_object();
    for (size_t i = first; i < end; i++) {
        json_t *tensor = json_array_get(tensors, i);
        size_t begin = data.size;
        golden_numbers(&data, tensor, dtype);
        json_object_set_new(header, json_string_value(json_array_get(tensor, 0)),
                            json_pack("{s:s, s:O, s:[I, I]}", "dtype", dtype_text, "shape",
                                      json_array_get(tensor, 1), "data_offsets", (json_int_t)begin,
                                      (json_int_t)data.size));
    }
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t length = strlen(text); // no padding: the data need not be aligned
    buffer_append(&file, &length, sizeof length, NULL);
    buffer_append(&file, text, length, NULL);
    buffer_append(&file, data.data, data.size, NULL);
    golden_write(folder, name, file.data, file.size);
    free(text);
    json_decref(header);
    buffer_destroy(&data);
    buffer_destroy(&file);
}

static inline void golden_config(const struct golden *golden) {
    char *config = json_dumps(json_object_get(golden->json, "config"), JSON_COMPACT);
    golden_write(golden->folder, "config.json", config, strlen(config));
    free(config);
}

// Writes config.json and the shards, tensors dealt out in runs of about equal count.
static inline void golden_checkpoint(struct golden *golden) {
    golden_folder(golden->folder);
    golden_config(golden);
    json_t *tensors = json_object_get(golden->json, "tensors");
    size_t shards = (size_t)json_integer_value(json_object_get(golden->json, "shards"));
    const char *dtype = json_string_value(json_object_get(golden->json, "dtype"));
    size_t count = json_array_size(tensors);
    if (shards == 1) {
        golden_shard(golden->folder, "model.safetensors", tensors, 0, count, dtype);
        return;
    }
    json_t *map = json_object();
    for (size_t shard = 0; shard < shards; shard++) {
        char name[64];
        size_t first = count * shard / shards;
        size_t end = count * (shard + 1) / shards;
        snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", shard + 1, shards);
        golden_shard(golden->folder, name, tensors, first, end, dtype);
        for (size_t i = first; i < end; i++) {
            json_object_set_new(map, json_string_value(json_array_get(json_array_get(tensors, i), 0)),
                                json_string(name));
        }
    }
    json_t *index = json_pack("{s:{}, s:o}", "metadata", "weight_map", map);
    char *text = json_dumps(index, 0);
    golden_write(golden->folder, "model.safetensors.index.json", text, strlen(text));
    free(text);
    json_decref(index);
}

static inline void golden_texts(struct golden *golden) {
    json_t *texts = json_object_get(golden->json, "texts");
    golden->texts = json_array_size(texts);
    golden_must(golden->texts <= GOLDEN_TEXTS, "too many texts");
    for (size_t i = 0; i < golden->texts; i++) {
        golden->tokens += json_array_size(json_array_get(texts, i));
        golden->starts[i + 1] = (int32_t)golden->tokens;
    }
    golden->ids = calloc(golden->tokens, sizeof golden->ids[0]);
    for (size_t i = 0, t = 0; i < golden->texts; i++) {
        for (size_t k = 0; k < json_array_size(json_array_get(texts, i)); k++) {
            golden->ids[t++] = (int32_t)json_integer_value(json_array_get(json_array_get(texts, i), k));
        }
    }
}

static inline void golden_open(struct golden *golden, const char *name) {
    char path[GOLDEN_PATH];
    struct error err;
    *golden = (struct golden){0};
    snprintf(path, sizeof path, "%s/tests/model/goldens/%s.json", getenv("STRATA_SOURCE"), name);
    golden_must(json_parse_file(&golden->json, path, 1 << 24, &err) == STATUS_OK, path);
    golden->layers = (size_t)json_integer_value(json_object_get(golden->json, "layers"));
    golden->hidden = (size_t)json_integer_value(json_object_get(golden->json, "hidden"));
    golden_texts(golden);
    snprintf(path, sizeof path, "%s/tests/model/goldens/%s.f32", getenv("STRATA_SOURCE"), name);
    golden_must(file_read(&golden->states_file, path, 1 << 24, &err) == STATUS_OK, path);
    golden_must(golden->states_file.size ==
                    (golden->layers + 1) * golden->tokens * golden->hidden * sizeof(float),
                path);
    golden->states = (const float *)(const void *)golden->states_file.data;
    golden_checkpoint(golden);
}

static inline void golden_close(struct golden *golden) {
    golden_remove(golden->folder);
    json_decref(golden->json);
    buffer_destroy(&golden->states_file);
    free(golden->ids);
}

#endif

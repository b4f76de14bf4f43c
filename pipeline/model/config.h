// The shape of a model, read from its config.json or the metadata of its GGUF file. Families: qwen3, qwen2,
// llama, mistral.
#ifndef STRATA_MODEL_CONFIG_H
#define STRATA_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"
#include "model/quantization.h"

struct weight_table;

enum model_family { FAMILY_LLAMA, FAMILY_MISTRAL, FAMILY_QWEN2, FAMILY_QWEN3 };
enum config_holder { CONFIG_JSON, CONFIG_GGUF };
enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN };

struct rope_config {
    enum rope_kind kind;
    double theta;
    double factor;
    double low_freq_factor; // llama3
    double high_freq_factor;
    double original_positions; // original_max_position_embeddings (llama3, yarn); max_position_embeddings
                               // when absent
    double beta_fast;          // yarn
    double beta_slow;
    double attention_factor; // multiplies cosine and sine; 1 unless yarn or a GGUF file says so
    bool truncate;           // yarn: floor and ceil the correction range
    float *divisors;         // [head_dim / 2] of the frequencies, whatever their kind; NULL: none
};

struct model_config {
    enum config_holder holder; // that it was read from
    enum model_family family;
    const struct weight_table *weights; // that the family's blocks have
    char model_type[32];
    size_t layers;
    size_t hidden;
    size_t intermediate;
    size_t heads;
    size_t kv_heads;
    size_t head_dim;
    bool derived_head_dim; // config.json leaves it out: hidden / heads
    size_t vocabulary;
    size_t max_positions; // max_position_embeddings
    double norm_epsilon;
    bool tied_embeddings;
    bool attention_bias; // q, k, v (and o for llama)
    bool output_bias;    // o_proj
    bool mlp_bias;
    bool qk_norm;
    size_t window;             // sliding window in keys, itself included; 0: none
    size_t first_window_layer; // blocks from this one on slide (Qwen: max_window_layers), when no layer_types
                               // list says otherwise
    unsigned char *layer_slides; // [layers] 1 where the block uses the window
    struct rope_config rope;
    char architecture[96];            // first of `architectures`; "" when absent, as the two below
    char tokenizer_class[64];         // of config.json
    char code[96];                    // a class of the folder's own code that auto_map names for the model
    struct quantization quantization; // of packed weights
    enum dtype checkpoint_dtype;      // torch_dtype / dtype; float32 when absent
};

// Reads the shape of a model (place.h). The text of its config.json is appended to `text`; a GGUF file has
// none. STATUS_DATA naming the key when it is missing, wrong, contradictory or not supported.
int model_config_read(struct model_config *config, struct buffer *text, const char *model, struct error *err);

// The same from the text of a config.json; `name` stands for it in messages.
int model_config_parse(struct model_config *config, const char *text, size_t size, const char *name,
                       struct error *err);

// "config.json", or what stands for it: in messages.
const char *model_config_holder(const struct model_config *config);

void model_config_destroy(struct model_config *config); // accepts zeros; leaves zeros

#endif

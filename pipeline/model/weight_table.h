// SPDX-License-Identifier: MIT
// Which weights a model has: a table of rows, one a tensor, drives everything that is done with weights
// (weights.h). A family whose blocks differ has rows that only some blocks have; one with experts has rows of
// which a block has several copies. The tables themselves are in weight_rows_*.c.
#ifndef STRATA_MODEL_WEIGHT_TABLE_H
#define STRATA_MODEL_WEIGHT_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "model/config.h"

enum weight_dimension {
    DIM_ONE,
    DIM_HIDDEN,
    DIM_VOCABULARY,
    DIM_EMBEDDING, // a row of the embedding
    DIM_POSITIONS, // rows of learned positions
    DIM_Q,
    DIM_KV,
    DIM_QKV,
    DIM_Q_GATE, // queries, each with its gate
    DIM_HEAD,
    DIM_HEADS,
    DIM_KV_HEADS,
    DIM_INTERMEDIATE,
    DIM_GATE_UP, // twice that
    DIM_EXPERTS,
    DIM_EXPERT_WIDTH,
    DIM_EXPERT_HIDDEN,   // what they read and write
    DIM_EXPERTS_GATE_UP, // of all experts together
    DIM_EXPERTS_UP,      // where they are not gated
    DIM_EXPERTS_DOWN,
    DIM_TAPS,        // of a short convolution
    DIM_CONVOLUTION, // its b | c | x
    DIM_LATENT_QUERY,
    DIM_LATENT_KEY,
    DIM_LATENT_KEY_TURNED, // and the part of keys that turns
    DIM_LATENT_KEY_VALUE,  // what becomes of it: keys without that part, and values
    DIM_VALUES,            // of all heads, where they are narrower than queries
    DIM_NET_MIXED,         // of a delta net: q | k | v
    DIM_NET_OUT,           // z, and what comes out
    DIM_NET_QKVZ,
    DIM_NET_BA,
    DIM_NET_HEADS, // of values
    DIM_NET_VALUE, // of one of them
    DIM_NET_TAPS,
    DIM_SPACE_WIDTH, // of a state space: z | x | B | C | dt
    DIM_SPACE_MIXED, // x | B | C
    DIM_SPACE_OUT,   // z, and what comes out
    DIM_SPACE_HEADS,
    DIM_SPACE_TAPS,
    DIM_LAYER_INPUT,      // what a block has of a token beside the residual stream
    DIM_LAYER_INPUTS,     // all blocks
    DIM_LAYER_VOCABULARY, // rows of the table that they are made from
};

enum weight_form {
    FORM_VECTOR,       // numbers, one a row
    FORM_TABLE,        // row-major numbers
    FORM_MATRIX,       // a device_matrix
    FORM_FLOAT_VECTOR, // as the first two, in float32 whatever the computation dtype
    FORM_FLOAT_TABLE,
};

enum weight_file {   // how a file has the rows
    FILE_ROWS,       // in order
    FILE_TRANSPOSED, // as columns: [columns, rows] (GPT-2's Conv1D)
    FILE_HEADS,    // of one head of keys after another its q, k and v, where the model has all of q, then k,
                   // then v
    FILE_NET_QKVZ, // q, k, v and z of one key head after another (Qwen3-Next)
    FILE_NET_BA,   // b and a of one
    FILE_SCALAR,   // one number without a dimension
    FILE_CONVOLUTION,         // in order, with a dimension of one between: [rows, 1, columns]
    FILE_EXPERTS,             // of one expert after another: [experts, rows, columns]
    FILE_EXPERTS_TRANSPOSED,  // [experts, columns, rows]
    FILE_EXPERTS_ALTERNATING, // the same, gate and up in turn
    FILE_NOWHERE, // not at all: the last rows of their place hold anything, and others are computed into what
                  // they give
};

// Rows that share a place are parts of one fused tensor, one below the other in the order of the table. Where
// they have copies these lie one below the other too, each with all its parts.
struct weight_row {
    const char *name; // behind the family's prefix; {i} stands for the block's number, {e} for the copy's
                      // (the expert's)
    enum weight_form form;
    enum weight_dimension rows;    // of a vector: its length
    enum weight_dimension columns; // DIM_ONE for a vector
    size_t place; // offset of the member: in struct block_weights where the name has {i}, else in struct
                  // model_weights
    bool (*present)(const struct model_config *config, size_t block);  // NULL: always
    size_t (*copies)(const struct model_config *config, size_t block); // at least one; NULL: one
    enum weight_file file;
};

struct weight_table {
    const struct weight_row *rows;
    size_t count;
};

extern const struct weight_table weight_table_dense; // as Llama names them
extern const struct weight_table weight_table_fused; // q, k, v and gate, up in one tensor each (Phi-3)
extern const struct weight_table weight_table_gemma; // norms around both branches
extern const struct weight_table weight_table_gemma4;
extern const struct weight_table weight_table_norms_after; // OLMo 2 and 3, EXAONE 4
extern const struct weight_table weight_table_hunyuan;
extern const struct weight_table weight_table_glm4;
extern const struct weight_table weight_table_starcoder2;
extern const struct weight_table weight_table_apertus;
extern const struct weight_table
    weight_table_plain; // as Llama, with an MLP that is not gated (Arcee, Nemotron)
extern const struct weight_table weight_table_lfm2;
extern const struct weight_table weight_table_phi;
extern const struct weight_table weight_table_neox;
extern const struct weight_table weight_table_gpt2;
extern const struct weight_table weight_table_experts;       // Qwen3-MoE, OLMoE
extern const struct weight_table weight_table_shared_expert; // Qwen2-MoE
extern const struct weight_table weight_table_qwen3_5;
extern const struct weight_table weight_table_qwen3_5_moe;
extern const struct weight_table weight_table_qwen3_5_moe_fused;
extern const struct weight_table weight_table_qwen3_next;
extern const struct weight_table weight_table_bamba;
extern const struct weight_table weight_table_nemotron_h;
extern const struct weight_table weight_table_nemotron_h_fused;
extern const struct weight_table weight_table_granitemoehybrid;
extern const struct weight_table weight_table_glm4_moe;
extern const struct weight_table weight_table_deepseek_v2;
extern const struct weight_table weight_table_deepseek_v3;
extern const struct weight_table weight_table_mixtral;
extern const struct weight_table weight_table_gpt_oss;
extern const struct weight_table weight_table_granitemoe;
extern const struct weight_table weight_table_llama4;
extern const struct weight_table weight_table_exaone_moe;
extern const struct weight_table weight_table_hy_v3;
extern const struct weight_table weight_table_hunyuan_moe;
extern const struct weight_table weight_table_afmoe;
extern const struct weight_table weight_table_flex_olmo;
extern const struct weight_table weight_table_qwen3_vl_moe;
extern const struct weight_table weight_table_qwen3_vl_moe_rows;
extern const struct weight_table weight_table_glm;
extern const struct weight_table weight_table_stablelm;
extern const struct weight_table weight_table_vaultgemma;
extern const struct weight_table weight_table_nanochat;
extern const struct weight_table weight_table_minimax_m2;
extern const struct weight_table weight_table_mistral4;
extern const struct weight_table weight_table_ernie4_5_moe;
extern const struct weight_table weight_table_gptj;
extern const struct weight_table weight_table_gpt_neo;
extern const struct weight_table weight_table_opt;
extern const struct weight_table weight_table_bloom;
extern const struct weight_table weight_table_falcon;
extern const struct weight_table weight_table_mpt;

// In block number `block`; what lies beside the blocks is alike for all.
size_t weight_dimension(const struct model_config *config, size_t block, enum weight_dimension which);

// ---- what rows say ----

bool weight_in_block(const struct weight_row *row);
bool weight_is_vector(const struct weight_row *row);
bool weight_is_float(const struct weight_row *row); // float32 whatever the computation dtype
bool weight_present(const struct weight_row *row, const struct model_config *config, size_t block);
bool weight_in_file(const struct weight_row *row, const struct model_config *config, size_t block);
size_t weight_copies(const struct weight_row *row, const struct model_config *config, size_t block);

// Blocks of `blocks` that may have the row; what lies beside them is there once.
size_t weight_blocks(const struct weight_row *row, size_t blocks);

// Whether two rows are parts of one fused tensor.
bool weight_same_place(const struct weight_row *a, const struct weight_row *b);

// The name of a copy in a block, with `prefix` before it.
enum { WEIGHT_NAME = 128 };
void weight_name(char out[WEIGHT_NAME], const char *prefix, const struct weight_row *row, size_t block,
                 size_t copy);

#endif

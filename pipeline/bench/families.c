// SPDX-License-Identifier: MIT
// Blocks of published models of several families, each as the model room reads it from a config.json: tokens
// a second and the share of the peak, experts against dense blocks that multiply as much, a delta net's or a
// state space's share of its block. One after another, on devices of their own.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "bench/parts.h"
#include "kernels/back_end.h"
#include "model/model.h"

enum { LENGTH = 2048 }; // of the texts, at most

static const unsigned every_step = (1u << BLOCK_STEPS) - 1;
static const unsigned mlp_steps = 1u << BLOCK_GATE_UP | 1u << BLOCK_ACTIVATION | 1u << BLOCK_DOWN;

struct family_block {
    const char *name;
    size_t block;
    const char *config; // what config.json says of blocks; of layers as many as it takes to have this one
};

#define GEMMA_3                                                                                              \
    "{'model_type':'gemma3_text','hidden_size':3840,'intermediate_size':15360,'num_attention_heads':16,"     \
    "'num_key_value_heads':8,'head_dim':256,'num_hidden_layers':6,'vocab_size':262208,'sliding_window':"     \
    "1024}"
#define GPT_OSS                                                                                              \
    "{'model_type':'gpt_oss','hidden_size':2880,'intermediate_size':2880,'num_attention_heads':64,"          \
    "'num_key_value_heads':8,'head_dim':64,'num_local_experts':32,'num_experts_per_tok':4,"                  \
    "'attention_bias':true,'num_hidden_layers':2,'vocab_size':201088,'swiglu_limit':7.0,"                    \
    "'rope_scaling':{'rope_type':'yarn','factor':32.0,'original_max_position_embeddings':4096},"             \
    "'sliding_window':128,'layer_types':['sliding_attention','full_attention']}"
#define QWEN_3_5                                                                                             \
    "{'model_type':'qwen3_5_text','hidden_size':4096,'intermediate_size':12288,'num_attention_heads':16,"    \
    "'num_key_value_heads':4,'head_dim':256,'full_attention_interval':4,'linear_conv_kernel_dim':4,"         \
    "'linear_key_head_dim':128,'linear_value_head_dim':128,'linear_num_key_heads':16,"                       \
    "'linear_num_value_heads':32,'num_hidden_layers':4,'vocab_size':248320}"
#define NEMOTRON_3                                                                                           \
    "{'model_type':'nemotron_h','hidden_size':2688,'hybrid_override_pattern':'ME','intermediate_size':1856," \
    "'mamba_num_heads':64,'mamba_head_dim':64,'n_groups':8,'ssm_state_size':128,'conv_kernel':4,"            \
    "'num_attention_heads':32,'num_key_value_heads':2,'head_dim':128,'moe_intermediate_size':1856,"          \
    "'moe_shared_expert_intermediate_size':3712,'n_routed_experts':128,'num_experts_per_tok':6,"             \
    "'routed_scaling_factor':2.5,'vocab_size':131072}"

static const struct family_block published[] = {
    {"qwen3-8b", 0,
     "{'model_type':'qwen3','hidden_size':4096,'intermediate_size':12288,'num_attention_heads':32,"
     "'num_key_value_heads':8,'head_dim':128,'num_hidden_layers':1,'vocab_size':151936}"},
    {"phi-4", 0,
     "{'model_type':'phi3','hidden_size':5120,'intermediate_size':17920,'num_attention_heads':40,"
     "'num_key_value_heads':10,'num_hidden_layers':1,'vocab_size':100352,'pad_token_id':0}"},
    {"pythia-6.9b", 0,
     "{'model_type':'gpt_neox','hidden_size':4096,'intermediate_size':16384,'num_attention_heads':32,"
     "'num_hidden_layers':1,'vocab_size':50432,'rotary_pct':0.25,'use_parallel_residual':true,"
     "'hidden_act':'gelu'}"},
    {"gemma-3-12b, sliding", 0, GEMMA_3},
    {"gemma-3-12b, full", 5, GEMMA_3},
    {"qwen3-30b-a3b", 0,
     "{'model_type':'qwen3_moe','hidden_size':2048,'intermediate_size':6144,'num_attention_heads':32,"
     "'num_key_value_heads':4,'head_dim':128,'moe_intermediate_size':768,'num_experts':128,"
     "'num_experts_per_tok':8,'norm_topk_prob':true,'num_hidden_layers':1,'vocab_size':151936}"},
    {"gpt-oss-20b, sliding", 0, GPT_OSS},
    {"gpt-oss-20b, full", 1, GPT_OSS},
    {"qwen3.5-9b, delta net", 0, QWEN_3_5},
    {"qwen3.5-9b, attention", 3, QWEN_3_5},
    {"nemotron-3-nano, state space", 0, NEMOTRON_3},
    {"nemotron-3-nano, experts", 1, NEMOTRON_3},
};

static const struct family_block made_up[] = {
    // for tests
    {"tiny dense", 0,
     "{'model_type':'qwen3','hidden_size':64,'intermediate_size':192,'num_attention_heads':4,"
     "'num_key_value_heads':2,'head_dim':16,'num_hidden_layers':1,'vocab_size':64}"},
    {"tiny experts", 0,
     "{'model_type':'qwen3_moe','hidden_size':64,'intermediate_size':64,'num_attention_heads':4,"
     "'num_key_value_heads':2,'head_dim':16,'moe_intermediate_size':32,'num_experts':8,"
     "'num_experts_per_tok':2,'norm_topk_prob':true,'num_hidden_layers':1,'vocab_size':64}"},
    {"tiny delta net", 0,
     "{'model_type':'qwen3_5_text','hidden_size':64,'intermediate_size':128,'num_attention_heads':4,"
     "'num_key_value_heads':2,'head_dim':16,'full_attention_interval':4,'linear_conv_kernel_dim':4,"
     "'linear_key_head_dim':16,'linear_value_head_dim':16,'linear_num_key_heads':2,"
     "'linear_num_value_heads':4,'num_hidden_layers':4,'vocab_size':64}"},
    {"tiny state space", 0,
     "{'model_type':'nemotron_h','hidden_size':64,'hybrid_override_pattern':'M','intermediate_size':64,"
     "'mamba_num_heads':4,'mamba_head_dim':16,'n_groups':2,'ssm_state_size':16,'conv_kernel':4,"
     "'num_attention_heads':4,'num_key_value_heads':2,'head_dim':16,'vocab_size':64}"},
};

// ---- measuring ----

static int read_block(const struct family_block *family, struct model_config *out, struct error *err) {
    char text[1024];
    size_t size = strlen(family->config);
    struct model_config config = {0};
    int status = STATUS_OK;
    *out = (struct model_config){0};
    if (size >= sizeof text) {
        return error_set(err, STATUS_INTERNAL, "the config.json of %s is too long", family->name);
    }
    for (size_t i = 0; i <= size; i++) { // in C's strings the other quotes would need a backslash each
        text[i] = family->config[i];
        if (text[i] == '\'') {
            text[i] = '"';
        }
    }
    TRY_TO(done, status = model_config_parse(&config, text, size, "its config.json", err));
    status = model_config_block(out, &config, family->block, err);
done:
    model_config_destroy(&config);
    return status;
}

// What these steps of a block take, on a device of its own; takes `config` over.
static int time_block(struct bench *bench, struct model_config *config, unsigned steps,
                      struct bench_times *times, struct error *err) {
    struct bench own = {.name = bench->name, .opened = bench->opened, .options = bench->options};
    size_t tokens = bench->options.tokens;
    double ignored[BLOCK_STEPS];
    TRY(device_open(&own.device, own.name, &own.opened, err));
    int status = bench_block_open(&own.blocks, own.device, config, tokens, true, err);
    TRY_TO(done, status);
    TRY_TO(done, status = bench_blocks_batch(&own.blocks, tokens, size_min(tokens, LENGTH), err));
    TRY_TO(done, status = bench_run_in_each(&own.blocks, every_step, ignored, err));
    TRY_TO(done, status = bench_blocks_refill(&own.blocks, err)); // numbers would grow from run to run
    status = bench_time_steps(&own, steps, times, err);
done:
    bench_blocks_close(&own.blocks);
    device_close(own.device);
    return status;
}

// ---- the lines ----

// Experts against the MLP of a dense block of the same hidden size that multiplies as much for each token.
static int compare_experts(struct bench *bench, const struct family_block *family,
                           const struct model_config *config, const struct bench_times *times,
                           struct error *err) {
    struct family_block dense = published[0];
    struct model_config other;
    struct bench_times others;
    char name[96];
    int status = read_block(&dense, &other, err);
    other.hidden = config->hidden;
    other.intermediate = config->experts.chosen * config->experts.width * (config->experts.plain ? 2 : 3) / 3;
    other.heads = config->heads;
    other.kv_heads = config->kv_heads;
    other.head_dim = config->head_dim;
    if (status == STATUS_OK) {
        status = time_block(bench, &other, mlp_steps, &others, err);
    }
    model_config_destroy(&other);
    TRY(status);
    double share = others.all / times->seconds[BLOCK_EXPERTS];
    snprintf(name, sizeof name, "experts of %s", family->name);
    json_t *figure = bench_print(bench, name, 100 * share, "%", "of the rate of a dense block's MLP");
    bench_add(figure, "seconds", times->seconds[BLOCK_EXPERTS]);
    bench_add(figure, "dense_seconds", others.all);
    return STATUS_OK;
}

static void print_block(struct bench *bench, const struct family_block *family,
                        const struct model_config *config, const struct bench_times *times) {
    size_t tokens = bench->options.tokens;
    size_t length = size_min(tokens, LENGTH);
    double squares = (double)(tokens / length) * (double)length * (double)length +
                     (double)(tokens % length) * (double)(tokens % length);
    double rate = block_flops(config, 0, tokens, squares) / times->all;
    char name[96];
    char of[64];
    const char *peak = bench_peak_name(bench, of, sizeof of);
    snprintf(name, sizeof name, "block of %s", family->name);
    json_t *figure = bench_print(bench, name, (double)tokens / times->all, "tokens/s", "%8.1f %% of the %s",
                                 100 * rate / times->peak, peak != NULL ? peak : "matmul peak");
    bench_add(figure, "share", rate / times->peak);
    bench_add(figure, "seconds", times->all);
    enum block_mixer mixer = config_mixer(config, 0);
    if (mixer == MIXER_DELTA_NET || mixer == MIXER_STATE_SPACE) {
        double share = times->seconds[BLOCK_ATTENTION] / times->all;
        bench_print(bench, mixer == MIXER_DELTA_NET ? "its delta net" : "its state space", 100 * share, "%",
                    "of the block's time");
    }
}

static int measure(struct bench *bench, const struct family_block *family, struct error *err) {
    struct model_config config;
    struct model_config taken = {0};
    struct bench_times times;
    struct error refused;
    int status = read_block(family, &config, err);
    TRY_TO(done, status);
    if (model_config_check(&config, bench->device, &refused) != STATUS_OK) {
        fprintf(bench->out, "block of %s: %s\n", family->name, refused.message);
        goto done;
    }
    TRY_TO(done, status = model_config_block(&taken, &config, 0, err));
    TRY_TO(done, status = time_block(bench, &taken, every_step, &times, err));
    print_block(bench, family, &config, &times);
    if (config_has_experts(&config, 0)) {
        status = compare_experts(bench, family, &config, &times, err);
    }
done:
    model_config_destroy(&config);
    model_config_destroy(&taken);
    return status;
}

int bench_families(struct bench *bench, struct error *err) {
    bool tiny = strcmp(bench->options.shape->name, "tiny") == 0;
    const struct family_block *families = tiny ? made_up : published;
    size_t count = tiny ? sizeof made_up / sizeof made_up[0] : sizeof published / sizeof published[0];
    for (size_t i = 0; i < count; i++) {
        if (measure(bench, &families[i], err) != STATUS_OK) {
            return error_wrap(err, "%s", families[i].name);
        }
        TRY(bench_report_save(bench, err));
    }
    return STATUS_OK;
}

// SPDX-License-Identifier: MIT
#include "job/habits.h"

#include <stddef.h>
#include <strings.h>

struct habit {
    const char *word;
    const char *here;
};

#define CALLED(name) "it is called " name
#define CHATS                                                                                                \
    "a chat is rendered when it is imported: strata-import --model DIR, of pip install "                     \
    "'strata-latents[import]'"
#define NO_DOWNLOAD                                                                                          \
    "strata downloads nothing: `hf download ORG/NAME --local-dir FOLDER` gets a model, model.path names "    \
    "the folder"

static const struct habit keys[] = {
    {"chat_template", CHATS},
    {"apply_chat_template", CHATS},
    {"messages", CHATS},
    {"add_generation_prompt", CHATS},
    {"batch_size", CALLED("batch.problems, and batch.tokens bounds the tokens of a batch")},
    {"per_device_batch_size", CALLED("batch.problems, and batch.tokens bounds the tokens of a batch")},
    {"max_batch_size", CALLED("batch.problems")},
    {"max_batch_tokens", CALLED("batch.tokens")},
    {"max_length", CALLED("problems.max_tokens")},
    {"max_seq_len", CALLED("problems.max_tokens")},
    {"max_seq_length", CALLED("problems.max_tokens")},
    {"max_model_len", CALLED("problems.max_tokens")},
    {"seq_len", CALLED("problems.max_tokens")},
    {"truncation", "longer texts are cut at problems.max_tokens, and marked so"},
    {"padding", "batches are packed without padding; nothing is to be set"},
    {"output_dir", CALLED("run.output")},
    {"output_path", CALLED("run.output")},
    {"save_dir", CALLED("run.output")},
    {"dataset", "the input is problems.database, which `strata import` makes"},
    {"data", "the input is problems.database, which `strata import` makes"},
    {"input", "the input is problems.database, which `strata import` makes"},
    {"data_path", "the input is problems.database, which `strata import` makes"},
    {"prompt", CALLED("problems.text")},
    {"template", CALLED("problems.text")},
    {"name", NO_DOWNLOAD},
    {"model_name", NO_DOWNLOAD},
    {"model_name_or_path", CALLED("model.path")},
    {"name_or_path", CALLED("model.path")},
    {"model_id", NO_DOWNLOAD},
    {"revision", NO_DOWNLOAD},
    {"hf_token", NO_DOWNLOAD},
    {"cache_dir", NO_DOWNLOAD},
    {"trust_remote_code", "strata runs no code of a model's folder; nothing is to be set"},
    {"attn_implementation", "strata has its own kernels; nothing is to be set"},
    {"torch_dtype", CALLED("model.dtype")},
    {"precision", CALLED("model.dtype")},
    {"device_map", CALLED("model.device (a list of cuda:N for several GPUs)")},
    {"gpus", CALLED("model.device (a list of cuda:N for several GPUs)")},
    {"tensor_parallel_size",
     "several GPUs are a list in model.device; model.split says how they share the work"},
    {"load_in_4bit", CALLED("model.quantize: nf4")},
    {"load_in_8bit", CALLED("model.quantize: int8")},
    {"quantization", CALLED("model.quantize")},
    {"lora", CALLED("model.adapter")},
    {"peft", CALLED("model.adapter")},
    {"layer", CALLED("latents.layers")},
    {"hidden_layers", CALLED("latents.layers")},
    {"output_hidden_states", "latents.layers says which hidden states are kept"},
    {"pool", CALLED("latents.pooling")},
    {"num_workers", CALLED("run.threads")},
    {"resume", "nothing is to be set: the same command resumes a run where it stopped"},
    {"resume_from_checkpoint", "nothing is to be set: the same command resumes a run where it stopped"},
    {"overwrite", "a run is never overwritten: choose another run.output, or remove the folder"},
    {"seed", "nothing in a run is random"},
    {"save_steps", CALLED("run.checkpoint_every (batches of a shard)")},
};

static const struct habit values[] = {
    {"fp16", "float16"},
    {"half", "float16"},
    {"f16", "float16"},
    {"torch.float16", "float16"},
    {"bf16", "bfloat16"},
    {"brain", "bfloat16"},
    {"torch.bfloat16", "bfloat16"},
    {"fp32", "float32"},
    {"float", "float32"},
    {"f32", "float32"},
    {"torch.float32", "float32"},
    {"full", "float32"},
    {"none", "tokens"},
    {"all", "tokens"},
    {"average", "mean"},
    {"avg", "mean"},
    {"mean_pooling", "mean"},
    {"last_token", "last"},
    {"eos", "last"},
    {"per_step", "step_mean"},
    {"step", "step_mean"},
    {"token", "tokens"},
};

static const char *find(const struct habit *habits, size_t count, const char *word) {
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(habits[i].word, word) == 0) {
            return habits[i].here;
        }
    }
    return NULL;
}

const char *job_habit_key(const char *word) {
    return find(keys, sizeof keys / sizeof keys[0], word);
}

const char *job_habit_value(const char *text) {
    return find(values, sizeof values / sizeof values[0], text);
}

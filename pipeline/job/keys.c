// SPDX-License-Identifier: MIT
#include "job/keys.h"

#include <string.h>

#define FIELD(name) .offset = offsetof(struct job, name)
#define LIST(name, count) .offset = offsetof(struct job, name), .count_offset = offsetof(struct job, count)

const struct job_section job_sections[] = {
    {"problems", "The input: the rows of an SQLite query, and the text built from each."},
    {"problems.steps", "Where the steps of a text are. Default: `{column: steps}` when `text` has `{steps}`, "
                       "otherwise `{pattern: 'Step\\s+\\d+:'}`."},
    {"model", "The model, and the device that it runs on."},
    {"latents", "Which hidden states are kept, and how they are pooled."},
    {"batch",
     "How texts are grouped into batches. Changing it moves shard boundaries but not the latents (on a GPU: "
     "as long as its matmuls keep their algorithms). `strata plan` shows how full the batches are. When a "
     "run is resumed, 0 means the value it started with, also under an earlier version."},
    {"batch.prefix",
     "Tokens that texts begin with alike, computed once. The latents are the same bit for bit, unless "
     "`keep` says otherwise; a run that began without this goes on without it. `strata plan` says what it "
     "saves."},
    {"run", "The output, and how the run behaves."},
};
const size_t job_section_count = sizeof job_sections / sizeof job_sections[0];

const struct job_key job_keys[] = {
    {"problems", "database", KEY_PATH, FIELD(database), .minimum = 1, .required = true,
     .help = "SQLite database with the problems (`strata import` creates one)"},
    {"problems", "query", KEY_TEXT, FIELD(query), .minimum = 1, .standard = "SELECT * FROM problems",
     .identity = true, .help = "a single SELECT; exports keep its order"},
    {"problems", "id", KEY_TEXT, FIELD(id), .minimum = 1, .required = true, .identity = true,
     .help = "column with each problem's unique, non-empty ID"},
    {"problems", "text", KEY_TEXT, FIELD(text), .minimum = 1, .standard = "{statement}\n{steps}",
     .identity = true,
     .help = "template over the query's columns; `{steps}` stands for the steps joined by the separator, "
             "`{{` and `}}` for braces"},
    {"problems", "special_tokens", KEY_BOOLEAN, FIELD(special_tokens), .standard = "true", .identity = true,
     .help =
         "add the special tokens of the tokenizer's post-processor (BOS ...); refused when texts begin with "
         "its BOS themselves, as a chat template writes it, which transformers would put there twice (who "
         "wants that sets false and writes it twice)"},
    {"problems", "max_tokens", KEY_INTEGER, FIELD(max_tokens), .minimum = 1, .maximum = 1 << 20,
     .standard = "2048", .identity = true,
     .help = "longer texts are truncated, and marked so; may be more than batch.tokens"},
    {"problems", "max_text_bytes", KEY_INTEGER, FIELD(max_text_bytes), .minimum = 1, .maximum = 1 << 30,
     .standard = "1048576", .identity = true,
     .help = "a longer text is recorded as failed; the run continues"},
    {"problems", "max_failed", KEY_INTEGER, FIELD(max_failed), .minimum = 0, .maximum = 1e12, .standard = "0",
     .help = "a run with more failed problems than this ends with exit code 65"},
    {"problems", "allow_empty", KEY_BOOLEAN, FIELD(allow_empty), .standard = "false",
     .help = "end with exit code 0, not 65, when the query has no rows or no problem succeeds"},
    {"problems", "metadata", KEY_TEXTS, LIST(metadata, metadata_count), .minimum = 1, .identity = true,
     .choices = "columns", .absent = "every column that id, text and steps.column do not use",
     .help = "columns kept with each problem's latents"},

    {"problems.steps", "column", KEY_TEXT, FIELD(steps_column), .minimum = 1, .identity = true,
     .absent = "see above",
     .help = "column with a JSON array of strings, one per step; `text` must contain `{steps}` once"},
    {"problems.steps", "separator", KEY_TEXT, FIELD(steps_separator), .minimum = 0, .identity = true,
     .absent = "a line feed", .help = "inserted between the steps of the column"},
    {"problems.steps", "pattern", KEY_TEXT, FIELD(steps_pattern), .minimum = 1, .identity = true,
     .absent = "see above",
     .help = "regular expression (PCRE2) applied to the rendered text: a step begins at each match; without "
             "a match the text is one step"},
    {"problems.steps", "spans", KEY_TEXT, FIELD(steps_spans), .minimum = 1, .identity = true,
     .unless_standard = true, .absent = "none",
     .help =
         "column with a JSON array of spans, one per step: `{\"role\": \"assistant\", \"start\": 120, "
         "\"end\": 348}` or `[120, 348]`, in bytes of UTF-8 from the start of the rendered text, ascending "
         "and disjoint; excludes `column`, `pattern` and `{steps}`. A problem whose spans do not fit its "
         "text fails, one without any is skipped as one without steps (pooling by step)"},
    {"problems.steps", "roles", KEY_TEXTS, LIST(steps_roles, steps_role_count), .minimum = 1,
     .identity = true, .unless_standard = true, .choices = "roles", .absent = "all",
     .help = "only spans of these roles are steps, numbered from 0 among themselves"},

    {"model", "path", KEY_PATH, FIELD(model_path), .minimum = 1, .required = true,
     .help =
         "folder with config.json and safetensors files, as `transformers` saves them, or a GGUF file (of "
         "a split one the first part)"},
    {"model", "tokenizer", KEY_PATH, FIELD(tokenizer_path), .minimum = 1,
     .absent = "tokenizer.json in the model folder or beside the GGUF file, or the file's own vocabulary",
     .help = "the tokenizer.json to use"},
    {"model", "adapter", KEY_PATH, FIELD(adapter_path), .minimum = 1, .absent = "none",
     .help = "folder of a LoRA adapter (adapter_config.json and adapter_model.safetensors, as `peft` saves "
             "them), merged into the weights when they are loaded; its content is part of the identity"},
    {"model", "dtype", KEY_DTYPE, FIELD(dtype), .choices = "float32|float16|bfloat16", .standard = "bfloat16",
     .identity = true, .help = "number format of the computation"},
    {"model", "expand", KEY_CHOICE, FIELD(expand), .choices = "matmul|load", .standard = "matmul",
     .help = "when packed weights are expanded to the computation's dtype: before each matmul, which keeps "
             "them small, or once when they are loaded"},
    {"model", "weights_rounding", KEY_CHOICE, FIELD(weights_rounding), .choices = "none|float16",
     .standard = "none", .identity = true, .unless_standard = true,
     .help = "round packed weights to float16 first, as gptqmodel computes with AWQ and GPTQ checkpoints"},
    {"model", "quantize", KEY_CHOICE, FIELD(quantize), .choices = "none|nf4|nf4_double|int8",
     .standard = "none", .identity = true, .unless_standard = true,
     .help = "quantise the matrices of a checkpoint of numbers when it is loaded: to bitsandbytes' NF4 (its "
             "scales quantised too with `nf4_double`), or to LLM.int8's rows without outliers"},
    {"model", "weights", KEY_CHOICE, FIELD(weights), .choices = "resident|host|disk", .standard = "resident",
     .help =
         "where the blocks lie that do not fit on the device: nowhere, so that a model which does not fit is "
         "refused; in the host's memory beside a GPU; or in their files, which are read again for every "
         "group of batches. The latents are the same bit for bit"},
    {"model", "resident_blocks", KEY_INTEGER, FIELD(resident_blocks), .minimum = 0, .maximum = 1000000,
     .standard = "1000000",
     .help =
         "blocks that stay on the device at most where model.weights is not resident; more than the model "
         "has: as many as fit"},
    {"model", "device", KEY_DEVICES, LIST(devices, device_count), .minimum = 1, .standard = "auto",
     .help = "`cpu`, `cuda:N`, a list of GPUs of one kind (`[cuda:0, cuda:1]`), `cuda:all`, or `auto`: the "
             "first GPU that can run the model, otherwise the CPU. The kind is fixed once a run has started, "
             "the number of GPUs is not"},
    {"model", "split", KEY_CHOICE, FIELD(split), .choices = "batches|layers", .standard = "batches",
     .help = "what several GPUs share: `batches`, so that each has the whole model, or `layers`, so that "
             "each has some of the blocks. The latents are the same bit for bit"},
    {"model", "cpu_path", KEY_TEXT, FIELD(cpu_path), .minimum = 1,
     .absent = "the fastest that this processor supports",
     .help = "instruction set of the CPU back end, by the name that `strata check` shows; fixed once a run "
             "has started"},
    {"model", "memory_reserve_gb", KEY_NUMBER, FIELD(memory_reserve_gb), .minimum = 0, .maximum = 1e6,
     .standard = "0.5",
     .help = "GPU memory (10^9 bytes) left free; cuBLASLt's kernels, loaded on first use, take some of it"},
    {"model", "load_timeout", KEY_NUMBER, FIELD(load_timeout), .minimum = 1, .maximum = 86400,
     .standard = "600",
     .help =
         "seconds without progress before a launch ends: while the tokenizer, the model or the device is "
         "opened, memory is taken or weights are read, for tuning one matmul shape, or for one batch before "
         "the first; shorter values count as 30 s, except while weights are read"},
    {"model", "hash_cache", KEY_BOOLEAN, FIELD(hash_cache), .standard = "true",
     .help = "keep the hashes of the weight files on this machine (`$XDG_CACHE_HOME/strata` or "
             "`~/.cache/strata`): "
             "files that have not changed since are not hashed again by later launches"},

    {"latents", "layers", KEY_LAYERS, LIST(layers, layer_count), .minimum = -1000, .maximum = 1000,
     .standard = "-2", .identity = true,
     .help =
         "indices into transformers' hidden_states (0: embeddings, -1: after the final norm), or `all` of "
         "these; `pre_norm`, the last block's output before the final norm; or names of modules "
         "(`model.layers.3`, `model.norm`) and hooks (`blocks.3.hook_resid_post`)"},
    {"latents", "pooling", KEY_POOLING, FIELD(pooling), .choices = "step_mean|mean|last|tokens|last_of_step",
     .standard = "step_mean", .identity = true,
     .help =
         "one row for each step (its mean, or with `last_of_step` its last token), for each text (its mean, "
         "its last token), or for each token"},
    {"latents", "dtype", KEY_DTYPE, FIELD(latents_dtype), .choices = "float16|bfloat16|float32",
     .standard = "float16", .identity = true, .help = "number format of the stored latents"},
    {"latents", "token_ids", KEY_BOOLEAN, FIELD(token_ids), .standard = "false", .identity = true,
     .help = "store each problem's token ids too"},
    {"latents", "loss_mask", KEY_BOOLEAN, FIELD(loss_mask), .standard = "false", .identity = true,
     .unless_standard = true,
     .help =
         "store beside the token ids which tokens a step owns: with `problems.steps.roles: [assistant]` the "
         "loss mask of training on what the assistant says"},

    {"batch", "problems", KEY_INTEGER, FIELD(batch_problems), .minimum = 0, .maximum = 1 << 16,
     .standard = "0", .identity = true, .help = "most problems per batch; 0: as many as fit"},
    {"batch", "tokens", KEY_INTEGER, FIELD(batch_tokens), .minimum = 1, .maximum = 1 << 22,
     .standard = "8192", .identity = true,
     .help =
         "most tokens per batch; a longer text is a batch of its own, computed in slices of about as many"},
    {"batch", "window", KEY_INTEGER, FIELD(batch_window), .minimum = 0, .maximum = 1 << 20, .standard = "0",
     .identity = true,
     .help = "problems read ahead and sorted by length to fill batches; at least batch.problems; 0: up to "
             "4096 (or 256 full batches); those left over after the last full batch move to the next window"},

    {"batch", "group", KEY_INTEGER, FIELD(batch_group), .minimum = 0, .maximum = 256, .standard = "0",
     .help = "batches that go through each block together where model.weights is not resident (a text in "
             "slices counts as one per slice); 0: enough to make reading the blocks cheap beside computing "
             "them, as far as memory allows"},

    {"batch.prefix", "reuse", KEY_CHOICE, FIELD(prefix_reuse), .choices = "auto|off", .standard = "auto",
     .identity = true, .unless_standard = true,
     .help = "`auto`: where that saves more than 5 % of the tokens, texts of a batch go on from each other, "
             "and from a head that at least half of the job's texts begin with; `off`: each text is computed "
             "whole"},
    {"batch.prefix", "min_tokens", KEY_INTEGER, FIELD(prefix_min_tokens), .minimum = 1, .maximum = 1 << 20,
     .standard = "64", .identity = true, .unless_standard = true,
     .help = "tokens that texts, or the head, must have in common at least"},
    {"batch.prefix", "memory_gb", KEY_NUMBER, FIELD(prefix_memory_gb), .minimum = 0, .maximum = 1e6,
     .standard = "2", .identity = true, .unless_standard = true,
     .help = "memory (10^9 bytes) of each device for what all blocks keep of the head; a longer one is cut, "
             "0: there is none"},
    {"batch.prefix", "keep", KEY_CHOICE, FIELD(prefix_keep),
     .choices = "auto|bfloat16|float16|float32|q8_0|q4_0", .standard = "auto", .identity = true,
     .unless_standard = true,
     .help = "how the head's keys and values are kept: `auto`, or its name, as model.dtype; in ggml's blocks "
             "of 8 or 4 bits, which take about half or a quarter of 16 and change the latents"},

    {"run", "output", KEY_PATH, FIELD(output), .minimum = 1, .required = true,
     .help = "the run directory: new, empty, or that of a run to resume"},
    {"run", "ledger", KEY_PATH, FIELD(ledger), .minimum = 1, .absent = "the run directory",
     .help =
         "folder on a local disk for the ledger, the lock and the open shard while a launch works, so that "
         "run.output may lie on a network file system; a copy of the ledger goes to run.output at the end of "
         "every launch"},
    {"run", "checkpoint_every", KEY_INTEGER, FIELD(checkpoint_every), .minimum = 1, .maximum = 1000000,
     .standard = "10", .identity = true,
     .help = "batches per shard; a crash loses at most this many, and where weights stream a group more"},
    {"run", "threads", KEY_INTEGER, FIELD(threads), .minimum = 0, .maximum = 1024, .standard = "0",
     .help = "threads of the CPU back end; 0: OMP_NUM_THREADS if set, otherwise one per core available to "
             "the process, within its control group's quota"},
    {"run", "memory_gb", KEY_MEMORY, FIELD(memory_gb), .minimum = 0, .maximum = 1e6, .standard = "0",
     .help = "host memory (10^9 bytes) that the process may take in all; 0: what is free. With GPUs "
             "`{host: 150, cuda:0: 71}` limits each device's own memory too"},
    {"run", "drift_stop", KEY_BOOLEAN, FIELD(drift_stop), .standard = "true",
     .help = "stop with exit code 80 when batch times drift above their calibrated cost; false: only log it"},
    {"run", "disk_reserve_gb", KEY_NUMBER, FIELD(disk_reserve_gb), .minimum = 0, .maximum = 1e6,
     .standard = "1", .help = "disk space (10^9 bytes) left free"},
    {"run", "force_network_output", KEY_BOOLEAN, FIELD(force_network_output), .standard = "false",
     .help = "allow a network file system (locks and syncs may be unreliable there)"},
    {"run", "allow_cpu_path_change", KEY_BOOLEAN, FIELD(allow_cpu_path_change), .standard = "false",
     .help = "allow a run to be resumed with another CPU instruction set when this machine does not support "
             "its own; latents before and after may differ in the last bits, and `strata status` says so"},
    {"run", "profile", KEY_PATH, FIELD(profile), .minimum = 1, .absent = "calibrate at every start",
     .help = "file that keeps this device's calibration between runs"},
};
const size_t job_key_count = sizeof job_keys / sizeof job_keys[0];
_Static_assert(sizeof job_keys / sizeof job_keys[0] <= JOB_KEY_MAXIMUM, "JOB_KEY_MAXIMUM is too small");

const struct job_key *job_key_find(const char *section, const char *name) {
    for (size_t i = 0; i < job_key_count; i++) {
        if (strcmp(job_keys[i].section, section) == 0 && strcmp(job_keys[i].name, name) == 0) {
            return &job_keys[i];
        }
    }
    return NULL;
}

int64_t job_key_most(const char *section, const char *name) {
    return (int64_t)job_key_find(section, name)->maximum;
}

const struct job_section *job_section_find(const char *name) {
    for (size_t i = 0; i < job_section_count; i++) {
        if (strcmp(job_sections[i].name, name) == 0) {
            return &job_sections[i];
        }
    }
    return NULL;
}

// ---- the reference ----

// The bounds or choices of a key, as a reader of the reference needs them.
static void print_type(FILE *out, const struct job_key *key) {
    switch (key->kind) {
    case KEY_INTEGER:
        fprintf(out, "integer, %.15g to %.15g", key->minimum, key->maximum);
        break;
    case KEY_NUMBER:
        fprintf(out, "number, %.15g to %.15g", key->minimum, key->maximum);
        break;
    case KEY_BOOLEAN:
        fputs("true or false", out);
        break;
    case KEY_DTYPE:
    case KEY_POOLING:
    case KEY_CHOICE:
        for (const char *at = key->choices; *at != 0; at++) {
            fputs(*at == '|' ? ", " : (char[2]){*at, 0}, out);
        }
        break;
    case KEY_DEVICES:
        fputs("auto, cpu, cuda:N, cuda:all, or a list of cuda:N", out);
        break;
    case KEY_MEMORY:
        fprintf(out, "number, %.15g to %.15g, or one for each of host, cuda:N", key->minimum, key->maximum);
        break;
    case KEY_LAYERS:
        fprintf(out, "all, or a list of integers, %.15g to %.15g, pre_norm and names", key->minimum,
                key->maximum);
        break;
    case KEY_TEXTS:
        fprintf(out, "list of %s", key->choices);
        break;
    case KEY_PATH:
        fputs("path", out);
        break;
    case KEY_TEXT:
        fputs("text", out);
        break;
    }
}

static bool is_plain(const char *text) {
    return text[strcspn(text, "{}\n\"\\:#|")] == 0;
}

// The default as one would write it: texts that YAML would read otherwise in double quotes.
static void print_standard(FILE *out, const struct job_key *key) {
    if (key->kind == KEY_LAYERS) {
        fprintf(out, "[%s]", key->standard);
        return;
    }
    if (is_plain(key->standard)) {
        fputs(key->standard, out);
        return;
    }
    fputc('"', out);
    for (const char *at = key->standard; *at != 0; at++) {
        fputs(*at == '\n' ? "\\n" : *at == '"' ? "\\\"" : *at == '\\' ? "\\\\" : (char[2]){*at, 0}, out);
    }
    fputc('"', out);
}

static void print_markdown_row(FILE *out, const struct job_key *key) {
    fprintf(out, "| `%s` | ", key->name);
    print_type(out, key);
    fputs(" | ", out);
    if (key->standard != NULL) {
        fputc('`', out);
        print_standard(out, key);
        fputc('`', out);
    } else {
        fputs(key->required ? "required" : key->absent, out);
    }
    fprintf(out, " | %s | %s |\n", key->identity ? "yes" : "", key->help);
}

// The backquotes of Markdown say nothing on a terminal.
static void print_plain(FILE *out, const char *text) {
    for (const char *at = text; *at != 0; at++) {
        if (*at != '`') {
            fputc(*at, out);
        }
    }
    fputc('\n', out);
}

static void print_text_row(FILE *out, const struct job_key *key) {
    fprintf(out, "  %s: ", key->name);
    print_type(out, key);
    fputs(key->required ? "; required" : "; default ", out);
    if (key->standard != NULL) {
        print_standard(out, key);
    } else if (!key->required) {
        fputs(key->absent, out);
    }
    fputs(key->identity ? " (part of the run's identity)" : "", out);
    fputs("\n      ", out);
    print_plain(out, key->help);
}

void job_print_reference(FILE *out, bool markdown) {
    if (!markdown) {
        fputs("A job file is YAML with the sections below. Paths are relative to the job file's folder.\n"
              "Keys marked as part of the run's identity cannot change once it has started: with another "
              "value the run is not resumed.\n",
              out);
    }
    for (size_t i = 0; i < job_section_count; i++) {
        const struct job_section *section = &job_sections[i];
        if (markdown) {
            fprintf(out, "%s### `%s`\n%s\n\n", i == 0 ? "" : "\n", section->name, section->help);
            fputs("| key | value | default | identity | meaning |\n|---|---|---|---|---|\n", out);
        } else {
            fprintf(out, "\n%s: ", section->name);
            print_plain(out, section->help);
        }
        for (size_t k = 0; k < job_key_count; k++) {
            if (strcmp(job_keys[k].section, section->name) == 0) {
                (markdown ? print_markdown_row : print_text_row)(out, &job_keys[k]);
            }
        }
    }
}

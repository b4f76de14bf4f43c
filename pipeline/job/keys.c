#include "job/keys.h"

#include <string.h>

#define FIELD(name) .offset = offsetof(struct job, name)
#define LIST(name, count) .offset = offsetof(struct job, name), .count_offset = offsetof(struct job, count)

const struct job_section job_sections[] = {
    {"problems", "What goes in: the rows of an SQLite query and the text made of each."},
    {"problems.steps",
     "Where the steps are. Without this section: `{column: steps}` when `text` has `{steps}`, "
     "otherwise `{pattern: 'Step\\s+\\d+:'}`."},
    {"model", "Which model reads the texts, and where."},
    {"latents", "What is kept of the hidden states."},
    {"batch",
     "What runs together. Other sizes cut other shards; each problem's latents keep their bits (on a GPU: as "
     "long as its products keep their algorithms). `strata plan` says how full batches are. In a run that "
     "has begun, 0 stands for what it began with, also under an earlier version."},
    {"run", "Where the output goes and how the run behaves."},
};
const size_t job_section_count = sizeof job_sections / sizeof job_sections[0];

const struct job_key job_keys[] = {
    {"problems", "database", KEY_PATH, FIELD(database), .minimum = 1, .required = true,
     .help = "SQLite database of the problems (`strata import` makes one)"},
    {"problems", "query", KEY_TEXT, FIELD(query), .minimum = 1, .standard = "SELECT * FROM problems",
     .identity = true, .help = "any one SELECT; its order is the order of every export"},
    {"problems", "id", KEY_TEXT, FIELD(id), .minimum = 1, .required = true, .identity = true,
     .help = "column that names a problem: never empty, never twice"},
    {"problems", "text", KEY_TEXT, FIELD(text), .minimum = 1, .standard = "{statement}\n{steps}",
     .identity = true,
     .help = "template over the query's columns; `{steps}` is the steps joined by the separator, `{{` and "
             "`}}` are braces"},
    {"problems", "special_tokens", KEY_BOOLEAN, FIELD(special_tokens), .standard = "true", .identity = true,
     .help = "let the tokenizer add what its post-processor adds (BOS ...)"},
    {"problems", "max_tokens", KEY_INTEGER, FIELD(max_tokens), .minimum = 1, .maximum = 1 << 20,
     .standard = "2048", .identity = true, .help = "longer texts are cut and marked as truncated"},
    {"problems", "max_text_bytes", KEY_INTEGER, FIELD(max_text_bytes), .minimum = 1, .maximum = 1 << 30,
     .standard = "1048576", .identity = true, .help = "longer texts fail, each for itself"},
    {"problems", "max_failed", KEY_INTEGER, FIELD(max_failed), .minimum = 0, .maximum = 1e12, .standard = "0",
     .help = "with more failed problems than this the run ends with exit code 65"},
    {"problems", "allow_empty", KEY_BOOLEAN, FIELD(allow_empty), .standard = "false",
     .help = "let a query without rows, or a run of which no problem is done, end with exit code 0; "
             "otherwise 65"},
    {"problems", "metadata", KEY_TEXTS, LIST(metadata, metadata_count), .minimum = 1, .identity = true,
     .absent = "every column that id, text and steps do not use",
     .help = "columns kept with each problem's latents"},

    {"problems.steps", "column", KEY_TEXT, FIELD(steps_column), .minimum = 1, .identity = true,
     .absent = "see above",
     .help = "column that holds a JSON array of texts, one a step; `text` must have `{steps}` once"},
    {"problems.steps", "separator", KEY_TEXT, FIELD(steps_separator), .minimum = 0, .identity = true,
     .absent = "a line feed", .help = "put between the steps of the column"},
    {"problems.steps", "pattern", KEY_TEXT, FIELD(steps_pattern), .minimum = 1, .identity = true,
     .absent = "see above",
     .help = "regular expression (PCRE2) on the finished text: a step begins at each match; no match is one "
             "step"},

    {"model", "path", KEY_PATH, FIELD(model_path), .minimum = 1, .required = true,
     .help = "folder with config.json and safetensors, as `transformers` saves it"},
    {"model", "tokenizer", KEY_PATH, FIELD(tokenizer_path), .minimum = 1,
     .absent = "tokenizer.json of the model's folder", .help = "the tokenizer.json to use"},
    {"model", "dtype", KEY_DTYPE, FIELD(dtype), .choices = "float32|bfloat16", .standard = "bfloat16",
     .identity = true, .help = "numbers the model is computed in"},
    {"model", "device", KEY_DEVICE, FIELD(device), .minimum = 1, .standard = "auto",
     .help = "`cuda:N`, `cpu`, or `auto`: the first GPU if there is one that can compute the model; a run "
             "that has begun never changes it"},
    {"model", "cpu_path", KEY_TEXT, FIELD(cpu_path), .minimum = 1,
     .absent = "the best one this processor has",
     .help =
         "instruction set of the CPU back end, by the name that `strata check` shows; a run that has begun "
         "keeps to its own"},
    {"model", "memory_reserve_gb", KEY_NUMBER, FIELD(memory_reserve_gb), .minimum = 0, .maximum = 1e6,
     .standard = "0.5",
     .help = "GPU memory (10^9 bytes) that the run leaves alone; kernels of cuBLASLt, loaded when first "
             "used, come out of it"},
    {"model", "load_timeout", KEY_NUMBER, FIELD(load_timeout), .minimum = 1, .maximum = 86400,
     .standard = "600",
     .help = "seconds that loading may stand still without a byte, and that the device may take for "
             "tuning one shape of products or for a batch of the calibration, before the run ends"},

    {"latents", "layers", KEY_LAYERS, LIST(layers, layer_count), .minimum = -1000, .maximum = 1000,
     .standard = "-2", .identity = true,
     .help = "indices into transformers' hidden_states (0: embeddings, -1: after the final norm), or `all`"},
    {"latents", "pooling", KEY_POOLING, FIELD(pooling), .choices = "step_mean|mean|last|tokens",
     .standard = "step_mean", .identity = true,
     .help = "one row for each step, for each text (its mean, its last token), or for each token"},
    {"latents", "dtype", KEY_DTYPE, FIELD(latents_dtype), .choices = "float16|bfloat16|float32",
     .standard = "float16", .identity = true, .help = "numbers the latents are stored in"},
    {"latents", "token_ids", KEY_BOOLEAN, FIELD(token_ids), .standard = "false", .identity = true,
     .help = "store each problem's token ids too"},

    {"batch", "problems", KEY_INTEGER, FIELD(batch_problems), .minimum = 0, .maximum = 1 << 16,
     .standard = "0", .identity = true,
     .help = "at most so many problems a batch; 0: as many as it has room for"},
    {"batch", "tokens", KEY_INTEGER, FIELD(batch_tokens), .minimum = 1, .maximum = 1 << 22,
     .standard = "8192", .identity = true,
     .help = "at most so many tokens a batch; no less than problems.max_tokens"},
    {"batch", "window", KEY_INTEGER, FIELD(batch_window), .minimum = 0, .maximum = 1 << 20, .standard = "0",
     .identity = true,
     .help = "problems read ahead and packed by length; no less than batch.problems; 0: up to 4096 (or 256 "
             "full batches of them); those left over after the last full batch go into the next window"},

    {"run", "output", KEY_PATH, FIELD(output), .minimum = 1, .required = true,
     .help = "the run directory: new, empty, or one that a run began"},
    {"run", "checkpoint_every", KEY_INTEGER, FIELD(checkpoint_every), .minimum = 1, .maximum = 1000000,
     .standard = "10", .identity = true, .help = "batches a shard: what a crash can cost at most"},
    {"run", "threads", KEY_INTEGER, FIELD(threads), .minimum = 0, .maximum = 1024, .standard = "0",
     .help = "threads of the CPU back end; 0: one for each core that the process may use, within its control "
             "group's quota, or OMP_NUM_THREADS where that is set"},
    {"run", "drift_stop", KEY_BOOLEAN, FIELD(drift_stop), .standard = "true",
     .help = "stop with exit code 80 when batch times drift away; false: write it to the log and go on"},
    {"run", "disk_reserve_gb", KEY_NUMBER, FIELD(disk_reserve_gb), .minimum = 0, .maximum = 1e6,
     .standard = "1", .help = "free space (10^9 bytes) that the run leaves alone"},
    {"run", "force_network_output", KEY_BOOLEAN, FIELD(force_network_output), .standard = "false",
     .help = "write to a network file system all the same (locks and syncs may not hold there)"},
    {"run", "allow_cpu_path_change", KEY_BOOLEAN, FIELD(allow_cpu_path_change), .standard = "false",
     .help =
         "let a run that has begun go on with another instruction set of the CPU where its own is not to be "
         "had; latents before and after may differ in bits, and `strata status` says so"},
    {"run", "profile", KEY_PATH, FIELD(profile), .minimum = 1, .absent = "calibrate at each start",
     .help = "file that keeps the calibration of this device between runs"},
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
        for (const char *at = key->choices; *at != 0; at++) {
            fputs(*at == '|' ? ", " : (char[2]){*at, 0}, out);
        }
        break;
    case KEY_DEVICE:
        fputs("auto, cpu, cuda:N", out);
        break;
    case KEY_LAYERS:
        fprintf(out, "all, or a list of integers, %.15g to %.15g", key->minimum, key->maximum);
        break;
    case KEY_TEXTS:
        fputs("list of columns", out);
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
              "A run never changes its identity: with another value of such a key it is not resumed.\n",
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

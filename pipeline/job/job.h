// SPDX-License-Identifier: MIT
// The job file: one table of keys (type, bounds, default, help) that parses it, explains it and prints the
// reference.
#ifndef STRATA_JOB_JOB_H
#define STRATA_JOB_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"

enum job_expand { JOB_EXPAND_MATMUL, JOB_EXPAND_LOAD };
enum job_rounding { JOB_ROUNDING_NONE, JOB_ROUNDING_FLOAT16 };
enum job_weights { JOB_WEIGHTS_RESIDENT, JOB_WEIGHTS_HOST, JOB_WEIGHTS_DISK };

enum job_quantize { JOB_QUANTIZE_NONE, JOB_QUANTIZE_NF4, JOB_QUANTIZE_NF4_DOUBLE, JOB_QUANTIZE_INT8 };
enum job_split { JOB_SPLIT_BATCHES, JOB_SPLIT_LAYERS };
enum job_reuse { JOB_REUSE_AUTO, JOB_REUSE_OFF };
enum job_keep { JOB_KEEP_AUTO, JOB_KEEP_BF16, JOB_KEEP_F16, JOB_KEEP_F32, JOB_KEEP_Q8_0, JOB_KEEP_Q4_0 };
enum pooling { POOLING_STEP_MEAN, POOLING_MEAN, POOLING_LAST, POOLING_TOKENS, POOLING_LAST_OF_STEP };

enum { JOB_DEVICES = 8 }; // at most

struct job_device_memory {
    char device[16]; // "cuda:1"
    double gb;
};

// A job as checked and completed with defaults. Texts belong to the job. Paths are resolved against the job
// file's folder.
struct job {
    // problems
    char *database;
    char *query; // any SELECT
    char *id;    // unique column
    char *text;  // template over columns
    // Steps come from one of three: a column of texts, spans of the text, a pattern; the others are NULL.
    char *steps_column;    // JSON array of strings
    char *steps_separator; // joins the steps of a column
    char *steps_spans;     // column with a JSON array of spans of the rendered text
    char **steps_roles;    // of spans that are steps; NULL: all
    size_t steps_role_count;
    char *steps_pattern; // PCRE2
    bool special_tokens;
    int64_t max_tokens;     // longer texts are cut
    int64_t max_text_bytes; // longer texts fail
    int64_t max_failed;
    bool allow_empty;
    char **metadata; // columns kept with each problem; NULL: every column that id, text and steps.column do
                     // not use
    size_t metadata_count;

    // model
    char *model_path;
    char *tokenizer_path;    // a tokenizer.json; NULL: the model's own
    char *adapter_path;      // a folder that peft saved; NULL: none
    enum dtype dtype;        // of computation
    int expand;              // enum job_expand, as packed weights are held
    int weights_rounding;    // enum job_rounding
    int quantize;            // enum job_quantize
    int weights;             // enum job_weights
    int64_t resident_blocks; // at most, where weights may stream
    char **devices;          // "cpu", "auto", "cuda:all", or one or more "cuda:N"
    size_t device_count;
    int split;                // enum job_split, over several devices
    char *cpu_path;           // NULL: chosen from the processor's features
    double memory_reserve_gb; // of GPU memory, 10^9 bytes
    double load_timeout;      // seconds without a byte
    bool hash_cache;          // of weight files, between launches

    // latents
    char **layers; // whole numbers and names, as written; NULL: all
    size_t layer_count;
    enum pooling pooling;
    enum dtype latents_dtype;
    bool token_ids; // keep the tokens' ids in the shards
    bool loss_mask; // beside them, which of the tokens a step owns

    // batch
    int64_t batch_problems; // 0: as many as it has room for
    int64_t batch_tokens;
    int64_t batch_window; // problems packed together; 0: as many as fill their batches
    int64_t batch_group;  // batches of a sweep; 0: chosen
    int prefix_reuse;     // enum job_reuse
    int64_t prefix_min_tokens;
    double prefix_memory_gb; // of the head's store on each device, 10^9 bytes
    int prefix_keep;         // enum job_keep

    // run
    char *output;
    char *ledger;             // NULL: in the output
    int64_t checkpoint_every; // batches a shard
    int64_t threads;          // 0: every core
    double memory_gb;         // of host memory for the process, 10^9 bytes; 0: what is free
    struct job_device_memory device_memory[JOB_DEVICES]; // likewise of GPUs; none: what is free
    size_t device_memory_count;
    bool drift_stop;        // false: log drift, do not stop
    double disk_reserve_gb; // free space left alone
    bool force_network_output;
    bool allow_cpu_path_change;
    char *profile; // file of stored calibration; NULL: none

    char *source; // the file's text, as launched
    size_t source_size;
    char *folder; // of the job file
};

// Reads and checks a job file. STATUS_JOB with "FILE:LINE:COLUMN: ..." and, for an unknown key, the nearest
// valid one. The caller owns *job (job_destroy).
int job_read(struct job *job, const char *path, struct error *err);
int job_parse(struct job *job, const char *text, size_t size, const char *name, const char *folder,
              struct error *err);
void job_destroy(struct job *job); // accepts zeros; leaves zeros

// The largest number that a key takes.
int64_t job_key_most(const char *section, const char *name);

const char *pooling_name(enum pooling pooling);         // "step_mean" ...
const char *job_weights_name(enum job_weights weights); // "resident" ...
const char *job_split_name(enum job_split split);       // "batches" ...
const char *job_keep_name(enum job_keep keep);          // "auto" ...

// Bytes of its own memory that a GPU may use by run.memory_gb; 0: what is free. `auto` is the first one.
uint64_t job_device_limit(const struct job *job, const char *device);

// The reference of all keys: Markdown for configs/README.md, plain text for `strata help job`.
void job_print_reference(FILE *out, bool markdown);

// In place of model.device: "cpu" or "cuda:N"; STATUS_USAGE otherwise. The job stays as it is when that
// fails.
int job_set_device(struct job *job, const char *name, struct error *err);

// Calls `each` with "section.key" and its value as text for every key that may change a byte of output (the
// table says which). Stops on and returns a non-zero result.
int job_each_identity_key(const struct job *job,
                          int (*each)(void *context, const char *key, const char *value), void *context);

// The candidate nearest to `word` by edit distance, or NULL when none is near. Also used for subcommands and
// options.
const char *job_nearest(const char *word, const char *const *candidates, size_t count);

enum { JOB_PATH_HINT = 640 };

// What may have been meant by a path at which nothing is: " (did you mean 'runs/a'?)", the names in its
// folder that end as one of `endings` (NULL ends them; NULL: any name), or that its folder is not there.
// Empty when there is nothing to say. Returns `out`.
const char *job_path_hint(char out[JOB_PATH_HINT], const char *path, const char *const *endings);

#endif

// SPDX-License-Identifier: MIT
// The job file: defaults, every kind of value, and where and how each mistake is answered.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job/job.h"

#define REQUIRED "problems: {database: p.db, id: pid}\nmodel: {path: m}\nrun: {output: out}\n"

static int parse(struct job *job, const char *text, struct error *err) {
    *err = (struct error){0};
    return job_parse(job, text, strlen(text), "job.yaml", "/home/me", err);
}

static struct job accepted(const char *text) {
    struct job job;
    struct error err;
    if (parse(&job, text, &err) != STATUS_OK) {
        fail_msg("refused: %s", err.message);
    }
    return job;
}

static void refused(const char *text, const char *message) {
    struct job job;
    struct error err;
    int status = parse(&job, text, &err);
    if (status == STATUS_OK) {
        fail_msg("accepted: %s", text);
    }
    assert_string_equal(err.message, message);
    assert_int_equal(status, STATUS_JOB);
    assert_int_equal(err.status, STATUS_JOB);
    assert_null(job.source); // nothing is left to free
}

static void test_defaults(void **state) {
    (void)state;
    struct job job = accepted(REQUIRED);
    assert_string_equal(job.database, "/home/me/p.db");
    assert_string_equal(job.query, "SELECT * FROM problems");
    assert_string_equal(job.id, "pid");
    assert_string_equal(job.text, "{statement}\n{steps}");
    assert_string_equal(job.steps_column, "steps");
    assert_string_equal(job.steps_separator, "\n");
    assert_null(job.steps_pattern);
    assert_true(job.special_tokens);
    assert_int_equal(job.max_tokens, 2048);
    assert_int_equal(job.max_text_bytes, 1048576);
    assert_int_equal(job.max_failed, 0);
    assert_false(job.allow_empty);
    assert_null(job.metadata);
    assert_string_equal(job.model_path, "/home/me/m");
    assert_null(job.tokenizer_path);
    assert_null(job.adapter_path);
    assert_int_equal(job.dtype, DTYPE_BF16);
    assert_int_equal(job.expand, JOB_EXPAND_MATMUL);
    assert_int_equal(job.weights_rounding, JOB_ROUNDING_NONE);
    assert_int_equal(job.quantize, JOB_QUANTIZE_NONE);
    assert_int_equal(job.device_count, 1);
    assert_string_equal(job.devices[0], "auto");
    assert_int_equal(job.split, JOB_SPLIT_BATCHES);
    assert_true(job.memory_gb == 0 && job.device_memory_count == 0);
    assert_null(job.cpu_path);
    assert_true(job.load_timeout == 600);
    assert_true(job.hash_cache);
    assert_int_equal(job.layer_count, 1);
    assert_string_equal(job.layers[0], "-2");
    assert_int_equal(job.pooling, POOLING_STEP_MEAN);
    assert_int_equal(job.latents_dtype, DTYPE_F16);
    assert_false(job.token_ids);
    assert_int_equal(job.batch_problems, 0);
    assert_int_equal(job.batch_tokens, 8192);
    assert_int_equal(job.batch_window, 0);
    assert_int_equal(job.prefix_reuse, JOB_REUSE_AUTO);
    assert_int_equal(job.prefix_min_tokens, 64);
    assert_true(job.prefix_memory_gb == 2);
    assert_int_equal(job.prefix_keep, JOB_KEEP_AUTO);
    assert_string_equal(job.output, "/home/me/out");
    assert_int_equal(job.checkpoint_every, 10);
    assert_int_equal(job.threads, 0);
    assert_true(job.drift_stop);
    assert_true(job.disk_reserve_gb == 1);
    assert_false(job.force_network_output);
    assert_null(job.profile);
    assert_int_equal(job.source_size, strlen(REQUIRED));
    assert_memory_equal(job.source, REQUIRED, strlen(REQUIRED));
    job_destroy(&job);
    assert_null(job.database);
    job_destroy(&job);
}

static void test_values(void **state) {
    (void)state;
    struct job job = accepted(
        "problems:\n"
        "  database: /data/p.db\n"
        "  id: 'the id'\n"
        "  text: \"{q}\\n\\n{steps}\"\n"
        "  steps: {separator: ''}\n"
        "  special_tokens: false\n"
        "  metadata: [domain, 'a b']\n"
        "model: {path: m, tokenizer: t/tok.json, adapter: a/lora, dtype: float32, device: 'cuda:1', "
        "cpu_path: avx2,\n"
        "        expand: load, weights_rounding: float16, quantize: nf4_double, load_timeout: 2.5e1,\n"
        "        hash_cache: false}\n"
        "latents: {layers: all, pooling: tokens, dtype: bfloat16, token_ids: true}\n"
        "batch: {problems: 1, tokens: 4194304, window: 1}\n"
        "run: {output: ../o, threads: 1024, drift_stop: false, disk_reserve_gb: 0, profile: p.json}\n");
    assert_string_equal(job.database, "/data/p.db");
    assert_string_equal(job.id, "the id");
    assert_string_equal(job.text, "{q}\n\n{steps}");
    assert_string_equal(job.steps_column, "steps");
    assert_string_equal(job.steps_separator, "");
    assert_false(job.special_tokens);
    assert_int_equal(job.metadata_count, 2);
    assert_string_equal(job.metadata[1], "a b");
    assert_string_equal(job.tokenizer_path, "/home/me/t/tok.json");
    assert_string_equal(job.adapter_path, "/home/me/a/lora");
    assert_int_equal(job.dtype, DTYPE_F32);
    assert_int_equal(job.expand, JOB_EXPAND_LOAD);
    assert_int_equal(job.weights_rounding, JOB_ROUNDING_FLOAT16);
    assert_int_equal(job.quantize, JOB_QUANTIZE_NF4_DOUBLE);
    assert_int_equal(job.device_count, 1);
    assert_string_equal(job.devices[0], "cuda:1");
    assert_string_equal(job.cpu_path, "avx2");
    assert_true(job.load_timeout == 25);
    assert_false(job.hash_cache);
    assert_null(job.layers);
    assert_int_equal(job.pooling, POOLING_TOKENS);
    assert_int_equal(job.latents_dtype, DTYPE_BF16);
    assert_true(job.token_ids);
    assert_int_equal(job.batch_tokens, 4194304);
    assert_string_equal(job.output, "/home/me/../o");
    assert_int_equal(job.threads, 1024);
    assert_false(job.drift_stop);
    assert_true(job.disk_reserve_gb == 0);
    assert_string_equal(job.profile, "/home/me/p.json");
    job_destroy(&job);

    job = accepted("problems: {database: p, id: i, text: '{t}', steps: {spans: s, roles: [user, tool]}}\n"
                   "model: {path: m}\nlatents: {token_ids: true, loss_mask: true, pooling: last_of_step}\n"
                   "run: {output: o}\n");
    assert_string_equal(job.steps_spans, "s");
    assert_int_equal(job.steps_role_count, 2);
    assert_string_equal(job.steps_roles[1], "tool");
    assert_null(job.steps_column);
    assert_null(job.steps_pattern);
    assert_true(job.loss_mask);
    assert_int_equal(job.pooling, POOLING_LAST_OF_STEP);
    job_destroy(&job);

    job = accepted(REQUIRED "latents: {layers: 7}\n");
    assert_int_equal(job.layer_count, 1);
    assert_string_equal(job.layers[0], "7");
    job_destroy(&job);
    job = accepted("problems: {database: p, id: i, metadata: []}\nmodel: {path: m}\nrun: {output: o}\n");
    assert_non_null(job.metadata); // none at all, not the default
    assert_int_equal(job.metadata_count, 0);
    job_destroy(&job);
}

static void test_steps(void **state) {
    (void)state;
    struct job job =
        accepted("problems: {database: p, id: i, text: '{text}'}\nmodel: {path: m}\nrun: {output: o}\n");
    assert_null(job.steps_column);
    assert_null(job.steps_separator);
    assert_string_equal(job.steps_pattern, "Step\\s+\\d+:");
    job_destroy(&job);
    job = accepted("problems: {database: p, id: i, text: '{{steps}} {steps}', steps: {column: s}}\nmodel: "
                   "{path: m}\nrun: {output: o}\n");
    assert_string_equal(job.steps_column, "s");
    assert_string_equal(job.steps_separator, "\n");
    job_destroy(&job);
    job = accepted(
        "problems: {database: p, id: i, steps: {pattern: '#'}}\nmodel: {path: m}\nrun: {output: o}\n");
    assert_null(job.steps_column); // {steps} is a column like any other then
    assert_string_equal(job.steps_pattern, "#");
    job_destroy(&job);
    refused("problems: {database: p, id: i, text: '{t}', steps: {spans: s, column: c}}\nmodel: {path: m}\n"
            "run: {output: o}\n",
            "job.yaml:1:63: problems.steps has both spans and a column: choose one");
    refused("problems: {database: p, id: i, text: '{t}', steps: {spans: s, pattern: c}}\nmodel: {path: m}\n"
            "run: {output: o}\n",
            "job.yaml:1:63: problems.steps has both spans and a pattern: choose one");
    refused("problems: {database: p, id: i, steps: {spans: s}}\nmodel: {path: m}\nrun: {output: o}\n",
            "job.yaml:1:40: problems.text (the default) has {steps}, which stands for the steps of a column: "
            "with problems.steps.spans it must name the columns of the text whose bytes the spans count");
    refused("problems: {database: p, id: i, text: '{t}', steps: {spans: s, roles: []}}\nmodel: {path: m}\n"
            "run: {output: o}\n",
            "job.yaml:1:63: problems.steps.roles names no role");
    refused("problems: {database: p, id: i, text: '{t}', steps: {roles: [user]}}\nmodel: {path: m}\n"
            "run: {output: o}\n",
            "job.yaml:1:53: problems.steps.roles chooses among problems.steps.spans, which is missing");
    refused(REQUIRED "latents: {loss_mask: true}\n",
            "job.yaml:4:11: latents.loss_mask lies beside the token ids: it needs latents.token_ids: true");
    refused("problems: {database: p, id: i, text: '{t}', steps: {column: s}}\nmodel: {path: m}\nrun: "
            "{output: o}\n",
            "job.yaml:1:32: problems.text has {steps} 0 times; with steps from a column it must appear "
            "once");
    refused("problems: {database: p, id: i, text: '{steps}{steps}'}\nmodel: {path: m}\nrun: {output: o}\n",
            "job.yaml:1:32: problems.text has {steps} 2 times; with steps from a column it must appear "
            "once");
    refused("problems: {database: p, id: i, steps: {column: s, pattern: x}}\nmodel: {path: m}\nrun: {output: "
            "o}\n",
            "job.yaml:1:51: problems.steps has both a column and a pattern: choose one");
    refused("problems: {database: p, id: i, steps: {separator: s, pattern: x}}\nmodel: {path: m}\nrun: "
            "{output: o}\n",
            "job.yaml:1:40: problems.steps.separator joins the steps of a column, not those of a pattern");
}

static void test_unknown_keys(void **state) {
    (void)state;
    refused(REQUIRED "latent: {}\n",
            "job.yaml:4:1: unknown key 'latent' in the job file (did you mean 'latents'?)");
    refused("run: {output: o, checkpoint_evry: 3}\n",
            "job.yaml:1:18: unknown key 'checkpoint_evry' in run (did you mean 'checkpoint_every'?)");
    refused("run:\n  max_tokens: 3\n",
            "job.yaml:2:3: unknown key 'max_tokens' in run (it belongs to problems)");
    refused("database: x\n", "job.yaml:1:1: unknown key 'database' in the job file (it belongs to problems)");
    refused("problems: {stesp: 3}\n",
            "job.yaml:1:12: unknown key 'stesp' in problems (did you mean 'steps'?)");
    refused("problems: {steps: {seperator: 3}}\n",
            "job.yaml:1:20: unknown key 'seperator' in problems.steps (did you mean 'separator'?)");
    refused("run: {zzzzzzzz: 3}\n", "job.yaml:1:7: unknown key 'zzzzzzzz' in run");
    refused("problems.steps: {}\n", "job.yaml:1:1: unknown key 'problems.steps' in the job file");
    refused("run: {\"output\\0x\": 3}\n", "job.yaml:1:7: unknown key 'output...' in run");
}

static void test_wrong_values(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"problems: {max_tokens: many}\n",
         "job.yaml:1:24: problems.max_tokens must be a whole number, not 'many'"},
        {"problems: {max_tokens: \"64\"}\n",
         "job.yaml:1:24: problems.max_tokens must be a whole number, not '64'"},
        {"problems: {max_tokens: 0x10}\n",
         "job.yaml:1:24: problems.max_tokens must be a whole number, not '0x10'"},
        {"problems: {max_tokens: 010}\n",
         "job.yaml:1:24: problems.max_tokens must be a whole number, not '010'"},
        {"problems: {max_tokens: 1_000}\n",
         "job.yaml:1:24: problems.max_tokens must be a whole number, not '1_000'"},
        {"problems: {max_tokens: 10.0}\n",
         "job.yaml:1:24: problems.max_tokens must be a whole number, not '10.0'"},
        {"problems: {max_tokens: +1}\n",
         "job.yaml:1:24: problems.max_tokens must be a whole number, not '+1'"},
        {"problems: {max_tokens: 99999999999999999999}\n",
         "job.yaml:1:24: problems.max_tokens must be a whole number, not '99999999999999999999'"},
        {"problems: {max_tokens: 0}\n",
         "job.yaml:1:24: problems.max_tokens '0' is out of bounds: 1 to 1048576"},
        {"problems: {max_failed: -1}\n",
         "job.yaml:1:24: problems.max_failed '-1' is out of bounds: 0 to 1000000000000"},
        {"problems: {max_tokens: }\n", "job.yaml:1:24: problems.max_tokens has no value"},
        {"problems:\n  id: null\n", "job.yaml:2:7: problems.id has no value"},
        {"problems:\n  id: ~\n", "job.yaml:2:7: problems.id has no value"},
        {"problems:\n  id: ''\n", "job.yaml:2:7: problems.id is empty"},
        {"problems:\n  id: \"a\\0b\"\n", "job.yaml:2:7: problems.id has a NUL byte"},
        {"problems:\n  id: [a]\n", "job.yaml:2:7: problems.id must be one value, not a list"},
        {"problems:\n  id: {a: b}\n", "job.yaml:2:7: problems.id must be a value, not a section (a value "
                                      "that begins with a brace stands in quotes)"},
        {"problems: 3\n", "job.yaml:1:11: problems must have keys ('key: value' lines)"},
        {"problems:\n", "job.yaml:1:10: problems must have keys ('key: value' lines)"},
        {"problems: {special_tokens: yes}\n",
         "job.yaml:1:28: problems.special_tokens must be true or false, not 'yes'"},
        {"problems: {metadata: a}\n", "job.yaml:1:22: problems.metadata wants a list: [a]"},
        {"problems: {metadata: [a, b, a]}\n", "job.yaml:1:29: problems.metadata has 'a' twice"},
        {"problems: {metadata: [[a]]}\n", "job.yaml:1:23: problems.metadata is a list of plain values"},
        {"model: {load_timeout: .inf}\n", "job.yaml:1:23: model.load_timeout wants a number, not '.inf'"},
        {"model: {load_timeout: 1.}\n", "job.yaml:1:23: model.load_timeout wants a number, not '1.'"},
        {"model: {load_timeout: 0.5}\n",
         "job.yaml:1:23: model.load_timeout '0.5' is out of bounds: 1 to 86400"},
        {"model: {quantize: fp4}\n",
         "job.yaml:1:19: model.quantize must be one of none|nf4|nf4_double|int8, not "
         "'fp4'"},
        {"model: {dtype: float15}\n",
         "job.yaml:1:16: model.dtype must be one of float32|float16|bfloat16, not 'float15' (did you mean "
         "'float16'?)"},
        {"latents: {pooling: steps}\n",
         "job.yaml:1:20: latents.pooling must be one of step_mean|mean|last|tokens|last_of_step, not "
         "'steps'"},
        {"latents: {layers: [-2, 0x]}\n",
         "job.yaml:1:24: latents.layers must be a whole number, pre_norm or a module's name, not '0x'"},
        {"latents: {layers: [-2, all]}\n",
         "job.yaml:1:24: latents.layers is a list of layers: 'all' stands alone"},
        {"latents: {layers: [-2, 3, -2]}\n", "job.yaml:1:27: latents.layers has '-2' twice"},
        {"latents: {layers: []}\n", "job.yaml:1:19: latents.layers is an empty list"},
        {"latents: {layers: 2000}\n", "job.yaml:1:19: latents.layers '2000' is out of bounds: -1000 to 1000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refused(cases[i].text, cases[i].message);
    }
}

static void test_wrong_devices(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"model: {device: gpu}\n", "job.yaml:1:17: model.device must be auto, cpu, cuda:N, cuda:all or a "
                                   "list of cuda:N, not 'gpu' (did you mean 'cuda:0'?)"},
        {"model: {device: 'cuda:'}\n",
         "job.yaml:1:17: model.device must be auto, cpu, cuda:N, cuda:all or a list of cuda:N, not 'cuda:'"},
        {"model: {device: [cuda:0, cuda:01]}\n", "job.yaml:1:26: model.device must be auto, cpu, cuda:N, "
                                                 "cuda:all or a list of cuda:N, not 'cuda:01'"},
        {"model: {device: []}\n", "job.yaml:1:17: model.device wants 1 to 8 devices, not 0"},
        {"model: {device: [cuda:0, cuda:1, cuda:2, cuda:3, cuda:4, cuda:5, cuda:6, cuda:7, cuda:8]}\n",
         "job.yaml:1:18: model.device wants 1 to 8 devices, not 9"},
        {"model: {device: [cuda:1, cuda:2, cuda:1]}\n", "job.yaml:1:34: model.device has 'cuda:1' twice"},
        {"model: {device: [cuda:1, cpu]}\n",
         "job.yaml:1:26: model.device is a list of cuda:N: 'cpu' stands alone"},
        {"model: {device: [cuda:all]}\n",
         "job.yaml:1:18: model.device is a list of cuda:N: 'cuda:all' stands alone"},
        {"model: {device: {cuda: 0}}\n", "job.yaml:1:17: model.device must be a value, not a section"},
        {"model: {split: rows}\n", "job.yaml:1:16: model.split must be one of batches|layers, not 'rows'"},
        {"run: {memory_gb: [1]}\n", "job.yaml:1:18: run.memory_gb must be one value, not a list"},
        {"run: {memory_gb: {}}\n", "job.yaml:1:18: run.memory_gb names no memory"},
        {"run: {memory_gb: {host: 1, cpu: 2}}\n",
         "job.yaml:1:33: run.memory_gb names host and cuda:N, not 'cpu'"},
        {"run: {memory_gb: {cuda:0: 1, cuda:0: 2}}\n", "job.yaml:1:38: run.memory_gb has 'cuda:0' twice"},
        {"run: {memory_gb: {cuda:0: -1}}\n",
         "job.yaml:1:27: run.memory_gb '-1' is out of bounds: 0 to 1000000"},
        {"run: {memory_gb: {cuda:0: [1]}}\n", "job.yaml:1:27: run.memory_gb has a plain value for each name"},
        {"run: {memory_gb: {[a]: 1}}\n", "job.yaml:1:19: run.memory_gb has plain names"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refused(cases[i].text, cases[i].message);
    }
}

static void test_whole_file(void **state) {
    (void)state;
    refused("", "job.yaml:1:1: the job file is empty");
    refused("# nothing\n", "job.yaml:1:1: the job file is empty");
    refused("- a\n", "job.yaml:1:1: a job file has sections (problems:, model:, latents:, batch:, run:)");
    refused("run: {threads: 1}\nrun: {threads: 2}\n", "job.yaml:2:1: 'run' appears twice (first in line 1)");
    refused("run: {threads: 1,\n threads: 2}\n", "job.yaml:2:2: 'threads' appears twice (first in line 1)");
    refused("run: &a {threads: 1}\n", "job.yaml:1:6: anchors (&a) are not part of a job file");
    refused("run: *a\n", "job.yaml:1:6: aliases (*a) are not part of a job file");
    refused("run: {threads: !!int 3}\n",
            "job.yaml:1:16: tags (tag:yaml.org,2002:int) are not part of a job file");
    refused(REQUIRED "---\nrun: {}\n", "job.yaml:4:1: a job file is one document");
    refused("run: {threads: 1\n",
            "job.yaml:2:1: while parsing a flow mapping: did not find expected ',' or '}'");
    refused("run:\n\tthreads: 1\n", "job.yaml:2:1: a tab: YAML's lines are indented with spaces");
    refused("run: {}\n# \xC3\xA4 \xFF\n", "job.yaml:2:5: invalid leading UTF-8 octet");
    refused("model: {path: m}\nproblems:\n  id: i\nrun: {output: o}\n",
            "job.yaml:2:1: problems.database is missing (SQLite database with the problems (`strata import` "
            "creates one))");
    refused("problems: {database: d, id: i}\nrun: {output: o}\n",
            "job.yaml:1:1: model.path is missing (folder with config.json and safetensors files, as "
            "`transformers` saves them, or a GGUF file (of a split one the first part))");
}

static void test_bounds_between_keys(void **state) {
    (void)state;
    refused(
        "problems: {database: d, id: i}\nrun: {output: o}\n"
        "model: {path: m, device: [cuda:0, cuda:1], weights: host, split: layers}\n",
        "job.yaml:3:59: model.split: layers needs weights that are resident: with model.weights: host every "
        "device takes each block in turn (model.split: batches)");
    refused(
        REQUIRED "batch: {problems: 8, window: 7}\n",
        "job.yaml:4:22: batch.window (7) is less than batch.problems (8): a batch is packed from one window");
}

// Of two limits that are left open neither holds the other back.
static void test_open_limits_of_a_batch(void **state) {
    (void)state;
    static const struct {
        const char *batch;
        int64_t problems, window;
    } cases[] = {{"{window: 32}", 0, 32},
                 {"{problems: 0, window: 1}", 0, 1},
                 {"{problems: 65536}", 65536, 0},
                 {"{problems: 64, window: 0}", 64, 0},
                 {"{problems: 64, window: 64}", 64, 64}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, REQUIRED "batch: %s\n", cases[i].batch);
        struct job job = accepted(text);
        assert_int_equal(job.batch_problems, cases[i].problems);
        assert_int_equal(job.batch_window, cases[i].window);
        job_destroy(&job);
    }
}

// A text longer than a batch runs in slices: neither number bounds the other.
static void test_texts_longer_than_a_batch(void **state) {
    (void)state;
    struct job job = accepted("problems: {database: p, id: i, max_tokens: 1048576}\nmodel: {path: m}\n"
                              "batch: {tokens: 100}\nrun: {output: o}\n");
    assert_int_equal(job.max_tokens, 1048576);
    assert_int_equal(job.batch_tokens, 100);
    job_destroy(&job);
}

static int collect(void *context, const char *key, const char *value) {
    char *text = context;
    size_t used = strlen(text);
    snprintf(text + used, 4096 - used, "%s=%s;", key, value);
    return 0;
}

static int stop(void *context, const char *key, const char *value) {
    (void)key;
    (void)value;
    *(int *)context += 1;
    return -7;
}

static void test_several_devices(void **state) {
    (void)state;
    struct job job = accepted("problems: {database: p.db, id: pid}\n"
                              "model: {path: m, device: [cuda:2, cuda:0], split: layers}\n"
                              "run: {output: out, memory_gb: {cuda:0: 71.5, host: 150}}\n");
    assert_int_equal(job.device_count, 2);
    assert_string_equal(job.devices[0], "cuda:2");
    assert_string_equal(job.devices[1], "cuda:0");
    assert_int_equal(job.split, JOB_SPLIT_LAYERS);
    assert_true(job.memory_gb == 150);
    assert_int_equal(job.device_memory_count, 1);
    assert_string_equal(job.device_memory[0].device, "cuda:0");
    assert_true(job.device_memory[0].gb == 71.5);
    job_destroy(&job);
    job = accepted("problems: {database: p.db, id: pid}\nmodel: {path: m, device: cuda:all}\n"
                   "run: {output: out, memory_gb: {cuda:7: 1}}\n");
    assert_string_equal(job.devices[0], "cuda:all");
    assert_int_equal(job.device_memory_count, 1);
    job_destroy(&job);
    refused("problems: {database: p.db, id: pid}\nmodel: {path: m, device: [cuda:0, cuda:1]}\n"
            "run: {output: out, memory_gb: {cuda:2: 1}}\n",
            "job.yaml:3:20: run.memory_gb names cuda:2, which is not among model.device");
    refused("problems: {database: p.db, id: pid}\nmodel: {path: m}\n"
            "run: {output: out, memory_gb: {cuda:0: 1, cuda:1: 1}}\n",
            "job.yaml:3:20: run.memory_gb names cuda:1, which is not among model.device");
}

static void test_identity(void **state) {
    (void)state;
    char text[4096] = "";
    int calls = 0;
    struct job job = accepted(REQUIRED "latents: {layers: [-1, 3]}\n");
    assert_int_equal(job_each_identity_key(&job, collect, text), STATUS_OK);
    assert_string_equal(
        text, "problems.query=SELECT * FROM problems;problems.id=pid;problems.text={statement}\n{steps};"
              "problems.special_tokens=true;problems.max_tokens=2048;problems.max_text_bytes=1048576;"
              "problems.metadata=;problems.steps.column=steps;problems.steps.separator=\n;"
              "problems.steps.pattern=;model.dtype=bfloat16;latents.layers=[-1, 3];"
              "latents.pooling=step_mean;latents.dtype=float16;latents.token_ids=false;batch.problems=0;"
              "batch.tokens=8192;batch.window=0;run.checkpoint_every=10;");
    assert_int_equal(job_each_identity_key(&job, stop, &calls), -7);
    assert_int_equal(calls, 1);
    job_destroy(&job);

    text[0] = 0;
    job = accepted("problems: {database: p, id: i, text: '{t}', steps: {spans: s, roles: [user, tool]}}\n"
                   "model: {path: m}\nlatents: {token_ids: true, loss_mask: true}\nrun: {output: o}\n");
    assert_int_equal(job_each_identity_key(&job, collect, text), STATUS_OK);
    assert_non_null(strstr(text, "problems.steps.pattern=;problems.steps.spans=s;"
                                 "problems.steps.roles=[user, tool];"));
    assert_non_null(strstr(text, "latents.token_ids=true;latents.loss_mask=true;"));
    job_destroy(&job);

    // Keys that say nothing of what versions did that did not have them are left out where they are standard.
    static const char told[] = "model.dtype=bfloat16;model.weights_rounding=float16;model.quantize=int8;"
                               "latents.layers=[-2];";
    text[0] = 0;
    job = accepted("problems: {database: p.db, id: pid}\n"
                   "model: {path: m, expand: load, weights_rounding: float16, quantize: int8}\n"
                   "run: {output: out}\n");
    assert_int_equal(job_each_identity_key(&job, collect, text), STATUS_OK);
    assert_non_null(strstr(text, told));
    job_destroy(&job);
}

static void test_prefixes(void **state) {
    (void)state;
    char text[4096] = "";
    struct job job = accepted(REQUIRED "batch:\n"
                                       "  prefix: {reuse: off, min_tokens: 1, memory_gb: 0.5, keep: q4_0}\n");
    assert_int_equal(job.prefix_reuse, JOB_REUSE_OFF);
    assert_int_equal(job.prefix_min_tokens, 1);
    assert_true(job.prefix_memory_gb == 0.5);
    assert_string_equal(job_keep_name((enum job_keep)job.prefix_keep), "q4_0");
    assert_int_equal(job_each_identity_key(&job, collect, text), STATUS_OK);
    assert_non_null(strstr(text, "batch.window=0;batch.prefix.reuse=off;batch.prefix.min_tokens=1;"
                                 "batch.prefix.memory_gb=0.5;batch.prefix.keep=q4_0;run.checkpoint_every"));
    job_destroy(&job);
    job = accepted("problems: {database: p.db, id: pid}\nmodel: {path: m, dtype: float16}\n"
                   "batch: {prefix: {keep: float16}}\nrun: {output: out}\n");
    assert_int_equal(job.prefix_keep, JOB_KEEP_AUTO);
    job_destroy(&job);
    refused(REQUIRED "batch: {prefix: {reuse: on}}\n",
            "job.yaml:4:25: batch.prefix.reuse must be one of auto|off, not 'on'");
    refused(REQUIRED "batch: {prefix: {min_tokens: 0}}\n",
            "job.yaml:4:30: batch.prefix.min_tokens '0' is out of bounds: 1 to 1048576");
    refused(REQUIRED "batch: {prefix: {keep: q5_0}}\n",
            "job.yaml:4:24: batch.prefix.keep must be one of auto|bfloat16|float16|float32|q8_0|q4_0, not "
            "'q5_0' (did you mean 'q8_0'?)");
    refused(REQUIRED "batch: {prefix: {keep: float32}}\n",
            "job.yaml:4:18: batch.prefix.keep is float32, and model.dtype is bfloat16, in which keys and "
            "values are computed: keep: auto keeps them as they are, q8_0 and q4_0 in fewer bits");
}

static void test_nearest(void **state) {
    (void)state;
    static const char *const words[] = {"run", "import", "status", "verify", "--output"};
    assert_string_equal(job_nearest("imprt", words, 5), "import");
    assert_string_equal(job_nearest("IMPORT", words, 5), "import");
    assert_string_equal(job_nearest("rnu", words, 5), "run");
    assert_string_equal(job_nearest("stauts", words, 5), "status");
    assert_string_equal(job_nearest("--ouput", words, 5), "--output");
    assert_null(job_nearest("xyz", words, 5));
    assert_null(job_nearest("", words, 5));
    assert_null(job_nearest("a", words, 5));
    assert_null(job_nearest("run", words, 0));
    assert_null(job_nearest("a very long word that nobody could have meant by any of these", words, 5));
}

static void test_files(void **state) {
    (void)state;
    struct job job;
    struct error err = {0};
    assert_int_equal(job_read(&job, "/no/such/job.yaml", &err), STATUS_JOB);
    assert_string_equal(
        err.message,
        "cannot open /no/such/job.yaml: No such file or directory (there is no folder /no/such)");
    assert_int_equal(err.status, STATUS_JOB);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_wrong_devices),
        cmocka_unit_test(test_whole_file),
        cmocka_unit_test(test_bounds_between_keys),
        cmocka_unit_test(test_open_limits_of_a_batch),
        cmocka_unit_test(test_texts_longer_than_a_batch),
        cmocka_unit_test(test_several_devices),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
#include "bench/benchmark.h"
#include "commands/command.h"

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    struct device_options options = {.threads = (int)argument_integer(arguments, "--threads", 0),
                                     .cpu_path = argument_text(arguments, "--cpu-path", NULL)};
    struct bench_options bench = {
        .shape = bench_shape_find(argument_text(arguments, "--shape", "qwen3-0.6b")),
        .parts = bench_parts_find(argument_text(arguments, "--part", "all")),
        .tokens = (size_t)argument_integer(arguments, "--tokens", 8192),
        .repeats = (int)argument_integer(arguments, "--repeats", 5),
        .seconds = (double)argument_integer(arguments, "--seconds", 5),
        .json = argument_text(arguments, "--json", NULL),
    };
    struct device *device = NULL;
    if (!dtype_parse(argument_text(arguments, "--dtype", "bfloat16"), &options.dtype)) {
        return error_set(err, STATUS_USAGE, "--dtype is bfloat16, float16 or float32");
    }
    const char *name = argument_text(arguments, "--device", "auto");
    TRY(device_open(&device, name, &options, err));
    int status = bench_device(device, name, &options, &bench, context->out, err);
    device_close(device);
    return status;
}

static const struct option options[] = {
    {.name = "--device",
     .kind = OPTION_TEXT,
     .value = "DEVICE",
     .help = "cpu, cuda:N or auto (default: auto)"},
    {.name = "--dtype",
     .kind = OPTION_TEXT,
     .value = "DTYPE",
     .help = "number format of the computation (default: bfloat16)",
     .choices = "bfloat16|float16|float32"},
    {.name = "--cpu-path",
     .kind = OPTION_TEXT,
     .value = "PATH",
     .help = "instruction set of the CPU back end (default: the fastest)"},
    {.name = "--threads",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "threads that compute (default: every core)",
     .minimum = 1,
     .maximum = 1024},
    {.name = "--repeats",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "runs of each measurement; the best counts (default: 5)",
     .minimum = 1,
     .maximum = 100},
    {.name = "--shape",
     .kind = OPTION_TEXT,
     .value = "MODEL",
     .help = "model whose block is measured (default: qwen3-0.6b)",
     .choices = "qwen3-0.6b|qwen3-8b|tiny"},
    {.name = "--part",
     .kind = OPTION_TEXT,
     .value = "PART[,PART...]",
     .help = "parts of the table to measure (default: all, which is all but families)",
     .choices = "all|peaks|products|small|attention|block|rows|copies|threads|sustained|expansion|families",
     .list = true},
    {.name = "--seconds",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "duration of the part sustained (default: 5)",
     .minimum = 1,
     .maximum = 600},
    {.name = "--tokens",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "tokens of the largest batch (default: 8192)",
     .minimum = 1,
     .maximum = 65536},
    {.name = "--json", .kind = OPTION_TEXT, .value = "FILE", .help = "write the same figures as JSON"},
};

const struct command command_bench = {
    .name = "bench",
    .summary = "measure a device: peaks, matmuls, attention and blocks, as ratios within one run",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .details =
        "The part sustained runs a block's matmuls in turn for --seconds without a pause and reports what "
        "the\n"
        "GPU's monitoring saw meanwhile: the lowest clock, the power, and the reasons for throttling.\n"
        "The part families measures a block of several published models, whatever --shape is (tiny: of "
        "small\n"
        "ones made up for tests).\n"
        "\n"
        "Each line is printed as soon as it is known. The --json file is valid at any moment: if the command "
        "is\n"
        "interrupted, it holds what was measured so far, with \"complete\": false.\n"
        "\n"
        "tools/bench compares a whole extraction with transformers, and the tokenizer with tokenizers.\n",
    .run = run,
};

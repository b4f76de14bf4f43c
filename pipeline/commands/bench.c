#include <string.h>

#include "commands/command.h"
#include "kernels/bench.h"

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    struct device_options options = {.threads = (int)argument_integer(arguments, "--threads", 0),
                                     .cpu_path = argument_text(arguments, "--cpu-path", NULL)};
    struct bench_options bench = {.repeats = (int)argument_integer(arguments, "--repeats", 3)};
    struct device *device = NULL;
    if (!dtype_parse(argument_text(arguments, "--dtype", "bfloat16"), &options.dtype)) {
        return error_set(err, STATUS_USAGE, "--dtype is bfloat16 or float32");
    }
    int status = device_open(&device, argument_text(arguments, "--device", "auto"), &options, err);
    if (status == STATUS_OK) {
        status = bench_device(device, &bench, context->out, err);
    }
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
     .help = "of computation (default: bfloat16)",
     .choices = "bfloat16|float32"},
    {.name = "--cpu-path",
     .kind = OPTION_TEXT,
     .value = "PATH",
     .help = "an instruction-set path by name (default: chosen)"},
    {.name = "--threads",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "threads that compute (default: every core)",
     .minimum = 1,
     .maximum = 1024},
    {.name = "--repeats",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "runs of each measurement, of which the best counts (default: 3)",
     .minimum = 1,
     .maximum = 100},
};

const struct command command_bench = {
    .name = "bench",
    .summary = "measure a device: peaks, products, attention and row operations as ratios in one run",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .details =
        "tools/bench compares a whole extraction with transformers, and the tokenizer with tokenizers.\n",
    .run = run,
};

#include "commands/job_arguments.h"

struct inputs_options job_arguments(const struct arguments *arguments, struct watch watch) {
    struct inputs_options options = {.job_path = argument_text(arguments, "JOB.yaml", NULL), .watch = watch};
    if (argument_exists(arguments, "--output")) {
        options.output = argument_text(arguments, "--output", NULL);
    }
    if (argument_exists(arguments, "--limit")) {
        options.limit = (uint64_t)argument_integer(arguments, "--limit", 0);
    }
    if (argument_exists(arguments, "--threads")) {
        options.threads = (int)argument_integer(arguments, "--threads", 0);
    }
    return options;
}

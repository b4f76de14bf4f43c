// SPDX-License-Identifier: MIT
#include "commands/command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/printable.h"
#include "base/process.h"
#include "base/version.h"
#include "checkpoints/shard.h"
#include "commands/commit.h"
#include "commands/habits.h"
#include "commands/operand_hints.h"
#include "job/job.h"
#include "kernels/device.h"
#include "problems/source.h"
#include "text/tokenizer.h"

// clang-format off
static const struct command *const commands[] = {
    &command_run,
    &command_import,
    &command_check,
    &command_plan,
    &command_survey,
    &command_status,
    &command_log,
    &command_report,
    &command_show,
    &command_verify,
    &command_export,
    &command_bench,
    &command_help,
};
// clang-format on
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

size_t command_count(void) {
    return COMMAND_COUNT;
}

const struct command *command_at(size_t index) {
    return commands[index];
}

const struct command *command_find(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static int unknown_command(const char *name) {
    char shown[256];
    const char *names[COMMAND_COUNT];
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i]->name;
    }
    const char *nearest = job_nearest(name, names, COMMAND_COUNT);
    const char *habit = habit_command(name);
    fprintf(stderr, "strata: unknown command '%s'", printable(shown, sizeof shown, name));
    if (habit != NULL) {
        fprintf(stderr, ": %s", habit);
    } else if (nearest != NULL) {
        fprintf(stderr, " (did you mean '%s'?)", nearest);
    }
    fputs("; see 'strata help'\n", stderr);
    return error_exit_code(STATUS_USAGE);
}

// "strata import --help" is the same as "strata help import".
static bool asks_for_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

static void print_error(const struct command *command, const struct error *err) {
    char text[2 * sizeof err->message];
    (err->lines ? printable_lines : printable)(text, sizeof text, err->message);
    fprintf(stderr, "strata %s: %s\n", command->name, text);
}

// A result that did not reach its reader must not look like success; nor work that is complete like a
// failure because nobody read its summary.
static int flush_output(const struct command *command, int status, struct error *err) {
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return status;
    }
    if (command->sums_up) {
        fprintf(stderr, "strata %s: the summary could not be written: %s\n", command->name, strerror(errno));
        return status;
    }
    return status == STATUS_OK ? error_set_errno(err, STATUS_WRITE, "cannot write the output") : status;
}

static int run_command(const struct command *command, int argc, char **argv) {
    if (command->holds_signals) {
        process_hold_stop_signals();
    }
    struct error err = {0};
    struct arguments arguments;
    struct command_context context = {.out = stdout, .arguments = &arguments};
    int status = arguments_parse(&arguments, command, argc, argv, &err);
    char output[PATH_SIZE];
    if (status == STATUS_OK) {
        status = operand_hints_check(&arguments, output, &err);
    }
    if (status == STATUS_OK) {
        status = command->run(&context, &err);
    }
    status = flush_output(command, status, &err);
    if (status != STATUS_OK) {
        print_error(command, &err);
    }
    if (status == STATUS_USAGE) {
        fprintf(stderr, "see 'strata help %s'\n", command->name);
    }
    if (status != STATUS_OK) { // a library that failed is not to be trusted with its exit handlers
        fflush(NULL);
        _exit(error_exit_code(status));
    }
    return error_exit_code(status);
}

// The program's version in a line of its own; then what it was built from and for, and the libraries that it
// runs with.
static bool print_version(void) {
    char hdf5[32];
    char tokenizer[TOKENIZER_LIBRARY];
    return printf("strata %s\ncommit %s\nCUDA %s\nHDF5 %s; SQLite %s; %s\n", STRATA_VERSION,
                  commit_built_from, device_cuda_build(), shard_library(hdf5), source_library(),
                  tokenizer_library(tokenizer)) > 0 &&
           fflush(stdout) == 0;
}

int commands_main(int argc, char **argv) {
    if (argc < 2) {
        return run_command(&command_help, 0, NULL) == 0 ? error_exit_code(STATUS_USAGE)
                                                        : error_exit_code(STATUS_WRITE);
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0) {
        return print_version() ? 0 : error_exit_code(STATUS_WRITE);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        return run_command(&command_help, argc - 2, argv + 2);
    }
    const struct command *command = command_find(name);
    if (command == NULL) {
        return unknown_command(name);
    }
    if (asks_for_help(argc - 2, argv + 2)) {
        return run_command(&command_help, 1, argv + 1);
    }
    return run_command(command, argc - 2, argv + 2);
}

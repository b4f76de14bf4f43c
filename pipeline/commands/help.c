// SPDX-License-Identifier: MIT
#include <string.h>

#include "commands/command.h"
#include "commands/habits.h"
#include "commands/help_pages.h"
#include "commands/readable.h"
#include "job/job.h"
#include "model/family.h"

const struct help_exit_code help_exit_codes[] = {
    {0,
     "success: every problem is accounted for (failed ones are listed), or the command did what was asked"},
    {64, "wrong usage: an unknown command, option or value"},
    {65, "bad input data (database, model, tokenizer), no problem succeeded, or more failed than max_failed "
         "allows"},
    {69, "the device, its driver or a library is missing or too small, or the model's disk does not respond"},
    {70, "internal error, or out of memory, threads or open files: run the same command again"},
    {73, "cannot write: disk full, permissions, a failed sync"},
    {75, "stopped cleanly before the end (signal, budget), or the database is locked: run the same command "
         "again"},
    {78, "bad job file"},
    {80, "stopped because batch times drifted"},
};

const size_t help_exit_code_count = sizeof help_exit_codes / sizeof help_exit_codes[0];

enum { COLUMN_WIDTH = 26 };

// Where the help is printed, and how wide its lines may be.
struct page {
    FILE *out;
    int width;
};

static void print_row(const struct page *page, const char *left, const char *right) {
    int written = fprintf(page->out, "  %s", left);
    if (written > COLUMN_WIDTH) {
        fputc('\n', page->out);
        written = 0;
    }
    fprintf(page->out, "%*s  ", COLUMN_WIDTH - written, "");
    readable_wrap(page->out, right, COLUMN_WIDTH + 2, COLUMN_WIDTH + 2, page->width);
}

static void print_overview(const struct page *page) {
    readable_wrap(page->out,
                  "strata extracts hidden states from a language model's layers for a database of problems, "
                  "and loses nothing.",
                  0, 0, page->width);
    fputs("\nusage: strata COMMAND ...\n\ncommands:\n", page->out);
    for (size_t i = 0; i < command_count(); i++) {
        print_row(page, command_at(i)->name, command_at(i)->summary);
    }
    fputs("\ntopics:\n", page->out);
    print_row(page, "job", "the keys of a job file");
    print_row(page, "exit-codes", "what the exit code says");
    print_row(page, "models", "the families of models");
    fputc('\n', page->out);
    readable_wrap(page->out,
                  "See 'strata help COMMAND' or 'strata help TOPIC' for details; 'strata --version' prints "
                  "the version.",
                  0, 0, page->width);
}

static void print_models(const struct page *page) {
    char names[2048] = "";
    family_names(names, sizeof names);
    fputs("models, by model_type of their config.json:\n  ", page->out);
    readable_wrap(page->out, names, 2, 2, page->width);
}

static void print_exit_codes(const struct page *page) {
    fputs("exit codes:\n", page->out);
    for (size_t i = 0; i < help_exit_code_count; i++) {
        fprintf(page->out, "  %2d  ", help_exit_codes[i].code);
        readable_wrap(page->out, help_exit_codes[i].meaning, 6, 6, page->width);
    }
}

// "npy|hdf5|rjepa" as "npy, hdf5 or rjepa".
static const char *list_of(const char *choices, char *out, size_t size) {
    size_t length = 0;
    for (const char *at = choices; *at != 0 && length + 5 < size; at++) {
        const char *between = strchr(at + 1, '|') != NULL ? ", " : " or ";
        length +=
            (size_t)snprintf(out + length, size - length, "%s", *at == '|' ? between : (char[2]){*at, 0});
    }
    return out;
}

static void print_option(const struct page *page, const struct option *option) {
    char left[128];
    char list[2 * OPTION_CHOICES];
    snprintf(left, sizeof left, "%s%s%s", option->name, option->kind == OPTION_FLAG ? "" : " ",
             option->value == NULL ? "" : option->value);
    if (option->help != NULL) {
        print_row(page, left, option->help);
    } else {
        char choices[OPTION_CHOICES];
        print_row(page, left, list_of(option_choices(option, choices), list, sizeof list));
    }
}

// "usage: strata NAME OPERAND [--option VALUE]", never broken inside a pair of brackets.
static void print_usage(const struct page *page, const struct command *command) {
    int at = fprintf(page->out, "usage: strata %s", command->name);
    char word[128];
    for (size_t i = 0; i < command->operand_count + command->option_count; i++) {
        if (i < command->operand_count) {
            const struct operand *operand = &command->operands[i];
            snprintf(word, sizeof word, operand->optional ? "[%s]%s" : "%s%s", operand->name,
                     operand->repeats ? " ..." : "");
        } else {
            const struct option *option = &command->options[i - command->operand_count];
            const char *value = option->value == NULL ? "" : option->value;
            snprintf(word, sizeof word, option->required ? "%s%s%s" : "[%s%s%s]", option->name,
                     value[0] == 0 || option->kind == OPTION_FLAG ? "" : " ", value);
        }
        if (at + 1 + (int)strlen(word) > page->width) {
            at = fprintf(page->out, "\n      ") - 1;
        }
        at += fprintf(page->out, " %s", word);
    }
    fputs("\n\n", page->out);
}

static int print_details(const struct page *page, const struct command *command, struct error *err) {
    int columns = page->width < READABLE_WIDEST ? page->width : 0;
    if (command->details == NULL && command->print_details == NULL) {
        return STATUS_OK;
    }
    fputs(command->operand_count + command->option_count > 0 ? "\n" : "", page->out);
    if (command->details != NULL) {
        readable_lines(page->out, command->details, 0, HELP_FULL_LINE, columns);
        return STATUS_OK;
    }
    struct readable_page details;
    TRY(readable_page_open(&details, "the help", err));
    command->print_details(details.out);
    return readable_page_print(&details, page->out, 0, HELP_FULL_LINE, columns, err);
}

static int print_command(const struct page *page, const struct command *command, struct error *err) {
    int at = fprintf(page->out, "strata %s: ", command->name);
    readable_wrap(page->out, command->summary, at, 0, page->width);
    fputc('\n', page->out);
    print_usage(page, command);
    for (size_t i = 0; i < command->operand_count; i++) {
        print_row(page, command->operands[i].name, command->operands[i].help);
    }
    for (size_t i = 0; i < command->option_count; i++) {
        print_option(page, &command->options[i]);
    }
    return print_details(page, command, err);
}

static int unknown_topic(const char *topic, struct error *err) {
    const char *names[64] = {"job", "exit-codes", "models"};
    size_t count = 3;
    for (size_t i = 0; i < command_count() && count < sizeof names / sizeof names[0]; i++) {
        names[count++] = command_at(i)->name;
    }
    const char *habit = habit_command(topic);
    if (habit != NULL) {
        return error_set(err, STATUS_USAGE, "there is no topic '%s': %s", topic, habit);
    }
    const char *nearest = job_nearest(topic, names, count);
    if (nearest == NULL) {
        return error_set(err, STATUS_USAGE,
                         "there is no topic '%s': topics are the commands, job (every key of a job "
                         "file), exit-codes and models",
                         topic);
    }
    return error_set(err, STATUS_USAGE, "unknown topic '%s' (did you mean '%s'?)", topic, nearest);
}

// A key is one line for programs, and as many as it takes on a terminal.
static int print_job(FILE *out, bool markdown, int columns, struct error *err) {
    struct readable_page page;
    TRY(readable_page_open(&page, "the reference of the job file", err));
    job_print_reference(page.out, markdown);
    return readable_page_print(&page, out, 4, 0, columns, err);
}

// What other programs show in place of a terminal.
static int print_manual(FILE *out, const char *topic, struct error *err) {
    if (topic == NULL) {
        manual_print_overview(out);
    } else if (strcmp(topic, "job") == 0) {
        return manual_print_job(out, err);
    } else if (strcmp(topic, "exit-codes") == 0) {
        return error_set(err, STATUS_USAGE, "the exit codes are in strata(1), which --man alone prints");
    } else if (strcmp(topic, "models") == 0) {
        return error_set(err, STATUS_USAGE,
                         "the families of models have no page of the manual: strata help models");
    } else if (command_find(topic) == NULL) {
        return unknown_topic(topic, err);
    } else {
        return manual_print_command(out, command_find(topic), err);
    }
    return STATUS_OK;
}

static int run(struct command_context *context, struct error *err) {
    const char *topic = argument_text(context->arguments, "TOPIC", NULL);
    const char *shell = argument_text(context->arguments, "--completion", NULL);
    bool markdown = argument_given(context->arguments, "--markdown");
    bool manual = argument_given(context->arguments, "--man");
    if ((shell != NULL && (topic != NULL || manual)) || (markdown && (shell != NULL || manual))) {
        return error_set(
            err, STATUS_USAGE,
            "--markdown, --man and --completion exclude each other, and the last takes no topic");
    }
    if (shell != NULL) {
        (strcmp(shell, "zsh") == 0 ? completion_print_zsh : completion_print_bash)(context->out);
        return STATUS_OK;
    }
    if (manual) {
        return print_manual(context->out, topic, err);
    }
    if (markdown && (topic == NULL || strcmp(topic, "job") != 0)) {
        return error_set(err, STATUS_USAGE, "--markdown is for the topic 'job'");
    }
    int columns = readable_columns(context->out);
    const struct page page = {.out = context->out, .width = columns > 0 ? columns : READABLE_WIDEST};
    if (topic == NULL) {
        print_overview(&page);
    } else if (strcmp(topic, "job") == 0) {
        return print_job(context->out, markdown, markdown ? 0 : columns, err);
    } else if (strcmp(topic, "exit-codes") == 0) {
        print_exit_codes(&page);
    } else if (strcmp(topic, "models") == 0) {
        print_models(&page);
    } else if (command_find(topic) != NULL) {
        return print_command(&page, command_find(topic), err);
    } else {
        return unknown_topic(topic, err);
    }
    return STATUS_OK;
}

static const struct operand operands[] = {
    {.name = "TOPIC", .help = "a command, 'job', 'exit-codes' or 'models'", .optional = true},
};

static const struct option options[] = {
    {.name = "--markdown", .kind = OPTION_FLAG, .help = "the topic 'job' as the tables of configs/README.md"},
    {.name = "--man",
     .kind = OPTION_FLAG,
     .help = "the manual page of a command, of 'job', or without a topic strata(1), as man reads it"},
    {.name = "--completion",
     .kind = OPTION_TEXT,
     .value = "SHELL",
     .help = "the completion of bash or zsh, as the shell reads it",
     .choices = "bash|zsh"},
};

const struct command command_help = {
    .name = "help",
    .summary = "explain a command, the job file or the exit codes",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};

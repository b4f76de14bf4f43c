#include <string.h>

#include "commands/command.h"
#include "job/job.h"

static const struct {
    int code;
    const char *meaning;
} exit_codes[] = {
    {0, "every problem is accounted for (failed ones are listed), or the command did what was asked"},
    {64, "wrong usage: an unknown command, option or value"},
    {65,
     "bad input data (database, model, tokenizer), or more failed problems than problems.max_failed allows"},
    {69, "the device, its driver or a library is not there or too small, or the disk of the model does not "
         "answer"},
    {70,
     "internal error, or memory, threads or open files that could not be had: run the same command again"},
    {73, "cannot write: disk full, permissions, a failed sync"},
    {75, "stopped cleanly before the end (signal, budget): run the same command again"},
    {78, "bad job file"},
    {80, "stopped because batch times drifted"},
};

enum { COLUMN_WIDTH = 26, LINE_WIDTH = 110 };

// Prints `text` from column `at` on; what would pass LINE_WIDTH goes on in the next line, `indent` deep.
static void print_wrapped(FILE *out, const char *text, int at, int indent) {
    const char *space = "";
    while (*text != 0) {
        int length = (int)strcspn(text, " ");
        if (space[0] != 0 && at + 1 + length > LINE_WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
            space = "";
        }
        at += fprintf(out, "%s%.*s", space, length, text);
        text += length + (text[length] == ' ');
        space = " ";
    }
    fputc('\n', out);
}

static void print_row(FILE *out, const char *left, const char *right) {
    int written = fprintf(out, "  %s", left);
    if (written > COLUMN_WIDTH) {
        fputc('\n', out);
        written = 0;
    }
    fprintf(out, "%*s  ", COLUMN_WIDTH - written, "");
    print_wrapped(out, right, COLUMN_WIDTH + 2, COLUMN_WIDTH + 2);
}

static void print_overview(FILE *out) {
    fputs("strata extracts the hidden states of a language model's layers for a database of problems, and "
          "loses nothing.\n\n"
          "usage: strata COMMAND ...\n\ncommands:\n",
          out);
    for (size_t i = 0; i < command_count(); i++) {
        print_row(out, command_at(i)->name, command_at(i)->summary);
    }
    fputs("\ntopics:\n", out);
    print_row(out, "job", "the keys of a job file");
    print_row(out, "exit-codes", "what the exit code says");
    fputs(
        "\n'strata help COMMAND' and 'strata help TOPIC' tell more; 'strata --version' prints the version.\n",
        out);
}

static void print_exit_codes(FILE *out) {
    fputs("exit codes:\n", out);
    for (size_t i = 0; i < sizeof exit_codes / sizeof exit_codes[0]; i++) {
        fprintf(out, "  %2d  %s\n", exit_codes[i].code, exit_codes[i].meaning);
    }
}

static void print_option(FILE *out, const struct option *option) {
    char left[128];
    snprintf(left, sizeof left, "%s%s%s", option->name, option->kind == OPTION_FLAG ? "" : " ",
             option->value == NULL ? "" : option->value);
    print_row(out, left, option->help);
}

// "usage: strata NAME OPERAND [--option VALUE]", never broken inside a pair of brackets.
static void print_usage(FILE *out, const struct command *command) {
    int at = fprintf(out, "usage: strata %s", command->name);
    char word[128];
    for (size_t i = 0; i < command->operand_count + command->option_count; i++) {
        if (i < command->operand_count) {
            const struct operand *operand = &command->operands[i];
            snprintf(word, sizeof word, operand->optional ? "[%s]" : "%s", operand->name);
        } else {
            const struct option *option = &command->options[i - command->operand_count];
            const char *value = option->value == NULL ? "" : option->value;
            snprintf(word, sizeof word, option->required ? "%s%s%s" : "[%s%s%s]", option->name,
                     value[0] == 0 || option->kind == OPTION_FLAG ? "" : " ", value);
        }
        if (at + 1 + (int)strlen(word) > LINE_WIDTH) {
            at = fprintf(out, "\n      ") - 1;
        }
        at += fprintf(out, " %s", word);
    }
    fputs("\n\n", out);
}

static void print_command(FILE *out, const struct command *command) {
    fprintf(out, "strata %s: %s\n\n", command->name, command->summary);
    print_usage(out, command);
    for (size_t i = 0; i < command->operand_count; i++) {
        print_row(out, command->operands[i].name, command->operands[i].help);
    }
    for (size_t i = 0; i < command->option_count; i++) {
        print_option(out, &command->options[i]);
    }
    if (command->details != NULL) {
        fprintf(out, "%s%s", command->operand_count + command->option_count > 0 ? "\n" : "",
                command->details);
    }
}

static int unknown_topic(const char *topic, struct error *err) {
    const char *names[64] = {"job", "exit-codes"};
    size_t count = 2;
    for (size_t i = 0; i < command_count() && count < sizeof names / sizeof names[0]; i++) {
        names[count++] = command_at(i)->name;
    }
    const char *nearest = job_nearest(topic, names, count);
    if (nearest == NULL) {
        return error_set(err, STATUS_USAGE, "there is no topic '%s'", topic);
    }
    return error_set(err, STATUS_USAGE, "there is no topic '%s' (did you mean '%s'?)", topic, nearest);
}

static int run(struct command_context *context, struct error *err) {
    const char *topic = argument_text(context->arguments, "TOPIC", NULL);
    bool markdown = argument_given(context->arguments, "--markdown");
    if (markdown && (topic == NULL || strcmp(topic, "job") != 0)) {
        return error_set(err, STATUS_USAGE, "--markdown is for the topic 'job'");
    }
    if (topic == NULL) {
        print_overview(context->out);
    } else if (strcmp(topic, "job") == 0) {
        job_print_reference(context->out, markdown);
    } else if (strcmp(topic, "exit-codes") == 0) {
        print_exit_codes(context->out);
    } else if (command_find(topic) != NULL) {
        print_command(context->out, command_find(topic));
    } else {
        return unknown_topic(topic, err);
    }
    return STATUS_OK;
}

static const struct operand operands[] = {
    {.name = "TOPIC", .help = "a command, 'job' or 'exit-codes'", .optional = true},
};

static const struct option options[] = {
    {.name = "--markdown", .kind = OPTION_FLAG, .help = "the topic 'job' as the tables of the README"},
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

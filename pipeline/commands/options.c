// SPDX-License-Identifier: MIT
#include "commands/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/command.h"
#include "commands/habits.h"
#include "job/job.h"
#include "start/inputs.h"

const char *option_choices(const struct option *option, char out[OPTION_CHOICES]) {
    if (option->choice == NULL) {
        return option->choices;
    }
    size_t size = 0;
    for (size_t i = 0; option->choice(i) != NULL && size < OPTION_CHOICES; i++) {
        size +=
            (size_t)snprintf(out + size, OPTION_CHOICES - size, "%s%s", i == 0 ? "" : "|", option->choice(i));
    }
    return out;
}

// The option called `word` (`length` bytes), or NULL.
static const struct option *find_option(const struct command *command, const char *word, size_t length) {
    for (size_t i = 0; i < command->option_count; i++) {
        const char *name = command->options[i].name;
        if (strlen(name) == length && memcmp(name, word, length) == 0) {
            return &command->options[i];
        }
    }
    return NULL;
}

static int unknown_option(const struct command *command, const char *word, size_t length, struct error *err) {
    const char *names[ARGUMENTS_MAXIMUM];
    for (size_t i = 0; i < command->option_count; i++) {
        names[i] = command->options[i].name;
    }
    char written[64];
    snprintf(written, sizeof written, "%.*s", (int)(length < 60 ? length : 60), word);
    const char *habit = habit_option(command->name, written);
    if (habit != NULL) {
        return error_set(err, STATUS_USAGE, "unknown option '%s': %s", written, habit);
    }
    const char *nearest = habit_option_name(written, names, command->option_count);
    nearest = nearest != NULL ? nearest : job_nearest(written, names, command->option_count);
    if (nearest == NULL) {
        return error_set(err, STATUS_USAGE, "unknown option '%s'", written);
    }
    return error_set(err, STATUS_USAGE, "unknown option '%s' (did you mean '%s'?)", written, nearest);
}

// Decimal digits with an optional minus sign, nothing else: no spaces, no hex, no overflow.
static bool parse_integer(const char *text, int64_t *out) {
    const char *digits = text + (text[0] == '-');
    if (digits[0] == 0 || strspn(digits, "0123456789") != strlen(digits)) {
        return false;
    }
    errno = 0;
    *out = strtoll(text, NULL, 10);
    return errno == 0;
}

static bool is_choice(const char *choices, const char *text, size_t length) {
    for (const char *start = choices; start != NULL; start = strchr(start, '|')) {
        start += *start == '|';
        if (strncmp(start, text, length) == 0 && (start[length] == '|' || start[length] == 0) && length > 0) {
            return true;
        }
    }
    return false;
}

static int refuse_choice(const struct option *option, const char *choices, const char *text, size_t length,
                         struct error *err) {
    char names[OPTION_CHOICES];
    char word[64];
    const char *list[ARGUMENTS_MAXIMUM];
    char *rest = names;
    size_t count = 0;
    snprintf(names, sizeof names, "%s", choices);
    snprintf(word, sizeof word, "%.*s", (int)length, text);
    for (char *name = strsep(&rest, "|"); name != NULL && count < ARGUMENTS_MAXIMUM;
         name = strsep(&rest, "|")) {
        list[count++] = name;
    }
    const char *nearest = job_nearest(word, list, count);
    error_set(err, STATUS_USAGE, "%s must be one of %s%s, not '%.*s'", option->name, choices,
              option->list ? ", or a list with commas" : "", (int)length, text);
    return nearest == NULL ? STATUS_USAGE : error_append(err, " (did you mean '%s'?)", nearest);
}

// Every part between commas has to be a choice.
static int check_choices(const struct option *option, const char *choices, const char *text,
                         struct error *err) {
    for (;; text++) {
        size_t length = option->list ? strcspn(text, ",") : strlen(text);
        if (!is_choice(choices, text, length)) {
            return refuse_choice(option, choices, text, length, err);
        }
        text += length;
        if (*text == 0) {
            return STATUS_OK;
        }
    }
}

static int set_value(const struct option *option, struct argument *argument, const char *text,
                     struct error *err) {
    argument->text = text;
    if (option->kind == OPTION_INTEGER) {
        if (!parse_integer(text, &argument->number)) {
            return error_set(err, STATUS_USAGE, "%s must be a whole number, not '%s'", option->name, text);
        }
        if (argument->number < option->minimum || argument->number > option->maximum) {
            return error_set(err, STATUS_USAGE, "%s %s is out of bounds: %lld to %lld", option->name, text,
                             (long long)option->minimum, (long long)option->maximum);
        }
        return STATUS_OK;
    }
    char written[OPTION_CHOICES];
    const char *choices = option_choices(option, written);
    if (choices != NULL) {
        return check_choices(option, choices, text, err);
    }
    return text[0] != 0 ? STATUS_OK : error_set(err, STATUS_USAGE, "%s is empty", option->name);
}

// One option at argv[*index]; moves *index to the last word it used.
static int parse_option(struct arguments *arguments, int argc, char **argv, int *index, struct error *err) {
    const struct command *command = arguments->command;
    const char *word = argv[*index];
    const char *equals = strchr(word, '=');
    size_t length = equals == NULL ? strlen(word) : (size_t)(equals - word);
    const struct option *option = find_option(command, word, length);
    if (option == NULL) {
        return unknown_option(command, word, length, err);
    }
    struct argument *argument = &arguments->options[option - command->options];
    if (argument->given) {
        return error_set(err, STATUS_USAGE, "%s is given twice", option->name);
    }
    argument->given = true;
    if (option->kind == OPTION_FLAG && (equals == NULL || option->choices == NULL)) {
        return equals == NULL ? STATUS_OK : error_set(err, STATUS_USAGE, "%s takes no value", option->name);
    }
    if (equals != NULL) {
        return set_value(option, argument, equals + 1, err);
    }
    if (*index + 1 >= argc) {
        return error_set(err, STATUS_USAGE, "%s wants a value (%s)", option->name, option->value);
    }
    *index += 1;
    return set_value(option, argument, argv[*index], err);
}

static int check_missing(const struct arguments *arguments, struct error *err) {
    const struct command *command = arguments->command;
    for (size_t i = 0; i < command->operand_count; i++) {
        if (!command->operands[i].optional && !arguments->operands[i].given) {
            return error_set(err, STATUS_USAGE, "%s is missing", command->operands[i].name);
        }
    }
    for (size_t i = 0; i < command->option_count; i++) {
        if (command->options[i].required && !arguments->options[i].given) {
            return error_set(err, STATUS_USAGE, "%s %s is missing", command->options[i].name,
                             command->options[i].value);
        }
    }
    return STATUS_OK;
}

// Operands are put behind those before them, over options that are read already.
static int take_operand(struct arguments *arguments, char **argv, char *word, struct error *err) {
    const struct command *command = arguments->command;
    size_t last = command->operand_count - 1;
    size_t index = arguments->word_count;
    if (command->operand_count == 0 || (index > last && !command->operands[last].repeats)) {
        bool files = strcmp(command->name, "import") == 0;
        return error_set(err, STATUS_USAGE, "unexpected argument '%s'%s", word,
                         files ? " (one file at a time: --append adds another)" : "");
    }
    if (word[0] == 0) {
        return error_set(err, STATUS_USAGE, "%s is empty",
                         command->operands[index < last ? index : last].name);
    }
    if (index <= last) {
        arguments->operands[index] = (struct argument){.given = true, .text = word};
    }
    argv[arguments->word_count++] = word;
    return STATUS_OK;
}

int arguments_parse(struct arguments *arguments, const struct command *command, int argc, char **argv,
                    struct error *err) {
    *arguments = (struct arguments){.command = command};
    if (command->operand_count > ARGUMENTS_MAXIMUM || command->option_count > ARGUMENTS_MAXIMUM) {
        return error_set(err, STATUS_INTERNAL, "the command's tables are longer than %d", ARGUMENTS_MAXIMUM);
    }
    arguments->words = (const char *const *)argv;
    bool options_ended = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!options_ended && strcmp(word, "--") == 0) {
            options_ended = true;
        } else if (!options_ended && word[0] == '-' &&
                   word[1] != 0) { // "-" alone is standard input, an operand
            TRY(parse_option(arguments, argc, argv, &i, err));
        } else {
            TRY(take_operand(arguments, argv, argv[i], err));
        }
    }
    return check_missing(arguments, err);
}

// NULL when the command's tables have none of this name.
static const struct argument *look_up(const struct arguments *arguments, const char *name) {
    const struct command *command = arguments->command;
    for (size_t i = 0; i < command->operand_count; i++) {
        if (strcmp(command->operands[i].name, name) == 0) {
            return &arguments->operands[i];
        }
    }
    for (size_t i = 0; i < command->option_count; i++) {
        if (strcmp(command->options[i].name, name) == 0) {
            return &arguments->options[i];
        }
    }
    return NULL;
}

static const struct argument *find_argument(const struct arguments *arguments, const char *name) {
    const struct argument *argument = look_up(arguments, name);
    if (argument == NULL) {
        fprintf(stderr, "strata: the command '%s' has no argument '%s' in its tables\n",
                arguments->command->name, name);
        abort();
    }
    return argument;
}

bool argument_given(const struct arguments *arguments, const char *name) {
    return find_argument(arguments, name)->given;
}

const char *argument_text(const struct arguments *arguments, const char *name, const char *otherwise) {
    const struct argument *argument = find_argument(arguments, name);
    return argument->given ? argument->text : otherwise;
}

int64_t argument_integer(const struct arguments *arguments, const char *name, int64_t otherwise) {
    const struct argument *argument = find_argument(arguments, name);
    return argument->given ? argument->number : otherwise;
}

const char *const *argument_words(const struct arguments *arguments, size_t *count) {
    size_t before = arguments->command->operand_count - 1;
    *count = arguments->word_count > before ? arguments->word_count - before : 0;
    return arguments->words + before;
}

void job_arguments(struct inputs_options *options, const struct arguments *arguments) {
    options->job_path = argument_text(arguments, "JOB.yaml", NULL);
    if (look_up(arguments, "--output") != NULL) {
        options->output = argument_text(arguments, "--output", NULL);
    }
    if (look_up(arguments, "--model-copy") != NULL) {
        options->model_copy = argument_text(arguments, "--model-copy", NULL);
    }
    if (look_up(arguments, "--limit") != NULL) {
        options->limit = (uint64_t)argument_integer(arguments, "--limit", 0);
    }
    if (look_up(arguments, "--device") != NULL) {
        options->device = argument_text(arguments, "--device", NULL);
    }
    if (look_up(arguments, "--threads") != NULL) {
        options->threads = (int)argument_integer(arguments, "--threads", 0);
    }
}

void arguments_replace_first(struct arguments *arguments, const char *text) {
    const char **words = (const char **)(uintptr_t)arguments->words; // of argv, which may be written
    words[0] = text;
    arguments->operands[0].text = text;
}

// SPDX-License-Identifier: MIT
#include <stdbool.h>
#include <string.h>

#include "commands/help_pages.h"

// What the value of an option, or an operand, is completed with.
enum values { VALUES_NONE, VALUES_FILES, VALUES_CHOICES };

static enum values values_of(const struct option *option) {
    static const char *const files[] = {"DIR", "FOLDER", "FILE", "PATH"};
    char choices[OPTION_CHOICES];
    if (option_choices(option, choices) != NULL) {
        return VALUES_CHOICES;
    }
    for (size_t i = 0; option->value != NULL && i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(option->value, files[i]) == 0) {
            return VALUES_FILES;
        }
    }
    return VALUES_NONE;
}

// "npy|hdf5" with spaces between, and `before` before each.
static void print_choices(FILE *out, const struct option *option, const char *before) {
    char choices[OPTION_CHOICES];
    const char *at = option_choices(option, choices);
    fputs(before, out);
    for (; *at != 0; at++) {
        if (*at == '|') {
            fprintf(out, " %s", before);
        } else {
            fputc(*at, out);
        }
    }
}

// The words that `strata help` takes; with those, all commands.
static void print_topics(FILE *out) {
    for (size_t i = 0; i < command_count(); i++) {
        fprintf(out, "%s ", command_at(i)->name);
    }
    fputs("job exit-codes models", out);
}

// ---- bash ----

static void print_bash_command(FILE *out, const struct command *command) {
    fprintf(out, "    %s)\n        options='--help", command->name);
    for (size_t i = 0; i < command->option_count; i++) {
        const struct option *option = &command->options[i];
        fprintf(out, " %s", option->name);
        if (option->kind == OPTION_FLAG && values_of(option) == VALUES_CHOICES) {
            char with_equals[64];
            snprintf(with_equals, sizeof with_equals, "%s=", option->name);
            fputc(' ', out);
            print_choices(out, option, with_equals);
        }
    }
    fputs("'\n        case $previous in\n", out);
    for (size_t i = 0; i < command->option_count; i++) {
        const struct option *option = &command->options[i];
        if (option->kind == OPTION_FLAG) {
            continue;
        }
        fprintf(out, "        %s) ", option->name);
        if (values_of(option) == VALUES_CHOICES) {
            fputs("values='", out);
            print_choices(out, option, "");
            fputs("' ;;\n", out);
        } else {
            fputs(values_of(option) == VALUES_FILES ? "values=FILES ;;\n" : "values=NONE ;;\n", out);
        }
    }
    fputs("        esac\n", out);
    if (command == &command_help) {
        fputs("        operands='", out);
        print_topics(out);
        fputs("'\n", out);
    }
    fputs("        ;;\n", out);
}

void completion_print_bash(FILE *out) {
    fputs("# Completion of strata for bash. strata help --completion bash wrote it.\n"
          "_strata() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local options= values= operands=FILES names='",
          out);
    for (size_t i = 0; i < command_count(); i++) {
        fprintf(out, "%s ", command_at(i)->name);
    }
    fputs("--help --version'\n"
          "    COMPREPLY=()\n"
          "    if ((COMP_CWORD == 1)); then\n"
          "        compopt +o bashdefault +o default\n"
          "        COMPREPLY=($(compgen -W \"$names\" -- \"$word\"))\n"
          "        return\n"
          "    fi\n"
          "    if [[ $word == = ]]; then # --option=: bash parts words there\n"
          "        word=\n"
          "    elif [[ $previous == = ]] && ((COMP_CWORD > 2)); then\n"
          "        previous=${COMP_WORDS[COMP_CWORD-2]}\n"
          "    fi\n"
          "    case ${COMP_WORDS[1]} in\n",
          out);
    for (size_t i = 0; i < command_count(); i++) {
        print_bash_command(out, command_at(i));
    }
    fputs("    *) return ;;\n"
          "    esac\n"
          "    if [[ -z $values && $word == -* ]]; then\n"
          "        values=$options\n"
          "    elif [[ -z $values ]]; then\n"
          "        values=$operands\n"
          "    fi\n"
          "    if [[ $values != FILES ]]; then # of files bash knows more: no word here, and it offers them\n"
          "        compopt +o bashdefault +o default\n"
          "        [[ $values == NONE ]] || COMPREPLY=($(compgen -W \"$values\" -- \"$word\"))\n"
          "    fi\n"
          "}\n"
          "complete -o bashdefault -o default -F _strata strata\n",
          out);
}

// ---- zsh ----

// Within '...[...]': the quote, the bracket and, in specifications, the colon.
static void print_zsh(FILE *out, const char *text) {
    for (const char *at = text; *at != 0; at++) {
        if (*at == '\'') {
            fputs("'\\''", out);
        } else if (strchr("[]:\\", *at) != NULL) {
            fprintf(out, "\\%c", *at);
        } else {
            fputc(*at, out);
        }
    }
}

static void print_zsh_option(FILE *out, const struct option *option) {
    enum values values = values_of(option);
    bool flag = option->kind == OPTION_FLAG;
    const char *with_value = flag ? (values == VALUES_CHOICES ? "=-" : "") : "=";
    fprintf(out, " \\\n            '%s%s[", option->name, with_value);
    print_zsh(out, option->help == NULL ? option->value : option->help);
    fputc(']', out);
    if (!flag || values == VALUES_CHOICES) {
        fputs(flag ? "::" : ":", out);
        print_zsh(out, option->value);
        fputc(':', out);
    }
    if (values == VALUES_CHOICES) {
        fputs(option->list ? "_sequence compadd - " : "(", out);
        print_choices(out, option, "");
        fputs(option->list ? "" : ")", out);
    } else if (values == VALUES_FILES) {
        fputs("_files", out);
    }
    fputc('\'', out);
}

static void print_zsh_command(FILE *out, const struct command *command) {
    fprintf(out, "    %s)\n        _arguments '--help[explain the command]'", command->name);
    for (size_t i = 0; i < command->option_count; i++) {
        print_zsh_option(out, &command->options[i]);
    }
    for (size_t i = 0; i < command->operand_count; i++) {
        const struct operand *operand = &command->operands[i];
        fprintf(out, " \\\n            '%s%s", operand->repeats ? "*" : "",
                operand->optional && !operand->repeats ? "::" : ":");
        print_zsh(out, operand->name);
        fputs(command == &command_help ? ":(" : ":_files", out);
        if (command == &command_help) {
            print_topics(out);
            fputc(')', out);
        }
        fputc('\'', out);
    }
    fputs("\n        ;;\n", out);
}

void completion_print_zsh(FILE *out) {
    fputs("#compdef strata\n"
          "# Completion of strata for zsh. strata help --completion zsh wrote it.\n"
          "_strata() {\n"
          "    local -a commands=(\n",
          out);
    for (size_t i = 0; i < command_count(); i++) {
        fprintf(out, "        '%s:", command_at(i)->name);
        print_zsh(out, command_at(i)->summary);
        fputs("'\n", out);
    }
    fputs("    )\n"
          "    if ((CURRENT == 2)); then\n"
          "        _describe command commands\n"
          "        compadd - --help --version\n"
          "        return\n"
          "    fi\n"
          "    shift words\n"
          "    ((CURRENT--))\n"
          "    case $words[1] in\n",
          out);
    for (size_t i = 0; i < command_count(); i++) {
        print_zsh_command(out, command_at(i));
    }
    fputs("    esac\n"
          "}\n"
          "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
          "    _strata \"$@\"\n"
          "else # sourced\n"
          "    compdef _strata strata\n"
          "fi\n",
          out);
}

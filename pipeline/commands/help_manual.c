// SPDX-License-Identifier: MIT
#include <string.h>

#include "base/roff.h"
#include "base/version.h"
#include "commands/help_pages.h"
#include "commands/readable.h"
#include "job/job.h"

// No date: the same version is the same page.
static void print_head(FILE *out, const char *name, int section, const char *summary) {
    fprintf(out, ".TH \"");
    for (const char *at = name; *at != 0; at++) {
        fputc(*at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at, out);
    }
    fprintf(out, "\" %d \"\" \"strata " STRATA_VERSION "\" \"%s\"\n.nh\n.ad l\n.SH NAME\n", section,
            section == 1 ? "User Commands" : "File Formats");
    roff_text(out, name);
    fputs(" \\- ", out);
    roff_text(out, summary);
    fputc('\n', out);
}

// The name in bold, a placeholder in italics.
static void print_option(FILE *out, const struct option *option) {
    const char *value = option->value == NULL ? "" : option->value;
    fputs("\\fB", out);
    roff_text(out, option->name);
    fputs("\\fR", out);
    if (option->kind == OPTION_FLAG) {
        roff_text(out, value);
    } else {
        fputs(" \\fI", out);
        roff_text(out, value);
        fputs("\\fR", out);
    }
}

static void print_operand(FILE *out, const struct operand *operand) {
    fputs("\\fI", out);
    roff_text(out, operand->name);
    fputs(operand->repeats ? "\\fR ..." : "\\fR", out);
}

static void print_synopsis(FILE *out, const struct command *command) {
    fprintf(out, ".SH SYNOPSIS\n\\fBstrata %s\\fR", command->name);
    for (size_t i = 0; i < command->operand_count; i++) {
        bool optional = command->operands[i].optional;
        fputs(optional ? "\n[" : "\n", out);
        print_operand(out, &command->operands[i]);
        fputs(optional ? "]" : "", out);
    }
    for (size_t i = 0; i < command->option_count; i++) {
        bool optional = !command->options[i].required;
        fputs(optional ? "\n[" : "\n", out);
        print_option(out, &command->options[i]);
        fputs(optional ? "]" : "", out);
    }
    fputc('\n', out);
}

static void print_help_of_option(FILE *out, const struct option *option) {
    char choices[OPTION_CHOICES];
    if (option->help != NULL) {
        roff_text(out, option->help);
    } else {
        fputs("one of ", out);
        for (const char *at = option_choices(option, choices); *at != 0; at++) {
            roff_text(out, *at == '|' ? ", " : (char[2]){*at, 0});
        }
    }
    fputc('\n', out);
}

static int print_description(FILE *out, const struct command *command, struct error *err) {
    if (command->details == NULL && command->print_details == NULL) {
        return STATUS_OK;
    }
    fputs(".SH DESCRIPTION\n", out);
    if (command->details != NULL) {
        roff_lines(out, command->details, HELP_FULL_LINE);
        return STATUS_OK;
    }
    struct readable_page details;
    TRY(readable_page_open(&details, "the manual page", err));
    command->print_details(details.out);
    int status = fflush(details.out) == 0
                     ? STATUS_OK
                     : error_set(err, STATUS_INTERNAL, "out of memory for the manual page");
    if (status == STATUS_OK) {
        roff_lines(out, details.text, HELP_FULL_LINE);
    }
    readable_page_drop(&details);
    return status;
}

// `man strata-import` finds the page of `strata import`, whoever looks for the program of that name.
static void print_companion(FILE *out, const struct command *command) {
    if (command->companion == NULL) {
        return;
    }
    fprintf(out, ".SH NOTES\nThis page is about \\fBstrata %s\\fR. The program \\fB", command->name);
    roff_text(out, command->companion);
    fputs("\\fR of the Python package has options of its own, which\n\\fB", out);
    roff_text(out, command->companion);
    fputs(" \\-\\-help\\fR lists.\n", out);
}

static void print_see_also(FILE *out, const char *but) {
    fputs(".SH SEE ALSO\n", out);
    const char *between = "";
    if (strcmp(but, "") != 0) {
        fputs(".BR strata (1)", out);
        between = ",\n";
    }
    for (size_t i = 0; i < command_count(); i++) {
        if (strcmp(command_at(i)->name, but) != 0) {
            fprintf(out, "%s.BR strata\\-%s (1)", between, command_at(i)->name);
            between = ",\n";
        }
    }
    fprintf(out, "%s\n", strcmp(but, "job") == 0 ? "" : ",\n.BR strata\\-job (5)");
}

int manual_print_command(FILE *out, const struct command *command, struct error *err) {
    char name[64];
    snprintf(name, sizeof name, "strata-%s", command->name);
    print_head(out, name, 1, command->summary);
    print_synopsis(out, command);
    TRY(print_description(out, command, err));
    if (command->operand_count + command->option_count > 0) {
        fputs(".SH OPTIONS\n", out);
    }
    for (size_t i = 0; i < command->operand_count; i++) {
        fputs(".TP\n", out);
        print_operand(out, &command->operands[i]);
        fputc('\n', out);
        roff_text(out, command->operands[i].help);
        fputc('\n', out);
    }
    for (size_t i = 0; i < command->option_count; i++) {
        fputs(".TP\n", out);
        print_option(out, &command->options[i]);
        fputc('\n', out);
        print_help_of_option(out, &command->options[i]);
    }
    print_companion(out, command);
    fputs(".SH EXIT STATUS\nSee\n.BR strata (1).\n", out);
    print_see_also(out, command->name);
    return STATUS_OK;
}

void manual_print_overview(FILE *out) {
    print_head(out, "strata", 1, "extract hidden states from the layers of a language model");
    fputs(
        ".SH SYNOPSIS\n\\fBstrata\\fR \\fICOMMAND\\fR ...\n"
        ".br\n\\fBstrata\\fR \\fB\\-\\-version\\fR\n"
        ".SH DESCRIPTION\n"
        "strata runs texts of an SQLite database through a language model and keeps the hidden states of "
        "its\n"
        "layers in HDF5 shards. A job file,\n.BR strata\\-job (5),\nsays which. Starting a job and resuming "
        "it are\nthe same command; nothing that was acknowledged is ever lost or doubled.\n"
        ".SH COMMANDS\n",
        out);
    for (size_t i = 0; i < command_count(); i++) {
        fprintf(out, ".TP\n.BR strata\\-%s (1)\n", command_at(i)->name);
        roff_text(out, command_at(i)->summary);
        fputc('\n', out);
    }
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < help_exit_code_count; i++) {
        fprintf(out, ".TP\n%d\n", help_exit_codes[i].code);
        roff_text(out, help_exit_codes[i].meaning);
        fputc('\n', out);
    }
    print_see_also(out, "");
}

// A line of the reference as `strata help job` has it: "section: about", "  key: value", "      meaning".
static void print_job_line(FILE *out, char *line) {
    char *colon = strchr(line, ':');
    size_t indent = strspn(line, " ");
    if (indent == 2 && colon != NULL) {
        *colon = 0;
        fprintf(out, ".TP\n\\fB%s\\fR:", line + indent);
        roff_text(out, colon + 1);
    } else if (indent == 0 && colon != NULL && strchr(line, ' ') == colon + 1) {
        *colon = 0;
        fprintf(out, ".SH \"%s\"\n", line);
        roff_text(out, colon + 2);
    } else {
        roff_text(out, line + indent);
    }
    fputc('\n', out);
}

int manual_print_job(FILE *out, struct error *err) {
    struct readable_page page;
    TRY(readable_page_open(&page, "the manual page", err));
    job_print_reference(page.out, false);
    if (fflush(page.out) != 0) {
        readable_page_drop(&page);
        return error_set(err, STATUS_INTERNAL, "out of memory for the manual page");
    }
    print_head(out, "strata-job", 5, "the job file of strata");
    fputs(".SH DESCRIPTION\n", out);
    char *rest;
    for (char *line = strtok_r(page.text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        print_job_line(out, line);
    }
    readable_page_drop(&page);
    print_see_also(out, "job");
    return STATUS_OK;
}

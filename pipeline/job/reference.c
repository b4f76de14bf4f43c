#include <string.h>

#include "job/keys.h"

// The bounds or choices of a key, as a reader of the reference needs them.
static void print_type(FILE *out, const struct job_key *key) {
    switch (key->kind) {
    case KEY_INTEGER:
        fprintf(out, "integer, %.15g to %.15g", key->minimum, key->maximum);
        break;
    case KEY_NUMBER:
        fprintf(out, "number, %.15g to %.15g", key->minimum, key->maximum);
        break;
    case KEY_BOOLEAN:
        fputs("true or false", out);
        break;
    case KEY_DTYPE:
    case KEY_POOLING:
        for (const char *at = key->choices; *at != 0; at++) {
            fputs(*at == '|' ? ", " : (char[2]){*at, 0}, out);
        }
        break;
    case KEY_DEVICE:
        fputs("auto, cpu, cuda:N", out);
        break;
    case KEY_LAYERS:
        fprintf(out, "all, or a list of integers, %.15g to %.15g", key->minimum, key->maximum);
        break;
    case KEY_TEXTS:
        fputs("list of columns", out);
        break;
    case KEY_PATH:
        fputs("path", out);
        break;
    case KEY_TEXT:
        fputs("text", out);
        break;
    }
}

static bool is_plain(const char *text) {
    return text[strcspn(text, "{}\n\"\\:#|")] == 0;
}

// The default as one would write it: texts that YAML would read otherwise in double quotes.
static void print_standard(FILE *out, const struct job_key *key) {
    if (key->kind == KEY_LAYERS) {
        fprintf(out, "[%s]", key->standard);
        return;
    }
    if (is_plain(key->standard)) {
        fputs(key->standard, out);
        return;
    }
    fputc('"', out);
    for (const char *at = key->standard; *at != 0; at++) {
        fputs(*at == '\n' ? "\\n" : *at == '"' ? "\\\"" : *at == '\\' ? "\\\\" : (char[2]){*at, 0}, out);
    }
    fputc('"', out);
}

static void print_markdown_row(FILE *out, const struct job_key *key) {
    fprintf(out, "| `%s` | ", key->name);
    print_type(out, key);
    fputs(" | ", out);
    if (key->standard != NULL) {
        fputc('`', out);
        print_standard(out, key);
        fputc('`', out);
    } else {
        fputs(key->required ? "required" : key->absent, out);
    }
    fprintf(out, " | %s | %s |\n", key->identity ? "yes" : "", key->help);
}

static void print_text_row(FILE *out, const struct job_key *key) {
    fprintf(out, "  %s: ", key->name);
    print_type(out, key);
    fputs(key->required ? "; required" : "; default ", out);
    if (key->standard != NULL) {
        print_standard(out, key);
    } else if (!key->required) {
        fputs(key->absent, out);
    }
    fputs(key->identity ? " (part of the run's identity)" : "", out);
    fputs("\n      ", out);
    for (const char *at = key->help; *at != 0; at++) { // the backquotes of Markdown say nothing on a terminal
        if (*at != '`') {
            fputc(*at, out);
        }
    }
    fputc('\n', out);
}

void job_print_reference(FILE *out, bool markdown) {
    if (!markdown) {
        fputs("A job file is YAML with the sections below. Paths are relative to the job file's folder.\n"
              "A run never changes its identity: with another value of such a key it is not resumed.\n",
              out);
    }
    for (size_t i = 0; i < job_section_count; i++) {
        const struct job_section *section = &job_sections[i];
        if (markdown) {
            fprintf(out, "%s### `%s`\n%s\n\n", i == 0 ? "" : "\n", section->name, section->help);
            fputs("| key | value | default | identity | meaning |\n|---|---|---|---|---|\n", out);
        } else {
            fprintf(out, "\n%s: ", section->name);
            for (const char *at = section->help; *at != 0; at++) {
                if (*at != '`') {
                    fputc(*at, out);
                }
            }
            fputc('\n', out);
        }
        for (size_t k = 0; k < job_key_count; k++) {
            if (strcmp(job_keys[k].section, section->name) == 0) {
                (markdown ? print_markdown_row : print_text_row)(out, &job_keys[k]);
            }
        }
    }
}

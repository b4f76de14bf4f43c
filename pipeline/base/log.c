// SPDX-License-Identifier: MIT
#include "base/log.h"

#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/printable.h"
#include "base/terminal.h"

int log_open(struct log *log, const char *path, struct error *err) {
    *log = (struct log){.echo_level = LOG_LEVEL_WARN, .terminal = terminal_redraws(stderr)};
    pthread_mutex_init(&log->lock, NULL);
    return path == NULL ? STATUS_OK : log_add_file(log, path, err);
}

int log_add_file(struct log *log, const char *path, struct error *err) {
    FILE *file;
    if (file_append(&file, path, err) != STATUS_OK) {
        return error_wrap(err, "the log");
    }
    setvbuf(file, NULL, _IOLBF, 0);
    pthread_mutex_lock(&log->lock);
    log->file = file;
    pthread_mutex_unlock(&log->lock);
    return STATUS_OK;
}

void log_close(struct log *log) {
    if (log->file != NULL) {
        fclose(log->file);
        log->file = NULL;
    }
    pthread_mutex_destroy(&log->lock);
}

void log_write(struct log *log, enum log_level level, const char *format, ...) {
    static const char *const names[] = {"info ", "warn ", "error"};
    char moment[CLOCK_TEXT];
    char text[4096];
    char line[2 * sizeof text];
    clock_text(clock_unix(), moment);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printable(line, sizeof line, text);
    pthread_mutex_lock(&log->lock);
    if (log->file != NULL) {
        fprintf(log->file, "%s %s %s\n", moment, names[level], line);
    }
    if (level >= log->echo_level) {
        enum terminal_colour colour = level == LOG_LEVEL_ERROR  ? TERMINAL_FAILURE
                                      : level == LOG_LEVEL_WARN ? TERMINAL_WARNING
                                                                : TERMINAL_PLAIN;
        bool coloured = colour != TERMINAL_PLAIN;
        fprintf(stderr, "%s%sstrata:%s %s\n", log->terminal ? "\r\033[K" : "",
                coloured ? terminal_colour(stderr, colour) : "",
                coloured ? terminal_colour(stderr, TERMINAL_PLAIN) : "", line);
    }
    pthread_mutex_unlock(&log->lock);
}

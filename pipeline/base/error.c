#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// vsnprintf cuts silently; a cut text says so.
static void write_text(char *out, size_t size, const char *format, va_list arguments) {
    if (vsnprintf(out, size, format, arguments) >= (int)size) {
        memcpy(out + size - 4, "...", 4);
    }
}

static int set(struct error *err, int status, bool lines, const char *format, va_list arguments) {
    write_text(err->message, sizeof err->message, format, arguments);
    err->status = status;
    err->lines = lines;
    return status;
}

int error_set(struct error *err, int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set(err, status, false, format, arguments);
    va_end(arguments);
    return status;
}

int error_set_lines(struct error *err, int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set(err, status, true, format, arguments);
    va_end(arguments);
    return status;
}

bool error_is_shortage(int number) {
    return number == ENOMEM || number == EMFILE || number == ENFILE;
}

int error_set_errno(struct error *err, int status, const char *format, ...) {
    int number = errno;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    write_text(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(err, error_is_shortage(number) ? STATUS_INTERNAL : status, "%s: %s", text,
                     strerror(number));
}

int error_wrap(struct error *err, const char *format, ...) {
    char context[512];
    va_list arguments;
    va_start(arguments, format);
    write_text(context, sizeof context, format, arguments);
    va_end(arguments);
    struct error inner = *err;
    return error_set(err, inner.status, "%s: %s", context, inner.message);
}

size_t error_first_line(const struct error *err) {
    return err->lines ? strcspn(err->message, "\n") : strlen(err->message);
}

int error_exit_code(int status) {
    return status == STATUS_OK ? 0 : status < 0 ? -status : -STATUS_INTERNAL;
}

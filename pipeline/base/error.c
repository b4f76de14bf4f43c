#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// vsnprintf cuts silently; a cut message says so.
static void mark_cut(struct error *err, int wanted) {
    if (wanted >= (int)sizeof err->message) {
        memcpy(err->message + sizeof err->message - 4, "...", 4);
    }
}

static int set(struct error *err, int status, bool lines, const char *format, va_list arguments) {
    int wanted = vsnprintf(err->message, sizeof err->message, format, arguments);
    mark_cut(err, wanted);
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
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(err, error_is_shortage(number) ? STATUS_INTERNAL : status, "%s: %s", text,
                     strerror(number));
}

int error_wrap(struct error *err, const char *format, ...) {
    char context[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    struct error inner = *err;
    return error_set(err, inner.status, "%s: %s", context, inner.message);
}

int error_exit_code(int status) {
    return status == STATUS_OK ? 0 : status < 0 ? -status : -STATUS_INTERNAL;
}

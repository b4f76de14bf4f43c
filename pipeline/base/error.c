// SPDX-License-Identifier: MIT
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

// What somebody can do about a write that failed, where the words of the C library do not tell.
static const char *remedy(int number) {
    switch (number) {
    case ENOSPC:
        return " (make room and run the same command again)";
    case EDQUOT:
        return " (the quota is used up: make room and run the same command again)";
    case ESTALE:
        return " (the file server no longer knows it: mount it again if this stays so, and run the same "
               "command again)";
    case ETIMEDOUT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ECONNREFUSED:
    case ENOTCONN:
    case ESHUTDOWN:
        return " (the file server does not answer: run the same command again once it does)";
    case EIO:
    case EREMOTEIO:
        return " (the disk or the file server failed: the kernel's log may say more; run the same command "
               "again once it is well)";
    default:
        return "";
    }
}

int error_set_errno(struct error *err, int status, const char *format, ...) {
    int number = errno;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    write_text(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(err, error_is_shortage(number) ? STATUS_INTERNAL : status, "%s: %s%s", text,
                     strerror(number), status == STATUS_WRITE ? remedy(number) : "");
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

int error_append(struct error *err, const char *format, ...) {
    size_t used = strlen(err->message);
    va_list arguments;
    va_start(arguments, format);
    if (used + 4 < sizeof err->message) {
        write_text(err->message + used, sizeof err->message - used, format, arguments);
    }
    va_end(arguments);
    return err->status;
}

size_t error_first_line(const struct error *err) {
    return err->lines ? strcspn(err->message, "\n") : strlen(err->message);
}

int error_exit_code(int status) {
    return status == STATUS_OK ? 0 : status < 0 ? -status : -STATUS_INTERNAL;
}

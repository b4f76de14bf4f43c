// SPDX-License-Identifier: MIT
// Errors: a status that is also the process's exit code, and a message that gains context as it rises.
//
// Every function that can fail returns STATUS_OK (0) or a negative status, and takes the caller's `struct
// error` last. The place that fails calls error_set; callers that know more (which file, tensor, row) call
// error_wrap on the way up. Only main, tests and tools exit; they pass the status through error_exit_code.
//
// A caller that has nothing to give back passes a failure on with TRY; one that has keeps the status in a
// variable and goes to its label `done`, with TRY_TO:
//
//   int status;
//   TRY_TO(done, status = file_open(&file, path, err));
//   TRY_TO(done, status = file_read(file, out, err));
// done:
//   file_close(file);
//   return status;
#ifndef STRATA_BASE_ERROR_H
#define STRATA_BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

enum {
    STATUS_OK = 0,
    STATUS_USAGE = -64,    // wrong command line
    STATUS_DATA = -65,     // bad input data: database, model, tokenizer; or too many failed problems
    STATUS_DEVICE = -69,   // the device, driver or a library is not there or too small; a disk that hangs
    STATUS_INTERNAL = -70, // a broken invariant, or memory, threads or open files that could not be had
    STATUS_WRITE = -73,    // cannot write: disk full, permissions, failed sync
    STATUS_STOPPED = -75,  // stopped cleanly before the end; run again
    STATUS_JOB = -78,      // bad job file
    STATUS_DRIFT = -80,    // stopped because batch times drifted
};

struct error {
    int status;
    bool lines;         // of a message of several lines: its line feeds are the program's own
    char message[2048]; // one line, no trailing newline; cut with "..." when longer
};

// Returns from the function with the status of `call` unless it is STATUS_OK.
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        int try_status = (call);                                                                             \
        if (try_status != STATUS_OK) {                                                                       \
            return try_status;                                                                               \
        }                                                                                                    \
    } while (0)

// Goes to `label` unless `assignment` (`status = call`) gives STATUS_OK.
#define TRY_TO(label, assignment)                                                                            \
    do {                                                                                                     \
        if ((assignment) != STATUS_OK) {                                                                     \
            goto label;                                                                                      \
        }                                                                                                    \
    } while (0)

// Starts a message. Returns `status`, so that `return error_set(err, STATUS_DATA, ...)` reads well.
int error_set(struct error *err, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

// As error_set, for a message of several lines. What it quotes of others must be in one line each
// (printable.h).
int error_set_lines(struct error *err, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// True for the errno values of memory and open files that could not be had: neither the data's fault nor the
// disk's.
bool error_is_shortage(int number);

// As error_set, followed by ": " and the text of errno; of a write also by what to do about it.
// STATUS_INTERNAL, whatever was asked for, when that is a shortage.
int error_set_errno(struct error *err, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "context: " before the message. Returns the status already set.
int error_wrap(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Puts text behind the message, of one line. Returns the status already set.
int error_append(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Bytes of the message's first line: all of it, unless the error has lines.
size_t error_first_line(const struct error *err);

// The process exit code for a status: 0 or a number from the table above.
int error_exit_code(int status);

#endif

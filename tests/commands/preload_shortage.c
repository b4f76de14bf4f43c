// SPDX-License-Identifier: MIT
// Preloaded (LD_PRELOAD) into the program under test: makes chosen calls find that the machine has nothing
// left.
//
//   SHORTAGE_OF=memory   malloc and its relatives         SHORTAGE_OF=threads  pthread_create
//   SHORTAGE_OF=maps     mmap                             SHORTAGE_OF=files    open and its relatives
//   (EMFILE) SHORTAGE_AT=N        the Nth such call from 0 on fails; none: they are only counted
//   SHORTAGE_COUNT=N     so many calls from there on (default 1; 0: all)
//   SHORTAGE_LOG=FILE    at the end, however it comes: how many there were, and how many failed
//
// The calls of constructors before main count like all others.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern char **environ;

static atomic_long seen;
static atomic_long failed;

// getenv's like, which works before main and allocates nothing.
static const char *setting(const char *name) {
    size_t length = strlen(name);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') {
            return *entry + length + 1;
        }
    }
    return NULL;
}

static long number(const char *name, long otherwise) {
    const char *text = setting(name);
    return text == NULL ? otherwise : strtol(text, NULL, 10);
}

static bool lacks(const char *what) {
    const char *of = setting("SHORTAGE_OF");
    if (of == NULL || strcmp(of, what) != 0) {
        return false;
    }
    long at = number("SHORTAGE_AT", -1);
    long count = number("SHORTAGE_COUNT", 1);
    long here = atomic_fetch_add(&seen, 1);
    bool fails = at >= 0 && here >= at && (count == 0 || here < at + count);
    atomic_fetch_add(&failed, fails);
    return fails;
}

static void *next(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

// ---- memory ----

#define ALLOCATES(name, parameters, ...)                                                                     \
    void *name parameters {                                                                                  \
        static void *(*real)parameters;                                                                      \
        if (real == NULL) {                                                                                  \
            real = next(#name);                                                                              \
        }                                                                                                    \
        if (real == NULL || lacks("memory")) {                                                               \
            errno = ENOMEM;                                                                                  \
            return NULL;                                                                                     \
        }                                                                                                    \
        return real(__VA_ARGS__);                                                                            \
    }

void *memalign(size_t alignment, size_t size);

ALLOCATES(malloc, (size_t size), size)
ALLOCATES(calloc, (size_t count, size_t size), count, size)
ALLOCATES(realloc, (void *block, size_t size), block, size)
ALLOCATES(aligned_alloc, (size_t alignment, size_t size), alignment, size)
ALLOCATES(memalign, (size_t alignment, size_t size), alignment, size)

int posix_memalign(void **out, size_t alignment, size_t size) {
    static int (*real)(void **, size_t, size_t);
    if (real == NULL) {
        real = next("posix_memalign");
    }
    return lacks("memory") ? ENOMEM : real(out, alignment, size);
}

// ---- the rest ----

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (real == NULL) {
        real = next("pthread_create");
    }
    return lacks("threads") ? EAGAIN : real(thread, attributes, start, argument);
}

#define MAPS(name)                                                                                           \
    void *name(void *address, size_t size, int protection, int flags, int descriptor, off_t offset) {        \
        static void *(*real)(void *, size_t, int, int, int, off_t);                                          \
        if (real == NULL) {                                                                                  \
            real = next(#name);                                                                              \
        }                                                                                                    \
        if (lacks("maps")) {                                                                                 \
            errno = ENOMEM;                                                                                  \
            return MAP_FAILED;                                                                               \
        }                                                                                                    \
        return real(address, size, protection, flags, descriptor, offset);                                   \
    }

MAPS(mmap)
MAPS(mmap64)

#define OPENS(name)                                                                                          \
    int name(const char *path, int flags, ...) {                                                             \
        static int (*real)(const char *, int, ...);                                                          \
        va_list arguments;                                                                                   \
        va_start(arguments, flags);                                                                          \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;                  \
        va_end(arguments);                                                                                   \
        if (real == NULL) {                                                                                  \
            real = next(#name);                                                                              \
        }                                                                                                    \
        if (lacks("patience")) {                                                                             \
            exit(255);                                                                                       \
        }                                                                                                    \
        if (lacks("files")) {                                                                                \
            errno = EMFILE;                                                                                  \
            return -1;                                                                                       \
        }                                                                                                    \
        return real(path, flags, mode);                                                                      \
    }

OPENS(open)
OPENS(open64)

#define OPENS_STREAM(name)                                                                                   \
    FILE *name(const char *path, const char *mode) {                                                         \
        static FILE *(*real)(const char *, const char *);                                                    \
        if (real == NULL) {                                                                                  \
            real = next(#name);                                                                              \
        }                                                                                                    \
        if (lacks("files")) {                                                                                \
            errno = EMFILE;                                                                                  \
            return NULL;                                                                                     \
        }                                                                                                    \
        return real(path, mode);                                                                             \
    }

OPENS_STREAM(fopen)
OPENS_STREAM(fopen64)

// ---- the end ----

static void write_log(void) {
    const char *path = setting("SHORTAGE_LOG");
    int (*real_open)(const char *, int, ...) = next("open");
    if (path == NULL) {
        return;
    }
    char line[64]; // no stdio: there may be no memory
    int length = snprintf(line, sizeof line, "%ld %ld\n", atomic_load(&seen), atomic_load(&failed));
    int descriptor = real_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (descriptor >= 0) {
        ssize_t ignored = write(descriptor, line, (size_t)length);
        (void)ignored;
        close(descriptor);
    }
}

__attribute__((noreturn)) void _exit(int code) {
    static void (*real)(int);
    real = next("_exit");
    write_log();
    real(code);
    __builtin_unreachable();
}

__attribute__((destructor)) static void at_exit(void) {
    write_log();
}

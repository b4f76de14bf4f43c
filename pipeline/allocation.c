// SPDX-License-Identifier: MIT
// Memory that cannot be had ends the process: the program's own malloc and relatives, in front of the C
// library's.
//
// A library that misreads a NULL is worse than an end: jansson drops bytes of a text, HDF5 and OpenSSL crash,
// libgomp exits with a code of its own, and a parser's NULL looks like bad data. None of them sees one, for
// the dynamic linker binds every library's call to the executable's functions, those of constructors before
// main included. They ask the next definition (an allocator that was preloaded, else the C library) and end
// the process with exit code 70 and one line when it has nothing. Nothing that was acknowledged is lost: it
// is the end that a kill is, too. Threads are treated alike: libgomp ends the process with code 1 when it
// gets none.
//
// Only the executable is linked with this file, and no sanitizer's build, whose run time library takes the
// same place. There, and in tests of the rooms, a failure is STATUS_INTERNAL.
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/error.h"
#include "base/size.h"

struct definitions {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
};

// ---- the end ----

// No allocation, no lock, nothing of stdio: this may run in any thread, within any library, before main.
static void put_number(char *line, size_t *length, size_t number) {
    char digits[24];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        line[(*length)++] = digits[--count];
    }
}

static void put_text(char *line, size_t *length, const char *text) {
    size_t size = strlen(text);
    memcpy(line + *length, text, size);
    *length += size;
}

// Of threads that come to their ends at once the first says why; the others wait for it to take them along.
static _Noreturn void end(const char *line, size_t length) {
    static atomic_flag is_said = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&is_said)) {
        pause();
    }
    static const char clear[] = "\r\033[K"; // of the progress that a terminal may show in this line
    ssize_t ignored = isatty(STDERR_FILENO) == 1 ? write(STDERR_FILENO, clear, sizeof clear - 1) : 0;
    ignored = write(STDERR_FILENO, line, length);
    (void)ignored;
    _exit(error_exit_code(STATUS_INTERNAL));
}

static _Noreturn void end_without_memory(size_t bytes) {
    char line[96];
    size_t length = 0;
    put_text(line, &length, "strata: out of memory: ");
    put_number(line, &length, bytes);
    put_text(line, &length, " bytes could not be allocated\n");
    end(line, length);
}

static _Noreturn void end_without_thread(int number) {
    char line[96];
    size_t length = 0;
    put_text(line, &length, "strata: no thread could be started (error ");
    put_number(line, &length, (size_t)number);
    put_text(line, &length, "): out of memory, or a limit on processes\n");
    end(line, length);
}

// More than the machine or its limits could ever give is no shortage but a length that a damaged file claims:
// the caller sees the failure, and says which file.
static bool is_beyond_the_machine(size_t bytes) {
    struct sysinfo machine;
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && bytes > limit.rlim_cur) {
        return true;
    }
    return bytes > PTRDIFF_MAX ||
           (sysinfo(&machine) == 0 && bytes / machine.mem_unit > machine.totalram + machine.totalswap);
}

// A size of 0 may give NULL.
static void *had(void *block, size_t bytes) {
    if (block == NULL && bytes > 0 && !is_beyond_the_machine(bytes)) {
        end_without_memory(bytes);
    }
    return block;
}

// A wrong alignment gives NULL, too.
static void *had_aligned(void *block, size_t alignment, size_t bytes) {
    return (alignment & (alignment - 1)) == 0 ? had(block, bytes) : block;
}

// The program itself returns from main or calls _exit: whoever calls this is a library that gives up (HDF5
// with -1, libgomp with 1), and its code would be taken for one of ours.
void exit(int code) {
    char line[96];
    size_t length = 0;
    put_text(line, &length, "strata: a library ended the process (its exit code: ");
    put_number(line, &length, (size_t)(code & 0xff));
    put_text(line, &length, ")\n");
    end(line, length);
}

// ---- the definitions behind these ----

static void *find(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) {
        static const char line[] = "strata: the C library has no allocator\n";
        end(line, sizeof line - 1);
    }
    return found;
}

// State of the process itself, like the C library's own: set by the first call, which a constructor makes
// before there is a second thread; afterwards only read.
static const struct definitions *next(void) {
    static struct definitions definitions;
    static atomic_int state; // 0: not yet, 1: being looked up, 2: there
    if (atomic_load_explicit(&state, memory_order_acquire) == 2) {
        return &definitions;
    }
    int expected = 0;
    if (!atomic_compare_exchange_strong(&state, &expected, 1)) {
        return expected == 2 ? &definitions : NULL; // dlsym itself asks for memory, and does without
    }
    definitions = (struct definitions){.malloc = find("malloc"),
                                       .calloc = find("calloc"),
                                       .realloc = find("realloc"),
                                       .aligned_alloc = find("aligned_alloc"),
                                       .memalign = find("memalign"),
                                       .valloc = find("valloc"),
                                       .pvalloc = find("pvalloc"),
                                       .posix_memalign = find("posix_memalign"),
                                       .pthread_create = find("pthread_create")};
    atomic_store_explicit(&state, 2, memory_order_release);
    return &definitions;
}

// ---- what every library calls ----

void *malloc(size_t bytes) {
    const struct definitions *definitions = next();
    return definitions == NULL ? NULL : had(definitions->malloc(bytes), bytes);
}

void *calloc(size_t count, size_t size) {
    const struct definitions *definitions = next();
    size_t bytes;
    if (!size_mul(count, size, &bytes)) {
        bytes = SIZE_MAX;
    }
    return definitions == NULL ? NULL : had(definitions->calloc(count, size), bytes);
}

void *realloc(void *block, size_t bytes) {
    const struct definitions *definitions = next();
    return definitions == NULL ? NULL : had(definitions->realloc(block, bytes), bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    const struct definitions *definitions = next();
    return definitions == NULL ? NULL
                               : had_aligned(definitions->aligned_alloc(alignment, bytes), alignment, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
    const struct definitions *definitions = next();
    return definitions == NULL ? NULL
                               : had_aligned(definitions->memalign(alignment, bytes), alignment, bytes);
}

void *valloc(size_t bytes) {
    const struct definitions *definitions = next();
    return definitions == NULL ? NULL : had(definitions->valloc(bytes), bytes);
}

void *pvalloc(size_t bytes) {
    const struct definitions *definitions = next();
    return definitions == NULL ? NULL : had(definitions->pvalloc(bytes), bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    const struct definitions *definitions = next();
    int number = definitions == NULL ? ENOMEM : definitions->posix_memalign(out, alignment, bytes);
    if (number == ENOMEM && definitions != NULL && !is_beyond_the_machine(bytes)) {
        end_without_memory(bytes);
    }
    return number;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument) {
    const struct definitions *definitions = next();
    int number =
        definitions == NULL ? EAGAIN : definitions->pthread_create(thread, attributes, start, argument);
    if (number == EAGAIN || number == ENOMEM) {
        end_without_thread(number);
    }
    return number;
}

// SPDX-License-Identifier: MIT
// Runs a program under ptrace and does something to it at one system call: kills it, makes the call fail, or
// makes it lie. The calls of all threads are counted together (strace counts each thread apart, which hides
// the first calls of a later thread behind those of the first), from the first opening of a file named MARKER
// on.
//
//   at_call --calls NAMES [--marker NAME] [--only PATH_END] [--trace FILE] [--kill N[:SIGNAL] | --fail
//   N:ERRNO | --short N | --lie CALL:PATH_END] PROGRAM ...
//
// NAMES: "write,pwrite64,...", those that are counted and traced; openat counts only when it may write.
//   --only P      counts only calls on a path that ends with P
//   --kill N[:S]  signal number S (SIGKILL) when call N (from 1) is entered, before it does anything
//   --fail N:E    call N does nothing and returns -E
//   --short N     call N, a read or a write, is asked for half of its bytes
//   --lie C:P     every call C on a path that ends with P does nothing and returns as if it had: a planted
//   bug
// The trace has one line a call: "NUMBER THREAD NAME PATH RESULT" (PATH2 of a rename after an arrow). The
// exit code is the program's, 128 + the signal that ended it, or 125 for trouble of its own; 126 where this
// processor is not known.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ptrace.h>

enum { THREADS = 256, PATH_LENGTH = 512, TROUBLE = 125, UNKNOWN_PROCESSOR = 126 };

#if defined(__x86_64__)

enum argument { ARGUMENT_PATH, ARGUMENT_AT_PATH, ARGUMENT_DESCRIPTOR, ARGUMENT_NOTHING };

static const struct {
    const char *name;
    long number;
    enum argument argument;
} calls[] = {{"openat", SYS_openat, ARGUMENT_AT_PATH},
             {"write", SYS_write, ARGUMENT_DESCRIPTOR},
             {"pwrite64", SYS_pwrite64, ARGUMENT_DESCRIPTOR},
             {"read", SYS_read, ARGUMENT_DESCRIPTOR},
             {"pread64", SYS_pread64, ARGUMENT_DESCRIPTOR},
             {"fsync", SYS_fsync, ARGUMENT_DESCRIPTOR},
             {"fdatasync", SYS_fdatasync, ARGUMENT_DESCRIPTOR},
             {"ftruncate", SYS_ftruncate, ARGUMENT_DESCRIPTOR},
             {"rename", SYS_rename, ARGUMENT_PATH},
             {"unlink", SYS_unlink, ARGUMENT_PATH},
             {"mkdir", SYS_mkdir, ARGUMENT_PATH},
             {"flock", SYS_flock, ARGUMENT_DESCRIPTOR},
             {"fcntl", SYS_fcntl, ARGUMENT_DESCRIPTOR},
             {"getdents64", SYS_getdents64, ARGUMENT_DESCRIPTOR},
             {"statfs", SYS_statfs, ARGUMENT_PATH},
             {"mmap", SYS_mmap, ARGUMENT_NOTHING},
             {"close", SYS_close, ARGUMENT_DESCRIPTOR}};
enum { CALLS = sizeof calls / sizeof calls[0] };

struct thread {
    pid_t id;
    bool faked;  // the call it is in was replaced by nothing
    long result; // what it will see
    char line[3 * PATH_LENGTH];
};

struct tracer {
    bool counted[CALLS];
    const char *marker;
    const char *only;
    FILE *trace;
    uint64_t kill_at;
    int kill_with;
    uint64_t fail_at;
    long fail_with;
    uint64_t short_at;
    const char *lie_call;
    const char *lie_path;
    bool begun; // the marker was opened
    uint64_t count;
    pid_t program;
    struct thread threads[THREADS];
    size_t thread_count;
};

static void read_text(pid_t id, uint64_t address, char out[PATH_LENGTH]) {
    size_t got = 0;
    while (got < PATH_LENGTH - 1) {
        size_t ask = PATH_LENGTH - 1 - got < 64 ? PATH_LENGTH - 1 - got : 64;
        struct iovec here = {out + got, ask};
        struct iovec there = {(void *)(uintptr_t)(address + got), ask};
        ssize_t count = process_vm_readv(id, &here, 1, &there, 1, 0);
        if (count <= 0) {
            break;
        }
        char *end = memchr(out + got, 0, (size_t)count);
        if (end != NULL) {
            return;
        }
        got += (size_t)count;
    }
    out[got] = 0;
}

static void name_descriptor(pid_t id, int descriptor, char out[PATH_LENGTH]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/fd/%d", id, descriptor);
    ssize_t length = readlink(link, out, PATH_LENGTH - 1);
    out[length > 0 ? length : 0] = 0;
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text);
    size_t tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

// A launch's token in the name of a copy (part-000000.h5.TOKEN.tmp) is another each time: such a copy is
// counted and traced without it.
static void drop_token(char *path) {
    enum { TOKEN = 32 };
    static const char end[] = ".tmp";
    size_t length = strlen(path);
    size_t tail = sizeof end - 1;
    if (length > TOKEN + 1 + tail && ends_with(path, end)) {
        char *token = path + length - tail - TOKEN;
        if (token[-1] == '.' && strspn(token, "0123456789abcdef") == TOKEN) {
            memmove(token - 1, end, sizeof end);
        }
    }
}

static int find_call(uint64_t number) {
    for (int i = 0; i < CALLS; i++) {
        if ((uint64_t)calls[i].number == number) {
            return i;
        }
    }
    return -1;
}

static struct thread *find_thread(struct tracer *tracer, pid_t id) {
    for (size_t i = 0; i < tracer->thread_count; i++) {
        if (tracer->threads[i].id == id) {
            return &tracer->threads[i];
        }
    }
    return NULL;
}

static void fake(struct thread *thread, long result) {
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, thread->id, NULL, &registers);
    registers.orig_rax = (unsigned long long)-1; // no such call: the kernel does nothing
    ptrace(PTRACE_SETREGS, thread->id, NULL, &registers);
    thread->faked = true;
    thread->result = result;
}

// A read or write of more than one byte does half of it: its third argument is the number of bytes.
static void shorten(const struct thread *thread) {
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, thread->id, NULL, &registers);
    registers.rdx -= registers.rdx / 2;
    ptrace(PTRACE_SETREGS, thread->id, NULL, &registers);
}

static void path_of(pid_t id, int call, const uint64_t *arguments, char path[PATH_LENGTH]) {
    path[0] = 0;
    if (calls[call].argument == ARGUMENT_PATH) {
        read_text(id, arguments[0], path);
    } else if (calls[call].argument == ARGUMENT_AT_PATH) {
        read_text(id, arguments[1], path);
    } else if (calls[call].argument == ARGUMENT_DESCRIPTOR) {
        name_descriptor(id, (int)arguments[0], path);
    }
}

static void on_entry(struct tracer *tracer, struct thread *thread, const struct ptrace_syscall_info *info) {
    const uint64_t *arguments = (const uint64_t *)info->entry.args;
    char path[PATH_LENGTH];
    int call = find_call(info->entry.nr);
    thread->line[0] = 0;
    if (call < 0) {
        return;
    }
    path_of(thread->id, call, arguments, path);
    drop_token(path);
    if (!tracer->begun && calls[call].number == SYS_openat && ends_with(path, tracer->marker)) {
        tracer->begun = true;
    }
    bool only_reads = calls[call].number == SYS_openat && (arguments[2] & (O_WRONLY | O_RDWR | O_CREAT)) == 0;
    bool elsewhere = tracer->only != NULL && !ends_with(path, tracer->only);
    if (!tracer->begun || !tracer->counted[call] || only_reads || elsewhere) {
        return;
    }
    tracer->count++;
    char second[PATH_LENGTH + 8] = "";
    if (calls[call].number == SYS_rename) {
        memcpy(second, " -> ", 4);
        read_text(thread->id, arguments[1], second + 4);
    }
    snprintf(thread->line, sizeof thread->line, "%" PRIu64 " %d %s %s%s", tracer->count, thread->id,
             calls[call].name, path, second);
    if (tracer->lie_call != NULL && strcmp(tracer->lie_call, calls[call].name) == 0 &&
        ends_with(path, tracer->lie_path)) {
        thread->line[0] = 0; // it did not happen
        fake(thread, calls[call].number == SYS_write ? (long)arguments[2] : 0);
    }
    if (tracer->count == tracer->fail_at) {
        fake(thread, -tracer->fail_with);
    }
    if (tracer->count == tracer->short_at) {
        shorten(thread);
    }
    if (tracer->count == tracer->kill_at) {
        if (tracer->trace != NULL) {
            fprintf(tracer->trace, "%s KILL\n", thread->line);
        }
        kill(tracer->program, tracer->kill_with);
    }
}

static void on_exit_of_call(struct tracer *tracer, struct thread *thread,
                            const struct ptrace_syscall_info *info) {
    int64_t result = info->exit.rval;
    if (thread->faked) {
        struct user_regs_struct registers;
        ptrace(PTRACE_GETREGS, thread->id, NULL, &registers);
        registers.rax = (unsigned long long)thread->result;
        ptrace(PTRACE_SETREGS, thread->id, NULL, &registers);
        thread->faked = false;
        result = thread->result;
    }
    if (thread->line[0] != 0 && tracer->trace != NULL) {
        fprintf(tracer->trace, "%s %" PRId64 "\n", thread->line, result);
    }
    thread->line[0] = 0;
}

static void on_call(struct tracer *tracer, struct thread *thread) {
    struct ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread->id, sizeof info, &info) <= 0) {
        return;
    }
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        on_entry(tracer, thread, &info);
    } else if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
        on_exit_of_call(tracer, thread, &info);
    }
}

// What a stop means and which signal to hand on.
static int on_stop(struct tracer *tracer, pid_t id, int status) {
    struct thread *thread = find_thread(tracer, id);
    int number = WSTOPSIG(status);
    if (thread == NULL) {
        if (tracer->thread_count == THREADS) {
            fputs("at_call: too many threads\n", stderr);
            exit(TROUBLE);
        }
        tracer->threads[tracer->thread_count] = (struct thread){.id = id};
        thread = &tracer->threads[tracer->thread_count++];
        if (number == SIGSTOP) {
            return 0; // how a new thread begins
        }
    }
    if (number == (SIGTRAP | 0x80)) {
        on_call(tracer, thread);
        return 0;
    }
    return status >> 16 != 0 || number == SIGTRAP ? 0 : number;
}

static int follow(struct tracer *tracer) {
    for (;;) {
        int status;
        pid_t id = waitpid(-1, &status, __WALL);
        if (id < 0) {
            return TROUBLE;
        }
        if (WIFSTOPPED(status)) {
            int number = on_stop(tracer, id, status);
            ptrace(PTRACE_SYSCALL, id, NULL, (void *)(intptr_t)number);
        } else if (id == tracer->program) {
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
}

static int start(struct tracer *tracer, char **program) {
    int status;
    tracer->program = fork();
    if (tracer->program == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        execv(program[0], program);
        _exit(127);
    }
    if (tracer->program < 0 || waitpid(tracer->program, &status, 0) < 0 || !WIFSTOPPED(status)) {
        return TROUBLE;
    }
    tracer->threads[tracer->thread_count++] = (struct thread){.id = tracer->program};
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SETOPTIONS, tracer->program, NULL, (void *)options) != 0) {
        perror("at_call: ptrace");
        return TROUBLE;
    }
    ptrace(PTRACE_SYSCALL, tracer->program, NULL, NULL);
    return follow(tracer);
}

static bool choose_calls(struct tracer *tracer, char *names) {
    for (char *name = strtok(names, ","); name != NULL; name = strtok(NULL, ",")) {
        bool found = false;
        for (int i = 0; i < CALLS; i++) {
            if (strcmp(calls[i].name, name) == 0) {
                tracer->counted[i] = found = true;
            }
        }
        if (!found) {
            fprintf(stderr, "at_call: unknown call '%s'\n", name);
            return false;
        }
    }
    return true;
}

static bool take_option(struct tracer *tracer, const char *option, char *value) {
    char *colon = strchr(value, ':');
    if (strcmp(option, "--calls") == 0) {
        return choose_calls(tracer, value);
    }
    if (strcmp(option, "--marker") == 0) {
        tracer->marker = value;
    } else if (strcmp(option, "--only") == 0) {
        tracer->only = value;
    } else if (strcmp(option, "--trace") == 0) {
        tracer->trace = fopen(value, "we");
        return tracer->trace != NULL;
    } else if (strcmp(option, "--kill") == 0) {
        tracer->kill_at = strtoull(value, NULL, 10);
        tracer->kill_with = colon == NULL ? SIGKILL : (int)strtol(colon + 1, NULL, 10);
    } else if (strcmp(option, "--fail") == 0 && colon != NULL) {
        tracer->fail_at = strtoull(value, NULL, 10);
        tracer->fail_with = strtol(colon + 1, NULL, 10);
    } else if (strcmp(option, "--short") == 0) {
        tracer->short_at = strtoull(value, NULL, 10);
    } else if (strcmp(option, "--lie") == 0 && colon != NULL) {
        *colon = 0;
        tracer->lie_call = value;
        tracer->lie_path = colon + 1;
    } else {
        fprintf(stderr, "at_call: wrong option %s %s\n", option, value);
        return false;
    }
    return true;
}

int main(int argc, char **argv) {
    static struct tracer tracer = {.marker = "ledger.sqlite"};
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (!take_option(&tracer, argv[at], argv[at + 1])) {
            return TROUBLE;
        }
    }
    if (at >= argc) {
        return TROUBLE;
    }
    int code = start(&tracer, argv + at);
    if (tracer.trace != NULL) {
        fclose(tracer.trace);
    }
    return code;
}

#else

int main(void) {
    fputs("at_call: not made for this processor\n", stderr);
    return UNKNOWN_PROCESSOR;
}

#endif

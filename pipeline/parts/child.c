// SPDX-License-Identifier: MIT
#include "parts/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILD_STOP = SIGHUP };

// ---- in the new process ----

// Held back until it listens, as its other stop signals are: from here on none is lost, and none ends it.
static void hear_stop(pid_t parent) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, CHILD_STOP);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    signal(CHILD_STOP, SIG_DFL); // also under nohup, which is about the terminal
    setsid();
    prctl(PR_SET_PDEATHSIG, CHILD_STOP);
    if (getppid() != parent) { // it died before
        _exit(error_exit_code(STATUS_STOPPED));
    }
}

static void become(const char *program, char *const *argv, const struct place *place, int errors,
                   pid_t parent) {
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    hear_stop(parent);
    places_enter(place);
    if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(nothing, STDOUT_FILENO) < 0 ||
        dup2(errors, STDERR_FILENO) < 0) {
        _exit(error_exit_code(STATUS_INTERNAL));
    }
    execv(program, argv);
    dprintf(STDERR_FILENO, "%s cannot be executed: %s\n", program, strerror(errno));
    _exit(error_exit_code(STATUS_INTERNAL));
}

// ---- in the parent ----

int child_start(struct child *child, const char *program, char *const *argv, const struct place *place,
                struct error *err) {
    int ends[2];
    pid_t parent = getpid();
    *child = (struct child){.errors = -1};
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return error_set_errno(err, STATUS_INTERNAL, "cannot make a pipe");
    }
    pid_t id = fork();
    if (id == 0) {
        become(program, argv, place, ends[1], parent);
    }
    close(ends[1]);
    if (id < 0) {
        close(ends[0]);
        return error_set_errno(err, STATUS_INTERNAL, "cannot start a process");
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    child->id = id;
    child->errors = ends[0];
    return STATUS_OK;
}

static void keep(struct child *child, const char *text, size_t size) {
    if (size > CHILD_TAIL) {
        text += size - CHILD_TAIL;
        size = CHILD_TAIL;
    }
    if (child->tail_size + size > CHILD_TAIL) {
        size_t gone = child->tail_size + size - CHILD_TAIL;
        memmove(child->tail, child->tail + gone, child->tail_size - gone);
        child->tail_size -= gone;
    }
    memcpy(child->tail + child->tail_size, text, size);
    child->tail_size += size;
    child->tail[child->tail_size] = 0;
}

static void listen_to(struct child *child) {
    char text[4096];
    ssize_t size;
    while ((size = read(child->errors, text, sizeof text)) > 0 || (size < 0 && errno == EINTR)) {
        keep(child, text, size > 0 ? (size_t)size : 0);
    }
}

bool child_ended(struct child *child, int *ended) {
    pid_t id = waitpid(child->id, ended, WNOHANG);
    listen_to(child); // after the look: then nothing can follow
    if (id != child->id) {
        return false;
    }
    close(child->errors);
    child->id = 0;
    child->errors = -1;
    return true;
}

void child_stop(const struct child *child) {
    if (child->id > 0) {
        kill(child->id, CHILD_STOP);
    }
}

void child_kill(const struct child *child) {
    if (child->id > 0) {
        kill(child->id, SIGKILL);
    }
}

void child_describe_end(char out[CHILD_END], int ended) {
    if (WIFSIGNALED(ended)) {
        snprintf(out, CHILD_END, "was killed by signal %d (%s)", WTERMSIG(ended), strsignal(WTERMSIG(ended)));
    } else {
        snprintf(out, CHILD_END, "ended with exit code %d", WEXITSTATUS(ended));
    }
}

const char *child_reason(struct child *child) {
    static const char mark[] = "strata run: ";
    const char *reason = child_last_lines(child, 1);
    const char *at = child->tail;
    while ((at = strstr(at, mark)) != NULL) {
        if (at == child->tail || at[-1] == '\n') {
            reason = at;
        }
        at += sizeof mark - 1;
    }
    return reason;
}

const char *child_last_lines(struct child *child, size_t lines) {
    size_t at = child->tail_size;
    size_t found = 0;
    while (at > 0 && child->tail[at - 1] == '\n') { // one line feed at the end, no empty lines
        at--;
    }
    child->tail_size = at;
    child->tail[at] = 0;
    for (; at > 0 && found < lines; at--) {
        found += child->tail[at - 1] == '\n';
    }
    return child->tail + at + (found == lines && lines > 0);
}

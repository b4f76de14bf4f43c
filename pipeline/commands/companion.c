// SPDX-License-Identifier: MIT
#include "commands/companion.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXECUTABLE_PATH = PATH_MAX + 64 };

// The path of `name` in the folder that this program lies in; false when that is not known.
static bool beside(char out[EXECUTABLE_PATH], const char *name) {
    ssize_t size = readlink("/proc/self/exe", out, PATH_MAX);
    if (size <= 0 || size >= PATH_MAX) {
        return false;
    }
    out[size] = 0;
    char *slash = strrchr(out, '/');
    if (slash == NULL) {
        return false;
    }
    size_t room = EXECUTABLE_PATH - (size_t)(slash + 1 - out);
    return snprintf(slash + 1, room, "%s", name) < (int)room;
}

int companion_become(const char *name, const char *purpose, const char *words[], struct error *err) {
    char path[EXECUTABLE_PATH];
    words[0] = name;
    fflush(NULL);
    if (beside(path, name)) {
        execv(path, (char *const *)(uintptr_t)words);
    }
    execvp(name, (char *const *)(uintptr_t)words);
    if (errno != ENOENT) {
        return error_set_errno(err, STATUS_DEVICE, "%s %s, which could not be started", purpose, name);
    }
    return error_set(err, STATUS_DEVICE, "%s %s, which is not on this machine: pip install strata-latents",
                     purpose, name);
}

// STATUS_OK with *started 0, or an errno.
static int start(const char *name, const char *const words[], pid_t *child, int *started) {
    char path[EXECUTABLE_PATH];
    char *const *arguments = (char *const *)(uintptr_t)words;
    posix_spawn_file_actions_t actions;
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed != 0) {
        return failed;
    }
    failed = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    *started = failed;
    if (failed == 0) {
        *started = beside(path, name) ? posix_spawn(child, path, &actions, NULL, arguments, environ) : ENOENT;
        if (*started == ENOENT) {
            *started = posix_spawnp(child, name, &actions, NULL, arguments, environ);
        }
    }
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

int companion_run(const char *name, const char *const words[], bool *missing, int *code, struct error *err) {
    pid_t child = 0;
    int started = 0;
    int waited;
    fflush(NULL);
    errno = start(name, words, &child, &started);
    errno = errno != 0 ? errno : started;
    *missing = errno == ENOENT;
    *code = 0;
    if (errno != 0) {
        return *missing ? STATUS_OK : error_set_errno(err, STATUS_DEVICE, "cannot start %s", name);
    }
    while (waitpid(child, &waited, 0) < 0) {
        if (errno != EINTR) {
            return error_set_errno(err, STATUS_INTERNAL, "cannot wait for %s", name);
        }
    }
    *code = WIFEXITED(waited) ? WEXITSTATUS(waited) : 128 + WTERMSIG(waited);
    *missing = *code == 127; // how posix_spawn may say so too
    return STATUS_OK;
}

// SPDX-License-Identifier: MIT
#include "base/aside.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define END ".tmp"

enum { DIGITS = 16, OLD_SECONDS = 24 * 3600 };

int aside_token(char *out, size_t size, struct error *err) {
    for (size_t i = 0; i + 2 < size; i += 2) {
        unsigned char byte;
        if (getrandom(&byte, sizeof byte, 0) != (ssize_t)sizeof byte) {
            return error_set_errno(err, STATUS_INTERNAL, "no random numbers can be had");
        }
        snprintf(out + i, 3, "%02x", byte);
    }
    return STATUS_OK;
}

int aside_name(char out[PATH_SIZE], const char *path, struct error *err) {
    char host[64] = "";
    char token[DIGITS + 1];
    gethostname(host, sizeof host - 1);
    TRY(aside_token(token, sizeof token, err));
    return snprintf(out, PATH_SIZE, "%s.%s.%ld.%s" END, path, host, (long)getpid(), token) < PATH_SIZE
               ? STATUS_OK
               : error_set(err, STATUS_WRITE, "path too long: %.200s", path);
}

// "NAME.HOST.PID.RANDOM.tmp"; a host's name may have dots.
static bool is_aside(const char *name, const char *of) {
    size_t length = strlen(name);
    size_t begin = strlen(of);
    size_t tail = 1 + DIGITS + strlen(END);
    if (length < begin + 1 + tail || strncmp(name, of, begin) != 0 || name[begin] != '.') {
        return false;
    }
    const char *token = name + length - tail;
    return token[0] == '.' && strspn(token + 1, "0123456789abcdef") == DIGITS &&
           strcmp(token + 1 + DIGITS, END) == 0;
}

static bool is_left(int folder, const char *name, const char *const *of, size_t count) {
    struct stat info;
    bool ours = false;
    for (size_t i = 0; i < count; i++) {
        ours = ours || is_aside(name, of[i]);
    }
    return ours && fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode) &&
           info.st_mtime < time(NULL) - OLD_SECONDS;
}

void aside_sweep(const char *folder, const char *const *of, size_t count) {
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        if (is_left(dirfd(entries), entry->d_name, of, count)) {
            unlinkat(dirfd(entries), entry->d_name, 0);
        }
    }
    if (entries != NULL) {
        closedir(entries);
    }
}

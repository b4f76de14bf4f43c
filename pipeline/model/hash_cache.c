// SPDX-License-Identifier: MIT
#include "model/hash_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

enum {
    FILE_LIMIT = 32 << 20, // bytes of hexadecimal digits: hashes of 2 TB of weights
    FORMAT = 1,
    SETTLED_SECONDS = 60,
    UNUSED_SECONDS = 30 * 86400, // of the file of a machine or a start of it that is gone
    BOOT_TEXT = 37,
    HEX = 2 * DIGEST_BYTES, // digits of a hash
};

#define ENDING ".json"

struct hash_cache {
    char folder[PATH_SIZE];
    char path[PATH_SIZE];
    json_t *files;   // real path -> stamp, kept (seconds since 1970), hashes (digits), sha256 of the others
    json_t *changes; // the same, null for what is to be taken out
};

// ---- stamps ----

// Those that keep the time of a change themselves. Numbers from linux/magic.h and the systems' own sources.
static bool keeps_times(int descriptor) {
    static const unsigned long systems[] = {
        0xEF53,     0x58465342, 0x9123683E, // ext2 to ext4, xfs, btrfs
        0xF2F52010, 0xCA451A4E, 0x2FC12FC1, // f2fs, bcachefs, zfs
        0x01021994, 0x6969,     0x0BD00BD0, // tmpfs, nfs, lustre
        0x47504653, 0x00C36400, 0x19830326, // gpfs, ceph, beegfs
    };
    struct statfs info;
    bool found = false;
    if (fstatfs(descriptor, &info) == 0) {
        for (size_t i = 0; i < sizeof systems / sizeof systems[0]; i++) {
            found = found || ((unsigned long)info.f_type & 0xFFFFFFFFUL) == systems[i];
        }
    }
    return found;
}

void hash_stamp_take(struct hash_stamp *out, int descriptor, size_t size) {
    struct stat info;
    *out = (struct hash_stamp){0};
    if (!keeps_times(descriptor) || fstat(descriptor, &info) != 0 || (size_t)info.st_size != size) {
        return;
    }
    snprintf(out->text, sizeof out->text, "device %ju, inode %ju, %zu bytes, %jd.%09ld, %jd.%09ld",
             (uintmax_t)info.st_dev, (uintmax_t)info.st_ino, size, (intmax_t)info.st_mtim.tv_sec,
             info.st_mtim.tv_nsec, (intmax_t)info.st_ctim.tv_sec, info.st_ctim.tv_nsec);
    out->settled = clock_unix() - (int64_t)info.st_ctim.tv_sec > SETTLED_SECONDS;
}

bool hash_stamp_same(const struct hash_stamp *left, const struct hash_stamp *right) {
    return left->text[0] != 0 && strcmp(left->text, right->text) == 0;
}

// ---- where they are kept ----

// By the XDG Base Directory Specification, which has relative paths passed over.
static bool find_folder(char out[PATH_SIZE]) {
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int length = -1;
    if (cache != NULL && cache[0] == '/') {
        length = snprintf(out, PATH_SIZE, "%s/strata/weights", cache);
    } else if (home != NULL && home[0] == '/') {
        length = snprintf(out, PATH_SIZE, "%s/.cache/strata/weights", home);
    }
    return length > 0 && length < PATH_SIZE;
}

// Names this start of this machine: other machines, which number devices and inodes as they like, have
// others, and a crash, which may bring bytes to a disk and lose the time of their change, begins a new one.
static bool read_boot(char out[BOOT_TEXT]) {
    struct error ignored;
    struct buffer text = {0};
    bool read = file_read(&text, "/proc/sys/kernel/random/boot_id", 256, &ignored) == STATUS_OK &&
                text.size >= BOOT_TEXT - 1 && strspn(text.data, "0123456789abcdef-") == BOOT_TEXT - 1;
    snprintf(out, BOOT_TEXT, "%s", read ? text.data : "");
    buffer_destroy(&text);
    return read;
}

static bool is_private(const struct stat *info, mode_t kind) {
    return (info->st_mode & S_IFMT) == kind && info->st_uid == geteuid() &&
           (info->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// The folder of what is kept, open; -1 where it is missing or others could have written into it.
static int open_folder(const struct hash_cache *cache) {
    struct stat info;
    int folder = open(cache->folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder >= 0 && (fstat(folder, &info) != 0 || !is_private(&info, S_IFDIR))) {
        close(folder);
        errno = EPERM;
        return -1;
    }
    return folder;
}

static int make_folder(const struct hash_cache *cache) {
    char partial[PATH_SIZE];
    for (size_t i = 1; i <= strlen(cache->folder); i++) {
        if (cache->folder[i] == '/' || cache->folder[i] == 0) {
            snprintf(partial, sizeof partial, "%.*s", (int)i, cache->folder);
            (void)mkdir(partial, S_IRWXU); // whether it is there is seen when it is opened
        }
    }
    return open_folder(cache);
}

// ---- what is kept ----

// "files" of the file, which the caller gives back; NULL when there is none that counts.
static json_t *read_files(const struct hash_cache *cache) {
    struct buffer text = {0};
    struct error ignored;
    struct stat info;
    json_t *root = NULL;
    int64_t format = 0;
    int folder = open_folder(cache);
    bool counts =
        folder >= 0 && fstatat(folder, strrchr(cache->path, '/') + 1, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_private(&info, S_IFREG) &&
        file_read_own(&text, cache->path, 2 * FILE_LIMIT, &ignored) == STATUS_OK && text.size > 0 &&
        json_parse(&root, text.data, text.size, cache->path, &ignored) == STATUS_OK &&
        json_get_integer(root, "format", FORMAT, FORMAT, &format, &ignored) == STATUS_OK && format == FORMAT;
    json_t *files = counts ? json_incref(json_member(root, "files")) : NULL;
    if (!json_is_object(files)) {
        json_decref(files);
        files = NULL;
    }
    json_decref(root);
    buffer_destroy(&text);
    if (folder >= 0) {
        close(folder);
    }
    return files;
}

static bool hash_entry(char out[DIGEST_HEX], const char *path, const char *stamp, const char *digits) {
    struct error ignored;
    struct digest *digest = NULL;
    bool made = digest_create(&digest, &ignored) == STATUS_OK &&
                digest_field(digest, path, strlen(path), &ignored) == STATUS_OK &&
                digest_field(digest, stamp, strlen(stamp), &ignored) == STATUS_OK &&
                digest_field(digest, digits, strlen(digits), &ignored) == STATUS_OK &&
                digest_finish(digest, out, &ignored) == STATUS_OK;
    digest_destroy(digest);
    return made;
}

// The digits of an entry that is whole; NULL for any other.
static const char *digits_of(const json_t *files, const char *path, const struct hash_stamp *stamp) {
    const json_t *entry = json_object_get(files, path);
    const char *kept = json_string_value(json_object_get(entry, "stamp"));
    const char *digits = json_string_value(json_object_get(entry, "hashes"));
    const char *sha256 = json_string_value(json_object_get(entry, "sha256"));
    char hex[DIGEST_HEX];
    return kept != NULL && digits != NULL && sha256 != NULL && strcmp(kept, stamp->text) == 0 &&
                   hash_entry(hex, path, kept, digits) && strcmp(hex, sha256) == 0
               ? digits
               : NULL;
}

struct hash_cache *hash_cache_open(void) {
    struct error ignored;
    struct hash_cache *cache = NULL;
    char boot[BOOT_TEXT];
    if (!read_boot(boot) || memory_zeroed(&cache, 1, sizeof *cache, &ignored) != STATUS_OK) {
        return NULL;
    }
    if (!find_folder(cache->folder) || snprintf(cache->path, sizeof cache->path, "%s/%s" ENDING,
                                                cache->folder, boot) >= (int)sizeof cache->path) {
        hash_cache_close(cache);
        return NULL;
    }
    cache->files = read_files(cache);
    cache->changes = json_object();
    return cache;
}

void hash_cache_close(struct hash_cache *cache) {
    if (cache != NULL) {
        json_decref(cache->files);
        json_decref(cache->changes);
        free(cache);
    }
}

static int digit_value(char digit) {
    return digit >= '0' && digit <= '9' ? digit - '0' : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

bool hash_cache_find(const struct hash_cache *cache, const char *path, const struct hash_stamp *stamp,
                     unsigned char (*out)[DIGEST_BYTES], size_t pieces) {
    char *real = cache == NULL || stamp->text[0] == 0 ? NULL : realpath(path, NULL);
    const char *digits = real == NULL ? NULL : digits_of(cache->files, real, stamp);
    bool found = digits != NULL && strlen(digits) == pieces * HEX;
    for (size_t i = 0; found && i < pieces * DIGEST_BYTES; i++) {
        int high = digit_value(digits[2 * i]);
        int low = digit_value(digits[2 * i + 1]);
        found = high >= 0 && low >= 0;
        out[i / DIGEST_BYTES][i % DIGEST_BYTES] = (unsigned char)(high * 16 + low);
    }
    free(real);
    return found;
}

// ---- changes ----

void hash_cache_put(struct hash_cache *cache, const char *path, const struct hash_stamp *stamp,
                    const unsigned char (*hashes)[DIGEST_BYTES], size_t pieces) {
    static const char digits[] = "0123456789abcdef";
    struct error ignored;
    char hex[DIGEST_HEX];
    char *text = NULL;
    char *real =
        cache == NULL || stamp->text[0] == 0 || pieces > FILE_LIMIT / HEX ? NULL : realpath(path, NULL);
    if (real == NULL || memory_zeroed(&text, pieces * HEX + 1, 1, &ignored) != STATUS_OK) {
        free(real);
        return;
    }
    for (size_t i = 0; i < pieces * DIGEST_BYTES; i++) {
        unsigned char byte = hashes[i / DIGEST_BYTES][i % DIGEST_BYTES];
        text[2 * i] = digits[byte >> 4];
        text[2 * i + 1] = digits[byte & 15];
    }
    if (hash_entry(hex, real, stamp->text, text)) {
        json_object_set_new(cache->changes, real,
                            json_pack("{s:s, s:I, s:s, s:s}", "stamp", stamp->text, "kept",
                                      (json_int_t)clock_unix(), "hashes", text, "sha256", hex));
    }
    free(text);
    free(real);
}

void hash_cache_drop(struct hash_cache *cache, const char *path) {
    char *real = cache == NULL ? NULL : realpath(path, NULL);
    if (real != NULL) {
        json_object_set_new(cache->changes, real, json_null());
    }
    free(real);
}

// Takes out the oldest until the rest has few enough digits.
static void bound_files(json_t *files) {
    for (;;) {
        size_t digits = 0;
        const char *oldest = NULL;
        json_int_t age = 0;
        const char *path;
        json_t *entry;
        json_object_foreach(files, path, entry) {
            json_int_t kept = json_integer_value(json_object_get(entry, "kept"));
            digits += json_string_length(json_object_get(entry, "hashes"));
            if (oldest == NULL || kept < age) {
                oldest = path;
                age = kept;
            }
        }
        if (digits <= FILE_LIMIT) {
            return;
        }
        json_object_del(files, oldest);
    }
}

static json_t *merge_changes(const struct hash_cache *cache) {
    json_t *files = read_files(cache);
    const char *path;
    json_t *entry;
    files = files == NULL ? json_object() : files;
    json_object_foreach(cache->changes, path, entry) {
        if (json_is_null(entry)) {
            json_object_del(files, path);
        } else {
            json_object_set(files, path, entry);
        }
    }
    bound_files(files);
    return files;
}

// Of machines, or starts of this one, that are gone; and what a crash left.
static void remove_unused(int folder) {
    int again = dup(folder);
    DIR *list = again < 0 ? NULL : fdopendir(again);
    const struct dirent *entry;
    struct stat info;
    while (list != NULL && (entry = readdir(list)) != NULL) {
        if (strstr(entry->d_name, ENDING) != NULL &&
            fstatat(folder, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode) &&
            clock_unix() - (int64_t)info.st_mtim.tv_sec > UNUSED_SECONDS) {
            (void)unlinkat(folder, entry->d_name, 0);
        }
    }
    if (list != NULL) {
        closedir(list);
    } else if (again >= 0) {
        close(again);
    }
}

// Not synced: after a crash it is another start's. Others may do the same at this moment; the last one
// counts.
static bool write_files(const struct hash_cache *cache, json_t *files) {
    char aside[PATH_SIZE];
    if (snprintf(aside, sizeof aside, "%s.XXXXXX", cache->path) >= (int)sizeof aside) {
        errno = ENAMETOOLONG;
        return false;
    }
    int descriptor = mkostemp(aside, O_CLOEXEC);
    if (descriptor < 0) {
        return false;
    }
    json_t *root = json_pack("{s:i, s:O}", "format", FORMAT, "files", files);
    bool written = root != NULL && json_dumpfd(root, descriptor, JSON_COMPACT) == 0;
    json_decref(root);
    written = close(descriptor) == 0 && written;
    written = written && rename(aside, cache->path) == 0;
    if (!written) {
        int problem = errno;
        (void)unlink(aside);
        errno = problem;
    }
    return written;
}

void hash_cache_save(struct hash_cache *cache, struct log *log) {
    if (cache == NULL || json_object_size(cache->changes) == 0) {
        return;
    }
    int folder = make_folder(cache);
    bool written = false;
    if (folder >= 0) {
        json_t *files = merge_changes(cache);
        written = write_files(cache, files);
        json_decref(files);
    }
    if (log != NULL && written) {
        log_write(log, LOG_LEVEL_INFO, "hashes of the weights are kept in %s", cache->path);
    } else if (log != NULL) {
        log_write(log, LOG_LEVEL_INFO, "hashes of the weights are not kept in %s: %s", cache->folder,
                  strerror(errno));
    }
    if (folder >= 0) {
        remove_unused(folder);
        close(folder);
    }
}

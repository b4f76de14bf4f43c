// SPDX-License-Identifier: MIT
#include "commands/operand_hints.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/printable.h"
#include "checkpoints/ledger.h"
#include "checkpoints/ledger_place.h"
#include "checkpoints/run_set.h"
#include "commands/command.h"
#include "job/job.h"
#include "start/folder_job.h"

static const char *const job_endings[] = {".yaml", ".yml", ".json", NULL};

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text);
    size_t wanted = strlen(end);
    return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

static bool is_job_name(const char *name) {
    for (size_t i = 0; job_endings[i] != NULL; i++) {
        if (ends_with(name, job_endings[i])) {
            return true;
        }
    }
    return false;
}

static bool has_file(const char *folder, const char *name) {
    char path[PATH_SIZE];
    struct error ignored;
    return path_join(path, sizeof path, folder, name, &ignored) == STATUS_OK && file_exists(path);
}

// Whatever is wrong with it.
static bool is_run(const char *folder) {
    struct error ignored;
    uint64_t parts = 0;
    return has_file(folder, "ledger.sqlite") || has_file(folder, LEDGER_PLACE_FILE) ||
           run_set_parts(folder, &parts, &ignored) != STATUS_OK || parts > 0;
}

static bool folder_above(char out[PATH_SIZE], const char *path) {
    char bare[PATH_SIZE];
    struct error ignored;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    return snprintf(bare, sizeof bare, "%.*s", (int)length, path) < (int)sizeof bare &&
           path_folder(out, PATH_SIZE, bare, &ignored) == STATUS_OK;
}

// ---- in place of a run directory ----

// Calls it a run in a folder, up to three of them: " (it has a, b)".
static void list_runs(const char *folder, struct error *err) {
    enum { SHOWN = 3 };
    size_t count = 0;
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    while (stream != NULL && count < SHOWN && (entry = readdir(stream)) != NULL) {
        char path[PATH_SIZE];
        struct error ignored;
        if (entry->d_name[0] != '.' &&
            path_join(path, sizeof path, folder, entry->d_name, &ignored) == STATUS_OK && is_run(path)) {
            error_append(err, "%s%s", count++ == 0 ? ": of runs it has " : ", ", entry->d_name);
        }
    }
    if (stream != NULL) {
        closedir(stream);
    }
    if (count == 0) {
        error_append(err, ": no run has begun there");
    }
}

static int no_run(const char *path, const struct stat *info, struct error *err) {
    char above[PATH_SIZE];
    error_set(err, STATUS_DATA, "there is no ledger in %s", path);
    if (folder_above(above, path) && is_run(above)) {
        return error_append(err, ": it lies in the run directory %s", above);
    }
    if (!S_ISDIR(info->st_mode)) {
        return error_append(err, ": it is a file; a run directory is what run.output of a job names");
    }
    if (has_file(path, "config.json")) {
        return error_append(err,
                            ": it is a model's folder; a run directory is what run.output of a job names");
    }
    list_runs(path, err);
    return STATUS_DATA;
}

// The run directory of a job file, for which it stands.
static int take_output(struct arguments *arguments, char output[PATH_SIZE], const struct stat *info,
                       struct error *err) {
    const char *path = arguments->words[0];
    struct job job;
    char shown[PRINTABLE_TEXT];
    int status = job_read(&job, path, err);
    if (status != STATUS_OK) {
        return is_job_name(path) ? status : no_run(path, info, err);
    }
    status = path_join(output, PATH_SIZE, "", job.output, err);
    job_destroy(&job);
    TRY(status);
    if (!file_exists(output)) {
        return error_set(err, STATUS_DATA, "the run of the job %s has not begun: there is no folder %s", path,
                         output);
    }
    fprintf(stderr, "strata %s: %s is a job file; its run directory is ", arguments->command->name,
            printable(shown, sizeof shown, path));
    fprintf(stderr, "%s\n", printable(shown, sizeof shown, output));
    arguments_replace_first(arguments, output);
    return STATUS_OK;
}

static int no_folder(const struct arguments *arguments, const char *path, struct error *err) {
    char hint[JOB_PATH_HINT];
    error_set(err, STATUS_DATA, "there is no ledger in %s: there is no such folder", path);
    return arguments->word_count == 2 && path == arguments->words[0] && is_run(arguments->words[1])
               ? error_append(err, " (the run directory comes first: strata %s %s %s)",
                              arguments->command->name, arguments->words[1], path)
               : error_append(err, "%s", job_path_hint(hint, path, NULL));
}

static int check_run(struct arguments *arguments, char output[PATH_SIZE], struct error *err) {
    const char *path = arguments->words[0];
    struct stat info;
    if (stat(path, &info) != 0) {
        return errno != ENOENT ? STATUS_OK // its reader says why it cannot be looked at
                               : no_folder(arguments, path, err);
    }
    for (size_t i = 1; arguments->command->operands[0].repeats && i < arguments->word_count; i++) {
        TRY(file_exists(arguments->words[i]) ? STATUS_OK : no_folder(arguments, arguments->words[i], err));
    }
    if (S_ISREG(info.st_mode)) {
        return take_output(arguments, output, &info, err);
    }
    return is_run(path) || !S_ISDIR(info.st_mode) ? STATUS_OK : no_run(path, &info, err);
}

// ---- in place of a job file ----

static bool is_job_of(const char *path, const struct stat *run) {
    struct job job;
    struct error ignored;
    struct stat info;
    bool same = job_read(&job, path, &ignored) == STATUS_OK && stat(job.output, &info) == 0 &&
                info.st_dev == run->st_dev && info.st_ino == run->st_ino;
    job_destroy(&job);
    return same;
}

// The job file in `folder` whose output is the run; false when there is none.
static bool find_job(char out[PATH_SIZE], const char *folder, const struct stat *run) {
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    struct error ignored;
    bool found = false;
    while (stream != NULL && !found && (entry = readdir(stream)) != NULL) {
        found = is_job_name(entry->d_name) &&
                path_join(out, PATH_SIZE, folder, entry->d_name, &ignored) == STATUS_OK &&
                is_job_of(out, run);
    }
    if (stream != NULL) {
        closedir(stream);
    }
    return found;
}

// Where the job file lay that a run was begun with.
static void read_origin(struct buffer *origin, const char *folder) {
    struct ledger *ledger = NULL;
    struct error ignored;
    bool found = false;
    if (ledger_open_read(&ledger, folder, &ignored) != STATUS_OK ||
        ledger_note(ledger, FOLDER_JOB_NOTE, origin, &found, &ignored) != STATUS_OK || !found) {
        buffer_clear(origin);
    }
    ledger_close(ledger);
}

static int is_run_not_job(const char *command, const char *path, const struct stat *info, struct error *err) {
    struct buffer origin = {0};
    char job[PATH_SIZE];
    read_origin(&origin, path);
    const char *folder = origin.size > 0 ? origin.data : ".";
    char above[PATH_SIZE];
    bool found = find_job(job, folder, info) || (folder_above(above, path) && find_job(job, above, info));
    int status =
        found ? error_set(err, STATUS_JOB, "%s is a run directory; its job file is wanted: strata %s %s",
                          path, command, job)
              : error_set(err, STATUS_JOB,
                          "%s is a run directory; the job file that it was begun with is wanted (it lay in "
                          "%s; job.yaml in the run directory is a copy)",
                          path, folder);
    buffer_destroy(&origin);
    return status;
}

static int check_job(const struct arguments *arguments, struct error *err) {
    const char *path = arguments->words[0];
    const char *command = arguments->command->name;
    char hint[JOB_PATH_HINT];
    char inside[PATH_SIZE];
    struct stat info;
    if (stat(path, &info) != 0) {
        return STATUS_OK; // who reads the job says so
    }
    if (S_ISREG(info.st_mode) && (ends_with(path, ".jsonl") || ends_with(path, ".jsonl.gz"))) {
        return error_set(
            err, STATUS_JOB,
            "%s holds problems, not a job: `strata import %s problems.db`, and a job file names that "
            "(strata help job)",
            path, path);
    }
    if (!S_ISDIR(info.st_mode)) {
        return STATUS_OK;
    }
    if (is_run(path)) {
        return is_run_not_job(command, path, &info, err);
    }
    if (has_file(path, "config.json")) {
        return error_set(err, STATUS_JOB,
                         "%s is a model's folder, not a job: a job file names it as model.path "
                         "(strata help job)",
                         path);
    }
    TRY(path_join(inside, sizeof inside, path, "x", err));
    return error_set(err, STATUS_JOB, "%s is not a regular file: it is a folder%s", path,
                     job_path_hint(hint, inside, job_endings));
}

int operand_hints_check(struct arguments *arguments, char output[PATH_SIZE], struct error *err) {
    const struct command *command = arguments->command;
    if (command->operand_count == 0 || arguments->word_count == 0) {
        return STATUS_OK;
    }
    const char *name = command->operands[0].name;
    return strcmp(name, "DIR") == 0        ? check_run(arguments, output, err)
           : strcmp(name, "JOB.yaml") == 0 ? check_job(arguments, err)
                                           : STATUS_OK;
}

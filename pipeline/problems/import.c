// SPDX-License-Identifier: MIT
#include "problems/import.h"

#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/first_bytes.h"
#include "base/memory.h"
#include "problems/import_id.h"
#include "problems/json_line.h"
#include "problems/lines.h"
#include "problems/table.h"

enum { FAULTS_SHOWN = 20 };

struct import {
    struct lines *lines;
    struct table *table;
    const struct import_options *options;
    const char *path;
    const char *name; // of the file, in messages
    bool is_stream;   // standard input or a pipe: read once
    void (*fault)(void *context, uint64_t line, const char *what);
    void *context;
    struct buffer first; // the first line that is not blank, when it was read to find the id
    char id[IMPORT_ID];
    uint64_t faults;
    struct import_report report; // rows and what was mended in them
};

// A broken line is told and counted; the reading goes on so that all of them are seen at once. One that is
// left out is always told.
static void tell_fault(struct import *import, const char *what) {
    import->faults += 1;
    if (import->faults <= FAULTS_SHOWN || import->options->skip_broken) {
        import->fault(import->context, lines_number(import->lines), what);
    }
}

static void count_row(struct import *import, const struct json_mended *mended) {
    struct import_report *report = &import->report;
    report->rows += 1;
    if (json_mended_count(mended) > 0) {
        report->first_mended = report->mended == 0 ? lines_number(import->lines) : report->first_mended;
        report->mended += 1;
        report->mended_values.halves += mended->halves;
        report->mended_values.not_finite += mended->not_finite;
        report->mended_values.beyond += mended->beyond;
    }
}

static int import_line(struct import *import, const char *text, size_t size, struct error *err) {
    struct json_line line;
    bool taken = false;
    int status = json_line_parse(&line, text, size, lines_number(import->lines) == 1, import->id, err);
    if (status == STATUS_OK && line.object != NULL) {
        status = table_insert(import->table, line.object, &taken, line.what, sizeof line.what, err);
    }
    if (status != STATUS_OK) {
        error_wrap(err, "line %llu", (unsigned long long)lines_number(import->lines));
    } else if (taken) {
        count_row(import, &line.mended);
    } else {
        tell_fault(import, line.what);
    }
    json_decref(line.object);
    return status;
}

// Where no line has the id that was asked for: what the first line has.
static int add_members(const struct import *import, struct error *err) {
    struct json_line line;
    struct error ignored;
    const char *key;
    json_t *value;
    size_t count = 0;
    int status = json_line_parse(&line, import->first.data, import->first.size, true, NULL, &ignored);
    if (status == STATUS_OK && line.object != NULL && json_object_get(line.object, import->id) == NULL) {
        json_object_foreach(line.object, key, value) {
            error_append(err, "%s%.60s", count++ == 0 ? "; the first line has " : ", ", key);
        }
    }
    json_decref(line.object);
    return err->status;
}

static int judge(const struct import *import, struct error *err) {
    if (import->faults > 0 && !import->options->skip_broken) {
        error_set(err, STATUS_DATA,
                  "%s: %llu broken %s; nothing was imported (--skip-broken leaves such lines out)",
                  import->name, (unsigned long long)import->faults, import->faults == 1 ? "line" : "lines");
        return import->report.rows > 0 ? STATUS_DATA : add_members(import, err);
    }
    if (import->report.rows > 0) {
        return STATUS_OK;
    }
    return import->faults > 0
               ? error_set(err, STATUS_DATA, "%s: every line is broken; nothing was imported", import->name)
               : error_set(err, STATUS_DATA, "%s: there are no lines", import->name);
}

static int import_lines(struct import *import, struct error *err) {
    struct buffer line = {0};
    bool found = true;
    int status;
    TRY_TO(done, status = import->first.size == 0
                              ? STATUS_OK
                              : import_line(import, import->first.data, import->first.size, err));
    while (found) {
        TRY_TO(done, status = lines_next(import->lines, &line, &found, err));
        if (found && !json_line_blank(line.data, line.size)) {
            TRY_TO(done, status = import_line(import, line.data, line.size, err));
        }
    }
done:
    buffer_destroy(&line);
    TRY(status);
    return judge(import, err);
}

// ---- the id ----

// The first line that is not blank; a file that shows by it that it holds no JSON lines is refused as a
// whole.
static int read_first(struct import *import, struct error *err) {
    bool found = true;
    while (found && json_line_blank(import->first.data, import->first.size)) {
        TRY(lines_next(import->lines, &import->first, &found, err));
    }
    const char *advice = NULL;
    const char *shape = found ? json_line_shape(import->first.data, import->first.size, &advice) : NULL;
    return shape == NULL ? STATUS_OK
                         : error_set(err, STATUS_DATA, "%s holds no JSON lines, it begins as %s: %s",
                                     import->name, shape, advice);
}

// Of the usual names the first that is in every line and unique; a stream is read once, so that the best
// name has to do.
static int find_id(struct import *import, const json_t *object, struct error *err) {
    char tried[IMPORT_ID] = "";
    for (size_t place = 0; import_id_candidate(import->id, object, place); place++) {
        bool fits = true;
        // The documented name needs no proof: a line without it is a broken line.
        bool is_standard = strcmp(import->id, IMPORT_STANDARD_ID) == 0;
        int status = !import->is_stream && !is_standard ? import_id_fits(import->path, import->id, &fits, err)
                                                        : STATUS_OK;
        if (status != STATUS_OK || fits) {
            return status;
        }
        memcpy(tried, import->id, sizeof tried);
    }
    return import_id_ask(import->name, object, tried, err);
}

// The file's first line that is an object; NULL when there is none. Of a stream only the first line is at
// hand.
static int first_object(const struct import *import, json_t **out, struct error *err) {
    struct json_line parsed;
    struct lines *lines = NULL;
    struct buffer line = {0};
    bool found = true;
    int status = json_line_parse(&parsed, import->first.data, import->first.size,
                                 lines_number(import->lines) == 1, NULL, err);
    *out = parsed.object;
    if (status != STATUS_OK || *out != NULL || import->is_stream) {
        return status;
    }
    TRY_TO(done, status = lines_open(&lines, import->path, err));
    while (found && *out == NULL) {
        TRY_TO(done, status = lines_next(lines, &line, &found, err));
        if (found) {
            TRY_TO(done, status = json_line_parse(&parsed, line.data, line.size, lines_number(lines) == 1,
                                                  NULL, err));
            *out = parsed.object;
        }
    }
done:
    buffer_destroy(&line);
    lines_close(lines);
    return status;
}

// Of the usual names the first that is a column of the table; its ids are looked through at the end. Whatever
// else is wrong with the table is said when it is opened.
static void find_id_of_table(struct import *import, const json_t *object, const char *database) {
    struct table *table = NULL;
    struct error ignored;
    char id[IMPORT_ID];
    for (size_t place = 0; import_id_candidate(id, object, place); place++) {
        int status = table_open(&table, database, false, import->options->table, id, true,
                                import->options->watch, &ignored);
        table_close(table);
        if (status == STATUS_OK) {
            memcpy(import->id, id, sizeof id);
        }
        if (status != STATUS_DATA) {
            return; // found, or held by another program, for which every other name would wait as long
        }
    }
}

static int choose_id(struct import *import, const char *database, struct error *err) {
    const struct import_options *options = import->options;
    json_t *object = NULL;
    snprintf(import->id, sizeof import->id, "%s", options->id == NULL ? IMPORT_STANDARD_ID : options->id);
    int status = read_first(import, err);
    if (status != STATUS_OK || options->id != NULL || import->first.size == 0) {
        return status;
    }
    status = first_object(import, &object, err);
    if (object != NULL && options->append) {
        find_id_of_table(import, object, database);
    } else if (object != NULL) {
        status = find_id(import, object, err);
    }
    json_decref(object);
    return status;
}

// A database that is new is built aside and renamed when it is whole; one that is there changes in one
// transaction.
static int publish(const char *aside, const char *database, struct error *err) {
    if (file_exists(database)) {
        return error_set(err, STATUS_WRITE,
                         "%s was created by another program meanwhile; nothing was imported", database);
    }
    TRY(file_sync(aside, err));
    return file_publish(aside, database, err);
}

// A file that is there and is no database is named as what it is; an empty one may become one.
static int check_target(const char *database, struct error *err) {
    uint64_t size = 0;
    int status = file_size(database, &size, err);
    return status != STATUS_OK || size == 0 ? status
                                            : first_bytes_check_file(database, FIRST_BYTES_DATABASE, err);
}

int import_jsonl(const char *path, const char *database, const struct import_options *options,
                 void (*fault)(void *context, uint64_t line, const char *what), void *context,
                 struct import_report *report, struct error *err) {
    bool is_standard = strcmp(path, "-") == 0;
    struct stat info;
    struct import import = {.options = options,
                            .path = path,
                            .name = is_standard ? "standard input" : path,
                            .is_stream = is_standard || (stat(path, &info) == 0 && !S_ISREG(info.st_mode)),
                            .fault = fault,
                            .context = context};
    struct error ignored;
    char aside[PATH_SIZE];
    bool is_new = !file_exists(database);
    *report = (struct import_report){0};
    if (snprintf(aside, sizeof aside, "%s.tmp", database) >= (int)sizeof aside) {
        return error_set(err, STATUS_WRITE, "path too long: %.200s", database);
    }
    if (is_new && options->append) {
        return error_set(err, STATUS_DATA, "%s does not exist: there is nothing to append to", database);
    }
    size_t columns = 0;
    int status;
    TRY_TO(done, status = is_new ? STATUS_OK : check_target(database, err));
    TRY_TO(done, status = lines_open(&import.lines, path, err));
    TRY_TO(done, status = choose_id(&import, database, err));
    if (is_new) {
        TRY_TO(done, status = file_remove(aside, err)); // what a killed import left
    }
    TRY_TO(done, status = table_open(&import.table, is_new ? aside : database, is_new, options->table,
                                     import.id, options->append, options->watch, err));
    TRY_TO(done, status = import_lines(&import, err));
    TRY_TO(done, status = table_commit(import.table, err));
    columns = table_column_count(import.table);
done:
    table_close(import.table);
    lines_close(import.lines);
    buffer_destroy(&import.first);
    if (status == STATUS_OK && is_new) {
        status = publish(aside, database, err);
    }
    if (status == STATUS_OK) {
        *report = import.report;
        report->columns = columns;
        report->skipped = import.faults;
        snprintf(report->id, sizeof report->id, "%s", import.id);
    } else if (is_new) {
        file_remove(aside, &ignored);
    }
    return status;
}

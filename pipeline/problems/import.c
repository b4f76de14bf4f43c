#include "problems/import.h"

#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "problems/lines.h"
#include "problems/table.h"

enum { FAULTS_SHOWN = 20 };

struct import {
    struct lines *lines;
    struct table *table;
    const struct import_options *options;
    void (*fault)(void *context, uint64_t line, const char *what);
    void *context;
    uint64_t faults;
    uint64_t rows;
};

// A broken line is told and counted; the reading goes on so that all of them are seen at once.
static void tell_fault(struct import *import, const char *what) {
    import->faults += 1;
    if (import->faults <= FAULTS_SHOWN) {
        import->fault(import->context, lines_number(import->lines), what);
    }
}

static bool is_blank(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (strchr(" \t\r", text[i]) == NULL || text[i] == 0) {
            return false;
        }
    }
    return true;
}

// *out: the line's object, or NULL after telling the fault.
static int parse_line(struct import *import, const char *text, size_t size, json_t **out, struct error *err) {
    static const char byte_order_mark[] = "\xEF\xBB\xBF";
    if (lines_number(import->lines) == 1 && size >= 3 && memcmp(text, byte_order_mark, 3) == 0) {
        text += 3;
        size -= 3;
    }
    json_error_t problem;
    char what[JSON_ERROR_TEXT_LENGTH + 64];
    json_t *object =
        json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &problem);
    *out = NULL;
    if (object == NULL && json_lacked_memory(&problem)) {
        return error_set(err, STATUS_INTERNAL, "line %llu: out of memory",
                         (unsigned long long)lines_number(import->lines));
    }
    if (object == NULL) {
        snprintf(what, sizeof what, "column %d: %s", problem.column, problem.text);
        tell_fault(import, what);
    } else if (!json_is_object(object)) {
        tell_fault(import, "not a JSON object");
        json_decref(object);
    } else {
        *out = object;
    }
    return STATUS_OK;
}

static int import_line(struct import *import, const char *text, size_t size, struct error *err) {
    char what[512];
    bool taken = false;
    json_t *object;
    int status = parse_line(import, text, size, &object, err);
    if (object == NULL) {
        return status;
    }
    status = table_insert(import->table, object, &taken, what, sizeof what, err);
    if (status == STATUS_OK && !taken) {
        tell_fault(import, what);
    } else if (status != STATUS_OK) {
        error_wrap(err, "line %llu", (unsigned long long)lines_number(import->lines));
    }
    import->rows += taken;
    json_decref(object);
    return status;
}

static int import_lines(struct import *import, const char *path, struct error *err) {
    struct buffer line = {0};
    bool found = true;
    int status = STATUS_OK;
    while (status == STATUS_OK && found) {
        status = lines_next(import->lines, &line, &found, err);
        if (status == STATUS_OK && found && !is_blank(line.data, line.size)) {
            status = import_line(import, line.data, line.size, err);
        }
    }
    buffer_destroy(&line);
    if (status != STATUS_OK) {
        return status;
    }
    if (import->faults > 0) {
        return error_set(err, STATUS_DATA, "%s: %llu broken %s; nothing was imported", path,
                         (unsigned long long)import->faults, import->faults == 1 ? "line" : "lines");
    }
    return import->rows > 0 ? STATUS_OK : error_set(err, STATUS_DATA, "%s: there are no lines", path);
}

// A database that is new is built aside and renamed when it is whole; one that is there changes in one
// transaction.
static int publish(const char *aside, const char *database, struct error *err) {
    if (file_exists(database)) {
        return error_set(err, STATUS_WRITE, "%s was made by another program meanwhile; nothing was imported",
                         database);
    }
    int status = file_sync(aside, err);
    return status == STATUS_OK ? file_publish(aside, database, err) : status;
}

int import_jsonl(const char *path, const char *database, const struct import_options *options,
                 void (*fault)(void *context, uint64_t line, const char *what), void *context,
                 struct import_report *report, struct error *err) {
    struct import import = {.options = options, .fault = fault, .context = context};
    struct error ignored;
    char aside[PATH_SIZE];
    bool is_new = !file_exists(database);
    *report = (struct import_report){0};
    if (snprintf(aside, sizeof aside, "%s.tmp", database) >= (int)sizeof aside) {
        return error_set(err, STATUS_WRITE, "path too long: %.200s", database);
    }
    if (is_new && options->append) {
        return error_set(err, STATUS_DATA, "%s is not there: there is nothing to append to", database);
    }
    int status = lines_open(&import.lines, path, err);
    if (status == STATUS_OK && is_new) {
        status = file_remove(aside, err); // what a killed import left
    }
    if (status == STATUS_OK) {
        status = table_open(&import.table, is_new ? aside : database, is_new, options->table, options->id,
                            options->append, options->watch, err);
    }
    if (status == STATUS_OK) {
        status = import_lines(&import, path, err);
    }
    if (status == STATUS_OK) {
        status = table_commit(import.table, err);
    }
    size_t columns = status == STATUS_OK ? table_column_count(import.table) : 0;
    table_close(import.table);
    lines_close(import.lines);
    if (status == STATUS_OK && is_new) {
        status = publish(aside, database, err);
    }
    if (status == STATUS_OK) {
        *report = (struct import_report){.rows = import.rows, .columns = columns};
    } else if (is_new) {
        file_remove(aside, &ignored);
    }
    return status;
}

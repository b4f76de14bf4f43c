// SPDX-License-Identifier: MIT
// What the source's own files share; source.h is what others see.
#ifndef STRATA_PROBLEMS_SOURCE_INTERNAL_H
#define STRATA_PROBLEMS_SOURCE_INTERNAL_H

#include <sqlite3.h>

#include "problems/part.h"
#include "problems/patience.h"
#include "problems/repeatable.h"
#include "problems/source.h"

enum { NUMBER_TEXT = 32, TABLES = 4, TABLE_NAME = 128 };

struct source {
    sqlite3 *connection;
    sqlite3_stmt *statement;
    char *path;
    struct source_column *columns; // names fixed, values of the row at hand
    struct {
        char text[NUMBER_TEXT];
    } * numbers; // [column_count] reals that SQLite's 15 digits would change
    size_t column_count;
    uint64_t next;  // ordinal of the next row
    uint64_t limit; // UINT64_MAX: none
    bool ended;
    uint64_t found;   // rows that source_check_ids saw
    double asked;     // when the row at hand was asked for
    double next_word; // seconds without a row until somebody is told
    struct patience patience;
    struct repeatable *repeatable;
    char tables[TABLES][TABLE_NAME]; // that the query reads, as far as there is room
    size_t table_count;
    int64_t rowid;     // of the row at hand, after source_follow
    struct part *part; // NULL: all rows
    bool entered;      // the statement begins at the part's first row
    bool bounded;      // and a row behind the part's last one is one too many
};

#endif

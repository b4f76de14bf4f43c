// SPDX-License-Identifier: MIT
// What strata report says of a moment of a run or a set: the figures of strata status, as the report's room
// takes them.
#ifndef STRATA_COMMANDS_REPORT_FACTS_H
#define STRATA_COMMANDS_REPORT_FACTS_H

#include "commands/run_snapshot.h"
#include "commands/set_snapshot.h"
#include "report/report.h"

struct report_source {
    struct run_snapshot snapshot;
    struct buffer detail, refused;
    char throttle[64];
    struct report_facts facts; // points into the above
};

int report_source_take(struct report_source *source, const char *folder, struct error *err);
void report_source_free(struct report_source *source); // also after a failure

struct report_set_source {
    struct set_snapshot snapshot;
    struct buffer detail;
    struct report_part *parts; // [list.count]
    struct buffer *details;    // [list.count]
    struct report_set set;     // points into the above
};

int report_set_source_take(struct report_set_source *source, const char *folder, struct error *err);
void report_set_source_free(struct report_set_source *source); // also after a failure

#endif

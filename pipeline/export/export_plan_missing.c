// SPDX-License-Identifier: MIT
// What an export's plan lacks, for people.
#include "export/export_plan.h"

#include <inttypes.h>
#include <stdio.h>

// The number of parts that are not complete.
static size_t count_incomplete(const struct export_plan *plan) {
    size_t count = 0;
    for (size_t i = 0; plan->list.parts > 0 && i < plan->list.count; i++) {
        count += !plan->complete[i];
    }
    return count;
}

void export_plan_incomplete_parts(const struct export_plan *plan, char out[EXPORT_PARTS_TEXT]) {
    enum { NAMED = 16 };
    size_t count = count_incomplete(plan);
    size_t named = 0;
    size_t length = (size_t)snprintf(out, EXPORT_PARTS_TEXT, "%s",
                                     count == 0   ? ""
                                     : count == 1 ? "part"
                                                  : "parts");
    for (size_t i = 0; i < plan->list.count && count > 0 && named < NAMED; i++) {
        if (!plan->complete[i]) {
            const char *before = named == 0 ? " " : named + 1 == count ? " and " : ", ";
            length += (size_t)snprintf(out + length, EXPORT_PARTS_TEXT - length, "%s%zu", before, i);
            named++;
        }
    }
    if (count > named) {
        length += (size_t)snprintf(out + length, EXPORT_PARTS_TEXT - length, " and %zu more", count - named);
    }
    if (count > 0) {
        snprintf(out + length, EXPORT_PARTS_TEXT - length, " of %" PRIu64 " %s not complete",
                 plan->list.parts, count == 1 ? "is" : "are");
    }
}

// Of parts that were named one by one the job is not known: there are none.
static int list_commands(const struct export_plan *plan, size_t count, struct buffer *lines,
                         struct error *err) {
    enum { COMMANDS = 16 };
    size_t listed = 0;
    if (plan->list.set[0] == 0) {
        return buffer_append(lines, "", 0, err);
    }
    TRY(buffer_printf(lines, err, "; run"));
    for (size_t i = 0; i < plan->list.count && listed < COMMANDS; i++) {
        if (!plan->complete[i]) {
            TRY(buffer_append(lines, "\n  ", 3, err));
            TRY(run_list_command(&plan->list, i, lines, err));
            listed++;
        }
    }
    return count == listed ? STATUS_OK : buffer_printf(lines, err, "\n  and %zu parts more", count - listed);
}

int export_plan_require_complete(const struct export_plan *plan, struct error *err) {
    struct buffer lines = {0};
    char parts[EXPORT_PARTS_TEXT];
    if (plan->finished) {
        return STATUS_OK;
    }
    if (plan->list.parts == 0) {
        return error_set(err, STATUS_DATA, "%s has not processed every problem yet (--require-complete)",
                         plan->list.name);
    }
    export_plan_incomplete_parts(plan, parts);
    int status = list_commands(plan, count_incomplete(plan), &lines, err);
    if (status == STATUS_OK) {
        status = error_set_lines(err, STATUS_DATA, "%s: %s (--require-complete)%s", plan->list.name, parts,
                                 lines.data);
    }
    buffer_destroy(&lines);
    return status;
}

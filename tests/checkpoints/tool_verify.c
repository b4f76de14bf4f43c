// SPDX-License-Identifier: MIT
// Prints every fault (and "NOTE ...") that verify finds in a run directory, and what a reader sees of its
// ledger:
//   tool_verify FOLDER          exit 0: no fault, 1: faults, else the exit code of the error
//   tool_verify FOLDER status   one line: "done N shards N finished 0|1"; opens the ledger as `strata status`
//   does tool_verify FOLDER view     writes latents.h5
#include "checkpoints/fixture.h"
#include "checkpoints/verify.h"
#include "checkpoints/view.h"

static void print_line(void *context, enum verify_kind kind, const char *line) {
    (void)context;
    printf("%s%s\n", kind == VERIFY_NOTE ? "NOTE " : "", line);
}

static int print_status(const char *folder, struct error *err) {
    struct ledger *ledger;
    struct ledger_totals totals;
    int status = ledger_open_read(&ledger, folder, err);
    if (status == STATUS_OK) {
        status = ledger_totals(ledger, &totals, err);
    }
    if (status == STATUS_OK) {
        printf("done %llu shards %llu finished %d\n", (unsigned long long)totals.done,
               (unsigned long long)totals.shards, totals.finished);
    }
    ledger_close(ledger);
    return status;
}

static int write_view(const char *folder, struct error *err) {
    struct ledger *ledger;
    bool written = false;
    int status = ledger_open_read(&ledger, folder, err);
    if (status == STATUS_OK) {
        status = view_write(folder, ledger, &written, err);
    }
    ledger_close(ledger);
    return status;
}

int main(int count, char **arguments) {
    struct error err = {0};
    struct verify_report report;
    if (count < 2) {
        return 64;
    }
    int status;
    if (count > 2) {
        status = strcmp(arguments[2], "view") == 0 ? write_view(arguments[1], &err)
                                                   : print_status(arguments[1], &err);
    } else {
        status = verify_run(arguments[1], print_line, NULL, &report, &err);
        if (status == STATUS_OK) {
            return report.faults == 0 ? 0 : 1;
        }
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "tool_verify: %s\n", err.message);
    }
    return error_exit_code(status);
}

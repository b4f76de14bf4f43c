// SPDX-License-Identifier: MIT
#include "checkpoints/verify_set.h"

#include <inttypes.h>

#include "base/printable.h"
#include "commands/command.h"
#include "commands/readable.h"
#include "commands/set_snapshot.h"
#include "commands/verify_model.h"

// What is told of a run, or of the part at hand.
struct telling {
    FILE *out;
    const struct run_list *list; // NULL: of a run by itself, or of the whole set
    size_t part;
};

static void print_line(void *context, enum verify_kind kind, const char *line) {
    const struct telling *telling = context;
    readable_verdict(telling->out, kind == VERIFY_FAULT ? "FAULT" : "NOTE ");
    fputc(' ', telling->out);
    if (telling->list != NULL) {
        fprintf(telling->out, "part %zu/%" PRIu64 ": ", telling->part, telling->list->parts);
    }
    printable_write(telling->out, line);
    fputc('\n', telling->out);
}

static void print_report(FILE *out, const char *name, const struct verify_report *report) {
    char problems[READABLE_TEXT];
    char rows[READABLE_TEXT];
    char bytes[READABLE_TEXT];
    readable_verdict(out, report->faults == 0 ? "PASS" : "FAIL");
    fputc(' ', out);
    printable_write(out, name);
    fprintf(out, ": %" PRIu64 " shards, %s problems, %s rows, %s; %" PRIu64 " faults", report->shards,
            readable_count(report->problems, problems), readable_count(report->rows, rows),
            readable_bytes(report->bytes, bytes), report->faults);
    if (report->notes > 0) {
        fprintf(out, ", %" PRIu64 " notes", report->notes);
    }
}

static int verify_one(FILE *out, const char *folder, bool deep, struct error *err) {
    struct telling telling = {.out = out};
    struct verify_report report = {0};
    TRY(verify_run(folder, print_line, &telling, &report, err));
    TRY(deep ? verify_model(folder, print_line, &telling, &report, err) : STATUS_OK);
    print_report(out, folder, &report);
    fputc('\n', out);
    return report.faults == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "%s does not agree with its ledger: %" PRIu64 " faults", folder,
                           report.faults);
}

// ---- the parts of a set ----

static void add_report(struct verify_report *sum, const struct verify_report *report) {
    sum->shards += report->shards;
    sum->problems += report->problems;
    sum->rows += report->rows;
    sum->bytes += report->bytes;
    sum->faults += report->faults;
    sum->notes += report->notes;
}

// A part that cannot be read, or does not belong here, is a finding: the others are looked at all the same.
static int verify_part(FILE *out, const struct run_list *list, size_t index, struct verify_report *sum,
                       struct error *err) {
    const struct run_list_member *member = &list->members[index];
    struct telling telling = {.out = out, .list = list, .part = index};
    struct verify_report report = {0};
    if (!member->there && member->fault == NULL) {
        return STATUS_OK;
    }
    int status = member->there ? verify_run(member->folder, print_line, &telling, &report, err) : STATUS_OK;
    const char *fault = member->fault != NULL ? member->fault : status == STATUS_DATA ? err->message : NULL;
    if (status != STATUS_OK && status != STATUS_DATA) {
        return status;
    }
    if (fault != NULL) {
        print_line(&telling, VERIFY_FAULT, fault);
        report.faults++;
    }
    print_report(out, member->folder, &report);
    fputc('\n', out);
    add_report(sum, &report);
    return STATUS_OK;
}

// Once for all parts, whose identity names one model: where the first that has begun had it.
static int verify_shared_model(FILE *out, const struct run_list *list, struct verify_report *sum,
                               struct error *err) {
    struct telling telling = {.out = out};
    for (size_t i = 0; i < list->count; i++) {
        if (list->members[i].begun) {
            return verify_model(list->members[i].folder, print_line, &telling, sum, err);
        }
    }
    return STATUS_OK;
}

static int tell_unfinished(FILE *out, const struct set_snapshot *now, struct verify_report *sum,
                           struct error *err) {
    struct telling telling = {.out = out, .list = &now->list};
    struct buffer line = {0};
    int status = STATUS_OK;
    for (telling.part = 0; telling.part < now->list.count; telling.part++) {
        const struct part_snapshot *part = &now->parts[telling.part];
        bool told = part->state == PART_FINISHED || part->state == PART_DAMAGED || !part->given;
        if (!told) {
            buffer_clear(&line);
            TRY_TO(done, status = part_snapshot_describe(now, telling.part, &line, err));
            print_line(&telling, VERIFY_NOTE, line.data);
            sum->notes++;
        }
    }
done:
    buffer_destroy(&line);
    return status;
}

static void print_set(FILE *out, const struct run_list *list, const struct verify_report *sum,
                      const struct verify_set_report *set) {
    char count[READABLE_TEXT];
    uint64_t missing = list->parts - set->finished;
    print_report(out, list->name, sum);
    if (missing > 0) {
        fprintf(out, "; incomplete: %" PRIu64 " of %" PRIu64 " parts are missing or not finished", missing,
                list->parts);
    } else if (sum->faults == 0 && set->done != sum->problems) { // sealed since their part was looked at
        fputs("; incomplete: parts went on while they were checked", out);
    } else if (sum->faults == 0 && set->proven) {
        fprintf(out, "; complete: all %s problems of the survey, each once",
                readable_count(set->recorded, count));
    } else if (sum->faults == 0) {
        fprintf(out, "; all %" PRIu64 " parts are finished: %s problems", list->parts,
                readable_count(set->recorded, count));
    }
    fputc('\n', out);
}

static int verify_parts(FILE *out, const char *const *folders, size_t count, bool deep, struct error *err) {
    struct telling telling = {.out = out};
    struct run_list list = {0};
    struct set_snapshot now = {0};
    struct verify_report sum = {0};
    struct verify_set_report set;
    int status;
    TRY_TO(done, status = run_list_look(&list, folders, count, err));
    for (size_t i = 0; i < list.count; i++) {
        TRY_TO(done, status = verify_part(out, &list, i, &sum, err));
    }
    TRY_TO(done, status = verify_set(&list, print_line, &telling, &sum, &set, err));
    TRY_TO(done, status = deep ? verify_shared_model(out, &list, &sum, err) : STATUS_OK);
    TRY_TO(done, status = set_snapshot_take(&now, folders, count, err));
    TRY_TO(done, status = tell_unfinished(out, &now, &sum, err));
    print_set(out, &list, &sum, &set);
    if (sum.faults > 0) {
        status = error_set(err, STATUS_DATA, "%s: %" PRIu64 " faults", list.name, sum.faults);
    }
done:
    set_snapshot_free(&now);
    run_list_destroy(&list);
    return status;
}

static int run(struct command_context *context, struct error *err) {
    size_t count = 0;
    bool deep = argument_given(context->arguments, "--deep");
    bool is_set = false;
    const char *const *folders = argument_words(context->arguments, &count);
    TRY(run_list_is_set(folders, count, &is_set, err));
    return is_set ? verify_parts(context->out, folders, count, deep, err)
                  : verify_one(context->out, folders[0], deep, err);
}

static const struct operand operands[] = {
    RUNS_OPERAND,
};

static const struct option options[] = {
    {.name = "--deep",
     .kind = OPTION_FLAG,
     .help = "hash the model's files again too, and compare them with the run's identity"},
};

const struct command command_verify = {
    .name = "verify",
    .summary = "check a run's shards against its ledger: hashes, counts, IDs, finite values",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .details =
        "Reads every byte of every shard. Prints a line per FAULT, then PASS or FAIL; exit code 0 or "
        "65. Changes\n"
        "nothing. While a run is active it checks what was acknowledged when verify started. A NOTE "
        "is not a fault:\n"
        "a file that a crash left unacknowledged, which the next launch removes, or a file that is "
        "not the run's.\n"
        "\n"
        "Of a set of parts it checks each part so, then the set: the parts are of one identity and have "
        "the rows that\n"
        "the survey gives them, and every problem of the survey is in one of them, once. A part that is "
        "not finished\n"
        "is a NOTE with the command that runs it. Of parts that are named one by one no problem may be "
        "in two.\n"
        "\n"
        "With --deep it reads every byte of the model's files, where the run had them, and of its "
        "adapter's; of a\n"
        "set once for all parts. Other files are a FAULT, files that are not there any more a NOTE.\n",
    .run = run,
};

// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/printable.h"
#include "commands/command.h"
#include "commands/readable.h"
#include "start/display.h"
#include "start/set_survey.h"

struct surveyed {
    struct display display;
    char folder[PATH_SIZE]; // of the set
    struct survey_file survey;
    bool made;
};

static bool show(void *context, uint64_t problems, uint64_t all) {
    struct surveyed *surveyed = context;
    struct display_state state = {.stage = "surveying", .done = problems, .all = all, .unit = "problems"};
    display_update(&surveyed->display, &state, false);
    return true;
}

// The folder, which becomes a set when a part first runs. A run that is no set keeps its survey in its
// ledger.
static int find_folder(struct surveyed *surveyed, const struct inputs_options *options, struct error *err) {
    struct inputs inputs = {0};
    int status;
    TRY_TO(done, status = inputs_read_job(&inputs, options, err));
    TRY_TO(done, status = path_join(surveyed->folder, sizeof surveyed->folder, "", inputs.job.output, err));
    TRY_TO(done, status = run_set_admit(surveyed->folder, err));
    status = file_make_folder(surveyed->folder, err);
done:
    inputs_close(&inputs);
    return status;
}

static int compare(const struct surveyed *surveyed, const struct inputs_options *options, struct error *err) {
    struct inputs inputs = {0};
    int status = inputs_read_job(&inputs, options, err);
    if (status == STATUS_OK) {
        status = set_survey_compare(&surveyed->survey, &inputs, surveyed->folder, err);
    }
    inputs_close(&inputs);
    return status;
}

static uint64_t bytes_between(const struct survey_file *survey, uint64_t first, uint64_t end) {
    const struct row_blocks *blocks = &survey->blocks;
    uint64_t bytes = 0;
    for (uint64_t row = first; row < end; row += blocks->per_block) {
        bytes += blocks->blocks[row / blocks->per_block].bytes;
    }
    return bytes;
}

static int print_parts(FILE *out, const struct survey_file *survey, uint64_t count, struct error *err) {
    char bytes[READABLE_TEXT];
    uint64_t *begins;
    TRY(survey_file_parts(survey, count, &begins, err));
    for (uint64_t i = 0; i < count; i++) {
        uint64_t first = begins[i];
        uint64_t end = begins[i + 1];
        fprintf(out, "  part %" PRIu64 "/%" PRIu64 "  ", i, count);
        if (first == end) {
            fputs("no rows\n", out);
            continue;
        }
        fprintf(out, "rows %" PRIu64 " to %" PRIu64 ", %s of text\n", first, end - 1,
                readable_bytes(bytes_between(survey, first, end), bytes));
    }
    free(begins);
    return STATUS_OK;
}

static void print_survey(FILE *out, const struct surveyed *surveyed) {
    const struct survey_file *survey = &surveyed->survey;
    char problems[READABLE_TEXT];
    char bytes[READABLE_TEXT];
    printable_write(out, surveyed->folder);
    fprintf(out, "/" RUN_SET_SURVEY ": %s problems, %s of text%s\n",
            readable_count(survey->blocks.rows, problems),
            readable_bytes(bytes_between(survey, 0, survey->blocks.rows), bytes),
            surveyed->made ? "" : "; it was there already");
    fprintf(out, "  a part %s\n",
            survey->blocks.enters
                ? "reads its own rows alone, by rowid"
                : "steps over the rows before its own: the query does not read one table in "
                  "the order of its rowids");
}

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    struct surveyed surveyed = {0};
    struct set_survey_options options = {.folder = surveyed.folder, .progress = show, .context = &surveyed};
    int status;
    job_arguments(&options.inputs, arguments);
    display_start(&surveyed.display, argument_given(arguments, "--quiet") ? NULL : stderr);
    TRY_TO(done, status = find_folder(&surveyed, &options.inputs, err));
    TRY_TO(done, status = set_survey_ensure(&surveyed.survey, &options, &surveyed.made, err));
    if (!surveyed.made) {
        TRY_TO(done, status = compare(&surveyed, &options.inputs, err));
    }
    display_end(&surveyed.display);
    print_survey(context->out, &surveyed);
    status =
        print_parts(context->out, &surveyed.survey, (uint64_t)argument_integer(arguments, "--parts", 0), err);
done:
    display_end(&surveyed.display);
    survey_file_destroy(&surveyed.survey);
    return status;
}

static const struct operand operands[] = {
    JOB_OPERAND,
};

static const struct option options[] = {
    JOB_OPTION_OUTPUT,
    JOB_OPTION_LIMIT(""),
    {.name = "--parts",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "list the rows and bytes of each of N parts",
     .minimum = 1,
     .maximum = RUN_SET_PARTS},
    {.name = "--quiet", .kind = OPTION_FLAG, .help = "show no progress"},
};

const struct command command_survey = {
    .name = "survey",
    .summary = "survey the problems of a job that is to run in parts, once for all of them",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .sums_up = true,
    .details = "Reads every row of the query and writes survey.sqlite into run.output, by which\n"
               "strata run --part I/N finds the rows of its part and knows them again. Needs neither\n"
               "model nor device. Without it the first part to start makes it, and the others wait.\n"
               "Parts are cut so that each has as many bytes of text, whatever their number; each plans\n"
               "batches of its own. Their latents are those of an undivided run, bit for bit.\n",
    .run = run,
};

#include <inttypes.h>
#include <string.h>

#include "base/amount.h"
#include "checkpoints/folder_content.h"
#include "commands/command.h"
#include "commands/plan_memory.h"
#include "commands/readable.h"
#include "start/batching.h"
#include "start/fill.h"
#include "start/inputs.h"

static void write_plan(FILE *out, const struct inputs *inputs) {
    const struct survey *survey = &inputs->survey;
    const struct ledger_survey *totals = &survey->totals;
    uint64_t per_shard = (uint64_t)inputs->job.checkpoint_every;
    double batches = totals->batches > 0 ? (double)totals->batches : 1;
    char disk[AMOUNT_TEXT];
    double texts = totals->texts > 0 ? (double)totals->texts : 1;
    fprintf(out,
            "problems      %" PRIu64 " rows: %" PRIu64 " to run, %" PRIu64 " fail, %" PRIu64 " are skipped\n",
            totals->problems, totals->texts, survey->failed, survey->skipped);
    fprintf(out,
            "tokens        %" PRIu64 " (mean %.1f a text, longest %" PRIu64 "); %" PRIu64
            " texts are cut to %" PRId64 "\n",
            totals->tokens, (double)totals->tokens / texts, totals->longest, totals->truncated,
            inputs->job.max_tokens);
    fprintf(out, "rows          %" PRIu64 " (%s) in %zu layers\n", totals->rows,
            pooling_name(inputs->job.pooling), inputs->layer_count);
    fprintf(out,
            "batches       %" PRIu64 ", %.1f %% of %" PRId64 " tokens full, %.1f texts each; largest %" PRIu64
            " tokens\n",
            totals->batches, 100 * (double)totals->tokens / (batches * (double)inputs->job.batch_tokens),
            inputs->job.batch_tokens, texts / batches, survey->largest_tokens);
    fprintf(out, "shards        %" PRIu64 " of %" PRIu64 " batches\n",
            (totals->batches + per_shard - 1) / per_shard, per_shard);
    fprintf(out, "disk          %s\n",
            amount_text((double)inputs_planned_bytes(inputs, &inputs->survey), disk));
    double flops = model_flops(inputs->model, inputs->layers[inputs->layer_count - 1], totals->tokens,
                               totals->squared_lengths);
    fprintf(out, "work          %.3f TFLOP (%.3f GFLOP a token)\n", flops * 1e-12,
            totals->tokens > 0 ? flops * 1e-9 / (double)totals->tokens : 0);
    fprintf(out, "problem set   %s\n", totals->problems_sha256);
}

// Not for a processor, which computes the tokens that there are.
static int write_fill(FILE *out, const struct inputs *inputs, struct error *err) {
    struct fill fill;
    if (strcmp(inputs->job.device, "cpu") == 0 || inputs->survey.totals.batches == 0) {
        return STATUS_OK;
    }
    TRY(fill_survey(&fill, inputs, err));
    fprintf(out,
            "fill          %.1f %% on a GPU, which computes every batch at one shape; %" PRIu64 " of %" PRIu64
            " below 90 %%\n",
            100 * fill.share, fill.low, inputs->survey.totals.batches);
    if (fill.remedy[0] != 0) {
        fprintf(out, "warning       a fill below 95 %% wastes a GPU's time: %s\n", fill.remedy);
    }
    return STATUS_OK;
}

static int print_plan(FILE *out, struct inputs *inputs, struct error *err) {
    enum { INDENT = 14 };
    struct readable_page page;
    TRY(readable_page_open(&page, "the plan", err));
    write_plan(page.out, inputs);
    int status = write_fill(page.out, inputs, err);
    if (status == STATUS_OK) {
        status = plan_memory_write(page.out, inputs, err);
    }
    if (status != STATUS_OK) {
        readable_page_drop(&page);
        return status;
    }
    return readable_page_print(&page, out, INDENT, 0, readable_columns(out), err);
}

// The batches of a run that has begun in the output are planned as it began.
static int settle_batching(struct inputs *inputs, struct error *err) {
    struct ledger *ledger = NULL;
    if (folder_content_lacks_ledger(inputs->job.output)) {
        return STATUS_OK;
    }
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, inputs->job.output, err));
    status = batching_settle(inputs, ledger, err);
done:
    ledger_close(ledger);
    return status;
}

static int run(struct command_context *context, struct error *err) {
    struct readable_waiting waiting;
    struct inputs_options options = {.watch = readable_watch(&waiting, "plan")};
    job_arguments(&options, context->arguments);
    struct inputs inputs;
    int status;
    TRY_TO(done, status = inputs_read_job(&inputs, &options, err));
    TRY_TO(done, status = settle_batching(&inputs, err));
    TRY_TO(done,
           status = inputs_open(&inputs, INPUTS_PROBLEMS | INPUTS_TOKENIZER | INPUTS_MODEL | INPUTS_TEMPLATE,
                                NULL, err));
    TRY_TO(done, status = survey_make(&inputs.survey, inputs.source, inputs.preparer, &inputs.limits, NULL,
                                      NULL, NULL, err));
    TRY_TO(done, status = print_plan(context->out, &inputs, err));
    status = inputs_refuse_nothing(&inputs, err);
done:
    inputs_close(&inputs);
    return status;
}

static const struct operand operands[] = {
    JOB_OPERAND,
};

static const struct option options[] = {
    JOB_OPTION_LIMIT(""),
};

const struct command command_plan = {
    .name = "plan",
    .summary = "count a job's problems, tokens, shards, disk space and memory without starting it",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .details =
        "Reads and tokenises the whole query. The batches are those that strata run will compute, or "
        "continue\n"
        "with if the output holds a run. A GPU computes every batch at one shape: fill is the share "
        "of its tokens\n"
        "that are text; below 95 % a warning names what would raise it. Memory is what weights and a full "
        "batch take\n"
        "on the device.\n",
    .run = run,
};

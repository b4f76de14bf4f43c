// SPDX-License-Identifier: MIT
// What the problems say before anything is computed: their survey, and what it foretells.
#include <inttypes.h>
#include <stdlib.h>

#include "base/amount.h"
#include "base/file.h"
#include "start/fill.h"
#include "start/launch_steps.h"
#include "start/reuse.h"

#define LOOK_SECONDS 0.1 // between two looks at a survey that is waited for

// ---- the survey ----

static void display_survey(struct launch *launch, uint64_t problems, bool now) {
    struct display_state state = {.stage = "surveying",
                                  .done = problems,
                                  .all = source_rows(launch->inputs.source),
                                  .unit = "problems"};
    display_update(&launch->display, &state, now);
}

static bool show_survey(void *context, uint64_t problems) {
    struct launch *launch = context;
    display_survey(launch, problems, false);
    return !guard_stop_requested(&launch->guard);
}

static bool is_stop_asked(void *context) {
    return guard_stop_requested(&((const struct launch *)context)->guard);
}

// The survey of an earlier launch is used again when the rows still have its hash.
int launch_survey_begin(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    bool found = false;
    struct surveyor_options options = {.source = inputs->source,
                                       .preparer = inputs->preparer,
                                       .limits = inputs->limits,
                                       .stopped = is_stop_asked,
                                       .context = launch};
    TRY(launch_enter_stage(launch, "surveying", err));
    TRY(survey_load(launch->journal.ledger, &inputs->survey, &found, err));
    if (found) {
        TRY(reuse_load(inputs, &inputs->survey, launch->journal.ledger, err));
    }
    launch->fresh = !found;
    launch->wish = reuse_wish(inputs);
    options.wish = inputs->has_begun ? NULL : &launch->wish;
    options.known = found ? &inputs->survey : NULL;
    return surveyor_start(&launch->surveyor, &options, err);
}

// bytes: what all shards need, what is free.
static int check_disk(struct launch *launch, uint64_t bytes[2], struct error *err) {
    struct ledger_totals totals;
    uint64_t space;
    TRY(ledger_totals(launch->journal.ledger, &totals, err));
    TRY(file_space(launch->folder.path, &space, err));
    const struct inputs *inputs = &launch->inputs;
    uint64_t planned = inputs_planned_bytes(inputs, inputs->retries ? &inputs->retry : &inputs->survey);
    uint64_t written = inputs->retries ? 0 : totals.bytes;
    uint64_t left = planned > written ? planned - written : 0;
    double reserve = launch->inputs.job.disk_reserve_gb;
    if ((double)space < (double)left + reserve * 1e9) {
        char texts[3][AMOUNT_TEXT];
        return error_set(
            err, STATUS_WRITE,
            "the disk of %s has %s free; the remaining shards need %s and run.disk_reserve_gb keeps %s",
            launch->folder.path, amount_text((double)space, texts[0]), amount_text((double)left, texts[1]),
            amount_text(reserve * 1e9, texts[2]));
    }
    bytes[0] = planned;
    bytes[1] = space;
    return STATUS_OK;
}

// Of what is loaded meanwhile nothing may be loaded in vain: the run's identity, and room for what the survey
// counted, on the disk and on the device.
static int judge(struct launch *launch, struct error *err) {
    uint64_t bytes[2];
    struct model_plan plan;
    int status = retry_accept_mended(&launch->retry, &launch->inputs, launch->journal.ledger, err);
    launch->inputs.retries = launch->retry.list.count > 0;
    TRY(status);
    TRY(markup_refuse_doubled(&launch->inputs.survey.markup, launch->inputs.tokenizer, err));
    TRY(launch_check_identity(launch, KNOWN_BEFORE_FILES, err));
    if (!launch->loads) {
        return STATUS_OK;
    }
    TRY(check_disk(launch, bytes, err));
    return launch_plan_memory(launch, &plan, err);
}

static int finish(struct launch *launch, struct error *err) {
    int status = surveyor_finish(&launch->surveyor, &launch->inputs.survey, err);
    if (status != STATUS_OK) {
        return launch_name_stop(launch, status, err);
    }
    reuse_take_survey(&launch->inputs);
    return judge(launch, err);
}

bool launch_survey_refuses(struct launch *launch) {
    if (launch->surveyor.running && surveyor_wait(&launch->surveyor, 0)) {
        launch->survey_status = finish(launch, &launch->survey_err);
    }
    return launch->survey_status != STATUS_OK;
}

int launch_survey_end(struct launch *launch, struct error *err) {
    int status = STATUS_OK;
    if (launch->loads && launch->surveyor.running) { // the weights are there
        status = journal_stage(&launch->journal, "surveying", err);
    }
    if (status != STATUS_OK) {
        surveyor_stop(&launch->surveyor);
    }
    while (launch->surveyor.running && !surveyor_wait(&launch->surveyor, LOOK_SECONDS)) {
        display_survey(launch, surveyor_problems(&launch->surveyor), false);
    }
    bool refused = launch_survey_refuses(launch);
    if (status == STATUS_OK && refused) {
        *err = launch->survey_err;
        status = launch->survey_status;
    }
    if (status == STATUS_OK && launch->fresh) {
        display_survey(launch, launch->inputs.survey.totals.problems, true);
    }
    return status;
}

// ---- what it foretells ----

// A run that is finished needs no more work: a launch that finds it so has done all that there was to do. It
// loads nothing, but its model's files must be those of the run: a success says that they are.
static int find_finished(struct launch *launch, struct error *err) {
    struct ledger_totals totals;
    TRY(ledger_totals(launch->journal.ledger, &totals, err));
    if (!totals.finished || launch->inputs.retries) {
        return STATUS_OK;
    }
    TRY(launch_enter_stage(launch, "comparing the model", err));
    TRY(launch_compare_model(launch, err));
    TRY(launch_check_identity(launch, KNOWN_BEFORE_LOAD, err));
    launch->finished = true;
    return ledger_launch_works(launch->journal.ledger, err);
}

static int tell_markup(struct launch *launch, struct error *err) {
    const struct inputs *inputs = &launch->inputs;
    struct buffer lines = {0};
    int status = markup_warn(&inputs->survey.markup, inputs->tokenizer, &inputs->warnings, &lines, err);
    if (status == STATUS_OK && lines.size > 0) {
        log_write(&launch->log, LOG_LEVEL_WARN, "%.*s", (int)lines.size - 1,
                  lines.data); // without its line feed
    }
    buffer_destroy(&lines);
    return status;
}

// A wrong template or column fails every problem: better known now than at the end.
static void foretell_failures(struct launch *launch) {
    const struct survey *survey = &launch->inputs.survey;
    int64_t allowed = launch->inputs.job.max_failed;
    struct error err;
    if (inputs_refuse_nothing(&launch->inputs, &err) != STATUS_OK) {
        log_write(&launch->log, LOG_LEVEL_WARN, "%s, so this run will end with exit code %d", err.message,
                  error_exit_code(err.status));
    } else if (survey->failed > (uint64_t)allowed) {
        log_write(&launch->log, LOG_LEVEL_WARN,
                  "%" PRIu64 " of %" PRIu64 " problems cannot be run; problems.max_failed allows %" PRId64
                  ", so this run will end with exit code %d",
                  survey->failed, survey->totals.problems, allowed, error_exit_code(STATUS_DATA));
    }
}

// What texts have in common, and what of it is computed once.
static int tell_reuse(struct launch *launch, struct error *err) {
    struct buffer text = {0};
    int status = reuse_describe(&launch->inputs, &text, err);
    if (status == STATUS_OK) {
        log_write(&launch->log, LOG_LEVEL_INFO, "%s", text.data);
    }
    buffer_destroy(&text);
    return status;
}

int launch_look_ahead(struct launch *launch, struct error *err) {
    uint64_t bytes[2];
    TRY(find_finished(launch, err));
    if (launch->finished) {
        return STATUS_OK;
    }
    if (launch->inputs.retries) {
        TRY(retry_survey(&launch->retry, &launch->inputs, show_survey, launch, err));
    } else {
        foretell_failures(launch);
        TRY(tell_markup(launch, err));
        TRY(fill_tell(&launch->inputs, launch->fresh, &launch->log, err));
        TRY(tell_reuse(launch, err));
    }
    TRY(check_disk(launch, bytes, err));
    log_write(&launch->log, LOG_LEVEL_INFO,
              "%" PRIu64 " bytes of shards are planned, %" PRIu64 " bytes are free", bytes[0], bytes[1]);
    return STATUS_OK;
}

#include "extract/retry.h"

#include <stdio.h>

int retry_find(struct retry *retry, struct ledger *ledger, const struct retry_wish *wish, struct error *err) {
    struct ledger_totals totals;
    bool open = false;
    *retry = (struct retry){0};
    int status = ledger_retry_open(ledger, &retry->list, &open, err);
    if (status != STATUS_OK || open || !wish->asked) {
        return status;
    }
    status = ledger_totals(ledger, &totals, err);
    if (status == STATUS_OK && totals.finished) {
        status = ledger_retry_candidates(ledger, wish->scope, &retry->list, err);
        retry->fresh = status == STATUS_OK && retry->list.count > 0;
    }
    return status;
}

void retry_destroy(struct retry *retry) {
    ledger_retry_destroy(&retry->list);
    *retry = (struct retry){0};
}

int retry_survey(const struct retry *retry, struct inputs *inputs,
                 bool (*progress)(void *context, uint64_t problems), void *context, struct error *err) {
    int status = survey_make(&inputs->retry, inputs->source, inputs->preparer, &inputs->limits, &retry->list,
                             progress, context, err);
    if (status != STATUS_OK) {
        return status;
    }
    uint64_t most = inputs->survey.largest_tokens > inputs->retry.totals.longest
                        ? inputs->survey.largest_tokens
                        : inputs->retry.totals.longest;
    if (most == 0 || most >= inputs->limits.tokens) {
        return STATUS_OK;
    }
    inputs->limits.tokens = (size_t)most;
    return survey_make(&inputs->retry, inputs->source, inputs->preparer, &inputs->limits, &retry->list,
                       progress, context, err);
}

int retry_begin(struct retry *retry, struct ledger *ledger, struct log *log, struct error *err) {
    char text[128];
    if (!retry->fresh) {
        return STATUS_OK;
    }
    int status = ledger_retry_begin(ledger, &retry->list, err);
    if (status != STATUS_OK) {
        return error_wrap(err, "the retry of %zu failed problems", retry->list.count);
    }
    retry->fresh = false;
    snprintf(text, sizeof text, "%zu failed problems are tried again", retry->list.count);
    log_write(log, LOG_LEVEL_INFO, "retry: %s", text);
    return ledger_event(ledger, "retry", text, err);
}

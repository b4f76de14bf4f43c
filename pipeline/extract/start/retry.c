// SPDX-License-Identifier: MIT
#include "start/retry.h"

#include <stdio.h>
#include <string.h>

#include "journal/journal.h"

int retry_find(struct retry *retry, struct ledger *ledger, const struct retry_wish *wish, struct error *err) {
    struct ledger_totals totals;
    bool open = false;
    *retry = (struct retry){0};
    TRY(ledger_retry_open(ledger, &retry->list, &open, err));
    if (open || !wish->asked) {
        return STATUS_OK;
    }
    TRY(ledger_totals(ledger, &totals, err));
    if (totals.finished) {
        TRY(ledger_retry_candidates(ledger, wish->scope, &retry->list, err));
        retry->fresh = retry->list.count > 0;
        retry->possible = totals.failed > 0;
    }
    return STATUS_OK;
}

static const char KEPT[] = "problems.kept_sha256";

int retry_keep_hash(struct inputs *inputs, struct ledger *ledger, struct error *err) {
    struct ledger_retry failed;
    char hex[DIGEST_HEX];
    int status;
    TRY_TO(done, status = ledger_retry_candidates(ledger, RETRY_ALL, &failed, err));
    if (failed.count > 0) {
        TRY_TO(done, status = survey_digest_kept(inputs->source, inputs->job.id, &failed, hex, err));
        TRY_TO(done, status = ledger_set_note(ledger, KEPT, hex, err));
    }
done:
    ledger_retry_destroy(&failed);
    return status;
}

// Whether the rows have another hash than those the run read last.
static int rows_changed(const struct inputs *inputs, struct ledger *ledger, bool *changed,
                        struct error *err) {
    struct identity stored;
    bool found;
    int status = ledger_identity(ledger, &stored, &found, err);
    const char *hash = identity_get(&stored, IDENTITY_PROBLEMS);
    *changed = hash != NULL && strcmp(hash, inputs->survey.totals.problems_sha256) != 0;
    identity_destroy(&stored);
    return status;
}

static int only_failed_changed(const struct inputs *inputs, struct ledger *ledger,
                               const struct ledger_retry *failed, bool *only, struct error *err) {
    struct buffer kept = {0};
    char hex[DIGEST_HEX] = "";
    bool found = false;
    int status;
    *only = false;
    TRY_TO(done, status = ledger_note(ledger, KEPT, &kept, &found, err));
    if (found) {
        TRY_TO(done, status = survey_digest_kept(inputs->source, inputs->job.id, failed, hex, err));
        *only = kept.size == strlen(hex) && memcmp(kept.data, hex, kept.size) == 0;
    }
done:
    buffer_destroy(&kept);
    return status;
}

int retry_accept_mended(struct retry *retry, struct inputs *inputs, struct ledger *ledger,
                        struct error *err) {
    struct ledger_retry failed = {0};
    bool changed = false;
    if (!retry->possible) {
        return STATUS_OK;
    }
    TRY(rows_changed(inputs, ledger, &changed, err));
    if (!changed) {
        return STATUS_OK;
    }
    int status;
    TRY_TO(done, status = ledger_retry_candidates(ledger, RETRY_ALL, &failed, err));
    TRY_TO(done, status = only_failed_changed(inputs, ledger, &failed, &retry->mended, err));
    if (retry->mended) {
        ledger_retry_destroy(&retry->list);
        retry->list = failed;
        retry->fresh = true;
        return STATUS_OK;
    }
done:
    ledger_retry_destroy(&failed);
    return status;
}

void retry_destroy(struct retry *retry) {
    ledger_retry_destroy(&retry->list);
    *retry = (struct retry){0};
}

int retry_survey(const struct retry *retry, struct inputs *inputs,
                 bool (*progress)(void *context, uint64_t problems), void *context, struct error *err) {
    struct plan_limits limits = inputs_plan_limits(inputs);
    TRY(survey_make(&inputs->retry, inputs->source, inputs->preparer, &limits, NULL, &retry->list, progress,
                    context, err));
    uint64_t longest = inputs->limits.reuses ? inputs->retry.longest_own : inputs->retry.totals.longest;
    uint64_t most = inputs->survey.largest_tokens > longest ? inputs->survey.largest_tokens : longest;
    if (most == 0 || most >= inputs->limits.tokens) {
        return STATUS_OK;
    }
    inputs->limits.tokens = limits.tokens = (size_t)most;
    survey_destroy(&inputs->retry);
    return survey_make(&inputs->retry, inputs->source, inputs->preparer, &limits, NULL, &retry->list,
                       progress, context, err);
}

int retry_begin(struct retry *retry, const struct inputs *inputs, struct journal *journal,
                struct error *err) {
    char text[128];
    if (!retry->fresh) {
        return STATUS_OK;
    }
    memcpy(retry->list.problems_sha256, inputs->survey.totals.problems_sha256, DIGEST_HEX);
    if (ledger_retry_begin(journal->ledger, &retry->list, err) != STATUS_OK) {
        return error_wrap(err, "the retry of %zu failed problems", retry->list.count);
    }
    retry->fresh = false;
    snprintf(text, sizeof text, "%zu failed problems are retried%s", retry->list.count,
             retry->mended ? "; rows of failed problems were corrected" : "");
    journal_event(journal, LOG_LEVEL_INFO, "retry", text);
    return journal_check(journal, err);
}

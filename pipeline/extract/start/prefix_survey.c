// SPDX-License-Identifier: MIT
#include "start/prefix_survey.h"

#include <stdlib.h>

#include "base/size.h"

int prefix_survey_open(struct prefix_survey *survey, const struct plan_limits *limits,
                       const struct prefix_wish *wish, struct error *err) {
    int status;
    *survey = (struct prefix_survey){.limits = *limits, .head_most = wish->head_most};
    survey->limits.least = wish->least;
    survey->limits.shared_most = wish->shared_most;
    survey->limits.head_only = wish->head_only;
    survey->limits.head_tokens = 0;
    TRY_TO(done, status = memory_zeroed(&survey->ids, limits->window, sizeof *survey->ids, err));
    status = prefixes_create(&survey->prefixes, limits->window, err);
done:
    if (status != STATUS_OK) {
        prefix_survey_close(survey);
    }
    return status;
}

void prefix_survey_close(struct prefix_survey *survey) {
    prefixes_destroy(&survey->prefixes);
    free(survey->ids);
    free(survey->having);
    buffer_destroy(&survey->first);
    *survey = (struct prefix_survey){0};
}

// Against the first text that may go on from another, whichever texts follow.
static int compare_with_first(struct prefix_survey *survey, const int32_t *ids, size_t tokens,
                              struct error *err) {
    if (survey->limits.shared_most > 0 && tokens > survey->limits.shared_most) {
        return STATUS_OK;
    }
    if (survey->having == NULL) {
        TRY(memory_zeroed(&survey->having, tokens, sizeof *survey->having, err));
        TRY(buffer_append(&survey->first, ids, (tokens - 1) * sizeof *ids, err));
    }
    size_t most = size_min(survey->first.size / sizeof *ids, tokens - 1);
    survey->having[prefixes_common((const int32_t *)(const void *)survey->first.data, ids, most)]++;
    return STATUS_OK;
}

int prefix_survey_look(struct prefix_survey *survey, const struct window *window, struct error *err) {
    for (size_t i = 0; i < window->ready_count; i++) {
        const struct window_problem *problem = &window->problems[window->ready[i]];
        survey->ids[i] = window_tokens(window, problem);
        survey->texts++;
        survey->tokens += problem->token_count;
        TRY(compare_with_first(survey, survey->ids[i], problem->token_count, err));
    }
    if (!survey->limits.head_only) {
        prefixes_find(&survey->prefixes, &survey->limits, window->ready_tokens, survey->ids,
                      window->ready_count);
        prefixes_follow(&survey->prefixes, window->ready_count);
        for (size_t i = 0; i < window->ready_count; i++) {
            survey->saved += survey->prefixes.most[i];
        }
    }
    return STATUS_OK;
}

int prefix_survey_end(struct prefix_survey *survey, struct buffer *head, bool *worthwhile,
                      struct error *err) {
    uint64_t best = 0; // tokens that the head saves
    size_t length = 0;
    uint64_t texts = 0;
    for (size_t tokens = survey->first.size / sizeof(int32_t); tokens > 0; tokens--) {
        texts += survey->having[tokens];
        size_t cut = size_min(tokens, survey->head_most);
        uint64_t saved = texts > 0 ? (texts - 1) * cut : 0;
        if (2 * texts >= survey->texts && cut >= survey->limits.least && saved > best) {
            best = saved;
            length = cut;
        }
    }
    uint64_t saved = best > survey->saved ? best : survey->saved;
    *worthwhile = (double)saved > PREFIX_WORTHWHILE * (double)survey->tokens;
    return *worthwhile && length > 0 ? buffer_append(head, survey->first.data, length * sizeof(int32_t), err)
                                     : STATUS_OK;
}

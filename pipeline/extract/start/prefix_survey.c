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
    survey->head_only = wish->head_only;
    survey->limits.head_only = false;
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
    for (size_t i = 0; i < survey->sample_count; i++) {
        free(survey->samples[i].having);
        buffer_destroy(&survey->samples[i].ids);
    }
    *survey = (struct prefix_survey){0};
}

// Of a window that is sorted, also those that are longer than a batch, the text in the middle: if more than
// half of them begin with the same tokens, so does this one.
static int take_sample(struct prefix_survey *survey, const struct window *window, struct error *err) {
    struct prefixes *prefixes = &survey->prefixes;
    struct plan_limits limits = survey->limits;
    limits.tokens = SIZE_MAX;
    prefixes_find(prefixes, &limits, window->ready_tokens, survey->ids, window->ready_count);
    size_t middle = prefixes->count > 0 ? prefixes->order[prefixes->count / 2] : 0;
    size_t tokens = window->ready_tokens[middle];
    struct prefix_sample *sample = &survey->samples[survey->sample_count++];
    TRY(memory_zeroed(&sample->having, tokens, sizeof *sample->having, err));
    return buffer_append(&sample->ids, survey->ids[middle], (tokens - 1) * sizeof(int32_t), err);
}

static void compare_with_samples(struct prefix_survey *survey, const int32_t *ids, size_t tokens) {
    if (survey->limits.shared_most > 0 && tokens > survey->limits.shared_most) {
        return;
    }
    for (size_t i = 0; i < survey->sample_count; i++) {
        struct prefix_sample *sample = &survey->samples[i];
        size_t most = size_min(sample->ids.size / sizeof *ids, tokens - 1);
        sample->having[prefixes_common((const int32_t *)(const void *)sample->ids.data, ids, most)]++;
    }
}

int prefix_survey_look(struct prefix_survey *survey, const struct window *window, struct error *err) {
    size_t texts = window->ready_count;
    if (texts == 0) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < texts; i++) {
        survey->ids[i] = window_tokens(window, &window->problems[window->ready[i]]);
    }
    survey->windows++;
    bool is_power = (survey->windows & (survey->windows - 1)) == 0;
    if (is_power && survey->sample_count < PREFIX_SAMPLES) {
        TRY(take_sample(survey, window, err));
    }
    if (!survey->head_only) {
        prefixes_find(&survey->prefixes, &survey->limits, window->ready_tokens, survey->ids, texts);
        prefixes_follow(&survey->prefixes, texts);
    }
    for (size_t i = 0; i < texts; i++) {
        compare_with_samples(survey, survey->ids[i], window->ready_tokens[i]);
        survey->saved += survey->head_only ? 0 : survey->prefixes.most[i];
        survey->tokens += window->ready_tokens[i];
        survey->texts++;
    }
    return STATUS_OK;
}

// The most tokens that a head from this sample saves, and how long it is; *saved and *length as they are if
// no more.
static bool find_head(const struct prefix_survey *survey, const struct prefix_sample *sample, uint64_t *saved,
                      size_t *length) {
    uint64_t texts = 0;
    bool found = false;
    for (size_t tokens = sample->ids.size / sizeof(int32_t); tokens > 0; tokens--) {
        texts += sample->having[tokens];
        size_t cut = size_min(tokens, survey->head_most);
        uint64_t here = texts > 0 ? (texts - 1) * cut : 0;
        if (2 * texts >= survey->texts && cut >= survey->limits.least && here > *saved) {
            *saved = here;
            *length = cut;
            found = true;
        }
    }
    return found;
}

int prefix_survey_end(struct prefix_survey *survey, struct buffer *head, bool *worthwhile,
                      struct error *err) {
    const struct prefix_sample *best = NULL;
    uint64_t saved = 0;
    size_t length = 0;
    for (size_t i = 0; i < survey->sample_count; i++) {
        best = find_head(survey, &survey->samples[i], &saved, &length) ? &survey->samples[i] : best;
    }
    saved = saved > survey->saved ? saved : survey->saved;
    *worthwhile = (double)saved > PREFIX_WORTHWHILE * (double)survey->tokens;
    return *worthwhile && best != NULL ? buffer_append(head, best->ids.data, length * sizeof(int32_t), err)
                                       : STATUS_OK;
}

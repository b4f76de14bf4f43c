// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/readable.h"
#include "report/sections.h"

static void text_cell(struct page *page, const char *text) {
    page_put(page, "<td class=text>");
    page_text(page, text);
    page_put(page, "</td>");
}

static void plain_cell(struct page *page, const char *text) {
    page_put(page, "<td class=nowrap>");
    page_text(page, text);
    page_put(page, "</td>");
}

static void pair_if(struct page *page, const char *term, const char *value) {
    if (value != NULL && value[0] != 0) {
        page_pair(page, term, value);
    }
}

// "2026-11-29 17:08:09", as clock_text but for people.
static const char *when(int64_t at, char out[CLOCK_TEXT]) {
    clock_text(at, out);
    char *middle = strchr(out, 'T');
    char *end = strchr(out, 'Z');
    if (middle != NULL && end != NULL) {
        *middle = ' ';
        *end = 0;
    }
    return out;
}

// ---- what ran ----

static void pairs_of_model(struct page *page, const struct report_facts *facts,
                           const struct content *content) {
    const struct identity *identity = &content->identity;
    const struct sample *sample = &content->sample;
    char text[256];
    pair_if(page, "Model", content->model.data);
    pair_if(page, "From", content->model_path.data);
    pair_if(page, "Family", sample->model_type);
    pair_if(page, "Computed in", identity_get(identity, "model.dtype"));
    pair_if(page, "Weights", facts->weights);
    pair_if(page, "Adapter", facts->adapter);
    pair_if(page, "Layers", identity_get(identity, "latents.layers"));
    pair_if(page, "Pooling", identity_get(identity, "latents.pooling"));
    if (sample->hidden > 0) {
        snprintf(text, sizeof text, "%zu numbers, %s; the model has %zu blocks", sample->hidden,
                 sample->dtype, sample->model_layers);
        page_pair(page, "A latent", text);
    }
}

static void pairs_of_machine(struct page *page, const struct report_facts *facts,
                             const struct content *content) {
    const struct history *history = &content->history;
    char text[256];
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    char c[READABLE_TEXT];
    pair_if(page, "Device", content->device.data);
    pair_if(page, "Chosen as", content->device_reason.data);
    if (history->device_count > 1) {
        snprintf(text, sizeof text, "%zu, each with batches of its own", history->device_count);
        page_pair(page, "Devices", text);
    }
    if (history->launch_count > 0) {
        page_pair(page, "Host", history->launches[history->launch_count - 1].host);
    }
    pair_if(page, "Stage", facts->stage);
    snprintf(text, sizeof text, "%s of %s", readable_count(facts->batches, a),
             facts->has_survey ? readable_count(facts->batches_total, b) : "?");
    page_pair(page, "Batches", text);
    if (facts->text_tokens > 0) {
        snprintf(text, sizeof text, "%s tokens are computed of %s, since texts begin alike",
                 readable_count(facts->tokens_total, a), readable_count(facts->text_tokens, b));
        page_pair(page, "Prefixes", text);
    }
    snprintf(text, sizeof text, "%s in %s shards, %s", readable_count(facts->rows, a),
             readable_count(facts->shards, b), readable_bytes(facts->bytes, c));
    page_pair(page, "Latents", text);
    if (facts->predicted > 0) {
        snprintf(text, sizeof text, "%s tokens/s, limited by the %.64s; %s for what was left",
                 readable_rate(facts->predicted, a), facts->limit,
                 readable_duration(facts->predicted_seconds, b));
        page_pair(page, "Predicted", text);
    }
}

void tables_run(struct page *page, const struct report_facts *facts, const struct content *content) {
    page_section(page, "What ran", 1);
    page_put(page, "<div class=card><dl>\n");
    pairs_of_model(page, facts, content);
    page_put(page, "</dl></div>\n<div class=card><dl>\n");
    pairs_of_machine(page, facts, content);
    page_put(page, "</dl></div>\n");
    page_section_end(page);
}

// ---- launches ----

static void launch_row(struct page *page, const struct report_facts *facts,
                       const struct ledger_launch_record *launch, bool last) {
    char text[CLOCK_TEXT];
    char length[READABLE_TEXT];
    page_format(page, "<tr><td class=n>%" PRIu64 "</td>", launch->epoch);
    plain_cell(page, when(launch->started, text));
    if (launch->ended != 0) {
        double seconds = launch->ended > launch->started ? (double)(launch->ended - launch->started) : 0;
        page_format(page, "<td class=n>%s</td><td class=n>%d</td>", readable_duration(seconds, length),
                    launch->exit_code);
    } else {
        page_put(page, "<td class=n>-</td><td class=n>-</td>");
    }
    plain_cell(page, launch->host);
    const char *open = last && facts->running ? "running" : "left no end: killed, or the machine stopped";
    page_put(page, "<td class=text>");
    page_text(page, launch->ended == 0 ? open : launch->reason);
    page_put(page, launch->worked || launch->ended == 0 ? "" : " (before its first batch)");
    page_put(page, "</td></tr>\n");
}

void tables_launches(struct page *page, const struct report_facts *facts, const struct content *content) {
    enum { SHOWN = 100 };
    const struct history *history = &content->history;
    if (history->launch_count == 0) {
        return;
    }
    page_section(page, "Launches", 0);
    page_table(page, "Launches", "#Launch|Started (UTC)|#Lasted|#Exit code|Host|End");
    for (size_t i = 0; i < history->launch_count && i < SHOWN; i++) { // the latest first
        size_t place = history->launch_count - 1 - i;
        launch_row(page, facts, &history->launches[place], i == 0);
    }
    page_table_end(page, history->launch_count > SHOWN ? history->launch_count - SHOWN : 0,
                   ": strata log --events");
    page_section_end(page);
}

// ---- failures ----

static void failure_row(struct page *page, const struct failure_group *group) {
    char count[READABLE_TEXT];
    page_format(page, "<tr><td class=n>%s</td>", readable_count(group->count, count));
    plain_cell(page, problem_state_name(group->state));
    text_cell(page, group->reason);
    page_put(page, "<td class=text>");
    for (size_t i = 0; i < FAILURE_IDS && i < group->count; i++) {
        page_put(page, i == 0 ? "<code>" : "<br><code>");
        page_text(page, group->ids[i]);
        page_put(page, "</code>");
    }
    page_put(page, group->count > FAILURE_IDS ? "<br>..." : "");
    page_put(page, "</td></tr>\n");
}

void tables_failures(struct page *page, const struct tallies *tallies) {
    if (tallies->group_count == 0) {
        return;
    }
    page_section(page, "Failed and skipped problems", 0);
    page_table(page, "Failed and skipped problems", "#Problems|State|Reason (of the first)|First IDs");
    for (size_t i = 0; i < tallies->group_count; i++) {
        failure_row(page, &tallies->groups[i]);
    }
    page_table_end(page, tallies->others, " for other reasons");
    page_section_end(page);
}

// ---- events, identity ----

void tables_events(struct page *page, const struct content *content) {
    const struct history *history = &content->history;
    if (history->event_count == 0) {
        return;
    }
    page_section(page, "Events", 0);
    page_table(page, "Events", "Time (UTC)|#Launch|Kind|What happened");
    for (size_t i = 0; i < history->event_count; i++) {
        const struct history_event *event = &history->events[i];
        char text[CLOCK_TEXT];
        page_put(page, "<tr>");
        plain_cell(page, when(event->at, text));
        page_format(page, "<td class=n>%" PRIu64 "</td>", event->launch);
        plain_cell(page, event->kind);
        text_cell(page, event->text);
        page_put(page, "</tr>\n");
    }
    page_table_end(page, history->events_seen - history->event_count, ": strata log --events");
    page_section_end(page);
}

void tables_identity(struct page *page, const struct content *content) {
    const struct identity *identity = &content->identity;
    if (identity->count == 0) {
        return;
    }
    page_section(page, "Identity", 0);
    page_format(
        page,
        "<details class=card><summary>%zu values that decide the latents' bytes</summary><dl class=mono>\n",
        identity->count);
    for (size_t i = 0; i < identity->count; i++) {
        page_put(page, "<dt>");
        page_text(page, identity->entries[i].key);
        page_put(page, "</dt><dd>");
        page_text(page, identity->entries[i].value[0] == 0 ? "(empty)" : identity->entries[i].value);
        page_put(page, "</dd>\n");
    }
    page_put(page, "</dl></details>\n");
    page_section_end(page);
}

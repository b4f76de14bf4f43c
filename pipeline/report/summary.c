// SPDX-License-Identifier: MIT
#include <stdio.h>

#include "base/readable.h"
#include "report/sections.h"

const char *tone_class(enum report_tone tone) {
    static const char *const names[] = {[TONE_BLUE] = "blue",
                                        [TONE_GREEN] = "green",
                                        [TONE_AMBER] = "amber",
                                        [TONE_RED] = "red",
                                        [TONE_GREY] = "grey"};
    return names[tone];
}

void summary_title(struct page *page, const char *name, enum report_tone tone, const char *state,
                   const char *detail) {
    page_put(page, "<div class=title><h1>");
    page_text(page, name);
    page_format(page, "</h1><span class=\"pill %s\">", tone_class(tone));
    page_text(page, state);
    page_put(page, "</span></div>\n<p class=sub>");
    page_text(page, detail);
    page_put(page, "</p>\n");
}

// ---- the bar ----

static void slice(struct page *page, const char *tone, uint64_t count, uint64_t all) {
    if (count > 0 && all > 0) {
        page_format(page, "<i class=%s style=width:%.2f%%></i>", tone, 100.0 * (double)count / (double)all);
    }
}

static void key(struct page *page, const char *tone, const char *what, uint64_t count, uint64_t all) {
    char number[READABLE_TEXT];
    char share[READABLE_TEXT];
    page_format(page, "<span><i class=%s></i>%s %s", tone, readable_count(count, number), what);
    if (all > 0 && count > 0) {
        page_format(page, ", %s", readable_share(count, all, share));
    }
    page_put(page, "</span>");
}

void summary_progress(struct page *page, uint64_t done, uint64_t failed, uint64_t skipped, uint64_t all) {
    char share[READABLE_TEXT];
    uint64_t settled = done + failed + skipped;
    page_format(page, "<div class=progress role=img aria-label=\"%s of the problems are done\">",
                readable_share(done, all, share));
    slice(page, "green", done, all);
    slice(page, "red", failed, all);
    slice(page, "amber", skipped, all);
    page_put(page, "</div>\n<div class=key>");
    key(page, "green", "done", done, all);
    if (failed > 0) {
        key(page, "red", "failed", failed, all);
    }
    if (skipped > 0) {
        key(page, "amber", "skipped", skipped, all);
    }
    if (all > settled) {
        key(page, "grey", "to come", all - settled, 0);
    }
    page_put(page, "</div>\n");
}

// ---- tiles ----

void summary_tile(struct page *page, const char *label, const char *value, const char *note) {
    page_put(page, "<div class=tile><span>");
    page_text(page, label);
    page_put(page, "</span><b>");
    page_text(page, value);
    page_put(page, "</b>");
    if (note != NULL && note[0] != 0) {
        page_put(page, "<span>");
        page_text(page, note);
        page_put(page, "</span>");
    }
    page_put(page, "</div>\n");
}

static void tile_share(struct page *page, const struct report_facts *facts) {
    char share[READABLE_TEXT];
    char done[READABLE_TEXT];
    char all[READABLE_TEXT];
    char note[96] = "not counted yet";
    bool whole = facts->has_survey && facts->remaining == 0;
    if (facts->has_survey) {
        snprintf(note, sizeof note, "%s of %s tokens",
                 readable_count(whole ? facts->tokens_total : facts->tokens, done),
                 readable_count(facts->tokens_total, all));
    }
    summary_tile(page, "Done",
                 facts->has_survey
                     ? whole ? "100.0 %" : readable_share(facts->tokens, facts->tokens_total, share)
                     : "-",
                 note);
}

static void tile_time(struct page *page, const struct report_facts *facts) {
    char left[READABLE_TEXT];
    char elapsed[READABLE_TEXT];
    char note[96];
    if (facts->has_eta && facts->remaining > 0) {
        snprintf(note, sizeof note, "%s%s of work so far", facts->running ? "" : "once it is started again; ",
                 readable_duration(facts->elapsed, elapsed));
        summary_tile(page, "Time left", readable_duration(facts->eta, left), note);
    } else {
        summary_tile(page, "Time", readable_duration(facts->elapsed, elapsed), "of work, all launches");
    }
}

static void tile_speed(struct page *page, const struct report_facts *facts) {
    char rate[READABLE_TEXT];
    char other[READABLE_TEXT];
    char note[96] = "";
    bool live = facts->running && facts->rate > 0;
    double shown = live ? facts->rate : facts->rate_overall;
    if (facts->predicted > 0 && facts->measured > 0) {
        snprintf(note, sizeof note, "last launch %+.1f %% against predicted %s",
                 100 * (facts->measured / facts->predicted - 1), readable_rate(facts->predicted, other));
    } else if (facts->predicted > 0) {
        snprintf(note, sizeof note, "predicted %s", readable_rate(facts->predicted, other));
    }
    summary_tile(page, live ? "Tokens/s now" : "Tokens/s", shown > 0 ? readable_rate(shown, rate) : "-",
                 note);
}

static void tile_drift(struct page *page, const struct report_facts *facts) {
    char note[64];
    snprintf(note, sizeof note, "score %+.3f", facts->drift_score);
    summary_tile(page, "Drift", facts->drift == NULL ? "-" : facts->drift,
                 facts->drift == NULL ? NULL : note);
}

static void tile_failures(struct page *page, const struct report_facts *facts) {
    char count[READABLE_TEXT];
    char other[READABLE_TEXT];
    char note[96] = "";
    if (facts->transient > 0) {
        snprintf(note, sizeof note, "%s may be retried", readable_count(facts->transient, other));
    } else if (facts->skipped > 0) {
        snprintf(note, sizeof note, "and %s skipped", readable_count(facts->skipped, other));
    }
    summary_tile(page, "Failed problems", readable_count(facts->failed, count), note);
}

static void tile_disk(struct page *page, const struct report_facts *facts) {
    char size[READABLE_TEXT];
    char other[READABLE_TEXT];
    char free_space[READABLE_TEXT];
    char note[128];
    bool more = facts->has_planned && facts->planned > 0;
    snprintf(note, sizeof note, "%s%s%s free", more ? readable_bytes(facts->planned, other) : "",
             more ? " to come, " : "", readable_bytes(facts->disk_free, free_space));
    summary_tile(page, "Latents written", readable_bytes(facts->bytes, size), note);
}

static void tile_checkpoint(struct page *page, const struct report_facts *facts) {
    char age[READABLE_TEXT];
    char shards[READABLE_TEXT];
    char note[96];
    char value[96] = "none yet";
    if (facts->last_commit > 0) {
        double seconds = facts->now > facts->last_commit ? (double)(facts->now - facts->last_commit) : 0;
        snprintf(value, sizeof value, "%s ago", readable_duration(seconds, age));
    }
    snprintf(note, sizeof note, "%s shards sealed", readable_count(facts->shards, shards));
    summary_tile(page, "Last checkpoint", value, note);
}

void summary_of_run(struct page *page, const struct report_facts *facts, const struct content *content) {
    page_put(page, "<header>\n");
    summary_title(page, facts->folder, facts->tone, facts->state, facts->detail);
    if (facts->has_survey) {
        summary_progress(page, facts->done, facts->failed, facts->skipped, facts->problems);
    }
    page_put(page, "<div class=tiles>\n");
    tile_share(page, facts);
    tile_time(page, facts);
    tile_speed(page, facts);
    tile_drift(page, facts);
    tile_failures(page, facts);
    tile_disk(page, facts);
    tile_checkpoint(page, facts);
    page_put(page, "</div>\n");
    attention_section(page, facts, content);
    page_put(page, "</header>\n");
}

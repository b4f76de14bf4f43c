// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <string.h>

#include "base/readable.h"
#include "report/sections.h"

#define SLOWER 0.1  // than predicted: from here on worth a look
#define WAITING 0.1 // of the time

struct notes {
    struct page *page;
    size_t count;
};

// `what` is the program's own; `more` is text and may be NULL.
static void note(struct notes *notes, enum report_tone tone, const char *what, const char *more) {
    page_put(notes->page, notes->count++ == 0 ? "<ul class=notes>\n" : "");
    page_format(notes->page, "<li class=%s><b>%s</b> ", tone_class(tone), what);
    page_text(notes->page, more);
    page_put(notes->page, "</li>\n");
}

static void note_state(struct notes *notes, const struct report_facts *facts) {
    if (facts->refused != NULL) {
        note(notes, TONE_RED, "The last launch was refused.", facts->refused);
    }
    if (facts->elsewhere != NULL) {
        note(notes, TONE_AMBER, "The ledger here is a copy.", facts->elsewhere);
    }
    if (facts->xid > 0) {
        char text[64];
        snprintf(text, sizeof text, "XID %.0f", facts->xid);
        note(notes, TONE_RED, "The GPU reported an error.", text);
    }
    if (facts->throttle != NULL) {
        note(notes, TONE_AMBER, "The GPU was throttled at the last batch.", facts->throttle);
    }
    if (facts->cpu_paths != NULL) {
        note(notes, TONE_AMBER, "Several CPU paths computed latents, which may differ in bits.",
             facts->cpu_paths);
    }
}

static void note_speed(struct notes *notes, const struct report_facts *facts) {
    char text[160];
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    bool calm = facts->drift == NULL || strcmp(facts->drift, "steady") == 0 ||
                strcmp(facts->drift, "calibrating") == 0;
    if (!calm) {
        bool shared = strncmp(facts->drift, "sharing", strlen("sharing")) == 0;
        note(notes, TONE_AMBER, shared ? "The machine is shared." : "Batch times drifted.", facts->drift);
    }
    if (facts->predicted > 0 && facts->measured > 0 && facts->measured < (1 - SLOWER) * facts->predicted) {
        snprintf(text, sizeof text, "%s tokens/s where the calibration foretold %s.",
                 readable_rate(facts->measured, a), readable_rate(facts->predicted, b));
        note(notes, TONE_AMBER, "Slower than predicted.", text);
    }
    if (facts->wait_share > WAITING) {
        snprintf(text, sizeof text,
                 "%.0f %% of the time no batch was computed: it waited for texts or for the writer.",
                 100 * facts->wait_share);
        note(notes, TONE_AMBER, "The device waits.", text);
    }
}

static void note_problems(struct notes *notes, const struct report_facts *facts) {
    char text[200];
    char a[READABLE_TEXT];
    if (facts->failed > 0 && facts->transient > 0) {
        snprintf(text, sizeof text, "strata run --retry-failed tries %s of them again.",
                 readable_count(facts->transient, a));
        note(notes, TONE_RED, "Problems failed.", text);
    } else if (facts->failed > 0) {
        snprintf(text, sizeof text, "%s, because of what their rows hold: see the reasons below.",
                 readable_count(facts->failed, a));
        note(notes, TONE_RED, "Problems failed.", text);
    }
    if (facts->truncated > 0) {
        snprintf(text, sizeof text, "%s, at problems.max_tokens.", readable_count(facts->truncated, a));
        note(notes, TONE_AMBER, "Texts were cut.", text);
    }
    if (facts->overflowed > 0) {
        snprintf(text, sizeof text, "%s numbers are beyond float16.", readable_count(facts->overflowed, a));
        note(notes, TONE_AMBER, "Latents overflowed.", text);
    }
}

static void note_disk(struct notes *notes, const struct report_facts *facts) {
    char text[160];
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    if (facts->has_planned && facts->planned > facts->disk_free) {
        snprintf(text, sizeof text, "%s free, about %s still to be written.",
                 readable_bytes(facts->disk_free, a), readable_bytes(facts->planned, b));
        note(notes, TONE_RED, "The disk will be full.", text);
    }
}

void attention_section(struct page *page, const struct report_facts *facts, const struct content *content) {
    struct notes notes = {.page = page};
    note_state(&notes, facts);
    note_disk(&notes, facts);
    note_speed(&notes, facts);
    note_problems(&notes, facts);
    if (content->sample.problem[0] != 0) {
        note(&notes, TONE_RED, "A shard could not be read.", content->sample.problem);
    }
    if (content->warnings.size > 0) {
        note(&notes, TONE_AMBER, "The model folder may be read otherwise by transformers.",
             content->warnings.data);
    }
    page_put(page, notes.count > 0 ? "</ul>\n" : "");
}

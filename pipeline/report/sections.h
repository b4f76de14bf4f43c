// SPDX-License-Identifier: MIT
// The sections of a page, each from what there is to show; one that has nothing to show leaves itself out.
#ifndef STRATA_REPORT_SECTIONS_H
#define STRATA_REPORT_SECTIONS_H

#include "report/content.h"
#include "report/page.h"

// ---- summary.c: what an operator looks for first ----

const char *tone_class(enum report_tone tone);
void summary_title(struct page *page, const char *name, enum report_tone tone, const char *state,
                   const char *detail);
// A bar of what is done, failed, skipped and left.
void summary_progress(struct page *page, uint64_t done, uint64_t failed, uint64_t skipped, uint64_t all);
// A figure with its label; note, a remark under it, may be NULL. All three are text.
void summary_tile(struct page *page, const char *label, const char *value, const char *note);
void summary_of_run(struct page *page, const struct report_facts *facts, const struct content *content);

// ---- attention.c: what a person should see to ----

void attention_section(struct page *page, const struct report_facts *facts, const struct content *content);

// ---- charts.c: time ----

void charts_speed(struct page *page, const struct report_facts *facts, const struct content *content);
void charts_stages(struct page *page, const struct content *content);
void charts_device(struct page *page, const struct content *content);

// ---- charts_data.c: problems and latents ----

void charts_lengths(struct page *page, const struct tallies *tallies);
void charts_latents(struct page *page, const struct content *content);

// ---- tables.c ----

void tables_run(struct page *page, const struct report_facts *facts, const struct content *content);
void tables_launches(struct page *page, const struct report_facts *facts, const struct content *content);
void tables_failures(struct page *page, const struct tallies *tallies);
void tables_events(struct page *page, const struct content *content);
void tables_identity(struct page *page, const struct content *content);

#endif

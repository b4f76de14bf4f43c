// SPDX-License-Identifier: MIT
#include "report/report.h"

#include <math.h>
#include <stdio.h>

#include "report/compare.h"
#include "report/parts.h"
#include "report/sections.h"

static void show_run(struct page *page, const struct report_facts *facts, const struct content *content) {
    summary_of_run(page, facts, content);
    charts_speed(page, facts, content);
    tables_failures(page, &content->tallies);
    charts_lengths(page, &content->tallies);
    charts_latents(page, content);
    charts_device(page, content);
    tables_run(page, facts, content);
    tables_launches(page, facts, content);
    tables_events(page, content);
    tables_identity(page, content);
}

// "strata: runs/x, running" in the browser's tab.
static void head(struct page *page, const char *folder, const char *state, int refresh_seconds) {
    char title[512];
    snprintf(title, sizeof title, "%.400s: %.60s", folder, state);
    page_head(page, title, refresh_seconds);
}

static int finish(struct page *page, struct buffer *html, struct error *err) {
    int status =
        page->status == STATUS_OK ? buffer_append(html, page->html.data, page->html.size, err) : page->status;
    page_free(page);
    return status;
}

static int read_ledger(struct content *content, const struct report_facts *facts, struct ledger **ledger,
                       struct error *err) {
    TRY(ledger_open_read(ledger, facts->folder, err));
    return content_read(content, *ledger, facts, err);
}

static int read_run(struct content *content, const struct report_facts *facts, struct error *err) {
    struct ledger *ledger = NULL;
    int status;
    TRY_TO(done, status = read_ledger(content, facts, &ledger, err));
    status = content_read_batches(content, ledger, 0, err);
done:
    ledger_close(ledger);
    return status == STATUS_OK ? content_read_latents(content, facts->folder, err) : status;
}

int report_of_run(struct buffer *html, const struct report_facts *facts, int refresh_seconds,
                  struct error *err) {
    struct content content = {0};
    struct page page;
    page_begin(&page, err);
    int status = read_run(&content, facts, err);
    if (status == STATUS_OK) {
        head(&page, facts->folder, facts->state, refresh_seconds);
        show_run(&page, facts, &content);
        page_foot(&page, facts->now);
        status = finish(&page, html, err);
    }
    content_destroy(&content);
    return status;
}

// Both batches on an axis that is as long as the longer run.
static int read_two(struct content contents[2], const struct report_facts facts[2], double *seconds,
                    struct error *err) {
    struct ledger *ledgers[2] = {0};
    int status = STATUS_OK;
    for (size_t k = 0; k < 2 && status == STATUS_OK; k++) {
        status = read_ledger(&contents[k], &facts[k], &ledgers[k], err);
    }
    *seconds = fmax(timeline_seconds(&contents[0].history.timeline),
                    timeline_seconds(&contents[1].history.timeline));
    for (size_t k = 0; k < 2 && status == STATUS_OK; k++) {
        status = content_read_batches(&contents[k], ledgers[k], *seconds, err);
    }
    for (size_t k = 0; k < 2 && status == STATUS_OK; k++) {
        status = content_read_latents(&contents[k], facts[k].folder, err);
    }
    ledger_close(ledgers[0]);
    ledger_close(ledgers[1]);
    return status;
}

int report_of_two(struct buffer *html, const struct report_facts facts[2], int refresh_seconds,
                  struct error *err) {
    struct content contents[2] = {0};
    struct page page;
    double seconds;
    page_begin(&page, err);
    int status = read_two(contents, facts, &seconds, err);
    if (status == STATUS_OK) {
        head(&page, facts[0].folder, "compared", refresh_seconds);
        compare_show(&page, facts, contents, seconds);
        page_foot(&page, facts[0].now);
        status = finish(&page, html, err);
    }
    content_destroy(&contents[0]);
    content_destroy(&contents[1]);
    return status;
}

static int add_part(struct tallies *tallies, const char *folder, struct error *err) {
    struct ledger *ledger = NULL;
    int status = ledger_open_read(&ledger, folder, err);
    status = status == STATUS_OK ? tallies_add(tallies, ledger, err) : status;
    ledger_close(ledger);
    return status;
}

static int read_parts(struct tallies *tallies, const struct report_set *set, struct error *err) {
    TRY(tallies_begin(tallies, err));
    for (uint64_t i = 0; i < set->part_count; i++) {
        TRY(set->parts[i].folder == NULL ? STATUS_OK : add_part(tallies, set->parts[i].folder, err));
    }
    tallies_order(tallies);
    return STATUS_OK;
}

int report_of_set(struct buffer *html, const struct report_set *set, int refresh_seconds, struct error *err) {
    struct tallies tallies = {0};
    struct page page;
    page_begin(&page, err);
    int status = read_parts(&tallies, set, err);
    if (status == STATUS_OK) {
        head(&page, set->folder, set->total.state, refresh_seconds);
        parts_show(&page, set);
        tables_failures(&page, &tallies);
        charts_lengths(&page, &tallies);
        page_foot(&page, set->now);
        status = finish(&page, html, err);
    }
    tallies_destroy(&tallies);
    return status;
}

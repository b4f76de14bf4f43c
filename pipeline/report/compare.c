// SPDX-License-Identifier: MIT
#include "report/compare.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/readable.h"
#include "report/plot.h"
#include "report/sections.h"

static void names(struct page *page, const struct report_facts facts[2]) {
    page_put(page, "<div class=legend>");
    for (size_t k = 0; k < 2; k++) {
        page_format(page, "<span><i class=t%zu></i>", k);
        page_text(page, facts[k].folder);
        page_put(page, "</span>");
    }
    page_put(page, "</div>\n");
}

// ---- both along one axis ----

static const char *rate_label(double value, char out[32]) {
    return value >= 999.5 && value < 1e15 ? readable_rate(value, out) : plot_plain(value, out);
}

static void draw(struct page *page, const struct report_facts facts[2], const struct content contents[2],
                 enum history_metric metric, const char *title, plot_number *label, double seconds) {
    char summary[160];
    char a[32];
    char b[32];
    const struct series *series[] = {&contents[0].history.series[metric],
                                     &contents[1].history.series[metric]};
    struct plot plot = {.title = title, .summary = summary, .shape = "", .label = label, .right = seconds};
    for (size_t k = 0; k < 2; k++) {
        double low;
        double high;
        if (series_range(series[k], false, &low, &high)) {
            plot_include(&plot, low);
            plot_include(&plot, high);
        }
    }
    snprintf(summary, sizeof summary, "mean %s and %s", label(series_mean(series[0]), a),
             label(series_mean(series[1]), b));
    plot_begin(page, &plot);
    struct plot places = plot; // series lie in [0, 1]
    places.right = 1;
    for (size_t k = 0; k < 2; k++) {
        plot_series(page, &places, series[k], &contents[k].history.timeline, k, false);
    }
    plot_drawn(page);
    plot_durations(page, &plot, seconds);
    page_put(page, "</div>\n");
    names(page, facts);
    page_put(page, "</figure>\n");
}

// ---- tables ----

static void heading(struct page *page, const char *first, const struct report_facts facts[2],
                    const char *last) {
    page_format(page, "<div class=\"card scroll\" tabindex=0><table><thead><tr><th>%s</th>", first);
    for (size_t k = 0; k < 2; k++) {
        page_put(page, "<th class=n>");
        page_text(page, facts[k].folder);
        page_put(page, "</th>");
    }
    page_format(page, "<th class=n>%s</th></tr></thead><tbody>\n", last);
}

// The difference of the second from the first, in percent where that means something.
static void row(struct page *page, const char *what, const double values[2], plot_number *label) {
    char text[32];
    page_format(page, "<tr><td>%s</td>", what);
    for (size_t k = 0; k < 2; k++) {
        page_format(page, "<td class=n>%s</td>", isfinite(values[k]) ? label(values[k], text) : "-");
    }
    if (isfinite(values[0]) && isfinite(values[1]) && values[0] > 0) {
        page_format(page, "<td class=n>%+.1f %%</td></tr>\n", 100 * (values[1] / values[0] - 1));
    } else {
        page_put(page, "<td class=n>-</td></tr>\n");
    }
}

static const char *duration_label(double value, char out[32]) {
    return readable_duration(value, out);
}

static double known(double value) {
    return value > 0 ? value : NAN;
}

static void figures(struct page *page, const struct report_facts facts[2], const struct content contents[2]) {
    const struct report_facts *a = &facts[0];
    const struct report_facts *b = &facts[1];
    const struct {
        const char *what;
        double values[2];
        plot_number *label;
    } rows[] = {
        {"Problems done", {(double)a->done, (double)b->done}, plot_plain},
        {"Failed", {(double)a->failed, (double)b->failed}, plot_plain},
        {"Tokens", {(double)a->tokens, (double)b->tokens}, plot_plain},
        {"Latents", {(double)a->rows, (double)b->rows}, plot_plain},
        {"Bytes", {(double)a->bytes, (double)b->bytes}, plot_bytes},
        {"Time of work", {a->elapsed, b->elapsed}, duration_label},
        {"Tokens/s", {known(a->rate_overall), known(b->rate_overall)}, rate_label},
        {"Predicted tokens/s", {known(a->predicted), known(b->predicted)}, rate_label},
        {"Computing",
         {contents[0].history.seconds[STAGE_COMPUTE], contents[1].history.seconds[STAGE_COMPUTE]},
         duration_label},
        {"Waiting",
         {contents[0].history.seconds[STAGE_WAIT], contents[1].history.seconds[STAGE_WAIT]},
         duration_label},
    };
    page_section(page, "Figures", 0);
    heading(page, "", facts, "Difference");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        row(page, rows[i].what, rows[i].values, rows[i].label);
    }
    page_put(page, "</tbody></table></div>\n");
    page_section_end(page);
}

static void norms(struct page *page, const struct report_facts facts[2], const struct content contents[2]) {
    const struct sample *a = &contents[0].sample;
    const struct sample *b = &contents[1].sample;
    char what[64];
    if (a->layer_count == 0 || b->layer_count == 0) {
        return;
    }
    page_section(page, "Norms of the latents", 0);
    heading(page, "Layer", facts, "Difference");
    size_t both = 0;
    for (size_t i = 0; i < a->layer_count; i++) {
        for (size_t j = 0; j < b->layer_count; j++) {
            if (strcmp(a->layers[i].name, b->layers[j].name) == 0) {
                const double values[] = {sample_layer_mean(&a->layers[i]), sample_layer_mean(&b->layers[j])};
                const double spreads[] = {sample_layer_spread(&a->layers[i]),
                                          sample_layer_spread(&b->layers[j])};
                snprintf(what, sizeof what, "%s, mean", a->layers[i].name);
                row(page, what, values, plot_plain);
                snprintf(what, sizeof what, "%s, deviation", a->layers[i].name);
                row(page, what, spreads, plot_plain);
                both++;
            }
        }
    }
    page_put(page, "</tbody></table>");
    page_put(page, both == 0 ? "<p class=none>They have no layer in common.</p></div>\n" : "</div>\n");
    page_section_end(page);
}

// ---- the identity ----

static void value_cell(struct page *page, const char *value) {
    page_put(page, "<td class=\"text hash\">");
    page_text(page, value == NULL ? "(not there)" : value[0] == 0 ? "(empty)" : value);
    page_put(page, "</td>");
}

static void difference(struct page *page, const char *key, const char *one, const char *other) {
    page_put(page, "<tr><td class=nowrap>");
    page_text(page, key);
    page_put(page, "</td>");
    value_cell(page, one);
    value_cell(page, other);
    page_put(page, "</tr>\n");
}

static size_t differences(struct page *page, const struct identity *a, const struct identity *b) {
    size_t count = 0;
    for (size_t i = 0; i < a->count; i++) {
        const char *other = identity_get(b, a->entries[i].key);
        if (other == NULL || strcmp(other, a->entries[i].value) != 0) {
            difference(page, a->entries[i].key, a->entries[i].value, other);
            count++;
        }
    }
    for (size_t i = 0; i < b->count; i++) {
        if (identity_get(a, b->entries[i].key) == NULL) {
            difference(page, b->entries[i].key, NULL, b->entries[i].value);
            count++;
        }
    }
    return count;
}

static void identities(struct page *page, const struct report_facts facts[2],
                       const struct content contents[2]) {
    page_section(page, "Identity", 0);
    page_put(page, "<div class=\"card scroll\" tabindex=0><table><thead><tr><th>What differs</th>");
    for (size_t k = 0; k < 2; k++) {
        page_put(page, "<th>");
        page_text(page, facts[k].folder);
        page_put(page, "</th>");
    }
    page_put(page, "</tr></thead><tbody>\n");
    size_t count = differences(page, &contents[0].identity, &contents[1].identity);
    page_put(page, "</tbody></table>");
    page_put(page,
             count == 0 ? "<p class=none>Nothing: both have the same identity.</p></div>\n" : "</div>\n");
    page_section_end(page);
}

void compare_show(struct page *page, const struct report_facts facts[2], const struct content contents[2],
                  double seconds) {
    page_put(page, "<header class=grid>\n");
    for (size_t k = 0; k < 2; k++) {
        page_put(page, "<div class=card>\n");
        summary_title(page, facts[k].folder, facts[k].tone, facts[k].state, facts[k].detail);
        summary_progress(page, facts[k].done, facts[k].failed, facts[k].skipped, facts[k].problems);
        page_put(page, "</div>\n");
    }
    page_put(page, "</header>\n");
    page_section(page, "Speed", 1);
    draw(page, facts, contents, METRIC_RATE, "Tokens per second", rate_label, seconds);
    draw(page, facts, contents, METRIC_DRIFT, "Drift score", plot_plain, seconds);
    page_section_end(page);
    figures(page, facts, contents);
    norms(page, facts, contents);
    identities(page, facts, contents);
}

// SPDX-License-Identifier: MIT
#include <math.h>
#include <stdio.h>

#include "base/readable.h"
#include "report/plot.h"
#include "report/sections.h"

static const char *plot_rate(double value, char out[32]) {
    return value >= 999.5 && value < 1e15 ? readable_rate(value, out) : plot_plain(value, out);
}

static const char *plot_score(double value, char out[32]) {
    snprintf(out, 32, "%.3f", value);
    return out;
}

// A metric along the timeline; nothing where no batch has it.
struct chart {
    const char *title, *unit, *shape;
    enum history_metric metric;
    plot_number *label;
    bool from_zero;
    double rule; // NAN: none
    size_t colour;
};

static void describe(char *out, size_t size, const struct chart *chart, const struct series *series) {
    char low[32];
    char mean[32];
    char high[32];
    snprintf(out, size, "%s mean, %s to %s%s", chart->label(series_mean(series), mean),
             chart->label(series->low, low), chart->label(series->high, high), chart->unit);
}

static void draw(struct page *page, const struct chart *chart, const struct history *history) {
    const struct series *series = &history->series[chart->metric];
    char summary[160];
    struct plot plot = {.title = chart->title,
                        .summary = summary,
                        .shape = chart->shape,
                        .label = chart->label,
                        .binary = chart->label == plot_bytes,
                        .right = 1};
    if (!series_range(series, true, &plot.low, &plot.high)) {
        return;
    }
    if (chart->from_zero) {
        plot_include(&plot, 0);
    }
    plot_include(&plot, chart->rule);
    describe(summary, sizeof summary, chart, series);
    plot_begin(page, &plot);
    plot_gaps(page, &plot, &history->timeline);
    if (isfinite(chart->rule)) {
        plot_rule(page, &plot, chart->rule);
    }
    bool several = history->device_count > 1 && history_of_device(history, 0, chart->metric) != NULL;
    for (size_t i = 0; several && i < history->device_count; i++) {
        plot_series(page, &plot, history_of_device(history, i, chart->metric), &history->timeline, i, false);
    }
    if (!several) {
        plot_series(page, &plot, series, &history->timeline, chart->colour, true);
    }
    plot_drawn(page);
    plot_times(page, &plot, &history->timeline);
    plot_end(page);
}

void charts_speed(struct page *page, const struct report_facts *facts, const struct content *content) {
    const struct history *history = &content->history;
    const struct chart rate = {.title = "Tokens per second",
                               .unit = "",
                               .shape = "",
                               .metric = METRIC_RATE,
                               .label = plot_rate,
                               .from_zero = true,
                               .rule = facts->predicted > 0 ? facts->predicted : NAN};
    const struct chart drift = {.title = "Drift score",
                                .unit = "",
                                .shape = "",
                                .metric = METRIC_DRIFT,
                                .label = plot_score,
                                .from_zero = true,
                                .rule = NAN,
                                .colour = 3};
    page_section(page, "Speed", 1);
    if (history->batches == 0) {
        page_put(page, "<p class=\"card none\">No batch is sealed yet.</p>\n");
    } else {
        draw(page, &rate, history);
        draw(page, &drift, history);
        charts_stages(page, content);
        page_put(
            page,
            "<p class=\"sub wide\">A line is the mean, the band behind it reaches from the lowest to the "
            "highest batch");
        page_put(page, facts->predicted > 0 ? "; the dashed line is the calibration's prediction" : "");
        page_put(page,
                 history->timeline.count > 1 ? "; grey strips are times between launches.</p>\n" : ".</p>\n");
    }
    page_section_end(page);
}

// ---- where the time went ----

static void meter(struct page *page, const char *name, double seconds, double whole, size_t colour) {
    char text[READABLE_TEXT];
    double share = whole > 0 ? fmin(seconds / whole, 1) : 0;
    page_format(
        page,
        "<span>%s</span><div class=track><i class=t%zu style=width:%.2f%%></i></div><span class=n>%s, "
        "%.1f %%</span>\n",
        name, colour, 100 * share, readable_duration(seconds, text), whole > 0 ? 100 * seconds / whole : 0);
}

void charts_stages(struct page *page, const struct content *content) {
    static const struct {
        enum history_stage stage;
        const char *name;
        size_t colour;
        bool beside; // in another thread, or a part of computing
    } rows[] = {{STAGE_COMPUTE, "Computing", 0, false}, {STAGE_WAIT, "Waiting", 1, false},
                {STAGE_UPLOAD, "Upload", 5, true},      {STAGE_DEVICE, "On the device", 5, true},
                {STAGE_DOWNLOAD, "Download", 5, true},  {STAGE_PREPARE, "Tokenising", 7, true},
                {STAGE_WRITE, "Writing", 7, true}};
    const struct history *history = &content->history;
    double whole = history->seconds[STAGE_COMPUTE] + history->seconds[STAGE_WAIT];
    page_put(
        page,
        "<div class=\"card wide\"><figcaption><h3>Where the time went</h3><p>of computing and waiting</p>"
        "</figcaption>\n<div class=meters>\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (history->known[rows[i].stage]) {
            meter(page, rows[i].name, history->seconds[rows[i].stage], whole, rows[i].colour);
        }
    }
    page_put(page,
             "</div>\n<p class=sub>Tokenising and writing go on beside the batches, in threads of their "
             "own; what they do not keep up with is waiting.</p></div>\n");
}

// ---- the device ----

void charts_device(struct page *page, const struct content *content) {
    static const struct chart charts[] = {
        {"Utilisation", " %", "low", METRIC_UTILIZATION, plot_plain, true, NAN, 2},
        {"GPU memory in use", "", "low", METRIC_DEVICE_MEMORY, plot_bytes, true, NAN, 4},
        {"Power", " W", "low", METRIC_POWER, plot_plain, true, NAN, 1},
        {"Temperature", " °C", "low", METRIC_TEMPERATURE, plot_plain, false, NAN, 6},
        {"SM clock", " MHz", "low", METRIC_CLOCK, plot_plain, false, NAN, 5},
        {"Memory", "", "low", METRIC_MEMORY, plot_bytes, true, NAN, 4},
    };
    const struct history *history = &content->history;
    if (history->batches == 0) {
        return;
    }
    page_put(page, "<section>\n<h2>Device</h2>\n");
    if (history->device_count > 1) {
        page_put(page, "<div class=legend>");
        for (size_t i = 0; i < history->device_count; i++) {
            page_format(page, "<span><i class=t%zu></i>", i % PLOT_COLOURS);
            page_text(page, history->devices[i]);
            page_put(page, "</span>");
        }
        page_put(page, "</div>\n");
    }
    page_put(page, "<div class=small>\n");
    for (size_t i = 0; i < sizeof charts / sizeof charts[0]; i++) {
        bool twice = charts[i].metric == METRIC_MEMORY && history->series[METRIC_DEVICE_MEMORY].values > 0;
        if (!twice) {
            draw(page, &charts[i], history);
        }
    }
    page_section_end(page);
}

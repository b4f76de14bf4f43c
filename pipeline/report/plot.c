// SPDX-License-Identifier: MIT
#include "report/plot.h"

#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/readable.h"

// Of the drawing, whatever its place on the screen: percents in tenths.
#define WIDTH 1000.0
#define HEIGHT 1000.0

enum { LABELS = 4 };

const char *plot_plain(double value, char out[32]) {
    double size = fabs(value);
    if (size >= 1e7 || (size > 0 && size < 1e-3)) {
        snprintf(out, 32, "%.3g", value);
    } else if (size >= 1000) {
        char count[READABLE_TEXT];
        snprintf(out, 32, "%s%s", value < 0 ? "-" : "", readable_count((uint64_t)(size + 0.5), count));
    } else {
        snprintf(out, 32, "%.4g", value);
    }
    return out;
}

const char *plot_bytes(double value, char out[32]) {
    return readable_bytes(value > 0 && value < 1e19 ? (uint64_t)value : 0, out);
}

double plot_step(double range, int most) {
    if (!(range > 0) || !isfinite(range)) {
        return 1;
    }
    double power = pow(10, floor(log10(range / most)));
    static const double steps[] = {1, 2, 5, 10};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (range / (steps[i] * power) <= most) {
            return steps[i] * power;
        }
    }
    return 10 * power;
}

void plot_include(struct plot *plot, double value) {
    if (isfinite(value)) {
        plot->low = fmin(plot->low, value);
        plot->high = fmax(plot->high, value);
    }
}

// ---- where things lie ----

static double across(const struct plot *plot, double x) {
    double range = plot->right - plot->left;
    double share = range > 0 ? (x - plot->left) / range : 0.5;
    return fmin(fmax(share, 0), 1) * WIDTH;
}

static double up(const struct plot *plot, double y) {
    double range = plot->high - plot->low;
    double share = range > 0 ? (y - plot->low) / range : 0.5;
    return (1 - fmin(fmax(share, 0), 1)) * HEIGHT;
}

// ---- the frame ----

// Rounds the range outward to whole steps.
static double settle_range(struct plot *plot) {
    const double most = 1e200; // beyond it a range has no length that a number holds
    plot->low = fmin(fmax(plot->low, -most), most);
    plot->high = fmin(fmax(plot->high, -most), most);
    if (!(plot->high > plot->low)) {
        double room = fmax(fabs(plot->high) * 0.1, 1e-9);
        plot->low = plot->low > 0 && plot->low < room ? 0 : plot->low - room;
        plot->high += room;
    }
    double range = plot->high - plot->low;
    double step = plot->binary ? exp2(ceil(log2(range / LABELS))) : plot_step(range, LABELS);
    plot->low = floor(plot->low / step + 1e-9) * step;
    plot->high = ceil(plot->high / step - 1e-9) * step;
    return step;
}

void plot_begin(struct page *page, struct plot *plot) {
    double step = settle_range(plot);
    char label[32];
    page_format(page, "<figure class=card><figcaption><h3>%s</h3>", plot->title);
    if (plot->summary != NULL) {
        page_put(page, "<p>");
        page_text(page, plot->summary);
        page_put(page, "</p>");
    }
    page_format(page, "</figcaption>\n<div class=\"plot %s\">", plot->shape);
    int lines = (int)((plot->high - plot->low) / step + 0.5);
    for (int i = 0; i <= lines && i < 32; i++) {
        double value = plot->low + i * step;
        value = fabs(value) < step * 1e-6 ? 0 : value;
        page_format(page, "<span class=y style=bottom:%.1f%%>%s</span>", 100 - up(plot, value) / HEIGHT * 100,
                    plot->label(value, label));
    }
    page_format(page, "\n<svg viewBox=\"0 0 %.0f %.0f\" preserveAspectRatio=none role=img aria-label=\"%s. ",
                WIDTH, HEIGHT, plot->title);
    page_text(page, plot->summary);
    page_put(page, "\">\n<path class=g d=\"");
    for (int i = 0; i <= lines && i < 32; i++) {
        page_format(page, "M0 %.0fH%.0f", up(plot, plot->low + i * step), WIDTH);
    }
    page_put(page, "\"/>\n");
}

void plot_drawn(struct page *page) {
    page_put(page, "</svg>\n");
}

// wide: where there is room only.
static void put_label(struct page *page, const struct plot *plot, double x, const char *label, bool wide) {
    double at = across(plot, x) / WIDTH * 100;
    const char *edge = at < 4 ? " first" : at > 94 ? " last" : wide ? " wide" : "";
    page_format(page, "<span class=\"x%s\" style=left:%.1f%%>", edge, at);
    page_text(page, label);
    page_put(page, "</span>");
}

void plot_x_label(struct page *page, const struct plot *plot, double x, const char *label) {
    put_label(page, plot, x, label, false);
}

void plot_end(struct page *page) {
    page_put(page, "</div></figure>\n");
}

// ---- what is drawn ----

void plot_rule(struct page *page, const struct plot *plot, double value) {
    page_format(page, "<path class=d d=\"M0 %.1fH%.0f\"/>\n", up(plot, value), WIDTH);
}

static double centre(size_t bucket) {
    return ((double)bucket + 0.5) / SERIES_BUCKETS;
}

// The next bucket with a value, from `from` on; SERIES_BUCKETS when there is none.
static size_t next_bucket(const struct series *series, size_t from) {
    while (from < SERIES_BUCKETS && series->buckets[from].weight == 0) {
        from++;
    }
    return from;
}

static void draw_line(struct page *page, const struct plot *plot, const struct series *series,
                      const struct timeline *timeline) {
    size_t piece = SIZE_MAX;
    for (size_t i = next_bucket(series, 0); i < SERIES_BUCKETS; i = next_bucket(series, i + 1)) {
        size_t here = timeline_piece_at(timeline, centre(i));
        page_format(page, "%s%.1f %.1f", here == piece ? "L" : "M", across(plot, centre(i)),
                    up(plot, series_bucket_mean(&series->buckets[i])));
        piece = here;
    }
}

// A launch whose batches are in one bucket has no line, but a dot.
static void draw_alone(struct page *page, const struct plot *plot, const struct series *series,
                       const struct timeline *timeline) {
    size_t before = SIZE_MAX;
    for (size_t i = next_bucket(series, 0); i < SERIES_BUCKETS;) {
        size_t next = next_bucket(series, i + 1);
        size_t here = timeline_piece_at(timeline, centre(i));
        size_t after = next < SERIES_BUCKETS ? timeline_piece_at(timeline, centre(next)) : SIZE_MAX;
        if (here != before && here != after) {
            plot_dot(page, plot, plot->left + centre(i) * (plot->right - plot->left),
                     series_bucket_mean(&series->buckets[i]));
        }
        before = here;
        i = next;
    }
}

// The band of one launch's buckets, there along the highest values and back along the lowest.
static void draw_band(struct page *page, const struct plot *plot, const struct series *series, size_t from,
                      size_t end) {
    const char *to = "M";
    for (size_t i = next_bucket(series, from); i < end; i = next_bucket(series, i + 1)) {
        page_format(page, "%s%.1f %.1f", to, across(plot, centre(i)), up(plot, series->buckets[i].high));
        to = "L";
    }
    for (size_t i = end; i > from; i--) {
        if (series->buckets[i - 1].weight > 0) {
            page_format(page, "L%.1f %.1f", across(plot, centre(i - 1)),
                        up(plot, series->buckets[i - 1].low));
        }
    }
    page_put(page, "Z");
}

void plot_series(struct page *page, const struct plot *plot, const struct series *series,
                 const struct timeline *timeline, size_t colour, bool band) {
    if (series->values == 0) {
        return;
    }
    if (band) {
        page_format(page, "<path class=\"b t%zu\" d=\"", colour % PLOT_COLOURS);
        for (size_t from = 0; from < SERIES_BUCKETS;) {
            size_t end = from + 1;
            size_t piece = timeline_piece_at(timeline, centre(from));
            while (end < SERIES_BUCKETS && timeline_piece_at(timeline, centre(end)) == piece) {
                end++;
            }
            if (next_bucket(series, from) < end) {
                draw_band(page, plot, series, from, end);
            }
            from = end;
        }
        page_put(page, "\"/>\n");
    }
    page_format(page, "<path class=\"l t%zu\" d=\"", colour % PLOT_COLOURS);
    draw_line(page, plot, series, timeline);
    page_format(page, "\"/>\n<path class=\"mark t%zu\" d=\"", colour % PLOT_COLOURS);
    draw_alone(page, plot, series, timeline);
    page_put(page, "\"/>\n");
}

void plot_bar(struct page *page, const struct plot *plot, double from, double to, double height,
              size_t colour, const char *tooltip) {
    double left = across(plot, from);
    double width = fmax(across(plot, to) - left, 1);
    double top = up(plot, height);
    page_format(page, "<rect class=\"bar t%zu\" x=%.1f y=%.1f width=%.1f height=%.1f><title>",
                colour % PLOT_COLOURS, left, top, width, HEIGHT - top);
    page_text(page, tooltip);
    page_put(page, "</title></rect>\n");
}

void plot_dots(struct page *page, size_t colour) {
    page_format(page, "<path class=\"dot t%zu\" d=\"", colour % PLOT_COLOURS);
}

void plot_dot(struct page *page, const struct plot *plot, double x, double y) {
    page_format(page, "M%.1f %.1fh0", across(plot, x), up(plot, y));
}

void plot_dots_end(struct page *page) {
    page_put(page, "\"/>\n");
}

void plot_segment(struct page *page, const struct plot *plot, double x, double from, double to, size_t colour,
                  const char *tooltip) {
    page_format(page, "<path class=\"l t%zu\" d=\"M%.1f %.1fV%.1f\"><title>", colour % PLOT_COLOURS,
                across(plot, x), up(plot, from), up(plot, to));
    page_text(page, tooltip);
    page_put(page, "</title></path>\n");
}

// ---- along a timeline ----

void plot_gaps(struct page *page, const struct plot *plot, const struct timeline *timeline) {
    char length[READABLE_TEXT];
    for (size_t i = 1; i < timeline->count && timeline->gap > 0; i++) {
        const struct timeline_piece *before = &timeline->pieces[i - 1];
        const struct timeline_piece *piece = &timeline->pieces[i];
        double pause = piece->start > before->end ? (double)(piece->start - before->end) : 0;
        page_format(page,
                    "<rect class=gap x=%.1f y=0 width=%.1f height=%.0f><title>%s between launch %llu and "
                    "launch %llu</title></rect>\n",
                    across(plot, before->left + before->width), timeline->gap * WIDTH, HEIGHT,
                    readable_duration(pause, length), (unsigned long long)before->launch,
                    (unsigned long long)piece->launch);
    }
}

// "29 Nov 17:08" of long runs, "17:08:09" of short ones.
static void moment(int64_t at, double span, char out[32]) {
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    char text[CLOCK_TEXT]; // "2026-11-21T10:15:00Z"
    int month = 0;
    clock_text(at, text);
    bool known = sscanf(text + 5, "%2d", &month) == 1 && month >= 1 && month <= 12;
    if (span < 12 * 3600.0) {
        snprintf(out, 32, "%.*s", span < 600 ? 8 : 5, text + 11);
    } else {
        snprintf(out, 32, "%.2s %s %.5s", text + 8, known ? months[month - 1] : "", text + 11);
    }
}

void plot_times(struct page *page, const struct plot *plot, const struct timeline *timeline) {
    enum { MOST = 4 };
    char label[32];
    if (timeline->count == 0) {
        return;
    }
    const struct timeline_piece *last = &timeline->pieces[timeline->count - 1];
    double span = (double)(last->end - timeline->pieces[0].start);
    double before = -1;
    for (int i = 0; i < MOST; i++) {
        double place = (double)i / (MOST - 1);
        const struct timeline_piece *piece = &timeline->pieces[timeline_piece_at(timeline, place)];
        double share = piece->width > 0 ? fmin((place - piece->left) / piece->width, 1) : 0;
        int64_t at = piece->start + (int64_t)(share * (double)(piece->end - piece->start) + 0.5);
        if ((double)at > before) {
            moment(at, span, label);
            put_label(page, plot, place, label, true);
        }
        before = (double)at;
    }
}

void plot_durations(struct page *page, const struct plot *plot, double seconds) {
    static const struct {
        double seconds;
        const char *name;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    char label[32];
    size_t unit = 0;
    while (unit + 1 < sizeof units / sizeof units[0] && seconds < 2 * units[unit].seconds) {
        unit++;
    }
    double length = seconds / units[unit].seconds;
    double step = plot_step(length, 4);
    for (double x = 0; x <= length * 1.001 && length > 0; x += step) {
        snprintf(label, sizeof label, "%.3g %s", x, units[unit].name);
        plot_x_label(page, plot, x * units[unit].seconds, label);
    }
}

// SPDX-License-Identifier: MIT
// Plots of a page: SVG for what is drawn, HTML for what is read. Coordinates given are those of the data.
#ifndef STRATA_REPORT_PLOT_H
#define STRATA_REPORT_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "report/page.h"
#include "report/series.h"
#include "report/timeline.h"

enum { PLOT_COLOURS = 8 }; // classes t0 ... t7

typedef const char *plot_number(double value, char out[32]); // for the labels of the y axis

struct plot {
    const char *title;   // the program's own
    const char *summary; // text beside the title, or NULL; also what a screen reader says of the plot
    const char *shape;   // "low", "high" or ""
    plot_number *label;
    bool binary;      // steps of y are powers of 2, for bytes
    double low, high; // of the y axis; widened to round numbers by plot_begin
    double left, right;
};

// A range that holds both and is never empty.
void plot_include(struct plot *plot, double value);

// <figure class=card> up to the drawing with its grid and the labels of y; then the drawing, and the rest.
void plot_begin(struct page *page, struct plot *plot);
void plot_rule(struct page *page, const struct plot *plot, double value); // a dashed line across
// The mean of every bucket as a line, and from the lowest to the highest value as a band.
void plot_series(struct page *page, const struct plot *plot, const struct series *series,
                 const struct timeline *timeline, size_t colour, bool band);
// A bar from `from` to `to` on the x axis, whose tooltip is text.
void plot_bar(struct page *page, const struct plot *plot, double from, double to, double height,
              size_t colour, const char *tooltip);
void plot_dots(struct page *page, size_t colour);                              // begins a path ...
void plot_dot(struct page *page, const struct plot *plot, double x, double y); // ... a dot of it
void plot_dots_end(struct page *page);
void plot_segment(struct page *page, const struct plot *plot, double x, double from, double to, size_t colour,
                  const char *tooltip);
void plot_gaps(struct page *page, const struct plot *plot, const struct timeline *timeline);
void plot_drawn(struct page *page); // ends the drawing
void plot_x_label(struct page *page, const struct plot *plot, double x, const char *label);
void plot_end(struct page *page);

// The labels along a timeline: when it begins, when it ends, and launches between.
void plot_times(struct page *page, const struct plot *plot, const struct timeline *timeline);

// The labels along an axis of so many seconds from 0: "0 h", "5 h" ...
void plot_durations(struct page *page, const struct plot *plot, double seconds);

// A label for y: "0.5", "12,000", "3.4e+09".
const char *plot_plain(double value, char out[32]);
const char *plot_bytes(double value, char out[32]);

// Round steps for an axis: at most `most` of them over the range.
double plot_step(double range, int most);

#endif

// SPDX-License-Identifier: MIT
#include <math.h>
#include <stdio.h>

#include "base/readable.h"
#include "report/plot.h"
#include "report/sections.h"

// ---- how many problems have which length ----

struct histogram {
    const char *title, *unit;
    const struct tally *tally;
    size_t colour;
};

enum { BARS = 32 };

// What lies beyond twice the range of nearly all goes into the last bar.
static uint64_t histogram_end(const struct tally *tally) {
    uint64_t most = tally_quantile(tally, 0.995);
    return tally->most > 2 * most + 8 ? most + most / 8 + 1 : tally->most + 1;
}

static uint64_t histogram_width(const struct tally *tally, uint64_t end) {
    double step = ceil(plot_step((double)end, BARS));
    uint64_t width = step < 1 ? 1 : (uint64_t)step;
    uint64_t unit = tally->unit;
    return (width + unit - 1) / unit * unit; // whole slots
}

static void draw_bars(struct page *page, struct plot *plot, const struct histogram *histogram, uint64_t width,
                      uint64_t bars, bool cut) {
    char count[READABLE_TEXT];
    char from[READABLE_TEXT];
    char to[READABLE_TEXT];
    char tooltip[160];
    for (uint64_t i = 0; i < bars; i++) {
        bool rest = cut && i + 1 == bars;
        uint64_t first = i * width;
        uint64_t in_bar = tally_between(histogram->tally, first, rest ? UINT64_MAX : first + width);
        snprintf(tooltip, sizeof tooltip, "%s%s%s %s: %s problems", readable_count(first, from),
                 rest         ? " and more"
                 : width == 1 ? ""
                              : " to ",
                 rest || width == 1 ? "" : readable_count(first + width - 1, to), histogram->unit,
                 readable_count(in_bar, count));
        if (in_bar > 0) {
            plot_bar(page, plot, (double)first + 0.04 * (double)width, (double)first + 0.96 * (double)width,
                     (double)in_bar, histogram->colour, tooltip);
        }
    }
}

static void draw_histogram(struct page *page, const struct histogram *histogram) {
    const struct tally *tally = histogram->tally;
    if (tally->count == 0 || tally->most == 0) {
        return;
    }
    uint64_t end = histogram_end(tally);
    uint64_t width = histogram_width(tally, end);
    uint64_t bars = (end + width - 1) / width;
    bool cut = end <= tally->most;
    char summary[160];
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    char c[READABLE_TEXT];
    char mean[32];
    snprintf(summary, sizeof summary, "%s mean, %s median, %s at 95 %%, %s at most",
             plot_plain(tally->sum / (double)tally->count, mean),
             readable_count(tally_quantile(tally, 0.5), a), readable_count(tally_quantile(tally, 0.95), b),
             readable_count(tally->most, c));
    struct plot plot = {.title = histogram->title,
                        .summary = summary,
                        .shape = "",
                        .label = plot_plain,
                        .right = (double)(bars * width)};
    for (uint64_t i = 0; i < bars; i++) {
        bool rest = cut && i + 1 == bars;
        plot_include(&plot, (double)tally_between(tally, i * width, rest ? UINT64_MAX : (i + 1) * width));
    }
    plot_begin(page, &plot);
    draw_bars(page, &plot, histogram, width, bars, cut);
    plot_drawn(page);
    double step = fmax(plot_step(plot.right, 4), 1);
    double middle = width == 1 ? 0.5 : 0; // a bar of one value has its label below it
    for (double x = 0; x + middle <= plot.right * 1.001; x += step) {
        plot_x_label(page, &plot, x + middle, plot_plain(x, mean));
    }
    plot_end(page);
}

void charts_lengths(struct page *page, const struct tallies *tallies) {
    const struct histogram tokens = {"Tokens a problem", "tokens", &tallies->tokens, 0};
    const struct histogram steps = {"Steps a problem", "steps", &tallies->steps, 2};
    if (tallies->tokens.count == 0) {
        return;
    }
    page_section(page, "Problems", 1);
    draw_histogram(page, &tokens);
    draw_histogram(page, &steps);
    page_section_end(page);
}

// ---- latents ----

static void draw_norms(struct page *page, const struct sample *sample) {
    enum { LABELS = 8 };
    char summary[128];
    char tooltip[160];
    snprintf(summary, sizeof summary, "mean and standard deviation, of %zu shard%s", sample->shards,
             sample->shards == 1 ? "" : "s");
    struct plot plot = {.title = "Norms of the latents",
                        .summary = summary,
                        .shape = "high",
                        .label = plot_plain,
                        .left = -0.5,
                        .right = (double)sample->layer_count - 0.5};
    for (size_t i = 0; i < sample->layer_count; i++) {
        const struct sample_layer *layer = &sample->layers[i];
        plot_include(&plot, sample_layer_mean(layer) + sample_layer_spread(layer));
    }
    plot_begin(page, &plot);
    for (size_t i = 0; i < sample->layer_count; i++) {
        const struct sample_layer *layer = &sample->layers[i];
        double mean = sample_layer_mean(layer);
        double spread = sample_layer_spread(layer);
        char a[32];
        char b[32];
        char c[32];
        snprintf(tooltip, sizeof tooltip, "%s: %s mean, %s deviation, largest number %s", layer->name,
                 plot_plain(mean, a), plot_plain(spread, b), plot_plain(layer->largest, c));
        plot_segment(page, &plot, (double)i, fmax(mean - spread, plot.low), mean + spread, 0, tooltip);
    }
    page_put(page, "<path class=\"mark t0\" d=\"");
    for (size_t i = 0; i < sample->layer_count; i++) {
        plot_dot(page, &plot, (double)i, sample_layer_mean(&sample->layers[i]));
    }
    plot_dots_end(page);
    plot_drawn(page);
    size_t every = (sample->layer_count + LABELS - 1) / LABELS;
    for (size_t i = 0; i < sample->layer_count; i += every) {
        plot_x_label(page, &plot, (double)i, sample->layers[i].name);
    }
    plot_end(page);
}

static void draw_legend(struct page *page, const struct sample *sample) {
    page_put(page, "<div class=legend>");
    for (size_t k = 0; k < sample->class_count; k++) {
        char count[READABLE_TEXT];
        page_format(page, "<span><i class=t%zu></i>", k % PLOT_COLOURS);
        page_text(page, sample->classes[k]);
        page_format(page, " (%s)</span>", readable_count(sample->class_rows[k], count));
    }
    page_put(page, "</div>\n");
}

static void draw_places(struct page *page, const struct content *content) {
    enum { LABELS = 8 };
    const struct sample *sample = &content->sample;
    const struct pca *pca = &content->pca;
    char title[64];
    char summary[160];
    char rows[READABLE_TEXT];
    snprintf(title, sizeof title, "Principal components of %s", sample->layers[0].name);
    snprintf(summary, sizeof summary, "%s latents; %.1f %% and %.1f %% of the variance%s%s",
             readable_count(sample->rows, rows), 100 * pca->share[0], 100 * pca->share[1],
             sample->key == NULL ? "" : ", by ", sample->key == NULL ? "" : sample->key);
    struct plot plot = {.title = title,
                        .summary = summary,
                        .shape = "high",
                        .label = plot_plain,
                        .low = INFINITY,
                        .high = -INFINITY,
                        .left = INFINITY,
                        .right = -INFINITY};
    for (size_t i = 0; i < sample->rows; i++) {
        plot.left = fmin(plot.left, pca->place[2 * i]);
        plot.right = fmax(plot.right, pca->place[2 * i]);
        plot_include(&plot, pca->place[2 * i + 1]);
    }
    double margin = fmax((plot.right - plot.left) * 0.02, 1e-12);
    plot.left -= margin;
    plot.right += margin;
    plot_begin(page, &plot);
    size_t classes = sample->class_count > 0 ? sample->class_count : 1;
    for (size_t k = 0; k < classes; k++) {
        plot_dots(page, k);
        for (size_t i = 0; i < sample->rows; i++) {
            if (sample->class_of[i] == k) {
                plot_dot(page, &plot, pca->place[2 * i], pca->place[2 * i + 1]);
            }
        }
        plot_dots_end(page);
    }
    plot_drawn(page);
    double step = plot_step(plot.right - plot.left, LABELS - 1);
    double first = ceil(plot.left / step) * step;
    for (int i = 0; i < LABELS && first + i * step <= plot.right; i++) {
        double x = first + i * step;
        char label[32];
        plot_x_label(page, &plot, x, plot_plain(fabs(x) < step * 1e-6 ? 0 : x, label));
    }
    page_put(page, "</div>\n");
    draw_legend(page, sample);
    page_put(page, "</figure>\n");
}

static void list_norms(struct page *page, const struct sample *sample) {
    char a[32];
    char b[32];
    char c[32];
    char rows[READABLE_TEXT];
    page_put(page, "<details class=\"card wide\"><summary>Norms in numbers</summary>\n");
    page_table(page, "Norms in numbers", "Layer|#Latents|#Mean norm|#Standard deviation|#Largest number");
    for (size_t i = 0; i < sample->layer_count; i++) {
        const struct sample_layer *layer = &sample->layers[i];
        page_format(page, "<tr><td>%s</td><td class=n>%s</td><td class=n>%s</td>", layer->name,
                    readable_count(layer->rows, rows), plot_plain(sample_layer_mean(layer), a));
        page_format(page, "<td class=n>%s</td><td class=n>%s</td></tr>\n",
                    plot_plain(sample_layer_spread(layer), b), plot_plain(layer->largest, c));
    }
    page_table_end(page, 0, "");
    page_put(page, "</details>\n");
}

void charts_latents(struct page *page, const struct content *content) {
    const struct sample *sample = &content->sample;
    if (sample->shards == 0) {
        return;
    }
    page_section(page, "Latents", 1);
    draw_norms(page, sample);
    if (content->pca.place != NULL) {
        draw_places(page, content);
    }
    list_norms(page, sample);
    page_section_end(page);
}

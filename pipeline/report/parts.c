// SPDX-License-Identifier: MIT
#include "report/parts.h"

#include <stdio.h>

#include "base/readable.h"
#include "report/sections.h"

enum { SHOWN = 1000 };

static void tiles(struct page *page, const struct report_part *total) {
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    char note[96];
    page_put(page, "<div class=tiles>\n");
    snprintf(note, sizeof note, "%s of %s tokens", readable_count(total->tokens, a),
             readable_count(total->tokens_total, b));
    summary_tile(page, "Done", readable_share(total->tokens, total->tokens_total, a), note);
    summary_tile(page, "Time left", total->eta > 0 ? readable_duration(total->eta, a) : "-",
                 "at the speed of now");
    summary_tile(page, "Tokens/s now", total->rate > 0 ? readable_rate(total->rate, a) : "-",
                 "all parts that run");
    summary_tile(page, "Failed problems", readable_count(total->failed, a), NULL);
    snprintf(note, sizeof note, "in %s shards", readable_count(total->shards, b));
    summary_tile(page, "Latents written", readable_bytes(total->bytes, a), note);
    page_put(page, "</div>\n");
}

static void share_cell(struct page *page, const struct report_part *part) {
    char share[READABLE_TEXT];
    double width = part->tokens_total > 0 ? 100 * (double)part->tokens / (double)part->tokens_total : 0;
    page_format(page,
                "<td><div class=meters style=grid-template-columns:90px><div class=track><i class=%s "
                "style=width:%.1f%%></i></div></div></td><td class=n>%s</td>",
                tone_class(part->tone), width > 100 ? 100 : width,
                part->has_total ? readable_share(part->tokens, part->tokens_total, share) : "-");
}

static void part_row(struct page *page, const struct report_part *part, uint64_t number) {
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    page_format(page, "<tr><td class=n>%llu</td><td class=nowrap><span class=\"pill %s\">",
                (unsigned long long)number, tone_class(part->tone));
    page_text(page, part->state);
    page_put(page, "</span></td>");
    share_cell(page, part);
    page_format(page, "<td class=n>%s</td><td class=n>%s</td>", readable_count(part->done, a),
                readable_count(part->failed, b));
    page_format(page, "<td class=n>%s</td><td class=n>%s</td>",
                part->rate > 0 ? readable_rate(part->rate, a) : "-",
                part->eta > 0 ? readable_duration(part->eta, b) : "-");
    page_put(page, "<td class=text>");
    page_text(page, part->detail);
    page_put(page, "</td></tr>\n");
}

void parts_show(struct page *page, const struct report_set *set) {
    page_put(page, "<header>\n");
    summary_title(page, set->folder, set->total.tone, set->total.state, set->total.detail);
    if (set->total.has_total) {
        summary_progress(page, set->total.done, set->total.failed, set->total.skipped, set->total.problems);
    }
    tiles(page, &set->total);
    page_put(page, "</header>\n");
    page_section(page, "Parts", 0);
    page_table(page, "Parts", "#Part|State|Done|#|#Problems|#Failed|#Tokens/s|#Left|What there is to say");
    for (uint64_t i = 0; i < set->part_count && i < SHOWN; i++) {
        part_row(page, &set->parts[i], i);
    }
    page_table_end(page, set->part_count > SHOWN ? set->part_count - SHOWN : 0, ": strata status");
    page_section_end(page);
}

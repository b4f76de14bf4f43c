// SPDX-License-Identifier: MIT
// What a running job shows: a progress line on a terminal; elsewhere, and on TERM=dumb, every half minute a
// line with the time.
//
// On a terminal the line is never wider than it (asked at each refresh; 80 columns where it does not say):
// first the bar gets shorter, then the least needed parts are left out.
#ifndef STRATA_START_DISPLAY_H
#define STRATA_START_DISPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct display {
    FILE *out; // NULL: shows nothing
    bool terminal;
    double began;
    double shown; // when it was last drawn
    bool open;    // a bar stands on the terminal's last line
};

struct display_state {
    const char *stage; // "loading", "running" ...
    uint64_t done;     // of `all`, in `unit`
    uint64_t all;      // 0: not known yet
    const char *unit;  // "problems", "GB" ...
    double unit_size;  // what of `done` makes one unit, shown with decimals; 0: they are units
    double rate;       // tokens per second; 0: unknown
    double seconds_left;
    const char *note;   // "3 shards sealed"; may be NULL
    const char *device; // "GPU 97 %, 12.3 GB, 250 W"; may be NULL
};

void display_start(struct display *display, FILE *out);
void display_update(struct display *display, const struct display_state *state, bool now);
void display_end(struct display *display); // leaves the bar and goes to the next line

enum { DISPLAY_LINE = 256 };

// The line for a terminal of `columns`, whose last one stays free; 0: no limit. elapsed: seconds since the
// start.
void display_line(char out[DISPLAY_LINE], const struct display_state *state, double elapsed, size_t columns);

#endif

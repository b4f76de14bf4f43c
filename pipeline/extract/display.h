// What a running job shows: a progress bar on a terminal, a line every half minute elsewhere.
#ifndef STRATA_EXTRACT_DISPLAY_H
#define STRATA_EXTRACT_DISPLAY_H

#include <stdbool.h>
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
    uint64_t all;
    const char *unit; // "problems", "GB" ...
    double unit_size; // what of `done` makes one unit, shown with decimals; 0: they are units
    double rate;      // tokens per second; 0: unknown
    double seconds_left;
    const char *note; // "3 shards sealed"; may be NULL
};

void display_start(struct display *display, FILE *out);
void display_update(struct display *display, const struct display_state *state, bool now);
void display_end(struct display *display); // leaves the bar and goes to the next line

#endif

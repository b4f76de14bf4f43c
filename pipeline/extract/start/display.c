// SPDX-License-Identifier: MIT
#include "start/display.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/terminal.h"

enum { BAR_WIDTH = 28, BAR_SHORTEST = 5, USUAL_COLUMNS = 80, CLOCK_WIDTH = 32, PART_WIDTH = 64 };

#define TERMINAL_SECONDS 0.2
#define LINE_SECONDS 30.0

void display_start(struct display *display, FILE *out) {
    *display = (struct display){.out = out, .began = clock_seconds()};
    display->terminal = terminal_redraws(out);
    display->shown = display->terminal ? 0 : display->began;
}

// "1:05", "2:01:05", "3 d 02:01"
static void write_time(char out[CLOCK_WIDTH], double seconds) {
    if (!(seconds > 0) || seconds > 1e9) {
        snprintf(out, CLOCK_WIDTH, "-:--");
        return;
    }
    uint64_t whole = (uint64_t)(seconds + 0.5);
    uint64_t hours = whole / 3600;
    if (hours >= 48) {
        snprintf(out, CLOCK_WIDTH, "%" PRIu64 " d %02" PRIu64 ":%02" PRIu64, hours / 24, hours % 24,
                 whole / 60 % 60);
    } else if (hours > 0) {
        snprintf(out, CLOCK_WIDTH, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, hours, whole / 60 % 60,
                 whole % 60);
    } else {
        snprintf(out, CLOCK_WIDTH, "%" PRIu64 ":%02" PRIu64, whole / 60, whole % 60);
    }
}

// ---- the parts of a line, in their order; the last to be left out first ----

enum part { SHARE, COUNT, LEFT, RATE, ELAPSED, NOTE, DEVICE, PARTS };

static void write_count(char *out, const struct display_state *state) {
    double size = state->unit_size;
    if (size > 0) {
        snprintf(out, PART_WIDTH, "%.2f/%.2f %s", (double)state->done / size, (double)state->all / size,
                 state->unit);
    } else if (state->all > 0) {
        snprintf(out, PART_WIDTH, "%" PRIu64 "/%" PRIu64 " %s", state->done, state->all, state->unit);
    } else {
        snprintf(out, PART_WIDTH, "%" PRIu64 " %s", state->done, state->unit);
    }
}

static double share_of(const struct display_state *state) {
    double share = state->all > 0 ? (double)state->done / (double)state->all : 0;
    return share < 1 ? share : 1;
}

static void write_parts(char parts[PARTS][PART_WIDTH], const struct display_state *state, double elapsed) {
    char time[CLOCK_WIDTH];
    memset(parts, 0, PARTS * PART_WIDTH);
    if (state->all > 0) {
        snprintf(parts[SHARE], PART_WIDTH, "%5.1f %%", 100 * share_of(state));
    }
    write_count(parts[COUNT], state);
    if (state->rate > 0) {
        snprintf(parts[RATE], PART_WIDTH, "%.0f tokens/s", state->rate);
        write_time(time, state->seconds_left);
        snprintf(parts[LEFT], PART_WIDTH, "%s left", time);
        write_time(time, elapsed);
        snprintf(parts[ELAPSED], PART_WIDTH, "%s gone", time);
    }
    if (state->note != NULL) {
        snprintf(parts[NOTE], PART_WIDTH, "%s", state->note);
    }
    if (state->device != NULL) {
        snprintf(parts[DEVICE], PART_WIDTH, "%s", state->device);
    }
}

static size_t width_of(const char *stage, size_t bar, char parts[PARTS][PART_WIDTH]) {
    size_t width = strlen(stage) + (bar > 0 ? bar + 3 : 0);
    for (int i = 0; i < PARTS; i++) {
        width += parts[i][0] == 0 ? 0 : strlen(parts[i]) + (i == SHARE && bar > 0 ? 1 : 2);
    }
    return width;
}

// The last ones first, those after `kept`, until the rest has room.
static void drop_parts(const char *stage, size_t bar, char parts[PARTS][PART_WIDTH], enum part kept,
                       size_t room) {
    for (int i = PARTS - 1; i > (int)kept && width_of(stage, bar, parts) > room; i--) {
        parts[i][0] = 0;
    }
}

static size_t append(char out[DISPLAY_LINE], size_t at, const char *between, const char *text) {
    int length = snprintf(out + at, DISPLAY_LINE - at, "%s%s", between, text);
    size_t end = at + (length > 0 ? (size_t)length : 0);
    return end < DISPLAY_LINE ? end : DISPLAY_LINE - 1;
}

void display_line(char out[DISPLAY_LINE], const struct display_state *state, double elapsed, size_t columns) {
    char parts[PARTS][PART_WIDTH];
    char stage[16];
    char bar[BAR_WIDTH + 4] = "";
    size_t room = columns > 1 ? columns - 1 : DISPLAY_LINE - 1;
    size_t width = state->all > 0 ? BAR_WIDTH : 0;
    snprintf(stage, sizeof stage, "%-11.15s", state->stage);
    write_parts(parts, state, elapsed);
    while (width > BAR_SHORTEST && width_of(stage, width, parts) > room) {
        width--;
    }
    drop_parts(stage, width, parts, LEFT, room);
    if (width_of(stage, width, parts) > room) {
        width = 0;
        drop_parts(stage, width, parts, SHARE, room);
    }
    while (width > 0 && width < BAR_WIDTH && width_of(stage, width + 1, parts) <= room) {
        width++;
    }
    if (width > 0) {
        size_t filled = (size_t)(share_of(state) * (double)width);
        bar[0] = '[';
        memset(bar + 1, '.', width);
        memset(bar + 1, '#', filled);
        memcpy(bar + 1 + width, "]", 2);
    }
    size_t at = append(out, 0, stage, width > 0 ? " " : "");
    at = append(out, at, bar, "");
    for (int i = 0; i < PARTS; i++) {
        at = parts[i][0] == 0 ? at : append(out, at, i == SHARE && width > 0 ? " " : "  ", parts[i]);
    }
    out[at < room ? at : room] = 0;
}

// ---- drawing ----

static size_t columns_of(const struct display *display) {
    int columns;
    int rows;
    if (!display->terminal) {
        return 0;
    }
    terminal_size(display->out, &columns, &rows);
    return columns > 0 ? (size_t)columns : USUAL_COLUMNS;
}

void display_update(struct display *display, const struct display_state *state, bool now) {
    double moment = clock_seconds();
    double pause = display->terminal ? TERMINAL_SECONDS : LINE_SECONDS;
    char line[DISPLAY_LINE];
    if (display->out == NULL || (!now && moment - display->shown < pause)) {
        return;
    }
    display->shown = moment;
    display_line(line, state, moment - display->began, columns_of(display));
    if (display->terminal) {
        fprintf(display->out, "\r\033[K%s", line);
    } else { // a log
        char stamp[CLOCK_TEXT];
        clock_text(clock_unix(), stamp);
        fprintf(display->out, "%s %s\n", stamp, line);
    }
    display->open = display->terminal;
    fflush(display->out);
}

void display_end(struct display *display) {
    if (display->open) {
        fputc('\n', display->out);
        display->open = false;
    }
}

#include "extract/display.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { BAR_WIDTH = 28 };

#define TERMINAL_SECONDS 0.2
#define LINE_SECONDS 30.0

void display_start(struct display *display, FILE *out) {
    *display = (struct display){.out = out, .began = clock_seconds()};
    display->terminal = out != NULL && isatty(fileno(out)) == 1;
}

static void write_left(char out[32], double seconds) {
    if (!(seconds > 0) || seconds > 1e7) {
        snprintf(out, 32, "--:--");
        return;
    }
    uint64_t whole = (uint64_t)(seconds + 0.5);
    if (whole >= 3600) {
        snprintf(out, 32, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, whole / 3600, whole / 60 % 60, whole % 60);
    } else {
        snprintf(out, 32, "%" PRIu64 ":%02" PRIu64, whole / 60, whole % 60);
    }
}

void display_update(struct display *display, const struct display_state *state, bool now) {
    double moment = clock_seconds();
    double pause = display->terminal ? TERMINAL_SECONDS : LINE_SECONDS;
    if (display->out == NULL || (!now && moment - display->shown < pause)) {
        return;
    }
    display->shown = moment;
    char bar[BAR_WIDTH + 1];
    char left[32];
    double share = state->all > 0 ? (double)state->done / (double)state->all : 0;
    size_t filled = (size_t)(share * BAR_WIDTH);
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', filled < BAR_WIDTH ? filled : BAR_WIDTH);
    bar[BAR_WIDTH] = 0;
    write_left(left, state->seconds_left);
    fprintf(display->out, "%s%-11s [%s] %5.1f %%  ", display->terminal ? "\r\033[K" : "", state->stage, bar,
            100 * share);
    if (state->unit_size > 0) {
        fprintf(display->out, "%.2f/%.2f %s", (double)state->done / state->unit_size,
                (double)state->all / state->unit_size, state->unit);
    } else {
        fprintf(display->out, "%" PRIu64 "/%" PRIu64 " %s", state->done, state->all, state->unit);
    }
    if (state->rate > 0) {
        fprintf(display->out, "  %.0f tokens/s  %s left", state->rate, left);
    }
    if (state->note != NULL) {
        fprintf(display->out, "  %s", state->note);
    }
    if (!display->terminal) {
        fputc('\n', display->out);
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

#include "commands/readable.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

// ---- numbers ----

const char *readable_count(uint64_t count, char out[READABLE_TEXT]) {
    char digits[READABLE_TEXT];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
    size_t at = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            out[at++] = ',';
        }
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

const char *readable_bytes(uint64_t bytes, char out[READABLE_TEXT]) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(out, READABLE_TEXT, "%" PRIu64 " B", bytes);
        return out;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    // 1023.95 would be printed as 1024.0
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(out, READABLE_TEXT, "%.1f %s", value, units[unit]);
    return out;
}

const char *readable_rate(double per_second, char out[READABLE_TEXT]) {
    if (!isfinite(per_second) || per_second < 0 || per_second > 1e15) {
        snprintf(out, READABLE_TEXT, "-");
    } else if (per_second < 999.95) {
        snprintf(out, READABLE_TEXT, "%.1f", per_second);
    } else {
        readable_count((uint64_t)(per_second + 0.5), out);
    }
    return out;
}

const char *readable_duration(double seconds, char out[READABLE_TEXT]) {
    enum { MINUTE = 60, HOUR = 3600, DAY = 86400 };
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e12) {
        snprintf(out, READABLE_TEXT, "-");
        return out;
    }
    uint64_t whole = (uint64_t)(seconds + 0.5);
    if (seconds < 9.95) {
        snprintf(out, READABLE_TEXT, "%.1f s", seconds);
    } else if (whole < MINUTE) {
        snprintf(out, READABLE_TEXT, "%" PRIu64 " s", whole);
    } else if (whole < HOUR) {
        snprintf(out, READABLE_TEXT, "%" PRIu64 " min %02" PRIu64 " s", whole / MINUTE, whole % MINUTE);
    } else if (whole < DAY) {
        snprintf(out, READABLE_TEXT, "%" PRIu64 " h %02" PRIu64 " min", whole / HOUR, whole % HOUR / MINUTE);
    } else {
        snprintf(out, READABLE_TEXT, "%" PRIu64 " d %02" PRIu64 " h", whole / DAY, whole % DAY / HOUR);
    }
    return out;
}

const char *readable_share(uint64_t part, uint64_t whole, char out[READABLE_TEXT]) {
    if (whole == 0) {
        snprintf(out, READABLE_TEXT, "-");
        return out;
    }
    // Rounded down, so that 100.0 % is never said too early.
    double tenths = floor((double)part / (double)whole * 1000);
    snprintf(out, READABLE_TEXT, "%.1f %%", tenths / 10);
    return out;
}

const char *readable_threads(int threads, char out[READABLE_TEXT]) {
    out[0] = 0;
    if (threads > 0) {
        snprintf(out, READABLE_TEXT, ", %d thread%s", threads, threads == 1 ? "" : "s");
    }
    return out;
}

// ---- lines ----

int readable_columns(FILE *out) {
    struct winsize size = {0};
    int descriptor = fileno(out);
    if (descriptor < 0 || isatty(descriptor) != 1) {
        return 0;
    }
    bool known = ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    int columns = known ? size.ws_col : 80;
    return columns < READABLE_WIDEST ? columns : READABLE_WIDEST;
}

// A line that is being written.
struct line {
    FILE *out;
    int columns; // 0: no limit
    int indent;  // of what follows its first one
    int at;
    bool fresh; // no word stands in it yet
};

static void put_words(struct line *line, const char *text, size_t size) {
    const char *end = text + size;
    while (text < end) {
        size_t length = strcspn(text, " ");
        length = length < (size_t)(end - text) ? length : (size_t)(end - text);
        if (!line->fresh && line->columns > 0 && line->at + 1 + (int)length > line->columns) {
            fprintf(line->out, "\n%*s", line->indent, "");
            line->at = line->indent;
            line->fresh = true;
        }
        if (!line->fresh) {
            fputc(' ', line->out);
            line->at++;
        }
        fwrite(text, 1, length, line->out);
        line->at += (int)length;
        line->fresh = false;
        text += length + 1;
    }
}

void readable_wrap(FILE *out, const char *text, int at, int indent, int columns) {
    struct line line = {.out = out, .columns = columns, .indent = indent, .at = at, .fresh = true};
    put_words(&line, text, strlen(text));
    fputc('\n', out);
}

void readable_lines(FILE *out, const char *text, int hang, size_t full, int columns) {
    struct line line = {.out = out, .columns = columns};
    bool goes_on = false;
    while (*text != 0) {
        size_t size = strcspn(text, "\n");
        size_t spaces = goes_on ? 0 : strspn(text, " ");
        if (!goes_on) {
            line.at = fprintf(out, "%*s", (int)spaces, "");
            line.indent = line.at + hang;
            line.fresh = true;
        }
        put_words(&line, text + spaces, size - spaces);
        goes_on = columns > 0 && full > 0 && size >= full;
        text += size + (text[size] == '\n');
        if (!goes_on || *text == 0) {
            fputc('\n', out);
        }
    }
}

static int out_of_memory(const struct readable_page *page, struct error *err) {
    return error_set(err, STATUS_INTERNAL, "out of memory for %s", page->what);
}

int readable_page_open(struct readable_page *page, const char *what, struct error *err) {
    *page = (struct readable_page){.what = what};
    page->out = open_memstream(&page->text, &page->size);
    return page->out == NULL ? out_of_memory(page, err) : STATUS_OK;
}

int readable_page_print(struct readable_page *page, FILE *out, int hang, size_t full, int columns,
                        struct error *err) {
    bool failed = ferror(page->out) != 0;
    failed = fclose(page->out) != 0 || failed;
    if (!failed) {
        readable_lines(out, page->text, hang, full, columns);
    }
    free(page->text);
    return failed ? out_of_memory(page, err) : STATUS_OK;
}

void readable_page_drop(struct readable_page *page) {
    fclose(page->out);
    free(page->text);
}

// ---- while the problems are read in the foreground ----

#define SECONDS_BETWEEN_WORDS 10.0

static void say(void *context, const char *text) {
    const struct readable_waiting *waiting = context;
    fprintf(stderr, "strata %s: %s\n", waiting->command, text);
}

static void tell_rows(void *context, uint64_t rows) {
    struct readable_waiting *waiting = context;
    char count[READABLE_TEXT];
    double now = clock_seconds();
    if (now - waiting->told >= SECONDS_BETWEEN_WORDS) {
        waiting->told = now;
        fprintf(stderr, "strata %s: %s rows of the query read so far\n", waiting->command,
                readable_count(rows, count));
    }
}

struct watch readable_watch(struct readable_waiting *waiting, const char *command) {
    *waiting = (struct readable_waiting){.command = command, .told = clock_seconds()};
    return (struct watch){.say = say, .reading = tell_rows, .context = waiting};
}

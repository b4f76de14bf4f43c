#include "commands/waiting.h"

#include <stddef.h>
#include <stdio.h>

#include "base/clock.h"
#include "commands/format.h"

#define SECONDS_BETWEEN_WORDS 10.0

static void say(void *context, const char *text) {
    const struct waiting *waiting = context;
    fprintf(stderr, "strata %s: %s\n", waiting->command, text);
}

static void tell_rows(void *context, uint64_t rows) {
    struct waiting *waiting = context;
    char count[FORMAT_TEXT];
    double now = clock_seconds();
    if (now - waiting->told >= SECONDS_BETWEEN_WORDS) {
        waiting->told = now;
        fprintf(stderr, "strata %s: %s rows of the query read so far\n", waiting->command,
                format_count(rows, count));
    }
}

struct watch waiting_watch(struct waiting *waiting, const char *command) {
    *waiting = (struct waiting){.command = command, .told = clock_seconds()};
    return (struct watch){.say = say, .reading = tell_rows, .context = waiting};
}

// SPDX-License-Identifier: MIT
#include "problems/patience.h"

#include <sqlite3.h>
#include <stdio.h>

#include "base/clock.h"

#define PATIENCE_SECONDS 60.0
#define FIRST_PAUSE 0.01
#define LONGEST_PAUSE 0.5
#define WORD_AFTER 1.0 // a writer is through sooner

bool patience_is_due(int code) {
    int primary = code & 0xFF;
    return primary == SQLITE_BUSY || primary == SQLITE_LOCKED || primary == SQLITE_PROTOCOL;
}

static double limit_of(const struct patience *patience) {
    return patience->watch != NULL && patience->watch->patience > 0 ? patience->watch->patience
                                                                    : PATIENCE_SECONDS;
}

static bool is_stopped(const struct patience *patience) {
    const struct watch *watch = patience->watch;
    return watch != NULL && watch->stopped != NULL && watch->stopped(watch->context);
}

static void say(struct patience *patience) {
    const struct watch *watch = patience->watch;
    char text[512];
    patience->said = true;
    if (watch != NULL && watch->say != NULL) {
        snprintf(text, sizeof text, "%.400s: another program has locked the database; waiting up to %.0f s",
                 patience->path, limit_of(patience));
        watch->say(watch->context, text);
    }
}

bool patience_wait(struct patience *patience) {
    double now = clock_seconds();
    if (patience->pause == 0) {
        patience->began = now;
        patience->pause = FIRST_PAUSE;
        patience->said = false;
    }
    double waited = now - patience->began;
    patience->stopped = is_stopped(patience);
    if (patience->stopped || waited >= limit_of(patience)) {
        return false;
    }
    if (!patience->said && waited >= WORD_AFTER) {
        say(patience);
    }
    clock_sleep(patience->pause);
    patience->pause = patience->pause * 2 < LONGEST_PAUSE ? patience->pause * 2 : LONGEST_PAUSE;
    return true;
}

void patience_renew(struct patience *patience) {
    patience->pause = 0;
}

int patience_over(const struct patience *patience, const char *what, struct error *err) {
    if (patience->stopped) {
        return error_set(err, STATUS_STOPPED,
                         "stopped while waiting for %s, which another program has locked", patience->path);
    }
    return error_set(err, STATUS_STOPPED,
                     "%s: %s: another program has locked the database for %.0f s; run the same command again "
                     "when it is free",
                     patience->path, what, clock_seconds() - patience->began);
}

// SPDX-License-Identifier: MIT
#include "base/readable.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

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

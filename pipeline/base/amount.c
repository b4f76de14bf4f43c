// SPDX-License-Identifier: MIT
#include "base/amount.h"

#include <stdio.h>

const char *amount_text(double bytes, char out[AMOUNT_TEXT]) {
    static const struct {
        double from; // 999.995 of a unit would be printed as 1000.00
        double unit;
        const char *name;
    } units[] = {{0.999995e9, 1e9, "GB"}, {0.999995e6, 1e6, "MB"}, {999.5, 1e3, "kB"}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (bytes >= units[i].from) {
            snprintf(out, AMOUNT_TEXT, "%.2f %s", bytes / units[i].unit, units[i].name);
            return out;
        }
    }
    snprintf(out, AMOUNT_TEXT, "%.0f B", bytes);
    return out;
}

// SPDX-License-Identifier: MIT
#include "checkpoints/ledger_device.h"

#include <math.h>

#include "checkpoints/ledger_sql.h"

// In the order of ledger_figures_columns in ledger_sql.h.
static const struct {
    const char *name;
    bool whole;
} figures[LEDGER_FIGURES] = {
    [FIGURE_UPLOAD_SECONDS] = {"upload_seconds", false},
    [FIGURE_DEVICE_SECONDS] = {"device_seconds", false},
    [FIGURE_DOWNLOAD_SECONDS] = {"download_seconds", false},
    [FIGURE_MEMORY_USED] = {"memory_used", true},
    [FIGURE_PROCESS_MEMORY] = {"process_memory", true},
    [FIGURE_UTILIZATION] = {"utilization", true},
    [FIGURE_SM_CLOCK] = {"sm_clock", true},
    [FIGURE_POWER] = {"power", false},
    [FIGURE_TEMPERATURE] = {"temperature", true},
    [FIGURE_THROTTLE_REASONS] = {"throttle_reasons", true},
    [FIGURE_PCIE_RECEIVED] = {"pcie_received", false},
    [FIGURE_PCIE_SENT] = {"pcie_sent", false},
    [FIGURE_XID] = {"xid", true},
};

const char *ledger_figure_name(enum ledger_figure figure) {
    return figures[figure].name;
}

bool ledger_figure_is_whole(enum ledger_figure figure) {
    return figures[figure].whole;
}

void ledger_device_set(struct ledger_device *device, enum ledger_figure figure, double value) {
    bool known = value >= 0; // false for NaN
    device->figures[figure] = known ? value : 0;
    device->known = known ? device->known | 1u << figure : device->known & ~(1u << figure);
}

bool ledger_device_get(const struct ledger_device *device, enum ledger_figure figure, double *value) {
    *value = device->figures[figure];
    return (device->known >> figure & 1) != 0;
}

void ledger_device_csv(FILE *out, const struct ledger_device *device, enum ledger_figure figure) {
    double value;
    fputc(',', out);
    if (ledger_device_get(device, figure, &value)) {
        fprintf(out, "%.*f", figures[figure].whole ? 0 : 6, value);
    }
}

// ---- in SQL ----

// Whole numbers are exact: none of them reaches 2^53.
void query_bind_device(struct query *query, int first, const struct ledger_device *device) {
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        double value;
        bool known = ledger_device_get(device, (enum ledger_figure)i, &value);
        if (known && figures[i].whole) {
            query_bind_i64(query, first + i, (int64_t)value);
        } else {
            query_bind_f64(query, first + i, known ? value : (double)NAN);
        }
    }
}

void query_device(struct query *query, int first, struct ledger_device *device) {
    *device = (struct ledger_device){0};
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        ledger_device_set(device, (enum ledger_figure)i, query_f64(query, first + i));
    }
}

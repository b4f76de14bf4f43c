// SPDX-License-Identifier: MIT
#include "journal/figures.h"

// DEVICE_UNKNOWN is negative, which the ledger's figures take for not known.
void figures_take(struct ledger_device *out, const struct device_sample *sample,
                  const struct device_times *times) {
    *out = (struct ledger_device){0};
    if (times->compute_seconds > 0) {
        ledger_device_set(out, FIGURE_UPLOAD_SECONDS, times->upload_seconds);
        ledger_device_set(out, FIGURE_DEVICE_SECONDS, times->compute_seconds);
        ledger_device_set(out, FIGURE_DOWNLOAD_SECONDS, times->download_seconds);
    }
    ledger_device_set(out, FIGURE_XID, (double)sample->xid); // an error stays true
    if (sample->age_seconds > FIGURES_OLD_SECONDS) {
        return;
    }
    ledger_device_set(out, FIGURE_MEMORY_USED, (double)sample->memory_used);
    ledger_device_set(out, FIGURE_PROCESS_MEMORY, (double)sample->process_memory);
    ledger_device_set(out, FIGURE_UTILIZATION, sample->utilization);
    ledger_device_set(out, FIGURE_SM_CLOCK, sample->sm_clock);
    ledger_device_set(out, FIGURE_POWER, sample->power);
    ledger_device_set(out, FIGURE_TEMPERATURE, sample->temperature);
    ledger_device_set(out, FIGURE_THROTTLE_REASONS, (double)sample->throttle_reasons);
    ledger_device_set(out, FIGURE_PCIE_RECEIVED, sample->pcie_received);
    ledger_device_set(out, FIGURE_PCIE_SENT, sample->pcie_sent);
}

json_t *figures_json(const struct device_sample *sample, const struct device_times *times) {
    struct ledger_device device;
    json_t *object = json_object();
    figures_take(&device, sample, times);
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        double value;
        enum ledger_figure figure = (enum ledger_figure)i;
        if (ledger_device_get(&device, figure, &value)) {
            json_object_set_new(object, ledger_figure_name(figure),
                                ledger_figure_is_whole(figure) ? json_integer((json_int_t)value)
                                                               : json_real(value));
        }
    }
    if (sample->sm_clock_most >= 0) {
        json_object_set_new(object, "sm_clock_most", json_integer(sample->sm_clock_most));
    }
    if (sample->power_limit >= 0) {
        json_object_set_new(object, "power_limit", json_real(sample->power_limit));
    }
    if (sample->foreign_processes >= 0) {
        json_object_set_new(object, "foreign_processes", json_integer(sample->foreign_processes));
    }
    return object;
}

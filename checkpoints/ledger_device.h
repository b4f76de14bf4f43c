// SPDX-License-Identifier: MIT
// What a batch's device said of itself: its own times, and its monitoring's figures when the batch was done.
// Every figure may be unknown (a CPU knows few of them); the same figures stand in the ledger's tables
// `batch` and `progress`, in throughput.csv and in what strata log and strata status tell.
#ifndef STRATA_CHECKPOINTS_LEDGER_DEVICE_H
#define STRATA_CHECKPOINTS_LEDGER_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum ledger_figure {
    FIGURE_UPLOAD_SECONDS,
    FIGURE_DEVICE_SECONDS, // of computing on the device
    FIGURE_DOWNLOAD_SECONDS,
    FIGURE_MEMORY_USED,      // bytes in use on the device, everybody's
    FIGURE_PROCESS_MEMORY,   // bytes of this process
    FIGURE_UTILIZATION,      // percent
    FIGURE_SM_CLOCK,         // MHz
    FIGURE_POWER,            // W
    FIGURE_TEMPERATURE,      // degrees Celsius
    FIGURE_THROTTLE_REASONS, // nvmlClocksEventReasons bits
    FIGURE_PCIE_RECEIVED,    // bytes a second, host -> device
    FIGURE_PCIE_SENT,        // bytes a second, device -> host
    FIGURE_XID,              // code of the last critical error; 0: none
    LEDGER_FIGURES
};

struct ledger_device { // zeros: nothing is known
    uint32_t known;    // bit 1 << figure
    double figures[LEDGER_FIGURES];
};

const char *ledger_figure_name(enum ledger_figure figure); // also its column's
bool ledger_figure_is_whole(enum ledger_figure figure);    // a whole number, not a real one

// A negative value or NaN: not known.
void ledger_device_set(struct ledger_device *device, enum ledger_figure figure, double value);
bool ledger_device_get(const struct ledger_device *device, enum ledger_figure figure, double *value);

// A comma and the value; nothing behind the comma where it is not known.
void ledger_device_csv(FILE *out, const struct ledger_device *device, enum ledger_figure figure);

#endif

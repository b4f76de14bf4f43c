// SPDX-License-Identifier: MIT
// What devices said of themselves (checkpoints/ledger_device.h), for people: lines of strata status, columns
// of strata log.
#ifndef STRATA_COMMANDS_DEVICE_FIGURES_H
#define STRATA_COMMANDS_DEVICE_FIGURES_H

#include <jansson.h>
#include <stdio.h>

#include "base/error.h"
#include "checkpoints/ledger_lanes.h"

// "  device  97 % busy, 1410 MHz ..." and the like; nothing where nothing is known. `when` follows the line.
void device_figures_lines(FILE *out, const struct ledger_device *device, const char *when);

// One of several devices, in a line: "  cuda:1      1,234 tokens/s, 97 % busy ...".
void device_lane_line(FILE *out, const struct ledger_lane *lane, const char *when);

// A list of them, each with name, batches, tokens_per_second and the figures as below; null where there is
// none.
json_t *device_lanes_json(const struct ledger_lane *lanes, size_t count);

// An object with every figure, null where it is not known, and "throttle", the reasons' names; NULL when
// memory is out.
json_t *device_figures_json(const struct ledger_device *device);

// Columns of the figures in `known`, with a space before each, for a table of batches.
void device_figures_heading(FILE *out, uint32_t known);
int device_figures_width(uint32_t known);
void device_figures_row(FILE *out, uint32_t known, const struct ledger_device *device);

#endif

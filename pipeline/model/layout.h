// SPDX-License-Identifier: MIT
// Memory is gone through three times in the same order: to add up a plan, to take it, and to ask the device
// whether every piece lies where it should. A layout is one of the three, so that the code that lists the
// pieces exists once and cannot disagree with itself.
#ifndef STRATA_MODEL_LAYOUT_H
#define STRATA_MODEL_LAYOUT_H

#include "kernels/device.h"

struct layout_room { // memory on the device that was taken, for pieces one after another
    unsigned char *data;
    size_t bytes;
    size_t used;
};

struct layout {
    struct device *device;           // takes from this device when plan is NULL
    const struct device *shapes_for; // whose matrix layout and scratch sizes are meant
    struct device_plan *plan;        // adds to this plan when not NULL
    bool checking;                   // asks where each piece lies; staging is host memory and left out
    struct layout_room *room;        // weights come from it; NULL: from the device
    size_t checked;                  // pieces
    uint64_t checked_bytes;
};

struct layout layout_planning(const struct device *device, struct device_plan *plan);
struct layout layout_taking(struct device *device);
struct layout layout_checking(struct device *device); // STATUS_DEVICE from a piece that lies elsewhere

// rows * columns * width bytes. out: the address of an object pointer (of any type). While planning the
// pointer becomes NULL; while checking it is what was taken.
int layout_take(struct layout *layout, enum device_purpose purpose, size_t rows, size_t columns, size_t width,
                void *out, struct error *err);

// A matrix that has its shape: rows, columns and pieces (device.h).
int layout_matrix(struct layout *layout, struct device_matrix *matrix, struct error *err);

#endif

// Memory is asked for twice in the same order: once to add up a plan, once to take it. A layout is either of
// the two, so that the code that lists the pieces exists once and cannot disagree with itself.
#ifndef STRATA_MODEL_LAYOUT_H
#define STRATA_MODEL_LAYOUT_H

#include "kernels/device.h"

struct layout {
    struct device *device;           // takes from this device when plan is NULL
    const struct device *shapes_for; // whose matrix layout and scratch sizes are meant
    struct device_plan *plan;        // adds to this plan when not NULL
};

struct layout layout_planning(const struct device *device, struct device_plan *plan);
struct layout layout_taking(struct device *device);

// rows * columns * width bytes. While planning, *out stays NULL.
int layout_take(struct layout *layout, enum device_purpose purpose, size_t rows, size_t columns, size_t width,
                void **out, struct error *err);
int layout_matrix(struct layout *layout, struct device_matrix *out, size_t rows, size_t columns,
                  struct error *err);

#endif

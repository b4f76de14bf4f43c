#include "model/layout.h"

#include "base/size.h"

struct layout layout_planning(const struct device *device, struct device_plan *plan) {
    return (struct layout){.shapes_for = device, .plan = plan};
}

struct layout layout_taking(struct device *device) {
    return (struct layout){.device = device, .shapes_for = device};
}

int layout_take(struct layout *layout, enum device_purpose purpose, size_t rows, size_t columns, size_t width,
                void **out, struct error *err) {
    size_t bytes;
    *out = NULL;
    if (!size_mul(rows, columns, &bytes) || !size_mul(bytes, width, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "%zu x %zu numbers of %zu bytes are too many", rows, columns,
                         width);
    }
    if (layout->plan != NULL) {
        return device_plan_add(layout->plan, purpose, bytes, err);
    }
    return device_take(layout->device, purpose, bytes, out, err);
}

int layout_matrix(struct layout *layout, struct device_matrix *out, size_t rows, size_t columns,
                  struct error *err) {
    if (layout->plan == NULL) {
        return device_matrix_take(layout->device, out, rows, columns, err);
    }
    size_t bytes;
    *out = (struct device_matrix){.rows = rows, .columns = columns};
    if (!device_matrix_bytes(layout->shapes_for, rows, columns, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "a matrix of %zu x %zu is too large", rows, columns);
    }
    return device_plan_add(layout->plan, DEVICE_WEIGHTS, bytes, err);
}

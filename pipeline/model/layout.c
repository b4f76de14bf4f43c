// SPDX-License-Identifier: MIT
#include "model/layout.h"

#include <string.h>

#include "base/size.h"

struct layout layout_planning(const struct device *device, struct device_plan *plan) {
    return (struct layout){.shapes_for = device, .plan = plan};
}

struct layout layout_taking(struct device *device) {
    return (struct layout){.device = device, .shapes_for = device};
}

struct layout layout_checking(struct device *device) {
    return (struct layout){.device = device, .shapes_for = device, .checking = true};
}

static int check_piece(struct layout *layout, const void *data, size_t bytes, struct error *err) {
    layout->checked++;
    layout->checked_bytes += bytes;
    return bytes == 0 ? STATUS_OK : device_check_resident(layout->device, data, bytes, err);
}

// The next piece of the layout's room.
static int take_room(struct layout *layout, size_t bytes, void **out, struct error *err) {
    struct layout_room *room = layout->room;
    size_t padded;
    *out = NULL;
    if (!size_round_up(bytes, DEVICE_ALIGNMENT, &padded) || padded > room->bytes - room->used) {
        return error_set(err, STATUS_INTERNAL,
                         "%zu bytes of weights do not fit into %zu, of which %zu are used", bytes,
                         room->bytes, room->used);
    }
    *out = room->data + room->used;
    room->used += padded;
    return STATUS_OK;
}

static int take(struct layout *layout, enum device_purpose purpose, size_t bytes, void **out,
                struct error *err) {
    return layout->room != NULL && purpose == DEVICE_WEIGHTS
               ? take_room(layout, bytes, out, err)
               : device_take(layout->device, purpose, bytes, out, err);
}

int layout_take(struct layout *layout, enum device_purpose purpose, size_t rows, size_t columns, size_t width,
                void *out, struct error *err) {
    size_t bytes;
    void *piece = NULL;
    if (!size_mul(rows, columns, &bytes) || !size_mul(bytes, width, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "%zu x %zu numbers of %zu bytes are too many", rows, columns,
                         width);
    }
    if (layout->checking) {
        memcpy(&piece, out, sizeof piece);
        return purpose == DEVICE_STAGING ? STATUS_OK : check_piece(layout, piece, bytes, err);
    }
    int status = layout->plan != NULL ? device_plan_add(layout->plan, purpose, bytes, err)
                                      : take(layout, purpose, bytes, &piece, err);
    memcpy(out, &piece, sizeof piece);
    return status;
}

int layout_matrix(struct layout *layout, struct device_matrix *matrix, struct error *err) {
    size_t bytes;
    if (layout->plan != NULL) {
        return device_plan_matrix(layout->plan, layout->shapes_for, matrix, err);
    }
    if (!layout->checking && layout->room == NULL) {
        return device_matrix_take(layout->device, matrix, err);
    }
    if (!device_matrix_bytes(layout->shapes_for, matrix, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "a matrix of %zu x %zu is too large", matrix->rows,
                         matrix->columns);
    }
    if (layout->checking) {
        return check_piece(layout, matrix->data, bytes, err);
    }
    void *data;
    TRY(take_room(layout, bytes, &data, err));
    return device_matrix_put(layout->device, matrix, data, err);
}

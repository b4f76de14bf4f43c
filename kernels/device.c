// SPDX-License-Identifier: MIT
// Opening a device by name, weights, copies and fences. Arenas are in device_memory.c, operations in
// device_operations.c and device_recurrences.c.
#include "kernels/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "kernels/back_end.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/processors.h"
#include "kernels/weight_format.h"

// "cuda" or "cuda:N".
static bool names_cuda(const char *name, int *index) {
    *index = 0;
    if (strncmp(name, "cuda", 4) != 0) {
        return false;
    }
    if (name[4] == 0) {
        return true;
    }
    if (name[4] != ':' || name[5] < '0' || name[5] > '9') {
        return false;
    }
    char *end;
    unsigned long number = strtoul(name + 5, &end, 10);
    *index = (int)number;
    return *end == 0 && number < 1024;
}

// The first GPU if one is usable, otherwise the CPU, and why.
static int open_any(struct device **out, const struct device_options *options, struct error *err) {
    struct error reason;
    bool there;
    int status = cuda_device_open(out, 0, options, "auto took the first GPU", &there, &reason);
    if (status == STATUS_OK || there) { // a GPU that is there and fails is no reason to go to the CPU
        *err = reason;
        return status;
    }
    char why[160];
    snprintf(why, sizeof why, "auto took the CPU: %.120s", reason.message);
    return cpu_device_open(out, options, why, err);
}

int device_open(struct device **out, const char *name, const struct device_options *options,
                struct error *err) {
    int index;
    bool there;
    *out = NULL;
    processors_unbind();
    if (options->threads < 0) {
        return error_set(err, STATUS_DEVICE, "%d is not a number of threads", options->threads);
    }
    if (strcmp(name, "cpu") == 0) {
        return cpu_device_open(out, options, "asked for", err);
    }
    if (strcmp(name, "auto") == 0) {
        return open_any(out, options, err);
    }
    if (names_cuda(name, &index)) {
        int status = cuda_device_open(out, index, options, "asked for", &there, err);
        if (status == STATUS_OK || there) {
            return status;
        }
        struct error inner = *err;
        bool built = strncmp(device_cuda_build(), "none", 4) != 0;
        return error_set(
            err, status, "device %s is not available: %s%s (model.device: cpu or auto needs none)", name,
            inner.message,
            built ? ""
                  : ": `pip install 'strata-latents[cuda]'` has it, or build with nvcc (kernels/README.md)");
    }
    return error_set(err, STATUS_DEVICE, "unknown device '%s': cpu, cuda:N or auto", name);
}

void device_close(struct device *device) {
    if (device != NULL) {
        device->ops->close(device);
    }
}

void device_describe(const struct device *device, struct device_description *out) {
    memset(out, 0, sizeof *out);
    out->host_staging = device->staging_is_host;
    device->ops->describe(device, out);
}

const char *device_cuda_build(void) {
    return cuda_build();
}

size_t device_gpus(struct error *why) {
    return cuda_gpus(why);
}

int device_memory_node(const char *name) {
    char bus_id[CUDA_BUS_ID];
    char path[96];
    unsigned domain, bus, slot, function;
    int index;
    int node = -1;
    if (!names_cuda(name, &index) || !cuda_bus_id(index, bus_id) ||
        sscanf(bus_id, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4) {
        return -1;
    }
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%04x:%02x:%02x.%x/numa_node", domain, bus, slot,
             function);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    bool known = fscanf(file, "%d", &node) == 1;
    fclose(file);
    return known ? node : -1;
}

enum dtype device_dtype(const struct device *device) {
    return device->dtype;
}

// ---- weights ----

static int refuse_matrix(const struct device_matrix *shape, struct error *err) {
    return error_set(err, STATUS_INTERNAL, "a matrix of [%zu, %zu] cannot be held", shape->rows,
                     shape->columns);
}

static size_t copies_of(const struct device_matrix *shape) {
    return shape->copies > 0 ? shape->copies : 1;
}

// Copies of pieces are alike, and each is a part; or one piece has all parts.
static bool copies_fit(const struct device_matrix *shape) {
    size_t copies = copies_of(shape);
    if (shape->parts > 0 && shape->rows % shape->parts != 0) {
        return false;
    }
    if (copies == 1) {
        return shape->parts <= 1 || shape->piece_count <= 1;
    }
    for (size_t i = 0; i < shape->piece_count; i++) {
        for (size_t copy = 1; copy < copies; copy++) {
            if (!weight_formats_alike(device_piece_format(shape, i, copy), shape->pieces[i].format)) {
                return false;
            }
        }
    }
    return copies == shape->parts && shape->loose_rows == 0;
}

// Bytes of a piece, padded as the next one wants it.
static bool piece_bytes(const struct device_matrix *shape, size_t piece, size_t *bytes) {
    struct weight_layout layout;
    return weight_layout(shape->pieces[piece].format, shape->pieces[piece].rows, shape->columns, &layout) &&
           size_round_up(layout.bytes, DEVICE_ALIGNMENT, bytes);
}

// Of all pieces of one copy: their rows are the copy's.
static bool copy_bytes(const struct device_matrix *shape, size_t *bytes) {
    size_t rows = 0;
    *bytes = 0;
    for (size_t i = 0; i < shape->piece_count; i++) {
        size_t piece;
        if (!piece_bytes(shape, i, &piece) || !size_add(*bytes, piece, bytes) ||
            !size_add(rows, shape->pieces[i].rows, &rows)) {
            return false;
        }
    }
    return size_add(rows, shape->loose_rows, &rows) && size_mul(rows, copies_of(shape), &rows) &&
           rows == shape->rows;
}

bool device_matrix_bytes(const struct device *device, const struct device_matrix *shape, size_t *bytes) {
    *bytes = 0;
    if (shape->rows == 0 || shape->columns == 0 || shape->piece_count > DEVICE_PIECES) {
        return false;
    }
    return shape->piece_count == 0
               ? device->ops->matrix_bytes(device, shape->rows, shape->columns, bytes)
               : copies_fit(shape) && copy_bytes(shape, bytes) && size_mul(*bytes, copies_of(shape), bytes);
}

// What is expanded at a time: all of it, or some parts, each padded so that it begins a panel.
static bool expanded_bytes(const struct device *device, const struct device_matrix *shape, size_t *bytes) {
    size_t rows = shape->rows;
    if (shape->parts > 0) {
        size_t part;
        rows = device_part_rows(rows / shape->parts);
        if (!device->ops->matrix_bytes(device, rows, shape->columns, &part) ||
            !size_mul(rows, device_parts_at_once(part, shape->parts), &rows)) {
            return false;
        }
    }
    return device->ops->matrix_bytes(device, rows, shape->columns, bytes);
}

int device_plan_matrix(struct device_plan *plan, const struct device *device,
                       const struct device_matrix *shape, struct error *err) {
    size_t bytes;
    size_t expanded;
    if (!device_matrix_bytes(device, shape, &bytes) || !expanded_bytes(device, shape, &expanded)) {
        return refuse_matrix(shape, err);
    }
    if (shape->piece_count > 0) {
        plan->expansion = size_max(plan->expansion, expanded);
    }
    return device_plan_add(plan, DEVICE_WEIGHTS, bytes, err);
}

int device_matrix_put(struct device *device, struct device_matrix *matrix, void *data, struct error *err) {
    size_t bytes;
    unsigned char *next = data;
    if (!device_matrix_bytes(device, matrix, &bytes)) {
        return refuse_matrix(matrix, err);
    }
    matrix->data = data;
    for (size_t i = 0; i < matrix->piece_count; i++) {
        size_t piece = 0; // it fitted above
        matrix->pieces[i].data = next;
        (void)piece_bytes(matrix, i, &piece);
        next += piece;
        matrix->copy_bytes = (size_t)(next - (unsigned char *)data);
    }
    if (device->ops->place != NULL) {
        device->ops->place(device, data, bytes);
    }
    return STATUS_OK;
}

int device_matrix_take(struct device *device, struct device_matrix *matrix, struct error *err) {
    size_t bytes;
    void *data;
    matrix->data = NULL;
    if (!device_matrix_bytes(device, matrix, &bytes)) {
        return refuse_matrix(matrix, err);
    }
    if (device_take(device, DEVICE_WEIGHTS, bytes, &data, err) != STATUS_OK) {
        return error_wrap(err, "matrix [%zu, %zu]", matrix->rows, matrix->columns);
    }
    return device_matrix_put(device, matrix, data, err);
}

static int check_rows(const struct device_matrix *matrix, size_t row, size_t count, struct error *err) {
    size_t end;
    if (matrix->data == NULL || !size_add(row, count, &end) || end > matrix->rows) {
        return error_set(err, STATUS_INTERNAL, "rows %zu + %zu do not fit a matrix of [%zu, %zu]", row, count,
                         matrix->rows, matrix->columns);
    }
    return STATUS_OK;
}

int device_matrix_load(struct device *device, struct device_matrix *matrix, size_t row, size_t count,
                       const void *source, const struct weight_format *format, struct error *err) {
    struct weight_view view;
    TRY(check_rows(matrix, row, count, err));
    if (count == 0) {
        return STATUS_OK;
    }
    if (!weight_view_of(format, count, matrix->columns, source, &view)) {
        return error_set(err, STATUS_INTERNAL, "a matrix of [%zu, %zu] cannot come in %s", count,
                         matrix->columns, format->name);
    }
    return device_matrix_load_view(device, matrix, row, &view, err);
}

int device_matrix_load_view(struct device *device, struct device_matrix *matrix, size_t row,
                            const struct weight_view *view, struct error *err) {
    TRY(check_rows(matrix, row, view->rows, err));
    if (matrix->piece_count > 0 || view->columns != matrix->columns) {
        return error_set(err, STATUS_INTERNAL,
                         "a view of [%zu, %zu] does not go into a matrix of [%zu, %zu]%s", view->rows,
                         view->columns, matrix->rows, matrix->columns,
                         matrix->piece_count > 0 ? " that is kept" : "");
    }
    return device->ops->matrix_load(device, matrix, row, view, err);
}

int device_piece_load(struct device *device, struct device_matrix *matrix, size_t piece, size_t part,
                      size_t offset, const void *source, size_t bytes, struct error *err) {
    struct weight_layout layout;
    size_t end;
    size_t copy = matrix->piece_count > 0 ? piece / matrix->piece_count : 0;
    const struct device_piece *own = &matrix->pieces[piece % size_max(matrix->piece_count, 1)];
    if (matrix->piece_count == 0 || copy >= copies_of(matrix) || matrix->data == NULL ||
        part >= WEIGHT_PARTS || !weight_layout(own->format, own->rows, matrix->columns, &layout) ||
        !size_add(offset, bytes, &end) || end > layout.parts[part].bytes) {
        return error_set(err, STATUS_INTERNAL,
                         "bytes %zu + %zu of part %zu do not fit piece %zu of a matrix of [%zu, %zu]", offset,
                         bytes, part, piece, matrix->rows, matrix->columns);
    }
    unsigned char *out = (unsigned char *)own->data + copy * matrix->copy_bytes + layout.parts[part].offset;
    out += offset;
    return bytes == 0 ? STATUS_OK : device->ops->weights_copy(device, out, source, bytes, err);
}

int device_weights_restore(struct device *device, void *out, const void *source, size_t bytes,
                           struct error *err) {
    return bytes == 0 ? STATUS_OK : device->ops->weights_restore(device, out, source, bytes, err);
}

int device_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                       const struct weight_format *format, struct error *err) {
    if (count == 0) {
        return STATUS_OK;
    }
    if (out == NULL || source == NULL) {
        return error_set(err, STATUS_INTERNAL, "a vector of %zu numbers has no memory", count);
    }
    if (!weight_format_plain(format)) {
        return error_set(err, STATUS_INTERNAL, "a vector of %zu numbers comes in %s", count, format->name);
    }
    return device->ops->vector_load(device, out, offset, count, source, format->dtype, err);
}

int device_floats_load(struct device *device, void *out, size_t offset, size_t count, const float *source,
                       struct error *err) {
    size_t bytes;
    if (out == NULL || source == NULL || !size_mul(count, sizeof *source, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "float32 weights of %zu numbers have no memory", count);
    }
    return bytes == 0 ? STATUS_OK
                      : device->ops->weights_copy(device, (float *)out + offset, source, bytes, err);
}

int device_load_slot(struct device *device, const void *data, size_t bytes, struct error *err) {
    if (device->sealed) {
        return error_set(err, STATUS_INTERNAL, "a load slot is asked for after the start");
    }
    if (data == NULL || bytes == 0) {
        return error_set(err, STATUS_INTERNAL, "a load slot has no memory");
    }
    return device->ops->load_slot == NULL ? STATUS_OK : device->ops->load_slot(device, data, bytes, err);
}

// ---- copies and waiting ----

int device_upload(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    return bytes == 0 ? STATUS_OK : device->ops->upload(device, out, source, bytes, err);
}

int device_download(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    return bytes == 0 ? STATUS_OK : device->ops->download(device, out, source, bytes, err);
}

int device_fence(struct device *device, struct device_fence *fence, struct error *err) {
    return device->ops->fence(device, fence, err);
}

int device_wait(struct device *device, struct device_fence fence, struct device_times *times,
                struct error *err) {
    struct device_times unread;
    return device->ops->wait(device, fence, times != NULL ? times : &unread, err);
}

int device_reached(struct device *device, struct device_fence fence, bool *reached, struct error *err) {
    *reached = false;
    return device->ops->reached(device, fence, reached, err);
}

int device_transfer(struct device *to, void *out, struct device *from, const void *source, size_t bytes,
                    const struct device_fence *after, struct error *err) {
    if (to == from || to->ops != from->ops) {
        return error_set(err, STATUS_INTERNAL, "a transfer of %zu bytes %s", bytes,
                         to == from ? "from a device to itself" : "between devices of two kinds");
    }
    return bytes == 0 ? STATUS_OK : to->ops->transfer(to, out, from, source, bytes, after, err);
}

double device_clock(const struct device *device) {
    return device->ops->clock == NULL ? -1 : device->ops->clock(device);
}

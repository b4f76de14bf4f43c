// Opening a device by name, weights, copies and fences. Arenas are in device_memory.c, operations in
// device_operations.c.
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
    if (options->dtype != DTYPE_F32 && options->dtype != DTYPE_BF16) {
        return error_set(err, STATUS_DEVICE, "a device computes in float32 or bfloat16, not in %s",
                         dtype_name(options->dtype));
    }
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
        return error_set(err, status,
                         "device %s is not available: %s (model.device: cpu or auto needs none; how to build "
                         "for a GPU is in "
                         "kernels/README.md, 'Building for a GPU')",
                         name, inner.message);
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

enum dtype device_dtype(const struct device *device) {
    return device->dtype;
}

// ---- weights ----

// As the device is asked for it: NULL where it is stored as computed.
static const struct weight_format *kept_format(const struct device *device,
                                               const struct weight_format *format) {
    return format == weight_format_of(device->dtype) ? NULL : format;
}

bool device_matrix_bytes(const struct device *device, const struct weight_format *format, size_t rows,
                         size_t columns, size_t *bytes) {
    struct weight_layout layout;
    if (kept_format(device, format) == NULL) {
        return device->ops->matrix_bytes(device, rows, columns, bytes);
    }
    bool fits = weight_layout(format, rows, columns, &layout);
    *bytes = layout.bytes;
    return fits;
}

static int refuse_matrix(size_t rows, size_t columns, struct error *err) {
    return error_set(err, STATUS_INTERNAL, "a matrix of [%zu, %zu] cannot be held", rows, columns);
}

int device_plan_matrix(struct device_plan *plan, const struct device *device,
                       const struct weight_format *format, size_t rows, size_t columns, struct error *err) {
    size_t bytes;
    size_t expanded;
    if (rows == 0 || columns == 0 || !device_matrix_bytes(device, format, rows, columns, &bytes) ||
        !device->ops->matrix_bytes(device, rows, columns, &expanded)) {
        return refuse_matrix(rows, columns, err);
    }
    if (kept_format(device, format) != NULL) {
        plan->expansion = size_max(plan->expansion, expanded);
    }
    return device_plan_add(plan, DEVICE_WEIGHTS, bytes, err);
}

int device_matrix_take(struct device *device, struct device_matrix *matrix,
                       const struct weight_format *format, size_t rows, size_t columns, struct error *err) {
    size_t bytes;
    *matrix = (struct device_matrix){0};
    if (rows == 0 || columns == 0 || !device_matrix_bytes(device, format, rows, columns, &bytes)) {
        return refuse_matrix(rows, columns, err);
    }
    int status = device_take(device, DEVICE_WEIGHTS, bytes, &matrix->data, err);
    if (status != STATUS_OK) {
        return error_wrap(err, "matrix [%zu, %zu]", rows, columns);
    }
    matrix->rows = rows;
    matrix->columns = columns;
    matrix->format = kept_format(device, format);
    if (device->ops->place != NULL) {
        device->ops->place(device, matrix->data, bytes);
    }
    return STATUS_OK;
}

// Rows of part `part` of a kept matrix, as they are.
static int copy_part(struct device *device, const struct device_matrix *matrix, size_t part, size_t row,
                     size_t count, const void *source, struct error *err) {
    struct weight_layout layout;
    if (!weight_layout(matrix->format, matrix->rows, matrix->columns, &layout)) {
        return refuse_matrix(matrix->rows, matrix->columns, err);
    }
    size_t shared = layout.parts[part].shared;
    size_t end = row + count;
    if (row % shared != 0 || (end % shared != 0 && end != matrix->rows)) {
        return error_set(err, STATUS_INTERNAL,
                         "rows %zu + %zu of a matrix of [%zu, %zu] cut %zu that share %s", row, count,
                         matrix->rows, matrix->columns, shared, matrix->format->companions[part - 1].suffix);
    }
    size_t first = row / shared;
    size_t rows = (end - 1) / shared + 1 - first;
    unsigned char *out = (unsigned char *)matrix->data + layout.parts[part].offset;
    return device->ops->weights_copy(device, out + first * layout.parts[part].row, source,
                                     rows * layout.parts[part].row, err);
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
    TRY(check_rows(matrix, row, count, err));
    if (matrix->format != NULL ? format != matrix->format : !format->plain) {
        return error_set(err, STATUS_INTERNAL, "weights in %s do not go into a matrix stored in %s",
                         format->name,
                         matrix->format != NULL ? matrix->format->name : dtype_name(device->dtype));
    }
    if (count == 0) {
        return STATUS_OK;
    }
    return matrix->format != NULL
               ? copy_part(device, matrix, 0, row, count, source, err)
               : device->ops->matrix_load(device, matrix, row, count, source, format->dtype, err);
}

int device_companion_load(struct device *device, struct device_matrix *matrix, size_t companion, size_t row,
                          size_t count, const void *source, struct error *err) {
    TRY(check_rows(matrix, row, count, err));
    if (matrix->format == NULL || companion >= matrix->format->companion_count) {
        return error_set(err, STATUS_INTERNAL, "a matrix stored in %s has no companion %zu",
                         matrix->format != NULL ? matrix->format->name : dtype_name(device->dtype),
                         companion);
    }
    return count == 0 ? STATUS_OK : copy_part(device, matrix, 1 + companion, row, count, source, err);
}

int device_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                       const struct weight_format *format, struct error *err) {
    if (count == 0) {
        return STATUS_OK;
    }
    if (out == NULL || source == NULL) {
        return error_set(err, STATUS_INTERNAL, "a vector of %zu numbers has no memory", count);
    }
    if (!format->plain) {
        return error_set(err, STATUS_INTERNAL, "a vector of %zu numbers comes in %s", count, format->name);
    }
    return device->ops->vector_load(device, out, offset, count, source, format->dtype, err);
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

double device_clock(const struct device *device) {
    return device->ops->clock == NULL ? -1 : device->ops->clock(device);
}

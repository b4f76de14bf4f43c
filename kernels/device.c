// Opening a device by name, weights, copies and marks. Arenas are in device_memory.c, operations in
// device_operations.c.
#include "kernels/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "kernels/back_end.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/processors.h"

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
        return error_set(err, STATUS_DEVICE, "%d is no number of threads", options->threads);
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
        return error_set(
            err, status,
            "device %s is not there: %s (model.device: cpu or auto does without one; how to build for a GPU "
            "stands in kernels/README.md, 'Building for a GPU')",
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

bool device_matrix_bytes(const struct device *device, size_t rows, size_t columns, size_t *bytes) {
    return device->ops->matrix_bytes(device, rows, columns, bytes);
}

int device_matrix_take(struct device *device, struct device_matrix *matrix, size_t rows, size_t columns,
                       struct error *err) {
    size_t bytes;
    *matrix = (struct device_matrix){0};
    if (rows == 0 || columns == 0 || !device_matrix_bytes(device, rows, columns, &bytes)) {
        return error_set(err, STATUS_INTERNAL, "a matrix of [%zu, %zu] cannot be held", rows, columns);
    }
    int status = device_take(device, DEVICE_WEIGHTS, bytes, &matrix->data, err);
    if (status != STATUS_OK) {
        return error_wrap(err, "matrix [%zu, %zu]", rows, columns);
    }
    matrix->rows = rows;
    matrix->columns = columns;
    if (device->ops->matrix_place != NULL) {
        device->ops->matrix_place(device, matrix);
    }
    return STATUS_OK;
}

int device_matrix_load(struct device *device, struct device_matrix *matrix, size_t row, size_t count,
                       const void *source, enum dtype source_dtype, struct error *err) {
    size_t end;
    if (matrix->data == NULL || !size_add(row, count, &end) || end > matrix->rows) {
        return error_set(err, STATUS_INTERNAL, "rows %zu + %zu do not fit a matrix of [%zu, %zu]", row, count,
                         matrix->rows, matrix->columns);
    }
    if (count == 0) {
        return STATUS_OK;
    }
    return device->ops->matrix_load(device, matrix, row, count, source, source_dtype, err);
}

int device_vector_load(struct device *device, void *out, size_t offset, size_t count, const void *source,
                       enum dtype source_dtype, struct error *err) {
    if (count == 0) {
        return STATUS_OK;
    }
    if (out == NULL || source == NULL) {
        return error_set(err, STATUS_INTERNAL, "a vector of %zu numbers has no memory", count);
    }
    return device->ops->vector_load(device, out, offset, count, source, source_dtype, err);
}

// ---- copies and waiting ----

int device_upload(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    return bytes == 0 ? STATUS_OK : device->ops->upload(device, out, source, bytes, err);
}

int device_download(struct device *device, void *out, const void *source, size_t bytes, struct error *err) {
    return bytes == 0 ? STATUS_OK : device->ops->download(device, out, source, bytes, err);
}

int device_mark(struct device *device, struct device_mark *mark, struct error *err) {
    return device->ops->mark(device, mark, err);
}

int device_wait(struct device *device, struct device_mark mark, struct device_times *times,
                struct error *err) {
    struct device_times unread;
    return device->ops->wait(device, mark, times != NULL ? times : &unread, err);
}

double device_clock(const struct device *device) {
    return device->ops->clock == NULL ? -1 : device->ops->clock(device);
}

// Opening a device by name, weights, copies and marks. Arenas are in device_memory.c, operations in
// device_operations.c.
#include "kernels/device.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/device_ops.h"

static bool names_cuda(const char *name) {
    if (strncmp(name, "cuda", 4) != 0) {
        return false;
    }
    if (name[4] == 0) {
        return true;
    }
    char *end;
    strtoul(name + 5, &end, 10);
    return name[4] == ':' && name[5] >= '0' && name[5] <= '9' && *end == 0;
}

int device_open(struct device **out, const char *name, const struct device_options *options,
                struct error *err) {
    *out = NULL;
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
        return cpu_device_open(out, options, "auto took the CPU: built without CUDA", err);
    }
    if (names_cuda(name)) {
        return error_set(err, STATUS_DEVICE, "device %s is not there: built without CUDA", name);
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
    device->ops->describe(device, out);
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

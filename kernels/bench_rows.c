// What moves bytes: operations on rows, and copies between host and device.
#include <math.h>

#include "base/size.h"
#include "kernels/bench_private.h"

static int print_step(struct bench *bench, enum bench_step step, const char *name, double numbers,
                      struct error *err) {
    struct bench_times times;
    int status = bench_time_steps(bench, 1u << step, &times, err);
    if (status == STATUS_OK) {
        double bytes =
            numbers * (double)bench->blocks.batch * (double)dtype_size(device_dtype(bench->device));
        bench_print(bench, name, bytes / times.all * 1e-9, "GB/s", "%s", "");
    }
    return status;
}

// Bytes that must be read and written, weights and tables of angles left out.
int bench_rows(struct bench *bench, struct error *err) {
    const struct bench_shape *shape = &bench->blocks.shape;
    size_t rotated = (shape->heads.heads + shape->heads.kv_heads) * shape->heads.head_dim;
    int status = bench_blocks_batch(&bench->blocks, bench->options.tokens, bench->options.tokens, err);
    status = status == STATUS_OK ? print_step(bench, STEP_NORM, "RMSNorm", 2 * (double)shape->hidden, err)
                                 : status;
    status = status == STATUS_OK
                 ? print_step(bench, STEP_ROPE, "norm and rotation of heads", 2 * (double)rotated, err)
                 : status;
    return status == STATUS_OK
               ? print_step(bench, STEP_SWIGLU, "SwiGLU", 3 * (double)shape->intermediate, err)
               : status;
}

static int copy(struct bench_blocks *blocks, bool up, double *seconds, struct error *err) {
    struct device *device = blocks->device;
    struct device_mark mark;
    struct device_times times;
    int status = device_mark(device, &mark, err);
    if (status == STATUS_OK) {
        status = up ? device_upload(device, blocks->copied, blocks->copies, BENCH_COPY, err)
                    : device_download(device, blocks->copies, blocks->copied, BENCH_COPY, err);
    }
    status = status == STATUS_OK ? device_mark(device, &mark, err) : status;
    status = status == STATUS_OK ? device_wait(device, mark, &times, err) : status;
    *seconds = status == STATUS_OK ? (up ? times.upload_seconds : times.download_seconds) : 0;
    return status;
}

// Staging is the device's own memory where nothing is queued: there is nothing to measure.
int bench_copies(struct bench *bench, struct error *err) {
    static const char *const names[] = {"copies, device -> host", "copies, host -> device"};
    for (int up = 1; up >= 0 && bench->blocks.queues; up--) {
        double best = INFINITY;
        for (int i = 0; i <= bench->options.repeats; i++) {
            double seconds;
            int status = copy(&bench->blocks, up != 0, &seconds, err);
            if (status != STATUS_OK) {
                return status;
            }
            best = fmin(best, seconds > 0 ? seconds : INFINITY);
        }
        bench_print(bench, names[up], BENCH_COPY / best * 1e-9, "GB/s", "%s", "");
    }
    return STATUS_OK;
}

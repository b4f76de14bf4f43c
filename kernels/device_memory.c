// Four arenas a device, made once from a plan that was compared with the memory that is free.
#include <stdio.h>

#include "base/size.h"
#include "kernels/device_ops.h"

static const char *const purpose_names[DEVICE_PURPOSES] = {"weights", "activations", "scratch", "staging"};

int device_plan_add(struct device_plan *plan, enum device_purpose purpose, size_t bytes, struct error *err) {
    size_t padded;
    size_t sum;
    if (!size_round_up(bytes, DEVICE_ALIGNMENT, &padded) || !size_add(plan->bytes[purpose], padded, &sum)) {
        return error_set(err, STATUS_INTERNAL, "the plan of device memory for %s overflows: %zu + %zu bytes",
                         purpose_names[purpose], plan->bytes[purpose], bytes);
    }
    plan->bytes[purpose] = sum;
    return STATUS_OK;
}

static double gib(uint64_t bytes) {
    return (double)bytes * 0x1p-30;
}

// Refuses a plan that does not fit, with one column a purpose.
static int check_fits(const struct device *device, const struct device_plan *plan, struct error *err) {
    uint64_t total;
    uint64_t available;
    device->ops->memory(device, &total, &available);
    size_t needed = 0;
    bool fits = true;
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        fits = size_add(needed, plan->bytes[p], &needed) && fits;
    }
    if (fits && needed <= available) {
        return STATUS_OK;
    }
    return error_set(
        err, STATUS_DEVICE,
        "not enough memory: weights %.3f GiB | activations %.3f GiB | scratch %.3f GiB | staging %.3f "
        "GiB | needed %.3f GiB | free %.3f GiB of %.3f GiB",
        gib(plan->bytes[DEVICE_WEIGHTS]), gib(plan->bytes[DEVICE_ACTIVATIONS]),
        gib(plan->bytes[DEVICE_SCRATCH]), gib(plan->bytes[DEVICE_STAGING]),
        fits ? gib(needed) : gib(UINT64_MAX), gib(available), gib(total));
}

int device_reserve(struct device *device, const struct device_plan *plan, struct error *err) {
    if (device->reserved) {
        return error_set(err, STATUS_INTERNAL, "device memory is reserved once");
    }
    struct device_plan whole = *plan;
    int status = device->ops->plan_own(device, &whole, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = check_fits(device, &whole, err);
    if (status != STATUS_OK) {
        return status;
    }
    device->reserved = true;
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        void *base = NULL;
        status = device->ops->arena(device, (enum device_purpose)p, whole.bytes[p], &base, err);
        if (status != STATUS_OK) {
            return error_wrap(err, "%s", purpose_names[p]);
        }
        device->base[p] = base;
        device->capacity[p] = whole.bytes[p];
    }
    return device->ops->prepare(device, err);
}

int device_take(struct device *device, enum device_purpose purpose, size_t bytes, void **out,
                struct error *err) {
    *out = NULL;
    if (device->sealed) {
        return error_set(err, STATUS_INTERNAL, "%zu bytes of device memory for %s asked for after the start",
                         bytes, purpose_names[purpose]);
    }
    size_t padded;
    size_t left = device->capacity[purpose] - device->used[purpose];
    if (!size_round_up(bytes, DEVICE_ALIGNMENT, &padded) || padded > left) {
        return error_set(err, STATUS_INTERNAL,
                         "the plan of device memory was too small: %zu bytes for %s, %zu left", bytes,
                         purpose_names[purpose], left);
    }
    *out = device->base[purpose] + device->used[purpose];
    device->used[purpose] += padded;
    return STATUS_OK;
}

void device_seal(struct device *device) {
    device->sealed = true;
}

// SPDX-License-Identifier: MIT
// Four arenas a device, made once from a plan that was compared with the memory that is free; that of the
// weights before the others where they are loaded while the rest of the plan is not known yet.
#include <stdio.h>

#include "base/process.h"
#include "base/size.h"
#include "kernels/back_end.h"
#include "kernels/cpu/limits.h"

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

// What a plan needs with what the back end adds, and whether that fits.
struct fit {
    struct device_plan whole;
    size_t needed;
    uint64_t total;
    uint64_t available;
    uint64_t host_available; // for staging that is host memory
    bool own_fits;           // the device's own memory has room
    bool host_fits;
    bool fits;
};

// What a limit leaves of the host's memory, beside what the process has already.
static void limit_host(const struct device *device, struct fit *fit) {
    uint64_t used = process_memory();
    uint64_t left = device->memory_limit > used ? device->memory_limit - used : 0;
    if (device->memory_limit == 0) {
        return;
    }
    fit->host_available = left < fit->host_available ? left : fit->host_available;
    if (!device->staging_is_host) {
        fit->available = left < fit->available ? left : fit->available;
        fit->total = device->memory_limit < fit->total ? device->memory_limit : fit->total;
    }
}

// And what one leaves of a GPU's.
static void limit_device(const struct device *device, struct fit *fit) {
    uint64_t used = device->ops->process_bytes(device);
    if (!device->staging_is_host || device->device_limit == 0) {
        return;
    }
    used = used == UINT64_MAX ? 0 : used;
    uint64_t left = device->device_limit > used ? device->device_limit - used : 0;
    fit->available = left < fit->available ? left : fit->available;
    fit->total = device->device_limit < fit->total ? device->device_limit : fit->total;
}

// What was free before the first arena was made: afterwards it is not known how much of that arena the system
// has given already.
static void find_free(const struct device *device, struct fit *fit) {
    uint64_t host_total;
    device->ops->memory(device, &fit->total, &fit->available);
    limits_memory("", &host_total, &fit->host_available);
    limit_host(device, fit);
    limit_device(device, fit);
    if (device->weights_first) {
        fit->available = device->available;
        fit->host_available = device->host_available;
    }
}

// `whole` with the back end's own needs against what is free.
static void fit_whole(const struct device *device, struct fit *fit) {
    find_free(device, fit);
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        // Staging is host memory on a device with memory of its own.
        if (p != DEVICE_STAGING || !device->staging_is_host) {
            fit->fits = size_add(fit->needed, fit->whole.bytes[p], &fit->needed) && fit->fits;
        }
    }
    size_t beside = device->staging_is_host ? 0 : fit->whole.beside;
    fit->fits = fit->fits && size_add(fit->needed, device->memory_reserve, &fit->needed) &&
                size_add(fit->needed, beside, &fit->needed) && fit->needed <= fit->available;
    // Pinned memory that is not there ends a process without a word.
    size_t host_needed;
    fit->host_fits =
        !device->staging_is_host ||
        (size_add(fit->whole.bytes[DEVICE_STAGING], HOST_RESERVE, &host_needed) &&
         size_add(host_needed, fit->whole.beside, &host_needed) && host_needed <= fit->host_available);
    fit->own_fits = fit->fits;
    fit->fits = fit->fits && fit->host_fits;
}

int device_plan_whole(const struct device *device, const struct device_plan *plan, struct device_plan *whole,
                      struct error *err) {
    *whole = *plan;
    whole->expansion = 0;
    TRY(device_plan_add(whole, DEVICE_SCRATCH, plan->expansion, err));
    return device->ops->plan_own(device, whole, err);
}

static int fit_plan(const struct device *device, const struct device_plan *plan, struct fit *fit,
                    struct error *err) {
    *fit = (struct fit){.fits = true};
    TRY(device_plan_whole(device, plan, &fit->whole, err));
    fit_whole(device, fit);
    return STATUS_OK;
}

// Refuses a plan that does not fit, with one column a purpose.
static int refuse_plan(const struct device *device, const struct fit *fit, struct error *err) {
    const size_t *bytes = fit->whole.bytes;
    char host[128] = "";
    if (device->staging_is_host && fit->host_available != UINT64_MAX) {
        snprintf(host, sizeof host,
                 "; host memory: staging and %.3f GiB beside it are needed, %.3f GiB are free%s",
                 gib(HOST_RESERVE + (uint64_t)fit->whole.beside), gib(fit->host_available),
                 fit->host_fits ? "" : ", which is too little");
    }
    return error_set(
        err, STATUS_DEVICE,
        "not enough memory: weights %.3f GiB | activations %.3f GiB | scratch %.3f GiB | staging "
        "%.3f GiB%s | reserve %.3f GiB | needed %.3f GiB | free %.3f GiB of %.3f GiB%s",
        gib(bytes[DEVICE_WEIGHTS]), gib(bytes[DEVICE_ACTIVATIONS]), gib(bytes[DEVICE_SCRATCH]),
        gib(bytes[DEVICE_STAGING]), device->staging_is_host ? " (host)" : "",
        gib(device->memory_reserve + (uint64_t)(device->staging_is_host ? 0 : fit->whole.beside)),
        gib(fit->needed), gib(fit->available), gib(fit->total), host);
}

int device_check_fits(const struct device *device, const struct device_plan *plan, struct error *err) {
    struct fit fit;
    TRY(fit_plan(device, plan, &fit, err));
    return fit.fits ? STATUS_OK : refuse_plan(device, &fit, err);
}

bool device_memory_fits(const struct device *device, const struct device_plan *plan) {
    struct fit fit;
    struct error ignored;
    return fit_plan(device, plan, &fit, &ignored) != STATUS_OK || fit.own_fits;
}

bool device_host_fits(const struct device *device, const struct device_plan *plan) {
    struct fit fit;
    struct error ignored;
    return fit_plan(device, plan, &fit, &ignored) != STATUS_OK || fit.host_fits;
}

int device_host_bytes(const struct device *device, const struct device_plan *plan, size_t *bytes,
                      struct error *err) {
    struct fit fit;
    *bytes = 0;
    TRY(fit_plan(device, plan, &fit, err));
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        if ((p == DEVICE_STAGING || !device->staging_is_host) &&
            !size_add(*bytes, fit.whole.bytes[p], bytes)) {
            return error_set(err, STATUS_INTERNAL, "the plan of host memory overflows");
        }
    }
    return STATUS_OK;
}

// What the plan has beyond the arenas that are there, an arena a purpose.
static int make_arenas(struct device *device, const struct device_plan *whole, struct error *err) {
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        void *base = NULL;
        size_t more = whole->bytes[p] - device->arenas[p].planned;
        if (device->weights_first && more == 0) {
            continue;
        }
        int status = device->ops->arena(device, (enum device_purpose)p, more, &base, err);
        if (status != STATUS_OK) {
            bool pinned = p == DEVICE_STAGING && device->staging_is_host;
            return error_wrap(err, "%s%s", purpose_names[p],
                              pinned ? " in host memory, which the system would not pin (fewer "
                                       "latents.layers, a smaller batch.tokens or 16-bit latents need less)"
                                     : "");
        }
        device->arenas[p].base = base;
        device->arenas[p].capacity = more;
        device->arenas[p].used = 0;
        device->arenas[p].planned += more;
    }
    return STATUS_OK;
}

int device_reserve_weights(struct device *device, const struct device_plan *plan, struct error *err) {
    struct fit fit = {.whole.bytes[DEVICE_WEIGHTS] = plan->bytes[DEVICE_WEIGHTS], .fits = true};
    if (device->reserved || device->weights_first) {
        return error_set(err, STATUS_INTERNAL, "device memory is reserved once");
    }
    if (device->ops->plan_loading != NULL) {
        TRY(device->ops->plan_loading(device, &fit.whole, err));
    }
    fit_whole(device, &fit);
    if (!fit.fits) {
        return refuse_plan(device, &fit, err);
    }
    device->available = fit.available;
    device->host_available = fit.host_available;
    device->weights_first = true;
    TRY(make_arenas(device, &fit.whole, err));
    return device->ops->prepare_loading == NULL ? STATUS_OK : device->ops->prepare_loading(device, err);
}

static int take_expansion(struct device *device, size_t bytes, struct error *err) {
    if (bytes == 0) {
        return STATUS_OK;
    }
    TRY(device_take(device, DEVICE_SCRATCH, bytes, &device->expansion, err));
    device->expansion_bytes = bytes;
    if (device->ops->place != NULL) {
        device->ops->place(device, device->expansion, bytes);
    }
    return STATUS_OK;
}

int device_reserve(struct device *device, const struct device_plan *plan, struct error *err) {
    struct fit fit;
    if (device->reserved) {
        return error_set(err, STATUS_INTERNAL, "device memory is reserved once");
    }
    TRY(fit_plan(device, plan, &fit, err));
    if (!fit.fits) {
        return refuse_plan(device, &fit, err);
    }
    if (device->weights_first && fit.whole.bytes[DEVICE_WEIGHTS] != device->arenas[DEVICE_WEIGHTS].planned) {
        return error_set(err, STATUS_INTERNAL, "%zu bytes of weights are reserved, not %zu",
                         device->arenas[DEVICE_WEIGHTS].planned, fit.whole.bytes[DEVICE_WEIGHTS]);
    }
    device->reserved = true;
    device->tokens = plan->tokens;
    TRY(make_arenas(device, &fit.whole, err));
    TRY(device->ops->prepare(device, err));
    return take_expansion(device, plan->expansion, err);
}

int device_take(struct device *device, enum device_purpose purpose, size_t bytes, void **out,
                struct error *err) {
    *out = NULL;
    if (device->sealed) {
        return error_set(err, STATUS_INTERNAL, "%zu bytes of device memory for %s asked for after the start",
                         bytes, purpose_names[purpose]);
    }
    size_t padded;
    size_t left = device->arenas[purpose].capacity - device->arenas[purpose].used;
    if (!size_round_up(bytes, DEVICE_ALIGNMENT, &padded) || padded > left) {
        return error_set(err, STATUS_INTERNAL,
                         "the plan of device memory was too small: %zu bytes for %s, %zu left", bytes,
                         purpose_names[purpose], left);
    }
    *out = device->arenas[purpose].base + device->arenas[purpose].used;
    device->arenas[purpose].used += padded;
    device->arenas[purpose].taken += padded;
    return STATUS_OK;
}

void device_seal(struct device *device) {
    device->sealed = true;
}

int device_check_resident(const struct device *device, const void *data, size_t bytes, struct error *err) {
    return device->ops->check_resident(device, data, bytes, err);
}

void device_residency(const struct device *device, struct device_residency *out) {
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        out->planned[p] = device->arenas[p].planned;
        out->taken[p] = device->arenas[p].taken;
    }
    out->process_bytes = device->ops->process_bytes(device);
}

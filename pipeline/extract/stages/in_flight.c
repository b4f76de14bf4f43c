#include "stages/in_flight.h"

#include <inttypes.h>

#include "base/clock.h"

size_t in_flight_depth(const struct device_description *device) {
    return device->queues ? IN_FLIGHT : 1;
}

void in_flight_open(struct in_flight *in_flight, struct model *model, struct guard *guard) {
    struct device_description device;
    model_describe(model, &device);
    *in_flight = (struct in_flight){.model = model, .guard = guard, .depth = in_flight_depth(&device)};
}

bool in_flight_full(const struct in_flight *in_flight) {
    return in_flight->count == in_flight->depth;
}

static void watch_oldest(const struct in_flight *in_flight) {
    const struct work *work = in_flight->entries[0].work;
    guard_batch_begins(in_flight->guard, work->number, work->predicted_seconds);
}

int in_flight_queue(struct in_flight *in_flight, struct work *work, struct error *err) {
    size_t last = in_flight->count++;
    in_flight->entries[last].work = work;
    in_flight->entries[last].queued = clock_seconds();
    if (last == 0) { // before the call: on a device that does not queue it is the whole batch
        watch_oldest(in_flight);
    }
    int status = model_forward(in_flight->model, &work->batch, err);
    if (status != STATUS_OK) {
        guard_batch_ends(in_flight->guard);
        return error_wrap(err, "batch %" PRIu64, work->number);
    }
    return STATUS_OK;
}

int in_flight_complete(struct in_flight *in_flight, struct work **work, struct error *err) {
    struct work *oldest = in_flight->entries[0].work;
    double began = in_flight->entries[0].queued;
    int status = model_wait(in_flight->model, oldest->batch.slot, &oldest->times, err);
    double now = clock_seconds();
    if (in_flight->depth == 1) { // computed in the call, on the host's own processors: its clock is theirs
        oldest->times = (struct device_times){.worked_seconds = oldest->times.worked_seconds};
    }
    guard_batch_ends(in_flight->guard);
    oldest->compute_seconds = now - (began > in_flight->completed ? began : in_flight->completed);
    in_flight->completed = now;
    model_sample(in_flight->model, &oldest->sample);
    in_flight->count--;
    for (size_t i = 0; i < in_flight->count; i++) {
        in_flight->entries[i] = in_flight->entries[i + 1];
    }
    if (in_flight->count > 0) {
        watch_oldest(in_flight);
    }
    *work = oldest;
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "batch %" PRIu64, oldest->number);
}

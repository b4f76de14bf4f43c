#include "stages/in_flight.h"

#include <inttypes.h>
#include <math.h>

#include "base/clock.h"

size_t in_flight_depth(const struct device_description *device) {
    return device->queues ? IN_FLIGHT : 1;
}

void in_flight_open(struct in_flight *in_flight, struct model *model, const struct model_limits *limits,
                    const struct drift_cost *cost, struct guard *guard) {
    struct device_description device;
    model_describe(model, &device);
    // The next group is only loaded for when this one's last block computes: nothing is gained by its
    // company.
    *in_flight = (struct in_flight){.model = model,
                                    .guard = guard,
                                    .cost = cost,
                                    .limits = limits,
                                    .queues = device.queues,
                                    .depth = limits->group > 1 ? 1 : in_flight_depth(&device)};
}

bool in_flight_full(const struct in_flight *in_flight) {
    return in_flight->count == in_flight->depth;
}

size_t in_flight_gathered(const struct in_flight *in_flight) {
    return in_flight->sweeps[in_flight->count].count;
}

static void watch_oldest(const struct in_flight *in_flight) {
    const struct sweep *sweep = &in_flight->sweeps[0];
    guard_batch_begins(in_flight->guard, sweep->works[0]->number, sweep->predicted_seconds);
}

static int name_batch(const struct sweep *sweep, int status, struct error *err) {
    uint64_t first = sweep->works[0]->number;
    if (status == STATUS_OK || sweep->count == 1) {
        return status == STATUS_OK ? STATUS_OK : error_wrap(err, "batch %" PRIu64, first);
    }
    return error_wrap(err, "batches %" PRIu64 " to %" PRIu64, first, first + sweep->count - 1);
}

static size_t members_of(const struct in_flight *in_flight, const struct work *work) {
    return model_batch_members(in_flight->limits, work->batch.tokens);
}

// Predicted as one, and for each batch its share of that. The fixed seconds of a cost are those of a full
// group, or of less where less was timed.
static void predict(const struct in_flight *in_flight, struct sweep *sweep) {
    double sum = 0;
    for (size_t i = 0; i < sweep->count; i++) {
        struct work *work = sweep->works[i];
        work->predicted_seconds = drift_predict(in_flight->cost, (double)members_of(in_flight, work),
                                                (double)work->batch.tokens, work->squared_lengths);
        sum += work->predicted_seconds;
        sweep->tokens += work->batch.tokens;
        sweep->squared_lengths += work->squared_lengths;
    }
    sweep->parts = fmax(1, (double)sweep->members / (double)in_flight->limits->group);
    sweep->predicted_seconds =
        drift_predict(in_flight->cost, sweep->parts, (double)sweep->tokens, sweep->squared_lengths);
    for (size_t i = 0; i < sweep->count && sum > 0; i++) {
        sweep->works[i]->predicted_seconds *= sweep->predicted_seconds / sum;
    }
}

int in_flight_flush(struct in_flight *in_flight, struct error *err) {
    struct sweep *sweep = &in_flight->sweeps[in_flight->count];
    const struct model_batch *batches[IN_FLIGHT_GROUP];
    if (sweep->count == 0) {
        return STATUS_OK;
    }
    in_flight->count++;
    predict(in_flight, sweep);
    sweep->queued = clock_seconds();
    if (in_flight->count == 1) { // before the call: on a device that does not queue it is the whole sweep
        watch_oldest(in_flight);
    }
    for (size_t i = 0; i < sweep->count; i++) {
        batches[i] = &sweep->works[i]->batch;
    }
    int status = model_sweep(in_flight->model, 0, batches, sweep->count, err);
    if (status != STATUS_OK) {
        guard_batch_ends(in_flight->guard);
    }
    return name_batch(sweep, status, err);
}

bool in_flight_takes(const struct in_flight *in_flight, const struct work *work) {
    const struct sweep *sweep = &in_flight->sweeps[in_flight->count];
    return sweep->count == 0 || sweep->members + members_of(in_flight, work) <= in_flight->limits->members;
}

int in_flight_add(struct in_flight *in_flight, struct work *work, struct error *err) {
    struct sweep *sweep = &in_flight->sweeps[in_flight->count];
    sweep->works[sweep->count++] = work;
    sweep->members += members_of(in_flight, work);
    return sweep->members >= in_flight->limits->group ? in_flight_flush(in_flight, err) : STATUS_OK;
}

// All batches of a sweep are complete with any of them.
static int wait_for(struct in_flight *in_flight, struct sweep *sweep, struct error *err) {
    return model_wait(in_flight->model, sweep->works[0]->batch.slot, &sweep->times, err);
}

// By what each is predicted to cost; evenly where that is nothing.
static double share_of(const struct sweep *sweep, const struct work *work) {
    return sweep->count > 1 && sweep->predicted_seconds > 0
               ? work->predicted_seconds / sweep->predicted_seconds
               : 1 / (double)sweep->count;
}

static void share_out(struct sweep *sweep) {
    for (size_t i = 0; i < sweep->count; i++) {
        struct work *work = sweep->works[i];
        double share = share_of(sweep, work);
        work->compute_seconds = share * sweep->seconds;
        work->times =
            (struct device_times){share * sweep->times.upload_seconds, share * sweep->times.compute_seconds,
                                  share * sweep->times.download_seconds, share * sweep->times.worked_seconds};
        work->sample = sweep->sample;
    }
}

int in_flight_complete(struct in_flight *in_flight, const struct sweep **sweep, struct error *err) {
    struct sweep *oldest = &in_flight->sweeps[0];
    int status = name_batch(oldest, wait_for(in_flight, oldest, err), err);
    double now = clock_seconds();
    if (!in_flight->queues) { // computed in the call, on the host's own processors
        oldest->times = (struct device_times){.worked_seconds = oldest->times.worked_seconds};
    }
    guard_batch_ends(in_flight->guard);
    oldest->seconds = now - (oldest->queued > in_flight->completed ? oldest->queued : in_flight->completed);
    in_flight->completed = now;
    model_sample(in_flight->model, 0, &oldest->sample);
    share_out(oldest);
    in_flight->done = *oldest;
    in_flight->count--;
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        in_flight->sweeps[i] = in_flight->sweeps[i + 1];
    }
    in_flight->sweeps[IN_FLIGHT] = (struct sweep){0};
    if (in_flight->count > 0) {
        watch_oldest(in_flight);
    }
    *sweep = &in_flight->done;
    return status;
}

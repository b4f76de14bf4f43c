// SPDX-License-Identifier: MIT
#include "stages/in_flight.h"

#include <inttypes.h>
#include <math.h>

#include "base/clock.h"
#include "base/size.h"

// Between looks at several lanes: short beside any batch that is worth a device, and no load for a processor.
#define PAUSE_LEAST 0.0002
#define PAUSE_MOST 0.002

// The next group is only loaded for when this one's last block computes: nothing is gained by its company.
static size_t depth_of(const struct model *model, size_t batches) {
    return batches > 1 ? 1 : model_lane_sweeps(model);
}

// A lane whose sweeps are short is not held up by an older one of another lane.
size_t in_flight_sweeps(const struct model *model, size_t batches) {
    size_t lanes = model_lanes(model);
    size_t depth = depth_of(model, batches);
    return size_min(lanes > 1 ? lanes * (depth + 1) : depth, IN_FLIGHT);
}

void in_flight_open(struct in_flight *in_flight, struct model *model, const struct model_limits *limits,
                    const struct drift_cost *cost, struct guard *guard) {
    struct device_description device;
    size_t batches = model_sweep_batches(model);
    model_describe(model, &device);
    *in_flight = (struct in_flight){.model = model,
                                    .guard = guard,
                                    .cost = cost,
                                    .limits = limits,
                                    .group = size_max(limits->group, 1),
                                    .sides = batches / size_max(limits->group, 1),
                                    .depth = depth_of(model, batches),
                                    .most = in_flight_sweeps(model, batches),
                                    .queues = device.queues,
                                    .lanes = model_lanes(model),
                                    .pause = PAUSE_LEAST};
}

static struct sweep *sweep_at(struct in_flight *in_flight, size_t place) {
    return &in_flight->sweeps[(in_flight->first + place) % (IN_FLIGHT + 1)];
}

static struct sweep *gathering(struct in_flight *in_flight) {
    return sweep_at(in_flight, in_flight->count);
}

static size_t freest_lane(const struct in_flight *in_flight) {
    size_t best = 0;
    for (size_t i = 1; i < in_flight->lanes; i++) {
        if (in_flight->lane[i].sweeps < in_flight->lane[best].sweeps) {
            best = i;
        }
    }
    return best;
}

bool in_flight_full(const struct in_flight *in_flight) {
    return in_flight->failing || in_flight->count == in_flight->most ||
           in_flight->lane[freest_lane(in_flight)].sweeps == in_flight->depth;
}

size_t in_flight_gathered(const struct in_flight *in_flight) {
    return in_flight->sweeps[(in_flight->first + in_flight->count) % (IN_FLIGHT + 1)].count;
}

size_t in_flight_batches(const struct in_flight *in_flight) {
    size_t batches = 0;
    for (size_t i = 0; i <= in_flight->count; i++) {
        batches += in_flight->sweeps[(in_flight->first + i) % (IN_FLIGHT + 1)].count;
    }
    return batches;
}

// Where there is one device, nobody asks for its name.
static const char *lane_name(const struct in_flight *in_flight, size_t lane) {
    return model_devices(in_flight->model) > 1 ? model_lane_name(in_flight->model, lane) : "";
}

static void watch_oldest(struct in_flight *in_flight) {
    const struct sweep *sweep = sweep_at(in_flight, 0);
    guard_set_device(in_flight->guard, lane_name(in_flight, sweep->lane));
    guard_batch_begins(in_flight->guard, sweep->works[0]->number, sweep->predicted_seconds);
}

// The model names the device.
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

// What the device that has most of a sweep has of it, times the devices: costs are of sweeps that all have
// their part of.
static void find_work(const struct in_flight *in_flight, struct sweep *sweep) {
    struct {
        size_t tokens;
        double squared_lengths;
    } sides[MODEL_DEVICES] = {0};
    size_t used[MODEL_DEVICES] = {0};
    size_t most = 0;
    size_t head = 0;
    for (size_t i = 0; i < sweep->count; i++) {
        const struct work *work = sweep->works[i];
        size_t side = model_sweep_turn(in_flight->sides, used);
        used[side] += members_of(in_flight, work);
        sides[side].tokens += work->batch.tokens;
        sides[side].squared_lengths += work->squared_lengths;
        most = sides[side].tokens > sides[most].tokens ? side : most;
        head = size_max(head, model_sweep_head(in_flight->model, &work->batch));
    }
    sweep->tokens = (sides[most].tokens + head) * in_flight->sides;
    sweep->squared_lengths =
        (sides[most].squared_lengths + (double)head * (double)head) * (double)in_flight->sides;
    sweep->parts = fmax(1, (double)used[most] / (double)in_flight->group);
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
    }
    find_work(in_flight, sweep);
    sweep->predicted_seconds =
        drift_predict(in_flight->cost, sweep->parts, (double)sweep->tokens, sweep->squared_lengths);
    for (size_t i = 0; i < sweep->count && sum > 0; i++) {
        sweep->works[i]->predicted_seconds *= sweep->predicted_seconds / sum;
    }
}

// The error that is told is that of the oldest sweep, whatever lane was asked first.
static void keep_failure(struct in_flight *in_flight, struct sweep *sweep, const struct error *err) {
    uint64_t first = sweep->works[0]->number;
    if (!in_flight->failing || first < in_flight->failed) {
        in_flight->failing = true;
        in_flight->failed = first;
        in_flight->failure = *err;
    }
}

// Seconds of the run are shared by the lanes that are at work in them. To be called before one begins or
// ends.
static void share_seconds(struct in_flight *in_flight, double now) {
    size_t busy = 0;
    for (size_t i = 0; i < in_flight->lanes; i++) {
        busy += in_flight->lane[i].sweeps > 0;
    }
    in_flight->shared += busy > 0 ? (now - in_flight->shared_at) / (double)busy : 0;
    in_flight->shared_at = now;
}

// A sweep that was not taken. What other lanes do meanwhile is worth waiting for: it fails in its turn.
static int refuse(struct in_flight *in_flight, struct sweep *sweep, int status, struct error *err) {
    sweep->status = name_batch(sweep, status, err);
    if (sweep == sweep_at(in_flight, 0)) {
        guard_batch_ends(in_flight->guard);
    }
    if (in_flight->lanes == 1) {
        return sweep->status;
    }
    sweep->done = true;
    share_seconds(in_flight, clock_seconds());
    in_flight->lane[sweep->lane].sweeps--;
    keep_failure(in_flight, sweep, err);
    return STATUS_OK;
}

int in_flight_flush(struct in_flight *in_flight, struct error *err) {
    struct sweep *sweep = gathering(in_flight);
    const struct model_batch *batches[IN_FLIGHT_GROUP];
    if (sweep->count == 0) {
        return STATUS_OK;
    }
    sweep->lane = freest_lane(in_flight);
    sweep->queued = clock_seconds();
    share_seconds(in_flight, sweep->queued);
    sweep->shared = in_flight->shared;
    in_flight->count++;
    in_flight->lane[sweep->lane].sweeps++;
    in_flight->pause = PAUSE_LEAST;
    *gathering(in_flight) = (struct sweep){0};
    predict(in_flight, sweep);
    if (in_flight->count == 1) { // before the call: on a device that does not queue it is the whole sweep
        watch_oldest(in_flight);
    }
    for (size_t i = 0; i < sweep->count; i++) {
        batches[i] = &sweep->works[i]->batch;
    }
    int status = model_sweep(in_flight->model, sweep->lane, batches, sweep->count, err);
    return status == STATUS_OK ? STATUS_OK : refuse(in_flight, sweep, status, err);
}

bool in_flight_takes(const struct in_flight *in_flight, const struct work *work) {
    const struct sweep *sweep = &in_flight->sweeps[(in_flight->first + in_flight->count) % (IN_FLIGHT + 1)];
    const struct model_batch *batches[IN_FLIGHT_GROUP];
    if (sweep->count == IN_FLIGHT_GROUP) {
        return false;
    }
    for (size_t i = 0; i < sweep->count; i++) {
        batches[i] = &sweep->works[i]->batch;
    }
    batches[sweep->count] = &work->batch;
    return model_sweep_holds(in_flight->model, batches, sweep->count + 1);
}

int in_flight_add(struct in_flight *in_flight, struct work *work, struct error *err) {
    struct sweep *sweep = gathering(in_flight);
    sweep->works[sweep->count++] = work;
    sweep->used[model_sweep_turn(in_flight->sides, sweep->used)] += members_of(in_flight, work);
    bool full = sweep->used[model_sweep_turn(in_flight->sides, sweep->used)] >= in_flight->group;
    return full ? in_flight_flush(in_flight, err) : STATUS_OK;
}

// By what each is predicted to cost; evenly where that is nothing.
static double share_of(const struct sweep *sweep, const struct work *work) {
    return sweep->count > 1 && sweep->predicted_seconds > 0
               ? work->predicted_seconds / sweep->predicted_seconds
               : 1 / (double)sweep->count;
}

// run_seconds: of the run, its part.
static void share_out(struct sweep *sweep, double run_seconds) {
    for (size_t i = 0; i < sweep->count; i++) {
        struct work *work = sweep->works[i];
        double share = share_of(sweep, work);
        work->compute_seconds = share * run_seconds;
        work->times =
            (struct device_times){share * sweep->times.upload_seconds, share * sweep->times.compute_seconds,
                                  share * sweep->times.download_seconds, share * sweep->times.worked_seconds};
        work->sample = sweep->sample;
        work->lane = sweep->lane;
    }
    double part = sweep->seconds > 0 ? run_seconds / sweep->seconds : 1;
    for (size_t i = 0; i < sweep->count; i++) { // shares are of these
        sweep->works[i]->predicted_seconds *= part;
    }
}

// All batches of a sweep are complete with any of them.
static void finish(struct in_flight *in_flight, struct sweep *sweep) {
    struct error err;
    int status = model_wait(in_flight->model, sweep->works[0]->batch.slot, &sweep->times, &err);
    sweep->status = name_batch(sweep, status, &err);
    double now = clock_seconds();
    double completed = in_flight->lane[sweep->lane].completed;
    if (!in_flight->queues) { // computed in the call, on the host's own processors
        sweep->times = (struct device_times){.worked_seconds = sweep->times.worked_seconds};
    }
    if (sweep == sweep_at(in_flight, 0)) {
        guard_batch_ends(in_flight->guard);
    }
    sweep->done = true;
    bool waited = sweep->queued < completed; // behind another sweep
    sweep->seconds = now - (waited ? completed : sweep->queued);
    share_seconds(in_flight, now);
    double run_seconds = in_flight->shared - (waited ? in_flight->lane[sweep->lane].shared : sweep->shared);
    in_flight->lane[sweep->lane].completed = now;
    in_flight->lane[sweep->lane].shared = in_flight->shared;
    in_flight->lane[sweep->lane].sweeps--;
    in_flight->pause = PAUSE_LEAST;
    model_sample(in_flight->model, sweep->lane, &sweep->sample);
    share_out(sweep, in_flight->lanes > 1 ? run_seconds : sweep->seconds);
    if (sweep->status != STATUS_OK) {
        keep_failure(in_flight, sweep, &err);
    }
}

// Notes what the lanes have done since the last look. One that cannot be asked fails as it would when waited
// for.
static void look(struct in_flight *in_flight) {
    bool busy[MODEL_DEVICES] = {false};
    for (size_t i = 0; i < in_flight->count; i++) {
        struct sweep *sweep = sweep_at(in_flight, i);
        if (!sweep->done && !busy[sweep->lane]) {
            struct error ignored;
            bool reached = false;
            size_t slot = sweep->works[0]->batch.slot;
            if (model_reached(in_flight->model, slot, &reached, &ignored) != STATUS_OK || reached) {
                finish(in_flight, sweep);
            }
            busy[sweep->lane] = !sweep->done;
        }
    }
}

bool in_flight_ready(struct in_flight *in_flight) {
    if (in_flight->lanes == 1) {
        return true;
    }
    look(in_flight);
    return sweep_at(in_flight, 0)->done;
}

void in_flight_rest(struct in_flight *in_flight) {
    clock_sleep(in_flight->pause);
    in_flight->pause = in_flight->pause < PAUSE_MOST / 2 ? 2 * in_flight->pause : PAUSE_MOST;
}

int in_flight_complete(struct in_flight *in_flight, const struct sweep **sweep, struct error *err) {
    struct sweep *oldest = sweep_at(in_flight, 0);
    if (in_flight->lanes == 1) {
        finish(in_flight, oldest);
    }
    while (!in_flight_ready(in_flight)) {
        in_flight_rest(in_flight);
    }
    in_flight->first = (in_flight->first + 1) % (IN_FLIGHT + 1);
    in_flight->count--;
    if (in_flight->count > 0 && !sweep_at(in_flight, 0)->done) {
        watch_oldest(in_flight);
    }
    *sweep = oldest;
    if (oldest->status != STATUS_OK) {
        *err = in_flight->failure;
    }
    return oldest->status;
}

// SPDX-License-Identifier: MIT
// Batches on the devices, oldest first: in sweeps of one batch, or of a group of them where weights come to
// the devices anew for every sweep (model_sweep); a batch that is a text in slices takes as many of a group's
// places (model_batch_members). A lane of the model (model_lanes) keeps one sweep, or more where calls return
// before the work is done, so that a device goes from one batch to the next without waiting for the host.
//
// With one lane the oldest sweep is waited for. With several a new sweep goes to the lane with the fewest,
// and the lanes are asked again and again, with pauses in between, what they have done: a sweep that is done
// before an older one waits for it here, so that batches leave in the order of the plan.
//
// A sweep's seconds are those from the end of the sweep before it in its lane, or from its own queueing when
// that was later, to its end, on the monotonic clock: what the runner holds against its prediction. A batch
// of a group has its share of them, by what it is predicted to cost. A batch's own seconds, and those
// predicted, are its part of the run's: each second is shared by the lanes that are at work in it.
#ifndef STRATA_STAGES_IN_FLIGHT_H
#define STRATA_STAGES_IN_FLIGHT_H

#include "model/model.h"
#include "stages/feeder.h"
#include "watch/drift.h"
#include "watch/guard.h"

enum {
    IN_FLIGHT = 3 * MODEL_DEVICES, // sweeps at most
    IN_FLIGHT_GROUP = 256,         // batches of a sweep at most
};

struct sweep {
    struct work *works[IN_FLIGHT_GROUP];
    size_t count;
    size_t used[MODEL_DEVICES]; // places that they take of each device that computes the sweep
    size_t lane;
    double queued; // monotonic seconds
    double shared; // in_flight.shared then
    bool done;     // and what follows is known
    int status;
    // As of a sweep whose devices all have as much as the one that has most: that one is waited for.
    size_t tokens;
    double squared_lengths;
    double parts; // drift_predict
    double predicted_seconds;
    double seconds;
    struct device_times times;
    struct device_sample sample;
};

struct in_flight {
    struct model *model;
    struct guard *guard;               // watches the oldest
    const struct drift_cost *cost;     // of a sweep
    const struct model_limits *limits; // the model's
    size_t group;                      // places of a full sweep, of each device that computes it
    size_t sides;                      // those devices, where they compute it side by side
    size_t depth;                      // sweeps that a lane is given before it has done one
    size_t most;                       // sweeps in all
    bool queues;                       // the devices
    size_t lanes;
    struct {
        size_t sweeps;    // that it was given and has not done
        double completed; // monotonic seconds of its last completion
        double shared;    // in_flight.shared then
    } lane[MODEL_DEVICES];
    double shared;                      // seconds until `shared_at`, each divided by the lanes at work in it
    double shared_at;                   // monotonic
    size_t count;                       // sweeps on the devices, or done and behind an older one
    size_t first;                       // of them, the oldest
    struct sweep sweeps[IN_FLIGHT + 1]; // a ring; the one behind those on the devices is being gathered
    double pause;                       // seconds of the next one
    bool failing;                       // a sweep has failed: no more are taken
    uint64_t failed;                    // the first batch of the oldest of those
    struct error failure;               // and what is wrong with it
};

// Sweeps of `batches` batches that a model's devices are given at a time, with those that wait for older
// ones.
size_t in_flight_sweeps(const struct model *model, size_t batches);

// `limits` as given to model_load, which stay.
void in_flight_open(struct in_flight *in_flight, struct model *model, const struct model_limits *limits,
                    const struct drift_cost *cost, struct guard *guard);

bool in_flight_full(const struct in_flight *in_flight);

size_t in_flight_gathered(const struct in_flight *in_flight); // batches that are not on a device yet
size_t in_flight_batches(const struct in_flight *in_flight);  // and all that have not left

// Whether the batch of a work still goes into the sweep that is gathered; otherwise that is to be queued
// first.
bool in_flight_takes(const struct in_flight *in_flight, const struct work *work);

// Takes the batch of a work, and queues the sweep that it completes. in_flight is not full, and takes it.
int in_flight_add(struct in_flight *in_flight, struct work *work, struct error *err);

// Queues what is gathered, if anything. in_flight is not full.
int in_flight_flush(struct in_flight *in_flight, struct error *err);

// Whether in_flight_complete is the thing to do: the oldest sweep is done, or the only lane has nothing but
// it to wait for. in_flight has one.
bool in_flight_ready(struct in_flight *in_flight);

// A pause, when neither that nor a new sweep is there to do; it grows until something is done.
void in_flight_rest(struct in_flight *in_flight);

// Waits for the oldest sweep; fills its figures, and the times, predictions and sample of its works.
// in_flight has one on the device. *sweep is valid until the next sweep is queued.
int in_flight_complete(struct in_flight *in_flight, const struct sweep **sweep, struct error *err);

#endif

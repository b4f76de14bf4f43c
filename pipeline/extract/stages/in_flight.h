// Batches on the device, oldest first: in sweeps of one batch, or of a group of them where weights come to
// the device anew for every sweep (model_sweep); a batch that is a text in slices takes as many of a group's
// places (model_batch_members). One sweep is there, or two where calls return before the
// work is done, so that such a device goes from one batch to the next without waiting for the host.
//
// A sweep's seconds are those from the end of the sweep before it, or from its own queueing when that was
// later, to its end, on the monotonic clock: what the runner holds against its prediction. A batch of a group
// has its share of them, by what it is predicted to cost.
#ifndef STRATA_STAGES_IN_FLIGHT_H
#define STRATA_STAGES_IN_FLIGHT_H

#include "model/model.h"
#include "stages/feeder.h"
#include "watch/drift.h"
#include "watch/guard.h"

enum {
    IN_FLIGHT = 2,         // sweeps at most
    IN_FLIGHT_GROUP = 256, // batches of a sweep at most
};

struct sweep {
    struct work *works[IN_FLIGHT_GROUP];
    size_t count;
    size_t members; // places that they take
    double queued;  // monotonic seconds
    // Of all its batches, once they are complete.
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
    struct guard *guard;                // watches the oldest
    const struct drift_cost *cost;      // of a sweep
    const struct model_limits *limits;  // the model's: group, the batches of a full sweep; members
    size_t depth;                       // 1, or IN_FLIGHT
    bool queues;                        // the device
    size_t count;                       // sweeps on the device
    struct sweep sweeps[IN_FLIGHT + 1]; // the one behind those on the device is being gathered
    struct sweep done;
    double completed; // monotonic seconds of the last completion
};

// Sweeps of single batches that a device keeps at a time.
size_t in_flight_depth(const struct device_description *device);

// `limits` as given to model_load, which stay.
void in_flight_open(struct in_flight *in_flight, struct model *model, const struct model_limits *limits,
                    const struct drift_cost *cost, struct guard *guard);

bool in_flight_full(const struct in_flight *in_flight);

size_t in_flight_gathered(const struct in_flight *in_flight); // batches that are not on the device yet

// Whether the batch of a work still goes into the sweep that is gathered; otherwise that is to be queued
// first.
bool in_flight_takes(const struct in_flight *in_flight, const struct work *work);

// Takes the batch of a work, and queues the sweep that it completes. in_flight is not full, and takes it.
int in_flight_add(struct in_flight *in_flight, struct work *work, struct error *err);

// Queues what is gathered, if anything. in_flight is not full.
int in_flight_flush(struct in_flight *in_flight, struct error *err);

// Waits for the oldest sweep; fills its figures, and the times, predictions and sample of its works.
// in_flight has one on the device. *sweep is valid until the next call.
int in_flight_complete(struct in_flight *in_flight, const struct sweep **sweep, struct error *err);

#endif

// Batches on the device, oldest first: one, or two where calls return before the work is done, so that such a
// device goes from one batch to the next without waiting for the host.
//
// A batch's seconds are those from the end of the batch before it, or from its own queueing when that was
// later, to its end, on the monotonic clock: what the runner holds against its prediction.
#ifndef STRATA_STAGES_IN_FLIGHT_H
#define STRATA_STAGES_IN_FLIGHT_H

#include "model/model.h"
#include "stages/feeder.h"
#include "watch/guard.h"

enum { IN_FLIGHT = 2 }; // at most

struct in_flight {
    struct model *model;
    struct guard *guard; // watches the oldest
    size_t depth;        // 1, or IN_FLIGHT
    size_t count;
    struct {
        struct work *work;
        double queued; // monotonic seconds
    } entries[IN_FLIGHT];
    double completed; // monotonic seconds of the last completion
};

// Batches that a device keeps at a time.
size_t in_flight_depth(const struct device_description *device);

void in_flight_open(struct in_flight *in_flight, struct model *model, struct guard *guard);

bool in_flight_full(const struct in_flight *in_flight);

// Queues the batch of a work, whose predicted_seconds are there. in_flight is not full.
int in_flight_queue(struct in_flight *in_flight, struct work *work, struct error *err);

// Waits for the oldest batch; fills its times, sample and compute_seconds. in_flight is not empty.
int in_flight_complete(struct in_flight *in_flight, struct work **work, struct error *err);

#endif

// Fixed, seeded batches run through the model: to calibrate the cost of a batch before batch 1, and as a
// canary that is re-run when timing is suspect. The canary's outputs are hashed: the same device must give
// the same bits, always.
#ifndef STRATA_EXTRACT_CANARY_H
#define STRATA_EXTRACT_CANARY_H

#include "base/digest.h"
#include "extract/drift.h"
#include "extract/guard.h"
#include "model/model.h"

enum { CANARY_RUNS = 3 }; // of which the fastest counts

struct canary {
    struct model *model;
    struct device *device;
    struct model_limits limits;
    struct guard *guard; // while calibrating
    bool has_clock;      // of its own: the device works beside the host
    size_t vocabulary;
    int32_t *ids;
    int32_t *starts;
    struct device_span *spans;
    size_t tokens; // of the canary batch
    size_t texts;
    double seconds;        // of the canary at calibration: the fastest of three
    double device_seconds; // of the fastest of the runs made last, by the device's own clock; 0: it has none
    char sha256[DIGEST_HEX]; // of its outputs
};

// `limits` as given to model_load; the last of its slots is the canary's own.
int canary_create(struct canary *canary, struct model *model, struct device *device,
                  const struct model_limits *limits, struct error *err);
void canary_destroy(struct canary *canary); // accepts zeros

// Times three shapes and the canary itself; fills cost, canary->seconds and canary->sha256. The guard, which
// watches the start, is told of each run that ends.
int canary_calibrate(struct canary *canary, struct guard *guard, struct drift_cost *cost, struct error *err);

// Runs the canary three times; *seconds is the fastest, *same whether the outputs still have the calibrated
// hash.
int canary_run(struct canary *canary, double *seconds, bool *same, struct error *err);

#endif

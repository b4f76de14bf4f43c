// How much of a slow-down a GPU's power cap explains. A calibration runs at the clock of a GPU that was idle
// before; within seconds of work the cap may take it down, 1980 to 1450 MHz say, and every batch then takes
// 1.37 times as long. That is how the device works, and no drift.
//
// What the cap takes in the first two minutes of a launch's work is explained from then on; more than that, a
// cap that comes later, a clock below 1/1.6 of that at calibration, and any other reason beside it (heat, a
// power brake) are not: they are for drift_cause.h.
#ifndef STRATA_EXTRACT_DRIFT_POWER_H
#define STRATA_EXTRACT_DRIFT_POWER_H

#include "kernels/device.h"

struct drift_power {
    int32_t calibrated; // MHz of the SM clock at calibration; not above 0: not known
    double worked;      // seconds of the device until now
    double most;        // times as long, of the first two minutes
};

void drift_power_start(struct drift_power *power, const struct device_sample *calibrated);

// Times as long as at calibration that work takes for the cap, 1 where it explains nothing. The device worked
// `seconds` since the last call.
double drift_power_growth(struct drift_power *power, const struct device_sample *now, double seconds);

#endif

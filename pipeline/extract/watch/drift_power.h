// How much of a slow-down a GPU's power cap explains. A calibration runs at the clock of a GPU that was idle
// before; within seconds of work the cap may take it down, 1980 to 1450 MHz say, and every batch then takes
// 1.37 times as long. That is how the device works, and no drift.
//
// A clock below 1/1.6 of that at calibration, and any other reason beside the cap (heat, a power brake) are
// not: they are for drift_cause.h.
#ifndef STRATA_WATCH_DRIFT_POWER_H
#define STRATA_WATCH_DRIFT_POWER_H

#include "kernels/telemetry.h"

// Times as long as at calibration that work takes for the cap: 1 where it explains nothing, 0 where the
// device's monitoring does not tell the clocks or what slows them.
double drift_power_growth(const struct device_sample *calibrated, const struct device_sample *now);

#endif

#include "watch/drift_power.h"

#define GROWTH_MOST 1.6

// The cap and no other reason that slows a clock.
static bool is_capped(const struct device_sample *now) {
    const int64_t others = DEVICE_THROTTLE_HARDWARE | DEVICE_THROTTLE_THERMAL |
                           DEVICE_THROTTLE_THERMAL_HARDWARE | DEVICE_THROTTLE_POWER_BRAKE;
    return (now->throttle_reasons & DEVICE_THROTTLE_POWER) != 0 && (now->throttle_reasons & others) == 0;
}

double drift_power_growth(const struct device_sample *calibrated, const struct device_sample *now) {
    if (calibrated->sm_clock <= 0 || now->sm_clock <= 0 || now->throttle_reasons < 0) {
        return 0;
    }
    double growth = (double)calibrated->sm_clock / now->sm_clock;
    return is_capped(now) && growth > 1 && growth <= GROWTH_MOST ? growth : 1;
}

#include "extract/drift_power.h"

#include <math.h>

#define FIRST_SECONDS 120.0
#define GROWTH_MOST 1.6

void drift_power_start(struct drift_power *power, const struct device_sample *calibrated) {
    *power = (struct drift_power){.calibrated = calibrated->sm_clock, .most = 1};
}

// The cap and no other reason that slows a clock.
static bool is_capped(const struct device_sample *now) {
    const int64_t others = DEVICE_THROTTLE_HARDWARE | DEVICE_THROTTLE_THERMAL |
                           DEVICE_THROTTLE_THERMAL_HARDWARE | DEVICE_THROTTLE_POWER_BRAKE;
    return now->throttle_reasons > 0 && (now->throttle_reasons & DEVICE_THROTTLE_POWER) != 0 &&
           (now->throttle_reasons & others) == 0;
}

double drift_power_growth(struct drift_power *power, const struct device_sample *now, double seconds) {
    power->worked += seconds;
    if (power->calibrated <= 0 || now->sm_clock <= 0 || now->sm_clock >= power->calibrated ||
        !is_capped(now)) {
        return 1;
    }
    double growth = (double)power->calibrated / now->sm_clock;
    if (growth > GROWTH_MOST) {
        return 1;
    }
    if (power->worked <= FIRST_SECONDS) {
        power->most = fmax(power->most, growth);
    }
    return fmin(growth, power->most);
}

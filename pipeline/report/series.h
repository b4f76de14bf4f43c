// SPDX-License-Identifier: MIT
// A quantity along an axis, cut into as many buckets as a plot has pixels to show: of each the weighted mean
// and the extremes, so that no outlier is lost however many values there are.
#ifndef STRATA_REPORT_SERIES_H
#define STRATA_REPORT_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SERIES_BUCKETS = 360 };

struct series_bucket {
    double weight; // 0: no value
    double sum;    // of value times weight
    double low, high;
};

struct series {
    struct series_bucket buckets[SERIES_BUCKETS];
    uint64_t values;
    double weight, sum;
    double low, high; // of all values
};

size_t series_bucket_at(double place); // of a place in [0, 1], which is clamped

// Values that are not finite, and weights that are not above 0, are passed over.
void series_add(struct series *series, double place, double value, double weight);

double series_mean(const struct series *series); // 0 without values
double series_bucket_mean(const struct series_bucket *bucket);

// The range of what a plot shows: bands, or means alone. False without values.
bool series_range(const struct series *series, bool band, double *low, double *high);

#endif

// SPDX-License-Identifier: MIT
#include "report/series.h"

#include <math.h>

size_t series_bucket_at(double place) {
    if (!(place > 0)) {
        return 0;
    }
    return place >= 1 ? SERIES_BUCKETS - 1 : (size_t)(place * SERIES_BUCKETS);
}

void series_add(struct series *series, double place, double value, double weight) {
    if (!isfinite(value) || !isfinite(weight) || weight <= 0) {
        return;
    }
    struct series_bucket *bucket = &series->buckets[series_bucket_at(place)];
    bool first = bucket->weight == 0;
    bucket->low = first || value < bucket->low ? value : bucket->low;
    bucket->high = first || value > bucket->high ? value : bucket->high;
    bucket->weight += weight;
    bucket->sum += value * weight;
    series->low = series->values == 0 || value < series->low ? value : series->low;
    series->high = series->values == 0 || value > series->high ? value : series->high;
    series->values++;
    series->weight += weight;
    series->sum += value * weight;
}

double series_mean(const struct series *series) {
    return series->weight > 0 ? series->sum / series->weight : 0;
}

double series_bucket_mean(const struct series_bucket *bucket) {
    return bucket->weight > 0 ? bucket->sum / bucket->weight : 0;
}

bool series_range(const struct series *series, bool band, double *low, double *high) {
    if (series->values == 0) {
        return false;
    }
    *low = band ? series->low : INFINITY;
    *high = band ? series->high : -INFINITY;
    for (size_t i = 0; i < SERIES_BUCKETS && !band; i++) {
        const struct series_bucket *bucket = &series->buckets[i];
        if (bucket->weight > 0) {
            *low = fmin(*low, series_bucket_mean(bucket));
            *high = fmax(*high, series_bucket_mean(bucket));
        }
    }
    return true;
}

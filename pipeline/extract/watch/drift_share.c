// SPDX-License-Identifier: MIT
#include "watch/drift_share.h"

#include <math.h>
#include <string.h>

#define MEMORY_SECONDS 10.0
#define ENOUGH_SECONDS 2.0 // less says nothing
#define AS_EVER 1.2        // times as long
#define CALM_SECONDS 30.0  // before it is over
#define MUCH_LESS 2.0      // times as long as when it was last said

void drift_share_start(struct drift_share *share) {
    memset(share, 0, sizeof *share);
}

enum drift_share_event drift_share_step(struct drift_share *share, struct drift_time batch,
                                        struct drift_time predicted) {
    if (!(batch.worked > 0 && predicted.worked > 0 && batch.wall > 0)) {
        return DRIFT_SHARE_AS_EVER;
    }
    double kept = exp(-batch.wall / MEMORY_SECONDS);
    share->wall = kept * share->wall + batch.wall;
    share->worked = kept * share->worked + batch.worked;
    share->expected = kept * share->expected + predicted.wall * batch.worked / predicted.worked;
    double longer = drift_share_longer(share);
    share->calm = longer < AS_EVER ? share->calm + batch.wall : 0;
    double news = share->lost ? MUCH_LESS * share->said : DRIFT_SHARE_LOST;
    if (share->wall >= ENOUGH_SECONDS && longer > news) {
        share->lost = true;
        share->said = longer;
        return DRIFT_SHARE_LESS;
    }
    if (share->lost && share->calm >= CALM_SECONDS) {
        share->lost = false;
        return DRIFT_SHARE_BACK;
    }
    return DRIFT_SHARE_AS_EVER;
}

double drift_share_now(const struct drift_share *share) {
    return share->wall > 0 ? fmin(share->worked / share->wall, 1) : 1;
}

double drift_share_before(const struct drift_share *share) {
    return share->expected > 0 ? fmin(share->worked / share->expected, 1) : 1;
}

double drift_share_longer(const struct drift_share *share) {
    return share->expected > 0 ? share->wall / share->expected : 1;
}

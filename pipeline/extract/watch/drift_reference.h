// SPDX-License-Identifier: MIT
// What the canary and a batch take when nothing is wrong: as an earlier launch on the same device calibrated
// it, whose reference is in the ledger or in a profile, or as this one does. Private to the drift watch.
#ifndef STRATA_WATCH_DRIFT_REFERENCE_H
#define STRATA_WATCH_DRIFT_REFERENCE_H

#include "watch/drift_watch.h"

// Finds or makes the reference and keeps it, for the canary that was calibrated just now. device: names
// device and settings, part of the reference's key.
int drift_reference_settle(struct drift_watch *watch, const char *device, struct ledger *ledger,
                           const char *profile, struct log *log, struct error *err);

// Takes over the reference of another device of the same kind, for the canary that was calibrated just now.
void drift_reference_join(struct drift_watch *watch, const struct drift_watch *first, struct log *log);

// By the device's own time, or by the wall clock where it tells none.
bool drift_reference_has_own_time(const struct drift_watch *watch);
double drift_reference_judged(const struct drift_watch *watch, struct drift_time time);

// Of the canary.
double drift_reference_canary(const struct drift_watch *watch);

#endif

// SPDX-License-Identifier: MIT
// What the system says of the host at a moment: pressure stall information, the quota of the control group,
// and how long its processors were at work.
#ifndef STRATA_WATCH_DRIFT_HOST_H
#define STRATA_WATCH_DRIFT_HOST_H

#define DRIFT_HOST_UNKNOWN (-1.0)

struct drift_host { // DRIFT_HOST_UNKNOWN where the system does not tell
    double cpu;     // percent of the last 10 s in which some task waited for a processor
    double memory;  // ... for memory that was taken away
    double io;      // ... for storage
    double quota;   // seconds in all that the control group's processor quota held tasks back
    double busy;    // seconds in all that the processors were at work, all together
    double stolen;  // seconds in all that another machine had them
    double own;     // seconds in all that this process had them
};

void drift_host_read(struct drift_host *out);

// "some avg10" of the text of a /proc/pressure file; the seconds of throttled_usec of a cpu.stat.
double drift_host_pressure(const char *text);
double drift_host_quota(const char *text);

// The seconds that the "cpu" line of /proc/stat counts as work (nothing else than idle and waiting for
// storage), and those that another virtual machine took.
double drift_host_busy(const char *text);
double drift_host_stolen(const char *text);

#endif

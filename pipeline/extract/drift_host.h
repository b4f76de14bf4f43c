// What the system says of the host at a moment: pressure stall information and the quota of the control
// group.
#ifndef STRATA_EXTRACT_DRIFT_HOST_H
#define STRATA_EXTRACT_DRIFT_HOST_H

#define DRIFT_HOST_UNKNOWN (-1.0)

struct drift_host { // DRIFT_HOST_UNKNOWN where the system does not tell
    double cpu;     // percent of the last 10 s in which some task waited for a processor
    double memory;  // ... for memory that was taken away
    double io;      // ... for storage
    double quota;   // seconds in all that the control group's processor quota held tasks back
};

void drift_host_read(struct drift_host *out);

// "some avg10" of the text of a /proc/pressure file; the seconds of throttled_usec of a cpu.stat.
double drift_host_pressure(const char *text);
double drift_host_quota(const char *text);

#endif

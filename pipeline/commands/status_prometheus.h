// SPDX-License-Identifier: MIT
// A moment of a run or a set in Prometheus' text format, for node_exporter's textfile collector.
#ifndef STRATA_COMMANDS_STATUS_PROMETHEUS_H
#define STRATA_COMMANDS_STATUS_PROMETHEUS_H

#include <stdio.h>

#include "commands/run_snapshot.h"
#include "commands/set_snapshot.h"

// Every sample has the label run: the folder, or of parts that were named one by one what stands for them.
// What is not known has no sample.
void status_prometheus_run(FILE *out, const char *folder, const struct run_snapshot *snapshot);
void status_prometheus_set(FILE *out, const struct set_snapshot *snapshot);

#endif

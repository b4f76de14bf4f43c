// SPDX-License-Identifier: MIT
// Everything that a page says of one run beside its moment, read from the ledger and the shards.
#ifndef STRATA_REPORT_CONTENT_H
#define STRATA_REPORT_CONTENT_H

#include "checkpoints/identity.h"
#include "report/history.h"
#include "report/pca.h"
#include "report/report.h"
#include "report/sample.h"
#include "report/tallies.h"

struct content {
    struct history history;
    struct tallies tallies;
    struct sample sample;
    struct pca pca; // of the sample; place NULL: too few rows
    struct identity identity;
    struct buffer model, model_path, device, device_reason, warnings; // notes of the ledger
};

// The ledger of facts->folder. In this order; axis_seconds: of the time axis, 0 for its own length.
int content_read(struct content *content, struct ledger *ledger, const struct report_facts *facts,
                 struct error *err);
int content_read_batches(struct content *content, struct ledger *ledger, double axis_seconds,
                         struct error *err);
int content_read_latents(struct content *content, const char *folder, struct error *err);
void content_destroy(struct content *content); // accepts zeros; leaves zeros

#endif

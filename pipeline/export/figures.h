// SPDX-License-Identifier: MIT
// Mean, deviation and norm of the exported layers, as the run has them: over everything, from the statistics
// sealed in the shards, added in shard order; and over each split, from its rows as the plan is made.
#ifndef STRATA_EXPORT_FIGURES_H
#define STRATA_EXPORT_FIGURES_H

#include "base/json.h"
#include "checkpoints/statistics.h"
#include "export/export_plan.h"

struct export_figures {
    const struct export_plan *plan;
    size_t splits;           // at most
    struct statistics *sets; // [splits + 1][layer_count] by split->figures; the last: everything
    double *memory;          // what they point to, and one more of [4, hidden] to read into
};

// The layers of the plan are known; of its splits there will be so many at most.
int export_figures_create(struct export_figures *figures, const struct export_plan *plan, size_t splits,
                          struct error *err);
void export_figures_destroy(struct export_figures *figures); // accepts zeros; leaves zeros

// Adds a shard's own statistics to those over everything.
int export_figures_add_shard(struct export_figures *figures, struct shard_reader *reader, struct error *err);

// Begins the set of a split.
void export_figures_begin_split(struct export_figures *figures, const struct export_split *split);

// Adds rows of one problem, as stored: [rows, hidden].
void export_figures_add_rows(struct export_figures *figures, const struct export_problem *problem,
                             size_t layer, const void *latents, size_t rows);

// Of a layer over a split, or (NULL) over everything; the mean and the population's deviation [hidden].
const struct statistics *export_figures_of(const struct export_figures *figures,
                                           const struct export_split *split, size_t layer);
void export_figures_spread(const struct statistics *set, size_t hidden, double *mean, double *deviation);

// Writes FOLDER/statistics.safetensors: "hs_035.mean", ".std", ".minimum", ".maximum" [hidden] float64, and
// with more than one split the same with "SPLIT." before.
int export_figures_write(const struct export_figures *figures, const char *folder, struct error *err);

// {"rows", "mean", "std", "norm_mean", "minimum", "maximum"} over all numbers of a layer; split NULL:
// everything.
json_t *export_figures_json(const struct export_figures *figures, const struct export_split *split,
                            size_t layer);

#endif

// SPDX-License-Identifier: MIT
// Latents moved and scaled dimension by dimension for training, by constants that are kept so that it can be
// undone: y = (x - shift) / scale, and x = y * scale + shift. The constants are those of the split 'train',
// or of everything where there is one split alone. Computed in float64 and rounded once, to the export's
// dtype.
//   standard: shift is the mean, scale the population's deviation, of each dimension.
//   expected-norm: shift is 0, scale the mean norm of a row over the root of their size: rows then have the
//   norm sqrt(hidden) on average.
// Where a scale is 0 (a dimension that is the same in all rows), y is 0; undone it is the mean again.
#ifndef STRATA_EXPORT_NORMALIZATION_H
#define STRATA_EXPORT_NORMALIZATION_H

#include "base/json.h"
#include "export/export_plan.h"
#include "export/figures.h"

struct normalization {
    enum export_normalization kind;
    const struct export_plan *plan;
    const struct export_split *split; // NULL: everything
    double *constants;                // [layer_count][2][hidden]: shift, scale
};

// STATUS_USAGE when there are splits and none is 'train'; STATUS_DATA when its rows give no constants.
int normalization_create(struct normalization *normalization, const struct export_plan *plan,
                         const struct export_request *request, const struct export_figures *figures,
                         struct error *err);
void normalization_destroy(struct normalization *normalization); // accepts zeros; leaves zeros

// [rows, hidden] of a layer from the stored dtype to the plan's.
void normalization_apply(const struct normalization *normalization, size_t layer, const void *in, void *out,
                         size_t rows);

// Writes FOLDER/normalization.safetensors: "hs_035.shift" and ".scale" [hidden] float64. Nothing where there
// is none.
int normalization_write(const struct normalization *normalization, const char *folder, struct error *err);

json_t *normalization_json(const struct normalization *normalization); // null where there is none

#endif

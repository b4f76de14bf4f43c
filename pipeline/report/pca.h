// SPDX-License-Identifier: MIT
// The two directions in which vectors differ most: the leading eigenvectors of their covariance, found
// without forming it by subspace iteration from a fixed start, in float64. The same vectors give the same
// bits.
#ifndef STRATA_REPORT_PCA_H
#define STRATA_REPORT_PCA_H

#include <stddef.h>

#include "base/error.h"

struct pca {
    double *place;   // [rows, 2], owned: of each vector along the two directions, its mean at 0
    double share[2]; // of the variance
};

// vectors: [rows, width], finite; their mean is taken from them in place. A direction's sign is such that its
// largest component is positive. Fewer than two directions that differ: zeros for the others.
int pca_fit(struct pca *pca, float *vectors, size_t rows, size_t width, struct error *err);
void pca_destroy(struct pca *pca); // accepts zeros; leaves zeros

#endif

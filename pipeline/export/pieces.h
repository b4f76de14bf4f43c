// SPDX-License-Identifier: MIT
// How an export is cut into pieces (files), and where in its piece each problem lies. A pure function of the
// plan and the request: a killed export finds the pieces it had.
#ifndef STRATA_EXPORT_PIECES_H
#define STRATA_EXPORT_PIECES_H

#include "export/export_plan.h"

enum { PIECE_NAME = SPLIT_NAME + 32 };

// Makes plan->pieces and fills in the places of all problems, which have their order and their splits.
int export_pieces_make(struct export_plan *plan, const struct export_request *request, struct error *err);

// Adds a piece. STATUS_INTERNAL.
int export_pieces_add(struct export_plan *plan, const struct export_piece *piece, struct error *err);

// "train", or "train-00002-of-00012" where a split has more than one file.
void export_piece_name(const struct export_plan *plan, const struct export_piece *piece,
                       char out[PIECE_NAME]);

#endif

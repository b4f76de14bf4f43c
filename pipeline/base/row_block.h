// SPDX-License-Identifier: MIT
// Blocks of consecutive rows of a query. What a survey keeps of each lets a part of the query be cut off,
// found and recognised again without a look at the rest.
#ifndef STRATA_BASE_ROW_BLOCK_H
#define STRATA_BASE_ROW_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"

struct row_block {
    int64_t rowid;           // of its first row, where the query can be entered
    uint64_t bytes;          // of its texts, about
    char sha256[DIGEST_HEX]; // of its rows, columns' names included
};

struct row_blocks {
    struct row_block *blocks; // [count]
    size_t count;
    uint64_t rows;      // of the query
    uint64_t per_block; // rows of a block but the last
    bool enters;        // the query reads one table by its rowids, and may begin at any of them
};

#endif

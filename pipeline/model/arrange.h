// SPDX-License-Identifier: MIT
// Tensors of packed weights, as their methods' files have them, into the parts of a weight format
// (kernels/weight_format.h): row-major, codes of 4 bits two in a byte with the first in the low half, zero
// points as they count. No number changes.
#ifndef STRATA_MODEL_ARRANGE_H
#define STRATA_MODEL_ARRANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum arrangement_kind {
    ARRANGE_AS_IS,      // the tensor's bytes are the part's
    ARRANGE_WORDS,      // codes packed into int32
    ARRANGE_TRANSPOSED, // [columns, rows] elements of `width` bytes
    ARRANGE_INDICES,    // int32 group numbers into uint16
    ARRANGE_EXPERTS,    // experts one after another, each transposed or with rows of two halves in turn
    ARRANGE_HEADS,      // rows of several parts of one head after another (q, k and v, say): all heads of the
                        // first part come first, then those of the next
};

enum arrangement_numbers { // what the tensor's elements are, where some of them are no numbers
    NUMBERS_ANY,           // codes that all count
    NUMBERS_F32,
    NUMBERS_F16,
    NUMBERS_BF16,
    NUMBERS_E8M0,
    NUMBERS_E4M3,
};

enum arrangement_order { ORDER_LOW_FIRST, ORDER_AWQ }; // of rows in a word; AWQ: 0 2 4 6 1 3 5 7

struct arrangement {
    enum arrangement_kind kind;
    enum arrangement_numbers numbers; // all must be finite
    size_t rows;                      // of the part: codes or elements, not bytes
    size_t columns;
    size_t width;        // bytes of an element (ARRANGE_TRANSPOSED, ARRANGE_HEADS)
    size_t heads;        // ARRANGE_HEADS
    size_t parts;        // of a head, at most four
    size_t part_rows[4]; // each part's rows of a head
    // ARRANGE_EXPERTS: rows of the part are those of so many experts, of which a file has the first half and
    // the second in turn where they alternate; is_transposed: each is [columns, rows].
    size_t experts;
    bool alternates;
    // ARRANGE_WORDS. A word that is not filled (the last of a row or column) is filled with anything.
    unsigned bits;      // 4 or 8
    bool packs_rows;    // a word holds codes of several rows, else of several columns of one
    bool is_transposed; // words lie column by column, else row by row
    bool is_one_less;   // codes count one more than they are stored; one that then has no room is refused
    enum arrangement_order order; // where packs_rows
    size_t groups;                // ARRANGE_INDICES: numbers are below
};

// out: the part's bytes; in: the tensor's, `bytes` of them. STATUS_DATA where a number is not finite or a
// code or an index is out of range; STATUS_INTERNAL where the sizes do not fit each other.
int arrange(unsigned char *out, size_t out_bytes, const struct arrangement *how, const unsigned char *in,
            size_t bytes, struct error *err);

// What arrange() says of numbers, for bytes that need no rearrangement: whole elements of the tensor.
int arrange_check(const struct arrangement *how, const unsigned char *in, size_t bytes, struct error *err);

#endif

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
    ARRANGE_WORDS,      // codes packed into int32, lowest bits first
    ARRANGE_TRANSPOSED, // [columns, rows] elements of `width` bytes
    ARRANGE_INDICES,    // int32 group numbers into uint16
};

enum { ARRANGE_IN_ORDER, ARRANGE_AWQ }; // in which order a word's nibbles hold rows

struct arrangement {
    enum arrangement_kind kind;
    size_t rows; // of the part: codes or elements, not bytes
    size_t columns;
    size_t width; // bytes of an element (ARRANGE_TRANSPOSED)
    // ARRANGE_WORDS
    unsigned bits;      // 4 or 8
    bool packs_rows;    // a word holds codes of several rows, else of several columns of one
    bool is_transposed; // words lie column by column, else row by row
    int order;
    uint32_t
        add; // to each code (1: zero points that are stored one less); a sum that does not fit is refused
    size_t groups; // ARRANGE_INDICES: numbers are below
    // Elements that are no numbers, which are refused wherever the tensor is floating (arrange_check).
};

// out: the part's bytes; in: the tensor's, `bytes` of them. STATUS_DATA where a code or an index is out of
// range; STATUS_INTERNAL where the sizes do not fit each other.
int arrange(unsigned char *out, size_t out_bytes, const struct arrangement *how, const unsigned char *in,
            size_t bytes, struct error *err);

#endif

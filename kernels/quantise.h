// SPDX-License-Identifier: MIT
// Weights quantised as they are loaded, to the codes that bitsandbytes 0.50.2 gives: NF4 in blocks, the
// absmax of these blocks once more (double quantisation), and LLM.int8's rows.
//
// Numbers are float32 that hold what the load dtype holds. All functions are pure: threads may quantise parts
// of one matrix at once. NF4 blocks run over the flattened matrix, [rows * columns]; a matrix that is not
// held whole is quantised in pieces, each of whole blocks but for the last, which may end in a partial block.
//
// Where bitsandbytes disagrees with itself:
// - NF4 follows its torch code, which is what runs on a CPU for every dtype: a partial block is divided by
//   its absmax, a whole one multiplied by the reciprocal. Its CUDA kernel multiplies in both; 1 of
//   3 * 10^7 codes of random partial blocks differed. A block of zeros has code 7 (0.0), there code 0 (-1.0,
//   times an absmax of 0).
// - Codes of the absmax are those of the midpoints of the map, as in its torch code and, exact ties apart, in
//   its CUDA kernel. Its CPU kernel rounds to one of 65,536 numbers first: of 1,000 codes 1 or 2 differ, and
//   are farther from the number by 3.1e-5 of the nested absmax at most.
// - LLM.int8 multiplies by (1 / absmax) * 127, as its torch code; its CUDA kernel by 127 / absmax.
// - The offset is the mean of the absmax summed in float64 and rounded once; torch's own float32 sum depends
//   on the instruction set, and differs by a few units in the last place at most.
#ifndef STRATA_KERNELS_QUANTISE_H
#define STRATA_KERNELS_QUANTISE_H

#include <stddef.h>

#include "base/error.h"

enum {
    QUANTISE_BLOCK = 64,         // of NF4, unless asked otherwise; powers of two from 32 to 4096
    QUANTISE_ABSMAX_BLOCK = 256, // of absmax
};

// Blocks of `block` that `count` numbers have.
static inline size_t quantise_blocks(size_t count, size_t block) {
    return count / block + (count % block != 0);
}

// Numbers [first, first + count) of a matrix; first is a multiple of `block`. Fails with STATUS_DATA at a NaN
// or an infinity, which it names by its place in the matrix; the outputs are then undefined.
// codes: two in a byte, the first in the high nibble [(count + 1) / 2]; a nibble left over holds 7, which is
// 0. absmax: [quantise_blocks(count, block)]; at least 1e-38 for a partial block, as bitsandbytes has it.
int quantise_nf4(unsigned char *codes, float *absmax, const float *numbers, size_t first, size_t count,
                 size_t block, struct error *err);

// The absmax of all blocks of a matrix (finite, so of quantise_nf4): absmax[i] is about
// map[codes[i]] * nested[i / 256] + offset, with the map of nf4_dynamic_map.
// codes: [blocks], nested: [quantise_blocks(blocks, QUANTISE_ABSMAX_BLOCK)], offset: one number.
void quantise_absmax(unsigned char *codes, float *nested, float *offset, const float *absmax, size_t blocks);

// Rows [first, first + rows) of a matrix; numbers, codes: [rows, columns]; absmax: [rows]. Every number is
// rounded to float16 first, as bitsandbytes does whatever the load dtype: a number is about
// codes * absmax / 127. Fails with STATUS_DATA at a number that float16 cannot hold. No column is set apart
// as an outlier.
int quantise_int8_rows(signed char *codes, float *absmax, const float *numbers, size_t first, size_t rows,
                       size_t columns, struct error *err);

#endif

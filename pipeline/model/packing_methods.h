// SPDX-License-Identifier: MIT
// One file a method of packing: what packing.c calls of them, and what they share.
#ifndef STRATA_MODEL_PACKING_METHODS_H
#define STRATA_MODEL_PACKING_METHODS_H

#include "model/packing.h"

// As packing_find, of a checkpoint whose configuration names the method.
typedef int packing_finder(struct weight_source *out, const struct checkpoint *checkpoint,
                           const struct quantization *quantization, const char *stem, size_t rows,
                           size_t columns, bool *found, struct error *err);

packing_finder packing_gptq_find; // AWQ too
packing_finder packing_compressed_find;
packing_finder packing_bitsandbytes_find;
packing_finder packing_fp8_find;
packing_finder packing_mxfp4_find;

int packing_gptq_settle(struct quantization *quantization, const struct checkpoint *checkpoint,
                        struct error *err);

// ---- shared ----

struct packing { // a weight that is looked for
    struct weight_source *out;
    const struct checkpoint *checkpoint;
    const struct quantization *quantization;
    const char *stem;
    size_t rows;
    size_t columns;
};

// The tensor "STEM.suffix", or NULL.
const struct tensor *packing_tensor(const struct packing *p, const char *suffix);

// The same; STATUS_DATA where it is missing.
int packing_require(const struct packing *p, const char *suffix, const struct tensor **out,
                    struct error *err);

// STATUS_DATA unless the tensor has this type and shape; rank 1 has one size.
int packing_check(const struct tensor *tensor, const char *type, size_t rank, size_t size, size_t second,
                  struct error *err);
int packing_check_shape(const struct tensor *tensor, size_t rank, size_t size, size_t second,
                        struct error *err);

// The type of a scale and what must hold of its numbers: F32, F16, BF16.
int packing_scale(const struct tensor *tensor, struct weight_format *format,
                  enum arrangement_numbers *numbers, enum dtype *dtype, struct error *err);

// Another tensor of the weight, that becomes a part; or that is known and not needed.
void packing_add(const struct packing *p, const struct tensor *tensor, enum weight_part part,
                 struct arrangement how);
void packing_pass(const struct packing *p, const struct tensor *tensor);

// All bytes of a small tensor. The caller frees *out.
int packing_read(const struct packing *p, const struct tensor *tensor, unsigned char **out,
                 struct error *err);

// The group numbers of columns: *in_order where they only count up, `group` columns each (0: all columns).
// STATUS_DATA where one is not below `groups`.
int packing_read_order(const struct packing *p, const struct tensor *tensor, size_t group, size_t groups,
                       bool *in_order, struct error *err);

#endif

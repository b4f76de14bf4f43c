// What the methods (packing_methods.h) do with tensors: find one by the end of its name, check it with words
// that name it, make it a component.
#ifndef STRATA_MODEL_WEIGHT_TENSORS_H
#define STRATA_MODEL_WEIGHT_TENSORS_H

#include "model/packing.h"

// The tensor whose name is `stem` with `ending` behind it, or NULL.
const struct tensor *weight_tensor_find(const struct checkpoint *checkpoint, const char *stem,
                                        const char *ending);

// The same; STATUS_DATA where it is missing.
int weight_tensor_need(const struct tensor **out, const struct checkpoint *checkpoint, const char *stem,
                       const char *ending, struct error *err);

bool weight_tensor_is(const struct tensor *tensor, const char *type);

// STATUS_DATA unless the tensor has the type and the shape; `reason` says in messages what asks for the
// shape.
int weight_tensor_check(const struct tensor *tensor, const char *type, size_t rank, const size_t *shape,
                        const char *reason, struct error *err);

// A component whose bytes are the part's (all numbers must be finite), and one that is known and not read.
void weight_tensor_take(struct weight_source *out, const struct tensor *tensor, enum weight_part part,
                        enum arrangement_numbers numbers);
void weight_tensor_pass_over(struct weight_source *out, const struct tensor *tensor);

// Once all components are there: each must have the bytes that its part takes in a matrix of this size.
int weight_tensors_fit(const struct weight_source *source, size_t rows, size_t columns, struct error *err);

// All bytes of a small tensor; STATUS_DATA where it does not have `size` of them.
int weight_tensor_read(void *out, size_t size, const struct checkpoint *checkpoint,
                       const struct tensor *tensor, struct error *err);

#endif

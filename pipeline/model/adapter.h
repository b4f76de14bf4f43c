// SPDX-License-Identifier: MIT
// A LoRA adapter beside a model (private to this room): a folder with adapter_config.json and
// adapter_model.safetensors, as peft saves them. It is merged when the model's weights are loaded: W + scale
// * B A, the product and the sum in float32, rounded once to what the device computes in (load_merge.c).
//
// All of it is read and checked when it is opened: every tensor is used or refused by name. Its numbers stay
// in host memory, in float32, as long as weights may be loaded.
#ifndef STRATA_MODEL_ADAPTER_H
#define STRATA_MODEL_ADAPTER_H

#include "base/digest.h"
#include "base/memory.h"
#include "kernels/low_rank.h"
#include "model/match.h"

struct adapter {
    struct low_rank *deltas; // [match->count] rank 0: nothing is added to the weight
    size_t count;
    size_t changed; // weights that something is added to
    size_t lowest;  // of their ranks
    size_t highest;
    char fingerprint[DIGEST_HEX]; // of both files' bytes
    struct buffer notes;          // for people, a line each; data may be NULL
};

// STATUS_DATA naming the file, and the key or tensor that is wrong. `match`: of the model that it is for.
int adapter_open(struct adapter **out, const char *folder, const struct model_config *config,
                 const struct weight_match *match, struct error *err);
void adapter_close(struct adapter *adapter); // accepts NULL

// Gives the numbers back once no weight is loaded any more; what it is stays known.
void adapter_release(struct adapter *adapter); // accepts NULL

// Whether each weight that it adds to is loaded as numbers: STATUS_JOB naming one that stays packed.
int adapter_check_held(const struct adapter *adapter, const struct model_config *config,
                       const struct weight_match *match, struct error *err);

// "LoRA of rank 8 on 14 matrices"
int adapter_describe(const struct adapter *adapter, struct buffer *out, struct error *err);

#endif

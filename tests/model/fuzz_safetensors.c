// SPDX-License-Identifier: MIT
// Fuzz target: a safetensors header. What is accepted must tile the file's data section exactly.
#include <stdint.h>
#include <stdlib.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    struct error err = {0};
    struct tensors file = {0};
    if (safetensors_parse(&file, 0, data, size, "fuzz", &err) != STATUS_OK) {
        if (err.status != STATUS_DATA || file.count != 0) {
            abort();
        }
        tensors_destroy(&file);
        return 0;
    }
    fuzz_accepted++;
    size_t at = file.count == 0 ? size : file.entries[0].begin;
    for (size_t i = 0; i < file.count; i++) {
        const struct tensor *tensor = &file.entries[i];
        size_t bits = tensor->type->bits;
        for (size_t d = 0; d < tensor->rank; d++) {
            bits *= tensor->shape[d];
        }
        if (tensor->begin != at || tensor->end - tensor->begin != bits / 8 || tensor->name == NULL) {
            abort();
        }
        at = tensor->end;
    }
    if (at != size) {
        abort();
    }
    tensors_destroy(&file);
    return 0;
}

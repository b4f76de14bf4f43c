// SPDX-License-Identifier: MIT
// Libraries loaded when a GPU is opened, not when the program starts: cuBLASLt is half a gigabyte that a run
// on the CPU, or `strata status`, has no use for, and NVML may be missing. The emulation implements this
// header with its own functions.
#ifndef STRATA_KERNELS_CUDA_LIBRARY_H
#define STRATA_KERNELS_CUDA_LIBRARY_H

#include <stddef.h>

struct library;

// Opens the first of `names` (NULL at the end) that is found. NULL: `why` says what the loader said.
struct library *library_open(const char *const *names, char *why, size_t why_size);
// The file that it was loaded from, as the loader names it.
void library_file(struct library *library, char *out, size_t size);
void library_close(struct library *library);                     // accepts NULL
void *library_symbol(struct library *library, const char *name); // NULL: not there

#endif

// SPDX-License-Identifier: MIT
// Where cuBLASLt may lie when the loader does not find it: a program that was built elsewhere, or a machine
// whose CUDA came with PyTorch, has it in a folder that no loader looks into. Folders are found by the file
// system's rules alone: no other program is asked.
#ifndef STRATA_KERNELS_CUDA_CUBLASLT_PLACES_H
#define STRATA_KERNELS_CUDA_CUBLASLT_PLACES_H

#include "base/error.h"
#include "base/memory.h"

// Appends the folders to look into, best first and each once, as patterns of glob(3), a line feed behind
// each:
// - lib beside the program, and beside its folder;
// - PyPI's wheels in the environment that the program itself was installed in (its bin's lib/python3*);
// - `built_with`, where the build found the library (NULL: nowhere);
// - the toolkit: CUDA_HOME, CUDA_PATH, CONDA_PREFIX, /usr/local/cuda*, /opt/cuda;
// - PyPI's wheels: in the site-packages of VIRTUAL_ENV, CONDA_PREFIX, the first python3 on PATH, the user
//   and the machine.
int cublaslt_places(struct buffer *out, const char *built_with, struct error *err);

#endif

// SPDX-License-Identifier: MIT
// Number formats as cuBLASLt names them.
#ifndef STRATA_CUDA_EMULATION_LIBRARY_TYPES_H
#define STRATA_CUDA_EMULATION_LIBRARY_TYPES_H

typedef enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_16F = 2, CUDA_R_16BF = 14 } cudaDataType;
typedef cudaDataType cudaDataType_t;

typedef enum libraryPropertyType_t { MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL } libraryPropertyType;

#endif

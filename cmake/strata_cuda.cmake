# CUDA is looked for and optional: what was found is said, and a machine without nvcc builds the same program with a
# stand-in that says so.
include(CheckLanguage)

# The C part of a back end for kernels/device_ops.h (kernels in .cu files are targets of their own); it sees what the
# kernels room sees.
function(strata_cuda_target target)
  add_library(${target} STATIC ${ARGN})
  target_include_directories(${target} PRIVATE ${CMAKE_BINARY_DIR}/include/kernels ${CMAKE_BINARY_DIR}/include/base)
  target_link_libraries(${target} PUBLIC $<LINK_ONLY:strata_kernels> $<LINK_ONLY:strata_base>
    PRIVATE strata_flags OpenMP::OpenMP_C Threads::Threads)
endfunction()

strata_cuda_target(strata_cuda ${CMAKE_SOURCE_DIR}/kernels/cuda_absent.c)
message(STATUS "CUDA: not looked for yet; the CPU back end is built")

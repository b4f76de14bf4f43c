# SPDX-License-Identifier: MIT
# Compile flags of the CPU paths: each file of kernels/cpu/paths that needs an instruction set is built for it alone, and
# runs only after the processor said that it has it. Included after strata_room(kernels).
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(cpu_paths ${CMAKE_SOURCE_DIR}/kernels/cpu/paths)
  set(cpu_avx2 -mavx2 -mfma -mf16c)
  set(cpu_avx512 ${cpu_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set_source_files_properties(${cpu_paths}/avx2.c PROPERTIES COMPILE_OPTIONS "${cpu_avx2}")
  set_source_files_properties(${cpu_paths}/avx512.c PROPERTIES COMPILE_OPTIONS "${cpu_avx512}")
  set_source_files_properties(${cpu_paths}/avx512bf16.c PROPERTIES COMPILE_OPTIONS "${cpu_avx512};-mavx512bf16")
  set_source_files_properties(${cpu_paths}/amxbf16.c PROPERTIES COMPILE_OPTIONS
    "${cpu_avx512};-mavx512bf16;-mamx-tile;-mamx-bf16")
endif()
# Under a sanitizer their loops over registers come apart at -O2 and not before, which the tests feel more than the compiler does.
if(STRATA_SANITIZER)
  foreach(path IN ITEMS avx2 avx512 avx512bf16 amxbf16)
    set_property(SOURCE ${CMAKE_SOURCE_DIR}/kernels/cpu/paths/${path}.c APPEND PROPERTY COMPILE_OPTIONS -O2)
  endforeach()
endif()
# The twin of the tile instructions does everything number by number: in a debug build it would take most of the tests' time.
set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cpu/paths/amxbf16_twin.c PROPERTIES COMPILE_OPTIONS -O3)
# No fuzz target computes: instrumented by the fuzzer these files would take most of its build.
if(STRATA_FUZZ)
  foreach(path IN ITEMS portable avx2 avx512 avx512bf16 amxbf16 amxbf16_twin)
    set_property(SOURCE ${CMAKE_SOURCE_DIR}/kernels/cpu/paths/${path}.c APPEND PROPERTY COMPILE_OPTIONS -O0 -fno-sanitize=all)
  endforeach()
endif()

# The CUDA back end is a library of its own: strata_cuda is kernels/cuda where nvcc and cuBLAS were found, otherwise its
# stand-in. A program with the property STRATA_EMULATES_CUDA (tests) links the back end built against the emulation instead.
include(strata_cuda)
target_link_libraries(strata_kernels INTERFACE
  $<IF:$<BOOL:$<TARGET_PROPERTY:STRATA_EMULATES_CUDA>>,strata_cuda_emulated,strata_cuda>)

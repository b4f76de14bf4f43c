# Compile flags of the CPU paths: each file of kernels/cpu/paths that needs an instruction set is built for it alone, and
# runs only after the processor said that it has it. Included after strata_room(kernels).
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(cpu_paths ${CMAKE_SOURCE_DIR}/kernels/cpu/paths)
  set(cpu_avx2 -mavx2 -mfma)
  set(cpu_avx512 ${cpu_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set_source_files_properties(${cpu_paths}/avx2.c PROPERTIES COMPILE_OPTIONS "${cpu_avx2}")
  set_source_files_properties(${cpu_paths}/avx512.c PROPERTIES COMPILE_OPTIONS "${cpu_avx512}")
  set_source_files_properties(${cpu_paths}/avx512bf16.c PROPERTIES COMPILE_OPTIONS "${cpu_avx512};-mavx512bf16")
endif()

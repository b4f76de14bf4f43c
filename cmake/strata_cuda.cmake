# SPDX-License-Identifier: MIT
# The CUDA back end: compiled where nvcc and cuBLAS's headers are found; otherwise a stand-in takes its place, which says at
# run time that there is none, and a status line says here what is missing. Neither cuBLASLt nor NVML is linked: they are
# loaded when a GPU is opened. The sanitizer builds leave the GPU out: the emulation (tests) checks its host code.
set(STRATA_CUDA AUTO CACHE STRING "Build the CUDA back end: ON, OFF or AUTO (where all of it is found)")
set(STRATA_CUDA_PYPI "" CACHE PATH
  "A site-packages folder with PyPI's nvidia-cublas; empty: that of STRATA_PYTHON, then of python3")
set(STRATA_CUDA_ARCHITECTURES "" CACHE STRING "As CMAKE_CUDA_ARCHITECTURES; empty: every one that the program is for")
include(CheckLanguage)

# The C part of a back end for kernels/back_end.h (kernels in .cu files are targets of their own); it sees what the
# kernels room sees.
function(strata_cuda_target target)
  add_library(${target} STATIC ${ARGN})
  target_include_directories(${target} PRIVATE ${CMAKE_BINARY_DIR}/include/kernels ${CMAKE_BINARY_DIR}/include/base)
  target_link_libraries(${target} PUBLIC $<LINK_ONLY:strata_kernels> $<LINK_ONLY:strata_base>
    PRIVATE strata_flags OpenMP::OpenMP_C Threads::Threads)
endfunction()

# ---- what is there ----

# CMAKE_CUDA_COMPILER, or `cuda_missing`.
macro(strata_cuda_find_compiler)
  find_program(STRATA_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
  mark_as_advanced(STRATA_NVCC)
  if(NOT STRATA_NVCC AND NOT DEFINED ENV{CUDACXX} AND NOT CMAKE_CUDA_COMPILER)
    set(cuda_missing "nvcc was not found")
  else()
    if(NOT DEFINED ENV{CUDACXX} AND NOT CMAKE_CUDA_COMPILER)
      set(ENV{CUDACXX} ${STRATA_NVCC})
    endif()
    if(NOT CMAKE_CUDA_COMPILER) # what an earlier try lacked may be there now
      unset(CMAKE_CUDA_COMPILER CACHE)
    endif()
    check_language(CUDA)
    if(NOT CMAKE_CUDA_COMPILER)
      set(cuda_missing "${STRATA_NVCC} compiles nothing here (CUDA needs a C++ compiler that it knows)")
    endif()
  endif()
endmacro()

# site-packages folders that may have NVIDIA's packages.
function(strata_cuda_sites out)
  set(sites ${STRATA_CUDA_PYPI})
  if(NOT sites)
    foreach(python IN ITEMS "${STRATA_PYTHON}" python3)
      if(python)
        execute_process(COMMAND ${python} -c "import sysconfig; print(sysconfig.get_path('purelib'))"
          OUTPUT_VARIABLE site OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
        list(APPEND sites ${site})
      endif()
    endforeach()
  endif()
  set(${out} ${sites} PARENT_SCOPE)
endfunction()

# STRATA_CUDA_HEADERS and STRATA_CUBLAS_DIR, or `cuda_missing`. cuBLAS of another major version than nvcc's is none.
macro(strata_cuda_find_libraries)
  set(folders ${CUDAToolkit_INCLUDE_DIRS})
  strata_cuda_sites(sites)
  foreach(site IN LISTS sites) # PyPI: nvidia/cu13; nvidia/cublas before CUDA 13
    file(GLOB more ${site}/nvidia/cu${CUDAToolkit_VERSION_MAJOR}/include ${site}/nvidia/cublas/include)
    list(APPEND folders ${more})
  endforeach()
  unset(cublas)
  foreach(folder IN LISTS folders)
    if(NOT cublas AND EXISTS ${folder}/cublasLt.h)
      file(STRINGS ${folder}/cublas_api.h version REGEX "define CUBLAS_VER_MAJOR +${CUDAToolkit_VERSION_MAJOR}$")
      if(version)
        set(cublas ${folder})
      endif()
    endif()
  endforeach()
  if(NOT cublas)
    set(cuda_missing "nvcc is there, but no cublasLt.h of CUDA ${CUDAToolkit_VERSION_MAJOR} (PyPI: nvidia-cublas)")
  else()
    set(STRATA_CUDA_HEADERS ${CUDAToolkit_INCLUDE_DIRS} ${cublas})
    list(REMOVE_DUPLICATES STRATA_CUDA_HEADERS)
    get_filename_component(prefix ${cublas} DIRECTORY)
    find_file(library libcublasLt.so.${CUDAToolkit_VERSION_MAJOR} NO_DEFAULT_PATH NO_CACHE
      PATHS ${CUDAToolkit_LIBRARY_DIR} ${prefix}/lib ${prefix}/lib64)
    if(library) # where it lies, for a loader that does not look there
      get_filename_component(STRATA_CUBLAS_DIR ${library} DIRECTORY)
    endif()
  endif()
endmacro()

# ---- the library ----

function(strata_cuda_build)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.c)
  file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
  add_library(strata_cuda_kernels STATIC ${kernels})
  target_include_directories(strata_cuda_kernels PRIVATE ${CMAKE_BINARY_DIR}/include/kernels ${CMAKE_BINARY_DIR}/include/base)
  set_target_properties(strata_cuda_kernels PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF
    CUDA_RUNTIME_LIBRARY Static)
  # Fused multiply-adds are written out where they are wanted, as everywhere (strata_flags.cmake).
  target_compile_options(strata_cuda_kernels PRIVATE -fmad=false -Xcompiler=-Wall,-Wextra
    "$<$<BOOL:${STRATA_WERROR}>:-Xcompiler=-Werror;--Werror=all-warnings>"
    # Every driver for CUDA 13 unpacks it; for CUDA 12 only those since 12.4 do. Each test program holds all kernels.
    $<$<VERSION_GREATER_EQUAL:${CUDAToolkit_VERSION},13.0>:--compress-mode=size>)
  # Kernels are laid out for a number of registers: a spill is a warning, and with the version that they were counted with an
  # error with the other warnings. Other versions allocate otherwise, at some cost in time and in no bit.
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13.0 AND CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13.1)
    target_compile_options(strata_cuda_kernels PRIVATE -Xptxas=-warn-spills,-warn-lmem-usage)
  endif()
  target_link_libraries(strata_cuda_kernels PUBLIC $<LINK_ONLY:CUDA::cudart_static>)

  strata_cuda_target(strata_cuda ${sources})
  target_include_directories(strata_cuda SYSTEM PRIVATE ${STRATA_CUDA_HEADERS})
  string(REGEX REPLACE "([0-9]+[a-z]?)-real" "sm_\\1" built_for "${CMAKE_CUDA_ARCHITECTURES}")
  string(REGEX REPLACE "([0-9]+[a-z]?)-virtual" "compute_\\1" built_for "${built_for}")
  list(JOIN built_for " " built_for)
  target_compile_definitions(strata_cuda PRIVATE STRATA_CUBLAS_MAJOR="${CUDAToolkit_VERSION_MAJOR}"
    STRATA_CUDA_BUILD="${CUDAToolkit_VERSION} for ${built_for}")
  if(STRATA_CUBLAS_DIR)
    target_compile_definitions(strata_cuda PRIVATE STRATA_CUBLAS_DIR="${STRATA_CUBLAS_DIR}")
  endif()
  target_link_libraries(strata_cuda PUBLIC $<LINK_ONLY:strata_cuda_kernels> PRIVATE ${CMAKE_DL_LIBS})
endfunction()

set(cuda_missing "")
if(NOT STRATA_CUDA)
  set(cuda_missing "left out (STRATA_CUDA=${STRATA_CUDA})")
elseif(STRATA_SANITIZER)
  set(cuda_missing "left out of a build with sanitizers")
else()
  strata_cuda_find_compiler()
endif()
if(NOT cuda_missing)
  if(CMAKE_CUDA_COMPILER AND NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES ${STRATA_CUDA_ARCHITECTURES})
    if(NOT STRATA_CUDA_ARCHITECTURES)
      execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE known)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 90-virtual) # CUDA 12.4 on
      if(known MATCHES "sm_120") # 12.8 on
        # PTX of both: that of 120 serves none of those between it and 90 (100, 103, 110).
        set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 90-virtual 120-real 120-virtual)
      endif()
    endif()
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  strata_cuda_find_libraries()
endif()
if(cuda_missing)
  if(STRATA_CUDA STREQUAL ON)
    message(FATAL_ERROR "CUDA: ${cuda_missing}")
  endif()
  strata_cuda_target(strata_cuda ${CMAKE_SOURCE_DIR}/kernels/cuda_absent.c)
  message(STATUS "CUDA: ${cuda_missing}; a stand-in takes the place of its back end")
else()
  strata_cuda_build()
  message(STATUS "CUDA: ${CUDAToolkit_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}, cuBLASLt ${STRATA_CUBLAS_DIR}")
endif()

# CUDA is looked for and optional: what was found is said, and nothing is enabled, so that a machine without nvcc builds
# the same program.
include(CheckLanguage)

function(strata_look_for_cuda)
  set(CMAKE_MESSAGE_LOG_LEVEL WARNING) # check_language's own lines; ours follows
  check_language(CUDA)
  unset(CMAKE_MESSAGE_LOG_LEVEL)
  if(CMAKE_CUDA_COMPILER)
    message(STATUS "CUDA: nvcc found (${CMAKE_CUDA_COMPILER}); no back end is built from it yet")
  else()
    message(STATUS "CUDA: not found; the CPU back end is built")
  endif()
endfunction()
strata_look_for_cuda()

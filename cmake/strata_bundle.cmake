# SPDX-License-Identifier: MIT
# Target bundle: a folder in the build, and an archive of it, with the program, its tests of the device and the libraries they
# need, for other machines. tools/bundle.sh makes them, and takes the tests' names from the build's device_tests.txt.
if(NOT STRATA_SANITIZER)
  set(tests "")
  if(STRATA_TESTS)
    string(REPLACE "/" "_" tests "${STRATA_DEVICE_TESTS}")
  endif()
  list(TRANSFORM tests APPEND "\n" OUTPUT_VARIABLE lines)
  list(JOIN lines "" lines)
  file(WRITE ${CMAKE_BINARY_DIR}/device_tests.txt "${lines}")
  add_custom_target(bundle COMMAND ${CMAKE_COMMAND} -E env "CC=${CMAKE_C_COMPILER}" ${CMAKE_SOURCE_DIR}/tools/bundle.sh
    --build ${CMAKE_BINARY_DIR} DEPENDS strata $<$<BOOL:${STRATA_TESTS}>:device_tests> USES_TERMINAL VERBATIM)
endif()

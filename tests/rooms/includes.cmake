# SPDX-License-Identifier: MIT
# Compiles one planted line for each pair below with the include paths of a room's target (joined by |). The allowed ones
# must compile, so that a wrong flag cannot pass for a kept rule; the upward ones must not be found.
set(file ${CMAKE_CURRENT_LIST_DIR}/planted.c)

function(try_include room header out words)
  string(REPLACE "|" ";-I" flags "-I${${room}}")
  execute_process(COMMAND ${CMAKE_COMMAND} -E env LC_ALL=C ${COMPILER} -std=c17 -D_GNU_SOURCE -fsyntax-only "-DPLANTED=\"${header}\"" ${flags} ${file}
    RESULT_VARIABLE result ERROR_VARIABLE errors)
  set(${out} ${result} PARENT_SCOPE)
  set(${words} "${errors}" PARENT_SCOPE)
endfunction()

foreach(pair "base base/error.h" "kernels base/error.h" "checkpoints base/error.h" "model kernels/device.h"
        "parts kernels/cpu/nodes.h" "watch journal/journal.h" "stages watch/guard.h" "start stages/writer.h" "run start/launch.h" "commands run/runner.h")
  separate_arguments(pair)
  list(GET pair 0 room)
  list(GET pair 1 header)
  try_include(${room} ${header} result words)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${room} must be able to include ${header}:\n${words}")
  endif()
endforeach()

foreach(pair "base stages/batch_plan.h" "base kernels/device.h" "kernels model/model.h" "checkpoints job/job.h"
        "checkpoints stages/batch_plan.h" "model checkpoints/ledger.h" "model text/tokenizer.h" "model bench/benchmark.h"
        "parts checkpoints/ledger.h" "journal watch/guard.h" "watch stages/writer.h" "stages start/inputs.h" "start run/runner.h"
        "run commands/command.h" "commands watch/guard.h" "commands extract/watch/guard.h" "commands run/watch/guard.h")
  separate_arguments(pair)
  list(GET pair 0 room)
  list(GET pair 1 header)
  try_include(${room} ${header} result words)
  if(result EQUAL 0)
    message(FATAL_ERROR "${room} could include ${header}: the include rule of the rooms does not hold")
  endif()
  if(NOT words MATCHES "${header}: No such file|'${header}' file not found")
    message(FATAL_ERROR "${room} could not include ${header}, but for another reason than the rule:\n${words}")
  endif()
endforeach()

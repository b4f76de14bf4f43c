# SPDX-License-Identifier: MIT
# The commit that a program is built from, for `strata --version`: a file of its own, which alone is compiled anew when the commit changes.
# Included it makes the library strata_commit; run with SOURCE and OUTPUT (cmake -P, before every build) it writes that file.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(commit_file ${CMAKE_BINARY_DIR}/commit/commit.c)
  add_custom_target(strata_commit_file COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUTPUT=${commit_file}
    -P ${CMAKE_CURRENT_LIST_FILE} BYPRODUCTS ${commit_file} VERBATIM)
  add_library(strata_commit STATIC ${commit_file})
  add_dependencies(strata_commit strata_commit_file)
  target_include_directories(strata_commit PRIVATE ${CMAKE_BINARY_DIR}/include/commands)
  target_link_libraries(strata_commit PRIVATE strata_flags)
  return()
endif()

set(commit "$Format:%h$") # git archive puts the commit here
if(commit MATCHES "^.Format")
  set(commit "")
endif()
if(EXISTS ${SOURCE}/.git) # and not one further up, which is another project's
  find_program(git git)
  if(git)
    execute_process(COMMAND ${git} --no-optional-locks -C ${SOURCE} describe --always --tags --dirty --abbrev=12 OUTPUT_VARIABLE commit
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()
if(NOT commit MATCHES "^[A-Za-z0-9._+/-]+$")
  set(commit unknown)
endif()
set(text "// Made by cmake/strata_commit.cmake.\n#include \"commands/commit.h\"\n\nconst char commit_built_from[] = \"${commit}\";\n")
set(before "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT before STREQUAL text)
  file(WRITE ${OUTPUT} "${text}")
endif()

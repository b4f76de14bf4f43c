# SPDX-License-Identifier: MIT
# One target a folder. A room sees another room's headers only through build/include/ROOM/ROOM (a link to its folder),
# and only when it names that room in DEPENDS, so that an include against the direction of the house does not compile:
#   #include "base/error.h"      found by every room that depends on base
function(strata_room room)
  cmake_parse_arguments(ARG "" "PATH" "DEPENDS;LIBRARIES;PRIVATE_LIBRARIES;EXCEPT" ${ARGN})
  set(folder ${CMAKE_SOURCE_DIR}/${ARG_PATH})
  set(include ${CMAKE_BINARY_DIR}/include/${room})
  file(MAKE_DIRECTORY ${include})
  file(CREATE_LINK ${folder} ${include}/${room} SYMBOLIC)

  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${folder}/*.c)
  foreach(except IN LISTS ARG_EXCEPT) # libraries of their own
    list(FILTER sources EXCLUDE REGEX "^${folder}/${except}")
  endforeach()
  add_library(strata_${room} STATIC ${sources})
  target_include_directories(strata_${room} INTERFACE ${include} PRIVATE ${include})
  foreach(other IN LISTS ARG_DEPENDS)
    # Include paths are not passed on: linking is transitive, seeing is not.
    target_include_directories(strata_${room} PRIVATE ${CMAKE_BINARY_DIR}/include/${other})
    target_link_libraries(strata_${room} PUBLIC $<LINK_ONLY:strata_${other}>)
  endforeach()
  target_link_libraries(strata_${room} PUBLIC ${ARG_LIBRARIES} PRIVATE ${ARG_PRIVATE_LIBRARIES} strata_flags
    OpenMP::OpenMP_C Threads::Threads m)
  set_property(GLOBAL APPEND PROPERTY STRATA_ROOMS ${room})
endfunction()

# SPDX-License-Identifier: MIT
# Language, warnings and sanitizers, carried by one interface target that every room links.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_C_FLAGS_RELEASE "-O3 -g")

# What a compiler that nobody has tried yet warns of must not keep a user from building.
option(STRATA_WERROR "Warnings of the compilers are errors" ON)
set(strata_werror $<$<BOOL:${STRATA_WERROR}>:-Werror>)

add_library(strata_flags INTERFACE)
target_compile_definitions(strata_flags INTERFACE _GNU_SOURCE)
target_compile_options(strata_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla ${strata_werror}
  # Bits must not depend on what the compiler fuses: fused multiply-adds are written out where they are wanted.
  -ffp-contract=off -fno-math-errno)
if(STRATA_SANITIZER STREQUAL "address")
  target_compile_options(strata_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(strata_flags INTERFACE -fsanitize=address,undefined)
elseif(STRATA_SANITIZER STREQUAL "thread")
  target_compile_options(strata_flags INTERFACE -fsanitize=thread)
  target_link_options(strata_flags INTERFACE -fsanitize=thread)
elseif(NOT STRATA_SANITIZER STREQUAL "")
  message(FATAL_ERROR "STRATA_SANITIZER is address, thread or empty, not '${STRATA_SANITIZER}'")
endif()
# Without optimisation the kernels' tests take three times as long under a sanitizer; its reports need no more than lines.
set(strata_sanitized_build $<$<AND:$<BOOL:${STRATA_SANITIZER}>,$<CONFIG:Debug>>:-O1;-g1>)
target_compile_options(strata_flags INTERFACE ${strata_sanitized_build})

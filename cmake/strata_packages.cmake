# SPDX-License-Identifier: MIT
# Libraries without installing them: STRATA_PACKAGES names a folder that a distribution's packages were unpacked into (for
# f in *.deb; do dpkg -x $f FOLDER; done), before the system's. Programs find their libraries there when they run, too.
set(STRATA_PACKAGES "" CACHE PATH "A folder with unpacked packages (FOLDER/usr/include, FOLDER/usr/lib ...); empty: the system's")

if(STRATA_PACKAGES)
  get_filename_component(packages ${STRATA_PACKAGES} ABSOLUTE)
  if(NOT IS_DIRECTORY ${packages}/usr/include)
    message(FATAL_ERROR "STRATA_PACKAGES: no packages were unpacked into ${packages} (it has no usr/include)")
  endif()
  file(GLOB libc ${packages}/lib/*/libc.so.6 ${packages}/usr/lib/*/libc.so.6 ${packages}/usr/include/stdio.h)
  if(libc)
    message(FATAL_ERROR "STRATA_PACKAGES: the C library (packages libc6, libc6-dev) must be the system's: leave it out of ${packages}")
  endif()
  set(mended ${CMAKE_BINARY_DIR}/packages) # what names another place than this folder
  file(REMOVE_RECURSE ${mended})
  file(GLOB folders LIST_DIRECTORIES true ${packages}/usr/lib/*-linux-gnu ${packages}/lib/*-linux-gnu)
  list(APPEND folders ${packages}/usr/lib64 ${packages}/usr/lib)

  file(GLOB descriptions ${packages}/usr/lib*/pkgconfig/*.pc ${packages}/usr/lib/*/pkgconfig/*.pc ${packages}/usr/share/pkgconfig/*.pc)
  foreach(description IN LISTS descriptions)
    get_filename_component(name ${description} NAME)
    file(READ ${description} text)
    string(REGEX REPLACE "(=|-I|-L|[ \t])/usr" "\\1${packages}/usr" text "${text}")
    file(WRITE ${mended}/pkgconfig/${name} "${text}")
  endforeach()
  set(ENV{PKG_CONFIG_PATH} ${mended}/pkgconfig:$ENV{PKG_CONFIG_PATH})

  file(GLOB links ${packages}/usr/lib/*.so ${packages}/usr/lib/*/*.so)
  foreach(link IN LISTS links)
    if(IS_SYMLINK ${link})
      file(READ_SYMLINK ${link} target)
      if(IS_ABSOLUTE ${target} AND EXISTS ${packages}${target})
        get_filename_component(name ${link} NAME)
        file(MAKE_DIRECTORY ${mended}/lib)
        file(CREATE_LINK ${packages}${target} ${mended}/lib/${name} SYMBOLIC)
      endif()
    endif()
  endforeach()

  list(PREPEND CMAKE_LIBRARY_PATH ${mended}/lib ${folders})
  list(PREPEND CMAKE_INCLUDE_PATH ${packages}/usr/include)
  # For every room: compilers look into the system's own folders without being told. OpenSSL has its configuration apart.
  file(GLOB machine_headers LIST_DIRECTORIES true ${packages}/usr/include/*-linux-gnu)
  foreach(folder IN LISTS machine_headers ITEMS ${packages}/usr/include)
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:SHELL:-isystem ${folder}>")
  endforeach()
  set(CMAKE_BUILD_RPATH ${folders})
  add_link_options(LINKER:--disable-new-dtags) # an old one holds for the libraries' own libraries, too
endif()

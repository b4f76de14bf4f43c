# SPDX-License-Identifier: MIT
# cmake --install BUILD --prefix P: the program, the systemd unit, the manual pages, the completion of bash and zsh, and the pages of this
# repository. cpack -G DEB makes a package of the same. Tests and archives of the rooms are the build's own and stay there.
if(STRATA_SANITIZER)
  return()
endif()
include(GNUInstallDirs)
install(TARGETS strata RUNTIME)
# What the program says of itself is asked of it when it is installed: nothing in the build can be behind it.
install(CODE "set(strata_program \"$<TARGET_FILE:strata>\")
set(strata_source \"${CMAKE_SOURCE_DIR}\")
set(strata_made \"${CMAKE_BINARY_DIR}/pages\")
set(strata_prefix \"\${CMAKE_INSTALL_PREFIX}\")
set(strata_unit ON)")
install(SCRIPT ${CMAKE_SOURCE_DIR}/cmake/strata_pages.cmake)
# The pages keep their places, so that the links between them do.
set(doc ${CMAKE_INSTALL_DATADIR}/doc/strata-latents)
install(FILES README.md CONTRIBUTING.md CHANGELOG.md LICENSE DESTINATION ${doc})
install(DIRECTORY configs DESTINATION ${doc})
foreach(page checkpoints/README.md checkpoints/shard.h kernels/README.md pipeline/README.md tests/README.md tests/cuda_emulation/README.md)
  get_filename_component(folder ${page} DIRECTORY)
  install(FILES ${page} DESTINATION ${doc}/${folder})
endforeach()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME strata-latents)
set(CPACK_PACKAGE_VENDOR "the strata authors")
set(CPACK_PACKAGE_CONTACT "the strata authors")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "strata runs texts of an SQLite database through a language model, on a CPU or
NVIDIA GPUs, and keeps the hidden states of its layers in HDF5 shards. It is
resumable after any crash and loses nothing.")
include(CPack)

# SPDX-License-Identifier: MIT
# What a program needs that embeds bptt: headers, the library, and files with which CMake and pkg-config find them,
# wherever they are moved. Under the prefix of `cmake --install`, and the same in the Python package.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(library ${CMAKE_STATIC_LIBRARY_PREFIX}bptt${CMAKE_STATIC_LIBRARY_SUFFIX})
if(UNIX)
  set(needs -lm)
endif()
file(RELATIVE_PATH to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" to_prefix ${to_prefix})

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS bptt ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_STRIP) # as programs are by `cmake --install --strip`
  install(CODE "if(CMAKE_INSTALL_DO_STRIP)
  execute_process(COMMAND \"${CMAKE_STRIP}\" --strip-unneeded
                  \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/${library}\")
endif()")
endif()
configure_file(cmake/bpttConfig.cmake.in bpttConfig.cmake @ONLY)
configure_file(cmake/bptt.pc.in bptt.pc @ONLY)
write_basic_package_version_file(bpttConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/bpttConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/bpttConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/bptt)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/bptt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

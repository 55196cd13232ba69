# SPDX-License-Identifier: MIT
# Another machine's Linux: compiled by Debian's cross compilers, its programs run by qemu-user; those of 32-bit x86 by the
# CPU. `.ci/machines` does so.
#   cmake -S . -B build/s390x -DCMAKE_TOOLCHAIN_FILE=cmake/cross.cmake -DBPTT_TRIPLE=s390x-linux-gnu
#         -DBPTT_PYTHON=OFF -DBPTT_TESTS=ON
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES BPTT_TRIPLE)
string(REGEX REPLACE "-.*" "" CMAKE_SYSTEM_PROCESSOR "${BPTT_TRIPLE}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_CXX_COMPILER ${BPTT_TRIPLE}-g++)
set(CMAKE_C_COMPILER ${BPTT_TRIPLE}-gcc)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "i686" AND CMAKE_HOST_SYSTEM_PROCESSOR STREQUAL "x86_64")
  set(libraries /usr/${BPTT_TRIPLE}/lib)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${libraries}/ld-linux.so.2 --library-path ${libraries})
else()
  string(REPLACE "i686" "i386" emulated "${CMAKE_SYSTEM_PROCESSOR}")
  string(REPLACE "powerpc" "ppc" emulated "${emulated}")
  set(CMAKE_CROSSCOMPILING_EMULATOR qemu-${emulated} -L /usr/${BPTT_TRIPLE})
endif()

// SPDX-License-Identifier: MIT
// Only the products in bfloat16; all other kernels are in avx512.cpp.
#if !defined(__AMX_BF16__) && !defined(__AMXBF16__)  // GCC's and an early clang's
#error "amx.cpp must be compiled with the flags of cpp/CMakeLists.txt"
#endif
#define BPTT_ISA amx
#define BPTT_ISA_NAME "amx"
#define BPTT_VECTOR_BYTES 64
#define BPTT_BF16
#define BPTT_AMX
#include "kernels/instantiate.inl"

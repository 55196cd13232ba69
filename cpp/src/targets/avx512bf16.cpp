// SPDX-License-Identifier: MIT
// Only the products in bfloat16; all other kernels are in avx512.cpp.
#ifndef __AVX512BF16__
#error "avx512bf16.cpp must be compiled with the flags of cpp/CMakeLists.txt"
#endif
#define BPTT_ISA avx512bf16
#define BPTT_ISA_NAME "avx512bf16"
#define BPTT_VECTOR_BYTES 64
#define BPTT_BF16
#include "kernels/instantiate.inl"

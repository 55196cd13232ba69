// SPDX-License-Identifier: MIT
// Only the products in bfloat16 and with weights of 8 bits; all other kernels are in avx512.cpp.
#if !defined(__AVX512BF16__) || !defined(__AVX512VNNI__)
#error "avx512bf16.cpp must be compiled with the flags of cpp/CMakeLists.txt"
#endif
#define BPTT_ISA avx512bf16
#define BPTT_ISA_NAME "avx512bf16"
#define BPTT_VECTOR_BYTES 64
#if !defined(BPTT_INT8)
#define BPTT_BF16
#endif
#include "kernels/instantiate.inl"

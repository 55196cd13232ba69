// SPDX-License-Identifier: MIT
#ifndef __AVX512F__
#error "avx512.cpp must be compiled with -march=x86-64-v4"
#endif
#define BPTT_ISA avx512
#define BPTT_ISA_NAME "avx512"
#define BPTT_VECTOR_BYTES 64
#include "kernels/instantiate.inl"

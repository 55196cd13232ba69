// SPDX-License-Identifier: MIT
#ifndef __AVX2__
#error "avx2.cpp must be compiled with -march=x86-64-v3"
#endif
#define BPTT_ISA avx2
#define BPTT_ISA_NAME "avx2"
#define BPTT_VECTOR_BYTES 32
#include "kernels/instantiate.inl"

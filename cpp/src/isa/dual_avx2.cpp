// SPDX-License-Identifier: MIT
// Only the kernels of dual numbers.
#ifndef __AVX2__
#error "dual_avx2.cpp must be compiled with -march=x86-64-v3"
#endif
#define BPTT_ISA dual_avx2
#define BPTT_ISA_NAME "dual_avx2"
#define BPTT_VECTOR_BYTES 32
#define BPTT_DUAL
#include "../kernels/all.inl"

// SPDX-License-Identifier: MIT
// Only the kernels of dual numbers.
#ifndef __SSE4_2__
#error "dual_sse42.cpp must be compiled with -march=x86-64-v2"
#endif
#define BPTT_ISA dual_sse42
#define BPTT_ISA_NAME "dual_sse42"
#define BPTT_VECTOR_BYTES 16
#define BPTT_DUAL
#include "../kernels/all.inl"

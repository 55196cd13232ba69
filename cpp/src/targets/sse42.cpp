// SPDX-License-Identifier: MIT
#ifndef __SSE4_2__
#error "sse42.cpp must be compiled with -march=x86-64-v2"
#endif
#define BPTT_ISA sse42
#define BPTT_ISA_NAME "sse42"
#define BPTT_VECTOR_BYTES 16
#include "kernels/instantiate.inl"

// SPDX-License-Identifier: MIT
#ifndef __ARM_NEON
#error "neon.cpp is for AArch64"
#endif
#define BPTT_ISA neon
#define BPTT_ISA_NAME "neon"
#define BPTT_VECTOR_BYTES 16
#include "kernels/instantiate.inl"

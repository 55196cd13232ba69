// SPDX-License-Identifier: MIT
// Only the kernels of dual numbers, for AArch64 and any other machine.
#define BPTT_ISA dual_generic
#define BPTT_ISA_NAME "dual_generic"
#define BPTT_VECTOR_BYTES 16
#define BPTT_DUAL
#include "../kernels/all.inl"

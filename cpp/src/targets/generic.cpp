// SPDX-License-Identifier: MIT
// Any other machine: the compiler makes of 16-byte vectors what it can.
#define BPTT_ISA generic
#define BPTT_ISA_NAME "generic"
#define BPTT_VECTOR_BYTES 16
#include "kernels/instantiate.inl"

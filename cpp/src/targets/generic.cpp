// SPDX-License-Identifier: MIT
// Any other machine: the compiler translates 16-byte vectors to the instructions that it has.
#define BPTT_ISA generic
#define BPTT_ISA_NAME "generic"
#define BPTT_VECTOR_BYTES 16
#include "kernels/instantiate.inl"

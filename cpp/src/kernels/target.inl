// SPDX-License-Identifier: MIT
// The instruction set of the file that includes this. Each targets/*.cpp defines BPTT_ISA,
// BPTT_ISA_NAME and BPTT_VECTOR_BYTES first; a kernel file that an editor opens alone gets the
// vectors of its compiler flags.
//
// Everything but the table of kernels is internal to one target: a function that two instruction
// sets shared would be merged by the linker, and an old CPU would meet new instructions in it. So
// kernel files include no standard-library templates and have no static objects.
#pragma once
#include <cstdint>
#if defined(__SSE2__)
// GCC 12 calls its own _mm512_undefined_ps() uninitialised (GCC bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "kernels/interface.hpp"

#if !defined(BPTT_ISA)
#define BPTT_ISA alone
#define BPTT_ISA_NAME "alone"
#if defined(__AVX512F__)
#define BPTT_VECTOR_BYTES 64
#else
#define BPTT_VECTOR_BYTES 16
#endif
#endif

// Around the contents of every kernel file.
#define BPTT_KERNELS_BEGIN         \
  namespace bptt::core::BPTT_ISA { \
  namespace {
#define BPTT_KERNELS_END \
  }                      \
  }

#define BPTT_INLINED __attribute__((always_inline))  // for lambdas
#define BPTT_INLINE inline BPTT_INLINED
// An object of many cells has one copy of each function that they share, and so has one for CPUs
// that are seldom met (BPTT_SMALL); the plain cells of others, which are few, each have their own
// inline.
#if defined(BPTT_OTHERS) || defined(BPTT_DUAL) || defined(BPTT_SMALL)
#define BPTT_MANY_CELLS true
#define BPTT_SHARED __attribute__((noinline))
#else
#define BPTT_MANY_CELLS false
#define BPTT_SHARED BPTT_INLINE
#endif
// The functions in equations.
#if defined(BPTT_SMALL)
#define BPTT_FUNCTION inline __attribute__((noinline))
#else
#define BPTT_FUNCTION BPTT_INLINE
#endif
#if defined(__clang__)
#define BPTT_UNROLL _Pragma("clang loop unroll(full)")
#define BPTT_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define BPTT_UNROLL _Pragma("GCC unroll 64")
#define BPTT_NO_UNROLL _Pragma("GCC unroll 1")
#endif

BPTT_KERNELS_BEGIN

// Rows of a register tile, four vectors wide: as many as the registers hold beside a row of weights
// and a broadcast.
#if defined(BPTT_DUAL)  // a pair of registers for each
constexpr int max_rows = BPTT_VECTOR_BYTES == 64 ? 2 : 1;
#elif BPTT_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int max_rows = 6;
#elif BPTT_VECTOR_BYTES == 32
constexpr int max_rows = 3;
#else
constexpr int max_rows = 2;
#endif
constexpr int registers = max_rows == 6 ? 32 : 16;  // of vectors

BPTT_KERNELS_END

// SPDX-License-Identifier: MIT
// Rows of operands rounded to 16 bits, and their products with weights of 8 bits. Sums of these
// whole numbers are exact: they do not depend on the instruction set.
#pragma once
#include "kernels/product/weight_layout.inl"

BPTT_KERNELS_BEGIN

using Int8 = std::int8_t;
using Byte = unsigned char;

// Weights w of one row are scale * q with whole q in -127..127 and scale = max |w| / 127; numbers x
// of a row of operands are the same with `levels` in place of 127.
constexpr float weight_levels = 127, negligible = 1e-30f;  // a smaller maximum counts as zero

// As many as 16 bits hold; fewer where a sum of K products could leave 32 bits.
BPTT_INLINE float operand_levels(Index K) {
  const Index most = 2147483647 / 127 / K;
  return static_cast<float>(most > 32767 ? 32767 : most < 1 ? 1 : most);
}

// Inputs of one unit that are neighbours in packed weights: as an instruction multiplies them.
#if defined(__AVX512VNNI__)
constexpr Index neighbours = 4;
#elif defined(__SSE4_1__)
constexpr Index neighbours = 2;
#else
constexpr Index neighbours = 1;
#endif
BPTT_INLINE Index padded_inputs(Index K) { return ceil_div(K, neighbours) * neighbours; }

// To nearest, halves to even.
BPTT_INLINE I32 rounded(F32 v) {
#if BPTT_VECTOR_BYTES == 64
  return (I32)_mm512_cvtps_epi32(v);
#elif BPTT_VECTOR_BYTES == 32
  return (I32)_mm256_cvtps_epi32(v);
#elif defined(__SSE2__)
  return (I32)_mm_cvtps_epi32(v);
#else
  I32 q;
  BPTT_UNROLL for (int i = 0; i < lanes<float>; ++i) q[i] =
      static_cast<std::int32_t>(__builtin_rintf(v[i]));
  return q;
#endif
}

// The largest |x| of K numbers, or NaN if one is not finite.
inline float largest_of(const float* x, Index K) {
  constexpr float finite = __FLT_MAX__;
  F32 most{};
  I32 inside = most == most;
  for (Index k = 0; k < K; k += lanes<float>) {
    const F32 v = load(x + k, smaller(lanes<float>, K - k)), size = select(v < F32{}, -v, v);
    most = maximum(size, most);
    inside &= size <= broadcast(finite);
  }
  float largest = 0;
  bool all = true;
  for (Index i = 0; i < lanes<float>; ++i) {
    largest = most[i] > largest ? most[i] : largest;
    all = all && inside[i];
  }
  return all ? largest : __builtin_nanf("");
}

// --- rounded operands

// A row of K numbers takes this many bytes: [K] of 16 bits, or the high bytes + 128 and then the
// low bytes.
BPTT_INLINE Index plane_of(Index K) { return ceil_div(K, 64) * 64; }
BPTT_INLINE Index bytes_of_row(Index K) { return 2 * plane_of(K); }

// Returns the scale of the row: NaN if a number is not finite.
inline float round_row(const float* x, Index K, Byte* to) {
  constexpr Index L = lanes<float>;
  const float largest = largest_of(x, K), levels = operand_levels(K);
  const bool zero = !(largest >= negligible);
  const F32 inverse = broadcast(zero ? 0.0f : levels / largest);
  for (Index k = 0; k < plane_of(K); k += L) {
    I32 q{};
    if (k < K && !zero) q = rounded(load(x + k, smaller(L, K - k)) * inverse);
#if defined(__AVX512VNNI__)
    const __m512i high = _mm512_add_epi32(_mm512_srai_epi32((__m512i)q, 8), _mm512_set1_epi32(128));
    _mm_storeu_si128((__m128i*)(to + k), _mm512_cvtepi32_epi8(high));
    _mm_storeu_si128((__m128i*)(to + plane_of(K) + k), _mm512_cvtepi32_epi8((__m512i)q));
#else
    using I16 = std::int16_t __attribute__((vector_size(BPTT_VECTOR_BYTES / 2)));
    const I16 narrow = __builtin_convertvector(q, I16);
    __builtin_memcpy(to + 2 * k, &narrow, sizeof narrow);
#endif
  }
  return largest < negligible ? 0.0f : largest / levels;
}

// --- products

// sums[v] = one rounded row times V vectors of columns, w [neighbours of inputs][V][lane][input];
// offsets: see Int8Matrix.
template <int V>
BPTT_INLINE void int8_sums(const Byte* row, Index K, const Int8* w, const std::int32_t* offsets,
                           I32 (&sums)[V]) {
  constexpr Index L = lanes<float>;
  const auto group = [&](const Byte* from) BPTT_INLINED {
    std::int32_t bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    return bits;
  };
  static_cast<void>(group), static_cast<void>(offsets);
#if defined(__AVX512VNNI__)
  __m512i high[V], low[V];
  BPTT_UNROLL for (int v = 0; v < V; ++v) {
    high[v] = _mm512_setzero_si512();
    low[v] = _mm512_loadu_si512(offsets + v * L);
  }
  const Byte* lows = row + plane_of(K);
  for (Index k = 0; k < K; k += 4, w += V * 4 * L) {
    const __m512i h = _mm512_set1_epi32(group(row + k)), l = _mm512_set1_epi32(group(lows + k));
    BPTT_UNROLL for (int v = 0; v < V; ++v) {
      const __m512i column = _mm512_loadu_si512(w + v * 4 * L);
      high[v] = _mm512_dpbusd_epi32(high[v], h, column);
      low[v] = _mm512_dpbusd_epi32(low[v], l, column);
    }
  }
  BPTT_UNROLL for (int v = 0; v < V; ++v) sums[v] =
      (I32)_mm512_add_epi32(_mm512_slli_epi32(high[v], 8), low[v]);
#else
  BPTT_UNROLL for (int v = 0; v < V; ++v) sums[v] = I32{};
#if defined(__SSE4_1__)
  for (Index k = 0; k < K; k += 2, w += V * 2 * L) {
    const std::int32_t pair = group(row + 2 * k);
    BPTT_UNROLL for (int v = 0; v < V; ++v) {
      const Int8* column = w + v * 2 * L;
#if BPTT_VECTOR_BYTES == 64
      const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)column));
      sums[v] += (I32)_mm512_madd_epi16(_mm512_set1_epi32(pair), wide);
#elif BPTT_VECTOR_BYTES == 32
      const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)column));
      sums[v] += (I32)_mm256_madd_epi16(_mm256_set1_epi32(pair), wide);
#else
      const __m128i wide = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i*)column));
      sums[v] += (I32)_mm_madd_epi16(_mm_set1_epi32(pair), wide);
#endif
    }
  }
#else
  using Narrow = Int8 __attribute__((vector_size(BPTT_VECTOR_BYTES / 4)));
  for (Index k = 0; k < K; ++k, w += V * L) {
    std::int16_t number;
    __builtin_memcpy(&number, row + 2 * k, sizeof number);
    BPTT_UNROLL for (int v = 0; v < V; ++v) {
      Narrow column;
      __builtin_memcpy(&column, w + v * L, sizeof column);
      sums[v] += std::int32_t(number) * __builtin_convertvector(column, I32);
    }
  }
#endif
#endif
}

BPTT_KERNELS_END

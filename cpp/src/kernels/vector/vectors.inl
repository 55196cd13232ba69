// SPDX-License-Identifier: MIT
// The vectors of one instruction set: GCC/Clang vector extensions of BPTT_VECTOR_BYTES bytes, and
// the few operations that the extensions lack.
#pragma once
#include "kernels/target.inl"

BPTT_KERNELS_BEGIN

using F32 = float __attribute__((vector_size(BPTT_VECTOR_BYTES)));
using F64 = double __attribute__((vector_size(BPTT_VECTOR_BYTES)));
using I32 = std::int32_t __attribute__((vector_size(BPTT_VECTOR_BYTES)));
using I64 = std::int64_t __attribute__((vector_size(BPTT_VECTOR_BYTES)));
using U32 = std::uint32_t __attribute__((vector_size(BPTT_VECTOR_BYTES)));
using U64 = std::uint64_t __attribute__((vector_size(BPTT_VECTOR_BYTES)));

template <class T>
struct Simd;
template <>
struct Simd<float> {
  using Native = F32;
  using Mask = I32;     // of a shuffle
  using Wide = double;  // for sums of squares
};
template <>
struct Simd<double> {
  using Native = F64;
  using Mask = I64;
  using Wide = double;
};
template <class T>
using Native = typename Simd<T>::Native;
template <class T>
constexpr Index lanes = BPTT_VECTOR_BYTES / Index(sizeof(T));

// s - 0 and not 0 + s, which changes -0 to 0 and so would cost an addition per broadcast.
template <class T>
BPTT_INLINE Native<T> broadcast(T s) {
  return s - Native<T>{};
}

// Any address will do. (A vector type with less alignment would lose the attribute as a template's
// member.)
template <class T>
BPTT_INLINE Native<T> load(const T* p) {
  Native<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
BPTT_INLINE void store(T* p, Native<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// The first n lanes; memory beyond them is not touched, and loading fills the rest with zeros. Not
// a loop of n elements: compilers make a string copy of it, which takes tens of cycles to start.
#if BPTT_VECTOR_BYTES == 64
BPTT_INLINE __mmask16 first(Index n) { return static_cast<__mmask16>((1u << n) - 1); }
BPTT_INLINE F32 load_first(const float* p, Index n) { return _mm512_maskz_loadu_ps(first(n), p); }
BPTT_INLINE F64 load_first(const double* p, Index n) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(first(n)), p);
}
BPTT_INLINE void store_first(float* p, F32 v, Index n) { _mm512_mask_storeu_ps(p, first(n), v); }
BPTT_INLINE void store_first(double* p, F64 v, Index n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first(n)), v);
}
#elif BPTT_VECTOR_BYTES == 32
BPTT_INLINE __m256i first32(Index n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
BPTT_INLINE __m256i first64(Index n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
BPTT_INLINE F32 load_first(const float* p, Index n) { return _mm256_maskload_ps(p, first32(n)); }
BPTT_INLINE F64 load_first(const double* p, Index n) { return _mm256_maskload_pd(p, first64(n)); }
BPTT_INLINE void store_first(float* p, F32 v, Index n) { _mm256_maskstore_ps(p, first32(n), v); }
BPTT_INLINE void store_first(double* p, F64 v, Index n) { _mm256_maskstore_pd(p, first64(n), v); }
#else
template <class T>
BPTT_INLINE Native<T> load_first(const T* p, Index n) {
  Native<T> v{};
  BPTT_UNROLL for (Index i = 0; i < lanes<T>; ++i) if (i < n) v[i] = p[i];
  return v;
}
template <class T>
BPTT_INLINE void store_first(T* p, Native<T> v, Index n) {
  BPTT_UNROLL for (Index i = 0; i < lanes<T>; ++i) if (i < n) p[i] = v[i];
}
#endif
// The same for any n: all lanes if it has no fewer.
template <class T>
BPTT_INLINE Native<T> load(const T* p, Index n) {
  return n >= lanes<T> ? load(p) : load_first(p, n);
}
template <class T>
BPTT_INLINE void store(T* p, Native<T> v, Index n) {
  if (n >= lanes<T>) return store(p, v);
  store_first(p, v, n);
}
// Sets lanes n, n + 1 and so on to 0.
template <class T>
BPTT_INLINE void clear_from(Native<T>& v, Index n) {
  for (Index i = n; i < lanes<T>; ++i) v[i] = 0;
}
#if BPTT_VECTOR_BYTES == 64
template <>
BPTT_INLINE void clear_from<float>(F32& v, Index n) {
  v = _mm512_maskz_mov_ps(first(n), v);
}
template <>
BPTT_INLINE void clear_from<double>(F64& v, Index n) {
  v = _mm512_maskz_mov_pd(static_cast<__mmask8>(first(n)), v);
}
#elif BPTT_VECTOR_BYTES == 32
template <>
BPTT_INLINE void clear_from<float>(F32& v, Index n) {
  v = _mm256_and_ps(v, _mm256_castsi256_ps(first32(n)));
}
template <>
BPTT_INLINE void clear_from<double>(F64& v, Index n) {
  v = _mm256_and_pd(v, _mm256_castsi256_pd(first64(n)));
}
#endif

BPTT_INLINE F32 select(I32 first, F32 a, F32 b) { return first ? a : b; }
BPTT_INLINE F64 select(I64 first, F64 a, F64 b) { return first ? a : b; }

// The smaller or larger of a limit and x; NaN where x is NaN.
#if BPTT_VECTOR_BYTES == 64
BPTT_INLINE F32 minimum(F32 limit, F32 x) { return _mm512_min_ps(limit, x); }
BPTT_INLINE F32 maximum(F32 limit, F32 x) { return _mm512_max_ps(limit, x); }
BPTT_INLINE F64 minimum(F64 limit, F64 x) { return _mm512_min_pd(limit, x); }
BPTT_INLINE F64 maximum(F64 limit, F64 x) { return _mm512_max_pd(limit, x); }
#elif BPTT_VECTOR_BYTES == 32
BPTT_INLINE F32 minimum(F32 limit, F32 x) { return _mm256_min_ps(limit, x); }
BPTT_INLINE F32 maximum(F32 limit, F32 x) { return _mm256_max_ps(limit, x); }
BPTT_INLINE F64 minimum(F64 limit, F64 x) { return _mm256_min_pd(limit, x); }
BPTT_INLINE F64 maximum(F64 limit, F64 x) { return _mm256_max_pd(limit, x); }
#elif defined(__SSE2__)
BPTT_INLINE F32 minimum(F32 limit, F32 x) { return _mm_min_ps(limit, x); }
BPTT_INLINE F32 maximum(F32 limit, F32 x) { return _mm_max_ps(limit, x); }
BPTT_INLINE F64 minimum(F64 limit, F64 x) { return _mm_min_pd(limit, x); }
BPTT_INLINE F64 maximum(F64 limit, F64 x) { return _mm_max_pd(limit, x); }
#else
BPTT_INLINE F32 minimum(F32 limit, F32 x) { return limit < x ? limit : x; }
BPTT_INLINE F32 maximum(F32 limit, F32 x) { return limit > x ? limit : x; }
BPTT_INLINE F64 minimum(F64 limit, F64 x) { return limit < x ? limit : x; }
BPTT_INLINE F64 maximum(F64 limit, F64 x) { return limit > x ? limit : x; }
#endif

BPTT_INLINE double value_of(double x) { return x; }
BPTT_INLINE double square_root(double x) { return __builtin_sqrt(x); }

// v, which the compiler cannot make a part of a multiply-add. Of a sum of two products it may
// choose either, in each place of the code another, and bits would depend on the place.
template <class N>
BPTT_INLINE N rounded(N v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__SSE2__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#else
  asm("" : "+m"(v));
#endif
  return v;
}

// Wraps a native vector with scalar-like operators, for cells and elementary functions.
template <class T>
struct Vec {
  Native<T> v;
  Vec() = default;
  BPTT_INLINE Vec(Native<T> native) : v(native) {}
  BPTT_INLINE explicit Vec(double s) : v(broadcast(T(s))) {}
  BPTT_INLINE friend Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  BPTT_INLINE friend Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  BPTT_INLINE friend Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  BPTT_INLINE friend Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  BPTT_INLINE friend Vec rounded(Vec a) { return rounded(a.v); }
  BPTT_INLINE friend Vec minimum(Vec limit, Vec x) { return minimum(limit.v, x.v); }
  BPTT_INLINE friend Vec maximum(Vec limit, Vec x) { return maximum(limit.v, x.v); }
  // x <= 0 ? a : b
  BPTT_INLINE friend Vec select_nonpositive(Vec x, Vec a, Vec b) {
    return select(x.v <= Native<T>{}, a.v, b.v);
  }
  // x == 0 ? a : b
  BPTT_INLINE friend Vec select_zero(Vec x, Vec a, Vec b) {
    return select_nonpositive(x, select_nonpositive(Vec(0) - x, a, b), b);
  }
  // |x| >= limit ? 0 : a; a where x is NaN
  BPTT_INLINE friend Vec zero_outside(Vec x, Vec limit, Vec a) {
    const Native<T> inside = select(x.v >= limit.v, Native<T>{}, a.v);
    return select(x.v <= -limit.v, Native<T>{}, inside);
  }
};

BPTT_KERNELS_END

// SPDX-License-Identifier: MIT
// sigmoid and tanh over Vec<T>; NaN in, NaN out. Errors over all arguments: float below 2e-7
// absolute, and tanh below 4e-7 relative; double below 4e-16 absolute.
#pragma once
#include "kernels/vector/vectors.inl"

BPTT_KERNELS_BEGIN

// Adding `magic` rounds to an integer n and leaves n + bias in the low bits of the sum, `shifted`,
// of which power() makes 2^n.
template <class T>
struct Exponent;
template <>
struct Exponent<float> {
  static constexpr double magic = 12582912.0 + 127;  // 1.5 * 2^23 + bias
  static constexpr double limit = 126.0;             // 2^n stays a normal number
  BPTT_INLINE static F32 power(F32 shifted) { return (F32)((U32)shifted << 23); }
};
template <>
struct Exponent<double> {
  static constexpr double magic = 6755399441055744.0 + 1023;  // 1.5 * 2^52 + bias
  static constexpr double limit = 1022.0;
  BPTT_INLINE static F64 power(F64 shifted) { return (F64)((U64)shifted << 52); }
};

// 2^(x scale) = 2^n * 2^r, n integer, |r| <= 1/2. The product is a part of multiply-adds, where the
// target has them, and then not rounded.
template <class T>
struct Split {
  Vec<T> shifted, r;
  BPTT_INLINE Split(Vec<T> x, double scale) {
    const Vec<T> magic(Exponent<T>::magic);
    shifted = x * Vec<T>(scale) + magic;
    r = x * Vec<T>(scale) - (shifted - magic);
  }
  BPTT_INLINE Vec<T> power() const { return Exponent<T>::power(shifted.v); }
};

template <class T, int N>
BPTT_INLINE Vec<T> horner(Vec<T> r, const double (&c)[N]) {
  Vec<T> p(c[N - 1]);
  BPTT_UNROLL for (int i = N - 2; i >= 0; --i) p = p * r + Vec<T>(c[i]);
  return p;
}

// 2^r on [-1/2, 1/2]; float: minimax, relative error 7.5e-8, summed in pairs, which takes less time
// from argument to result than Horner's scheme; double: Taylor in r*ln 2, below 2e-16.
BPTT_INLINE Vec<float> exp2_fraction(Vec<float> r) {
  using V = Vec<float>;
  const V low = r * V(0.6931469440) + V(1.0), middle = r * V(0.0555071346) + V(0.2402212024),
          high = r * V(0.0013276470) + V(0.0096755419), r2 = r * r;
  return (high * r2 + middle) * r2 + low;
}
// ln(2)^k / k!
constexpr double taylor[] = {0.6931471805599453,     0.2402265069591007,     0.055504108664821576,
                             0.009618129107628477,   0.0013333558146428441,  0.00015403530393381606,
                             1.5252733804059838e-05, 1.3215486790144305e-06, 1.0178086009239696e-07,
                             7.054911620801121e-09,  4.44553827187081e-10,   2.5678435993488196e-11,
                             1.3691488853904124e-12};
// (2^r - 1) / r on the same interval.
BPTT_INLINE Vec<double> expm1_fraction(Vec<double> r) { return horner(r, taylor); }
BPTT_INLINE Vec<double> exp2_fraction(Vec<double> r) {
  return r * expm1_fraction(r) + Vec<double>(1);
}

constexpr double log2_e = 1.4426950408889634;

// 1 + e^-x
template <class T>
BPTT_INLINE Vec<T> one_plus_exp(Vec<T> x) {
  const Vec<T> limit(Exponent<T>::limit / log2_e);
  const Split<T> split(maximum(Vec<T>(0) - limit, minimum(limit, x)), -log2_e);
  return split.power() * exp2_fraction(split.r) + Vec<T>(1);  // r carries a NaN, 2^n may not
}
#if BPTT_VECTOR_BYTES == 64
// AVX-512 has a table of 2^(k/32), which leaves r in [0, 1/32) to three terms of a polynomial, and
// a scaling by 2^n that overflows and underflows as it should, so no argument needs a limit.
constexpr float power_of_32nds[] = {
    1.0f,        1.02189715f, 1.04427378f, 1.0671404f,  1.09050773f, 1.11438674f, 1.13878863f,
    1.16372486f, 1.18920712f, 1.21524736f, 1.24185781f, 1.26905096f, 1.29683955f, 1.32523664f,
    1.35425555f, 1.38390988f, 1.41421356f, 1.44518081f, 1.47682615f, 1.50916443f, 1.54221083f,
    1.57598085f, 1.61049033f, 1.64575548f, 1.68179283f, 1.7186193f,  1.75625216f, 1.79470908f,
    1.83400809f, 1.87416763f, 1.91520656f, 1.95714412f,
};
template <>
BPTT_INLINE Vec<float> one_plus_exp(Vec<float> x) {
  constexpr double minimax[] = {1.0000000529, 0.6931165627, 0.2428406218};  // error 5.3e-8
  constexpr int down = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const Vec<float> z = x * Vec<float>(-log2_e), r = _mm512_reduce_ps(z.v, 5 << 4 | down);
  const F32 shifted = _mm512_add_round_ps(z.v, Vec<float>(0x1.8p18).v, down);  // in 32nds
  const F32 power =
      _mm512_permutex2var_ps(_mm512_loadu_ps(power_of_32nds), _mm512_castps_si512(shifted),
                             _mm512_loadu_ps(power_of_32nds + 16));
  return Vec<float>(_mm512_scalef_ps(power, z.v)) * horner(r, minimax) + Vec<float>(1);
}
#endif

// 1 / (1 + e^-x)
template <class T>
BPTT_FUNCTION Vec<T> sigmoid(Vec<T> x) {
  return Vec<T>(1) / one_plus_exp(x);
}

// (e^2x - 1) / (e^2x + 1) through e^2x - 1, which keeps its relative precision near 0.
BPTT_FUNCTION Vec<double> tanh(Vec<double> x) {
  const Vec<double> limit(20.8), zero(0);  // tanh(20.8) rounds to 1
  const Split<double> split(maximum(zero - limit, minimum(limit, x)), 2 * log2_e);
  const Vec<double> two_n = split.power(), r = split.r;
  const Vec<double> e = two_n * (r * expm1_fraction(r)) + (two_n - Vec<double>(1));
  return e / (e + Vec<double>(2));
}
// 2 t / (1 + t^2) with t = n / 2d = tanh(|x|/2), a rational function. Only its error near 0
// matters: towards 1 the quotient hides it, so few terms do. n d / (n d + (d - n/2)^2) never
// exceeds 1.
BPTT_FUNCTION Vec<float> tanh(Vec<float> x) {
  constexpr double odd[] = {0.02976766283, 0.0001141296302},  // of (n - x) / x^3; error 7e-9
      even[] = {1, 0.1131009472, 0.001205917989, 1.226601857e-06};
  constexpr std::uint32_t sign = 0x80000000;
  const Vec<float> size = (F32)((U32)x.v & ~sign), c = minimum(Vec<float>(9.0), size), c2 = c * c;
  const Vec<float> n = c * c2 * horner(c2, odd) + c, d = horner(c2, even);
  const Vec<float> w = d - n * Vec<float>(0.5), over = rounded(n * d);
  return (F32)((U32)(over / (over + w * w)).v | ((U32)x.v & sign));
}

// v e^x wherever the product is representable, even if e^x is not. The relative error grows with
// |x|, to 1e-5 (float) and 1e-13 (double) at the limits of the precisions.
template <class T>
BPTT_SHARED Vec<T> times_exp(Vec<T> v, Vec<T> x) {
  const Vec<T> magic(Exponent<T>::magic), normal(Exponent<T>::limit), limit = normal + normal;
  const Vec<T> ends = limit * Vec<T>(1 / log2_e);
  const Split<T> split(maximum(Vec<T>(0) - ends, minimum(ends, x)), log2_e);
  const Vec<T> n = split.shifted - magic, first = maximum(Vec<T>(0) - normal, minimum(normal, n));
  const Vec<T> power = Exponent<T>::power((first + magic).v),
               rest = Exponent<T>::power((n - first + magic).v);
  return v * exp2_fraction(split.r) * power * rest;
}

// log(1 / (1 + e^-x)) = min(x, 0) - log(1 + e^-|x|); the series of atanh gives the logarithm, of a
// number in 1..2.
template <class T>
BPTT_SHARED Vec<T> log_sigmoid(Vec<T> x) {
  constexpr int terms = sizeof(T) == 4 ? 8 : 18;  // of (1/3)^(2k + 1) / (2k + 1)
  const Vec<T> zero(0.0), e = times_exp(Vec<T>(1), minimum(x, zero - x)), s = e / (e + Vec<T>(2)),
                          s2 = s * s;
  Vec<T> p(1.0 / (2 * terms - 1));
  BPTT_UNROLL for (int k = terms - 2; k >= 0; --k) p = p * s2 + Vec<T>(1.0 / (2 * k + 1));
  return minimum(zero, x) - Vec<T>(2) * s * p;
}

BPTT_KERNELS_END

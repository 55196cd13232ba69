// SPDX-License-Identifier: MIT
// sigmoid and tanh over Vec<T>, by one exponential and one division each; NaN in, NaN out.
// Errors over all arguments, against long double: float below 2e-7 absolute, double below 4e-16.
#pragma once
#include "kernels/vector/vectors.inl"

BPTT_KERNELS_BEGIN

// power() is 2^n, where adding `magic` has rounded to the integer n and left it in the low bits of
// `shifted`.
template <class T>
struct Exponent;
template <>
struct Exponent<float> {
  static constexpr double magic = 12582912.0;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr double limit = 126.0;       // 2^n stays a normal number
  BPTT_INLINE static F32 power(F32 shifted) { return (F32)(((U32)shifted << 23) + 0x3f800000); }
};
template <>
struct Exponent<double> {
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double limit = 1022.0;
  BPTT_INLINE static F64 power(F64 shifted) {
    return (F64)(((U64)shifted << 52) + 0x3ff0000000000000);
  }
};

// 2^z = 2^n * 2^r, n integer, |r| <= 1/2.
template <class T>
struct Split {
  Vec<T> shifted, r;
  BPTT_INLINE explicit Split(Vec<T> z) {
    shifted = z + Vec<T>(Exponent<T>::magic);
    r = z - (shifted - Vec<T>(Exponent<T>::magic));
  }
  BPTT_INLINE Vec<T> power() const { return Exponent<T>::power(shifted.v); }
};

template <class T, int N>
BPTT_INLINE Vec<T> horner(Vec<T> r, const double (&c)[N]) {
  Vec<T> p(c[N - 1]);
  BPTT_UNROLL for (int i = N - 2; i >= 0; --i) p = p * r + Vec<T>(c[i]);
  return p;
}

// 2^r on [-1/2, 1/2]; float: minimax, relative error 7.5e-8; double: Taylor in r*ln 2, below 2e-16.
BPTT_INLINE Vec<float> exp2_fraction(Vec<float> r) {
  constexpr double c[] = {1.0,          0.6931469440, 0.2402212024,
                          0.0555071346, 0.0096755419, 0.0013276470};
  return horner(r, c);
}
// (2^r - 1) / r on the same interval; float: relative error 1.1e-8.
BPTT_INLINE Vec<float> expm1_fraction(Vec<float> r) {
  constexpr double c[] = {0.6931471825, 0.2402264923, 0.0555035733,
                          0.0096182376, 0.0013390735, 1.5403511e-4};
  return horner(r, c);
}
// ln(2)^k / k!
constexpr double taylor[] = {0.6931471805599453,     0.2402265069591007,     0.055504108664821576,
                             0.009618129107628477,   0.0013333558146428441,  0.00015403530393381606,
                             1.5252733804059838e-05, 1.3215486790144305e-06, 1.0178086009239696e-07,
                             7.054911620801121e-09,  4.44553827187081e-10,   2.5678435993488196e-11,
                             1.3691488853904124e-12};
BPTT_INLINE Vec<double> expm1_fraction(Vec<double> r) { return horner(r, taylor); }
BPTT_INLINE Vec<double> exp2_fraction(Vec<double> r) {
  return r * expm1_fraction(r) + Vec<double>(1);
}

constexpr double log2_e = 1.4426950408889634;

// 1 / (1 + e^-x)
template <class T>
BPTT_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> limit(Exponent<T>::limit);
  const Vec<T> z = maximum(Vec<T>(0) - limit, minimum(limit, x * Vec<T>(-log2_e)));
  const Split<T> split(z);
  const Vec<T> e = split.power() * exp2_fraction(split.r);  // r carries a NaN, the power may not
  return Vec<T>(1) / (Vec<T>(1) + e);
}

// (e^2x - 1) / (e^2x + 1) through e^2x - 1, which keeps its relative precision near 0.
template <class T>
BPTT_INLINE Vec<T> tanh(Vec<T> x) {
  const Vec<T> limit(60.0);  // tanh(60 ln 2 / 2) rounds to 1 in both precisions
  const Vec<T> z = maximum(Vec<T>(0) - limit, minimum(limit, x * Vec<T>(2 * log2_e)));
  const Split<T> split(z);
  const Vec<T> two_n = split.power();
  const Vec<T> e = two_n * (split.r * expm1_fraction(split.r)) + (two_n - Vec<T>(1));
  return e / (e + Vec<T>(2));
}

// v e^x wherever the product is representable, even if e^x is not. The relative error grows with
// |x|, to 1e-5 (float) and 1e-13 (double) at the limits of the precisions.
template <class T>
BPTT_INLINE Vec<T> times_exp(Vec<T> v, Vec<T> x) {
  const Vec<T> magic(Exponent<T>::magic), normal(Exponent<T>::limit), limit = normal + normal;
  const Split<T> split(maximum(Vec<T>(0) - limit, minimum(limit, x * Vec<T>(log2_e))));
  const Vec<T> n = split.shifted - magic, first = maximum(Vec<T>(0) - normal, minimum(normal, n));
  const Vec<T> power = Exponent<T>::power((first + magic).v),
               rest = Exponent<T>::power((n - first + magic).v);
  return v * exp2_fraction(split.r) * power * rest;
}

// log(1 / (1 + e^-x)) = min(x, 0) - log(1 + e^-|x|); the series of atanh gives the logarithm, of a
// number in 1..2.
template <class T>
BPTT_INLINE Vec<T> log_sigmoid(Vec<T> x) {
  constexpr int terms = sizeof(T) == 4 ? 8 : 18;  // of (1/3)^(2k + 1) / (2k + 1)
  const Vec<T> zero(0.0), e = times_exp(Vec<T>(1), minimum(x, zero - x)), s = e / (e + Vec<T>(2)),
                          s2 = s * s;
  Vec<T> p(1.0 / (2 * terms - 1));
  BPTT_UNROLL for (int k = terms - 2; k >= 0; --k) p = p * s2 + Vec<T>(1.0 / (2 * k + 1));
  return minimum(zero, x) - Vec<T>(2) * s * p;
}

BPTT_KERNELS_END

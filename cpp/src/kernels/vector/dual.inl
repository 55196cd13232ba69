// SPDX-License-Identifier: MIT
// Vectors of dual numbers: with these, loops and cells compute derivatives along a direction as
// well. Values and tangents take a vector each; in memory they alternate.
#pragma once
#include "kernels/vector/math.inl"
#include "kernels/vector/transpose.inl"

BPTT_KERNELS_BEGIN

// Where a result is one of two arguments, its tangent belongs to the same argument. At a kink,
// where they are equal, the tangent is the limit's, as the slopes in cells/activations.inl are.
struct Duals {
  F64 value, tangent;
  BPTT_INLINE friend Duals operator+(Duals a, Duals b) {
    return {a.value + b.value, a.tangent + b.tangent};
  }
  BPTT_INLINE friend Duals operator-(Duals a, Duals b) {
    return {a.value - b.value, a.tangent - b.tangent};
  }
  BPTT_INLINE friend Duals operator-(Duals a) { return {-a.value, -a.tangent}; }
  BPTT_INLINE friend Duals operator*(Duals a, Duals b) {
    return {a.value * b.value, a.value * b.tangent + a.tangent * b.value};
  }
  BPTT_INLINE friend Duals operator/(Duals a, Duals b) {
    const F64 q = a.value / b.value;
    return {q, (a.tangent - q * b.tangent) / b.value};
  }
  BPTT_INLINE Duals& operator+=(Duals b) { return *this = *this + b; }
  BPTT_INLINE Duals& operator*=(Duals b) { return *this = *this * b; }
  BPTT_INLINE friend I64 operator<=(Duals a, Duals b) { return a.value <= b.value; }
  BPTT_INLINE friend I64 operator>=(Duals a, Duals b) { return a.value >= b.value; }
  BPTT_INLINE friend Duals select(I64 first, Duals a, Duals b) {
    return {first ? a.value : b.value, first ? a.tangent : b.tangent};
  }
  BPTT_INLINE friend Duals rounded(Duals a) { return a; }
  BPTT_INLINE friend Duals minimum(Duals limit, Duals x) { return select(limit <= x, limit, x); }
  BPTT_INLINE friend Duals maximum(Duals limit, Duals x) { return select(limit >= x, limit, x); }
};

template <>
struct Simd<Dual> {
  using Native = Duals;
  using Wide = Dual;
};
template <>
constexpr Index lanes<Dual> = lanes<double>;

template <>
BPTT_INLINE Duals broadcast(Dual s) {
  return {broadcast(s.value), broadcast(s.tangent)};
}

// Two vectors of memory exchange every other lane. So the lanes of a loaded vector are not in the
// order of memory; a store restores it. Lane numbers refer to memory.
template <>
BPTT_INLINE Duals load(const Dual* p) {
  const double* numbers = &p->value;
  const F64 a = load(numbers), b = load(numbers + lanes<double>);
  return {Exchange<double, 1>::low(a, b), Exchange<double, 1>::high(a, b)};
}
template <>
BPTT_INLINE void store(Dual* p, Duals v) {
  double* numbers = &p->value;
  store(numbers, Exchange<double, 1>::low(v.value, v.tangent));
  store(numbers + lanes<double>, Exchange<double, 1>::high(v.value, v.tangent));
}
template <>
BPTT_INLINE Duals load(const Dual* p, Index n) {
  if (n >= lanes<Dual>) return load(p);
  Dual all[lanes<Dual>]{};
  for (Index i = 0; i < n; ++i) all[i] = p[i];
  return load<Dual>(all);
}
template <>
BPTT_INLINE void store(Dual* p, Duals v, Index n) {
  if (n >= lanes<Dual>) return store(p, v);
  Dual all[lanes<Dual>];
  store(all, v);
  for (Index i = 0; i < n; ++i) p[i] = all[i];
}
template <>
BPTT_INLINE void clear_from<Dual>(Duals& v, Index n) {
  Dual all[lanes<Dual>];
  store(all, v);
  v = load<Dual>(all, n);
}

template <>
BPTT_INLINE void transpose<Dual>(Duals (&rows)[lanes<Dual>]) {
  Dual column[lanes<Dual>], square[lanes<Dual>][lanes<Dual>];
  for (Index i = 0; i < lanes<Dual>; ++i) {
    store(column, rows[i]);
    for (Index l = 0; l < lanes<Dual>; ++l) square[l][i] = column[l];
  }
  for (Index i = 0; i < lanes<Dual>; ++i) rows[i] = load<Dual>(square[i]);
}

// --- elementary functions: value, and slope times the argument's tangent

BPTT_INLINE Vec<Dual> chain(Vec<Dual> x, Vec<double> y, Vec<double> slope) {
  return Duals{y.v, slope.v * x.v.tangent};
}
template <>
BPTT_INLINE Vec<Dual> sigmoid(Vec<Dual> x) {
  const Vec<double> y = sigmoid(Vec<double>(x.v.value));
  return chain(x, y, y * (Vec<double>(1) - y));
}
BPTT_INLINE Vec<Dual> tanh(Vec<Dual> x) {
  const Vec<double> y = tanh(Vec<double>(x.v.value));
  return chain(x, y, Vec<double>(1) - y * y);
}
template <>
BPTT_INLINE Vec<Dual> times_exp(Vec<Dual> v, Vec<Dual> x) {
  const Vec<double> tangent = v.v.tangent + v.v.value * x.v.tangent, exponent(x.v.value);
  return Duals{times_exp(Vec<double>(v.v.value), exponent).v, times_exp(tangent, exponent).v};
}
template <>
BPTT_INLINE Vec<Dual> log_sigmoid(Vec<Dual> x) {
  const Vec<double> a(x.v.value);
  return chain(x, log_sigmoid(a), sigmoid(Vec<double>(0) - a));
}
BPTT_INLINE double value_of(Dual x) { return x.value; }
[[maybe_unused]] BPTT_INLINE Dual square_root(Dual x) {  // not by the plain cells
  const double root = __builtin_sqrt(x.value);
  return {root, x.tangent / (2 * root)};
}

BPTT_KERNELS_END

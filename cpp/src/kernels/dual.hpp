// SPDX-License-Identifier: MIT
// A number and its derivative along one direction, value + tangent * e with e * e = 0 (Clifford,
// 1873). A Plan<Dual> gives derivatives of both passes: given the tangents of all inputs, it
// computes the tangents of all outputs and of the gradients, which are products of the Hessian with
// a vector (Pearlmutter, 1994). Has the memory layout of std::complex<double>.
#pragma once

namespace bptt::core {

// Files that are compiled for different instruction sets share this header: every function must be
// inlined.
#define BPTT_DUAL_INLINE __attribute__((always_inline)) inline

struct Dual {
  double value, tangent;

  Dual() = default;
  BPTT_DUAL_INLINE constexpr Dual(double v, double t = 0) : value(v), tangent(t) {}

  BPTT_DUAL_INLINE friend Dual operator+(Dual a, Dual b) {
    return {a.value + b.value, a.tangent + b.tangent};
  }
  BPTT_DUAL_INLINE friend Dual operator-(Dual a, Dual b) {
    return {a.value - b.value, a.tangent - b.tangent};
  }
  BPTT_DUAL_INLINE friend Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, a.value * b.tangent + a.tangent * b.value};
  }
  BPTT_DUAL_INLINE friend Dual operator/(Dual a, Dual b) {
    const double q = a.value / b.value;
    return {q, (a.tangent - q * b.tangent) / b.value};
  }
  BPTT_DUAL_INLINE Dual& operator+=(Dual b) { return *this = *this + b; }
};

#undef BPTT_DUAL_INLINE

}  // namespace bptt::core

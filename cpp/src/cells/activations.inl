// SPDX-License-Identifier: MIT
// Activations that users choose: the value, and the slope as a function of the value.
#pragma once
#include "cells/traits.inl"
#include "kernels/vector/dual.inl"

BPTT_KERNELS_BEGIN

template <class V>
BPTT_INLINE V activate(Activation f, V a) {
  switch (f) {
    case Activation::tanh: return tanh(a);
    case Activation::relu: return maximum(V(0), a);
    case Activation::leaky_relu: return maximum(V(0.01) * a, a);
    case Activation::sigmoid: return sigmoid(a);
    case Activation::hard_sigmoid: return maximum(V(0), minimum(V(1), a * V(1.0 / 6) + V(0.5)));
    case Activation::identity:
    default: return a;
  }
}

template <class V>
BPTT_INLINE V slope(Activation f, V y) {
  switch (f) {
    case Activation::tanh: return V(1) - y * y;
    case Activation::relu: return select_nonpositive(y, V(0), V(1));
    case Activation::leaky_relu: return select_nonpositive(y, V(0.01), V(1));
    case Activation::sigmoid: return y * (V(1) - y);
    case Activation::hard_sigmoid: return zero_outside(y - V(0.5), V(0.5), V(1.0 / 6));
    case Activation::identity:
    default: return V(1);
  }
}

// The values of the gates' activations.
template <class Cell, class V>
void read_activations(const Options& options, const V* p, const V* k, const V* s0, V* v) {
  if constexpr (Cell::reads_activations)
    Cell::read(options, p, k, s0, v);
  else
    Cell::activated(options, p, k, s0, v);
}

// A gate's argument is clipped, then activated; gate_gradient is the gradient of the argument.
template <class V>
BPTT_INLINE V clipped(V a, V bound) {
  return maximum(V(0) - bound, minimum(bound, a));
}
template <class V>
BPTT_INLINE V gate_gradient(Activation f, V dy, V y, V a, V bound) {
  return zero_outside(a, bound, dy * slope(f, y));
}

BPTT_KERNELS_END

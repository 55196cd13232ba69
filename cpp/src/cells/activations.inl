// SPDX-License-Identifier: MIT
// Activations that users choose: the value, and the slope.
#pragma once
#include "cells/traits.inl"
#include "kernels/vector/dual.inl"

BPTT_KERNELS_BEGIN

// --- of the plain RNN, which keeps the value alone: the slope follows from it

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

// --- of the other cells, which keep the argument. One copy serves all gates of an object's cells.

template <class V>
BPTT_INLINE V absolute(V a) {
  return maximum(V(0) - a, a);
}
// a within the range where 1 + |a| has a square.
template <class V>
BPTT_INLINE V within_squares(V a) {
  return maximum(V(-1e18), minimum(V(1e18), a));
}

template <class V>
BPTT_SHARED V activate(const GateActivation& f, V a) {
  const V alpha(f.alpha), beta(f.beta), zero(0), one(1);
  switch (f.kind) {
    case Activation::tanh: return tanh(a);
    case Activation::relu: return maximum(zero, a);
    case Activation::leaky_relu: return select_nonpositive(a, alpha * a, a);
    case Activation::sigmoid: return sigmoid(a);
    case Activation::hard_sigmoid: return maximum(zero, minimum(one, a * alpha + beta));
    case Activation::elu: {  // e^a - 1 = 2 t / (1 - t), exact to the last digits near 0
      const V t = tanh(minimum(zero, a) * V(0.5));
      return select_nonpositive(a, alpha * ((t + t) / (one - t)), a);
    }
    case Activation::softsign: a = within_squares(a); return a / (one + absolute(a));
    case Activation::softplus: return zero - log_sigmoid(zero - a);
    case Activation::thresholded_relu: return select_nonpositive(a - alpha, zero, a);
    case Activation::scaled_tanh: return alpha * tanh(beta * a);
    case Activation::affine: return a * alpha + beta;
    case Activation::identity:
    default: return a;
  }
}
// Replaces an argument whose value is y by the slope there; at a kink, by the slope below it.
template <class V>
BPTT_SHARED void to_slope(const GateActivation& f, V& a, const V& y) {
  const V alpha(f.alpha), beta(f.beta), zero(0), one(1);
  switch (f.kind) {
    case Activation::tanh: a = one - y * y; break;
    case Activation::relu: a = select_nonpositive(y, zero, one); break;
    case Activation::leaky_relu: a = select_nonpositive(a, alpha, one); break;
    case Activation::sigmoid: a = y * (one - y); break;
    case Activation::hard_sigmoid: a = zero_outside(y - V(0.5), V(0.5), alpha); break;
    case Activation::elu: {
      const V t = tanh(minimum(zero, a) * V(0.5));
      a = select_nonpositive(a, alpha * ((one + t) / (one - t)), one);
      break;
    }
    case Activation::softsign: {
      const V q = one / (one + absolute(within_squares(a)));
      a = q * q;
      break;
    }
    case Activation::softplus: a = sigmoid(a); break;
    case Activation::thresholded_relu: a = select_nonpositive(a - alpha, zero, one); break;
    case Activation::scaled_tanh: {
      const V t = tanh(beta * a);
      a = alpha * beta * (one - t * t);
      break;
    }
    case Activation::affine: a = alpha; break;
    case Activation::identity: a = one; break;
  }
}

// The two activations that most gates have are not called.
template <class V>
BPTT_INLINE V slope(const GateActivation& f, V a, V y) {
  if (f.kind == Activation::tanh) return V(1) - y * y;
  if (f.kind == Activation::sigmoid) return y * (V(1) - y);
  to_slope(f, a, y);
  return a;
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
BPTT_INLINE V gate_gradient(const GateActivation& f, V dy, V y, V a, V bound) {
  return zero_outside(a, bound, dy * slope(f, a, y));
}

BPTT_KERNELS_END

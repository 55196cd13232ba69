// SPDX-License-Identifier: MIT
// Hochreiter & Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8), with their
// truncated gradient: nothing passes back through w_hh, which multiplies h and both gates. Gates i
// o g; states h c i o; saved after their activations.
//   c' = c + sig(i) (4 sig(g) - 2),   h' = sig(o) (2 sig(c') - 1)
#pragma once
#include "cells/activations.inl"

BPTT_KERNELS_BEGIN

struct Lstm1997 : CellTraits {
  static constexpr const char* name = "lstm1997";
  static constexpr int gates = 3, sums = 3, params = 0, states = 4, saved = 3;
  static constexpr int x_first = 0, x_gates[] = {0, 1, 2};
  static constexpr int h_first = 0, h_gates[] = {0, 1, 2};
  static constexpr bool passes_h = true, general = true, truncated = true;
  static constexpr const char* names = "i o g c";
  static constexpr int values = 3;

  template <class V>
  static void forward(const Options&, const V*, const V* a, const V* s0, V* s, V* k) {
    const V i = sigmoid(a[0]), o = sigmoid(a[1]), g = sigmoid(a[2]);
    s[1] = s0[1] + i * (V(4) * g - V(2));
    s[0] = o * (V(2) * sigmoid(s[1]) - V(1));
    s[2] = i, s[3] = o;
    k[0] = i, k[1] = o, k[2] = g;
  }

  template <class V>
  static void backward(const Options&, const V*, V* ds, const V* k, const V* s0, const V*, V* da,
                       V* ds0) {
    const V i = k[0], o = k[1], g = k[2], in = V(4) * g - V(2), out = sigmoid(s0[1] + i * in);
    const V dc = ds[1] + ds[0] * o * V(2) * out * (V(1) - out);
    ds[1] = dc;
    da[0] = (dc * in + ds[2]) * i * (V(1) - i);
    da[1] = (ds[0] * (V(2) * out - V(1)) + ds[3]) * o * (V(1) - o);
    da[2] = dc * i * V(4) * g * (V(1) - g);
    ds0[0] = ds0[2] = ds0[3] = V(0);
    ds0[1] = dc;
  }

  template <class V>
  static void read(const Options&, const V*, const V* k, const V*, V* v) {
    BPTT_UNROLL for (int n = 0; n < values; ++n) v[n] = k[n];
  }
};

BPTT_KERNELS_END

// SPDX-License-Identifier: MIT
// Zhou et al. (2016), "Minimal gated unit for recurrent neural networks", arXiv:1603.09420, the
// gate applied after the recurrent product (as in Flax). Gates f n; sums x_n f h_n, saved.
//   n = tanh(x_n + sig(f) h_n),   h' = (1 - sig(f)) n + sig(f) h
#pragma once
#include "cells/activations.inl"

BPTT_KERNELS_BEGIN

struct Mgu : CellTraits {
  static constexpr const char* name = "mgu";
  static constexpr int gates = 2, sums = 3, params = 0, states = 1, saved = 3;
  static constexpr int x_first = 0, x_gates[] = {1, 0};
  static constexpr int h_first = 1, h_gates[] = {0, 1};
  static constexpr bool passes_h = true, general = true;
  static constexpr const char* names = "f n";
  static constexpr int values = 2;

  template <class V>
  static void forward(const Options& o, const V*, const V* a, const V* s0, V* s, V* k) {
    const V bound(o.preact_clip), f = sigmoid(clipped(a[1], bound));
    const V n = tanh(clipped(a[0] + f * a[2], bound));
    s[0] = n + f * (s0[0] - n);
    BPTT_UNROLL for (int i = 0; i < sums; ++i) k[i] = a[i];
  }

  template <class V>
  static void backward(const Options& o, const V*, const V* ds, const V* a, const V* s0, const V*,
                       V* da, V* ds0) {
    const V bound(o.preact_clip), f = sigmoid(clipped(a[1], bound));
    const V a_n = a[0] + f * a[2], n = tanh(clipped(a_n, bound));
    da[0] = zero_outside(a_n, bound, ds[0] * (V(1) - f) * (V(1) - n * n));
    da[1] = zero_outside(a[1], bound, (da[0] * a[2] + ds[0] * (s0[0] - n)) * f * (V(1) - f));
    da[2] = da[0] * f;
    ds0[0] = ds[0] * f;
  }

  template <class V>
  static void read(const Options& o, const V*, const V* a, const V*, V* v) {
    const V bound(o.preact_clip);
    v[0] = sigmoid(clipped(a[1], bound));
    v[1] = tanh(clipped(a[0] + v[0] * a[2], bound));
  }
};

BPTT_KERNELS_END

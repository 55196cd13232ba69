// SPDX-License-Identifier: MIT
// Cho et al. (2014), reset applied after the recurrent product (as cuDNN and PyTorch do).
// Gates r z n; sums x_n r z h_n; saved r z n h_n.
//   n = tanh(x_n + sig(r) h_n),   h' = (1 - sig(z)) n + sig(z) h
#pragma once
#include "cells/activations.inl"

BPTT_KERNELS_BEGIN

struct Gru : CellTraits {
  static constexpr const char* name = "gru";
  static constexpr int gates = 3, sums = 4, params = 0, states = 1, saved = 4;
  static constexpr int x_first = 0, x_gates[] = {2, 0, 1};
  static constexpr int h_first = 1, h_gates[] = {0, 1, 2};
  static constexpr bool passes_h = true, general = false;
  static constexpr const char* names = "r z n";
  static constexpr int values = 3;

  template <class V>
  BPTT_INLINE static void forward(const Options&, const V*, const V* a, const V* s0, V* s, V* k) {
    const V r = sigmoid(a[1]), z = sigmoid(a[2]), n = tanh(a[0] + r * a[3]);
    s[0] = n + z * (s0[0] - n);
    k[0] = r, k[1] = z, k[2] = n, k[3] = a[3];
  }

  template <class V>
  BPTT_INLINE static void backward(const Options&, const V*, const V* ds, const V* k, const V* s0,
                                   const V*, V* da, V* ds0) {
    const V r = k[0], z = k[1], n = k[2], h_n = k[3];
    const V dn = ds[0] * (V(1) - z) * (V(1) - n * n);
    da[0] = dn;
    da[1] = dn * h_n * r * (V(1) - r);
    da[2] = ds[0] * (s0[0] - n) * z * (V(1) - z);
    da[3] = dn * r;
    ds0[0] = ds[0] * z;
  }

  template <class V>
  static void read(const Options&, const V*, const V* k, const V*, V* v) {
    BPTT_UNROLL for (int i = 0; i < values; ++i) v[i] = k[i];
  }
};

// With a choice of activations and clipped gate arguments. Saved: the sums. n may be large here, so
// h' is not computed as n + z (h - n), which would round the h that an open gate keeps.
struct GruGeneral : CellTraits {
  static constexpr const char* name = "gru_general";
  static constexpr int gates = 3, sums = 4, params = 0, states = 1, saved = 4;
  static constexpr int x_first = 0, x_gates[] = {2, 0, 1};
  static constexpr int h_first = 1, h_gates[] = {0, 1, 2};
  static constexpr bool passes_h = true, general = true;
  static constexpr const char* names = "r z n";
  static constexpr int values = 3;

  template <class V>
  static void forward(const Options& o, const V*, const V* a, const V* s0, V* s, V* k) {
    const V bound(o.preact_clip);
    const V r = activate(o.gate_activation, clipped(a[1], bound)),
            z = activate(o.gate_activation, clipped(a[2], bound)),
            n = activate(o.activation, clipped(a[0] + r * a[3], bound));
    s[0] = (V(1) - z) * n + z * s0[0];
    BPTT_UNROLL for (int i = 0; i < sums; ++i) k[i] = a[i];
  }

  template <class V>
  static void backward(const Options& o, const V*, const V* ds, const V* a, const V* s0, const V*,
                       V* da, V* ds0) {
    const V bound(o.preact_clip);
    const V r = activate(o.gate_activation, clipped(a[1], bound)),
            z = activate(o.gate_activation, clipped(a[2], bound)), a_n = a[0] + r * a[3],
            n = activate(o.activation, clipped(a_n, bound));
    da[0] = gate_gradient(o.activation, ds[0] * (V(1) - z), n, a_n, bound);
    da[1] = gate_gradient(o.gate_activation, da[0] * a[3], r, a[1], bound);
    da[2] = gate_gradient(o.gate_activation, ds[0] * (s0[0] - n), z, a[2], bound);
    da[3] = da[0] * r;
    ds0[0] = ds[0] * z;
  }

  template <class V>
  static void read(const Options& o, const V*, const V* a, const V*, V* v) {
    const V bound(o.preact_clip);
    v[0] = activate(o.gate_activation, clipped(a[1], bound));
    v[1] = activate(o.gate_activation, clipped(a[2], bound));
    v[2] = activate(o.activation, clipped(a[0] + v[0] * a[3], bound));
  }
};

// With the reset before the recurrent product, as in the paper (and ONNX, and Keras 1): a second
// product multiplies r h by w_hn. Gates and sums r z n, saved.
//   n = act(x_n + w_hn (sig(r) h)),   h' = (1 - sig(z)) n + sig(z) h
struct GruBefore : CellTraits {
  static constexpr const char* name = "gru_before";
  static constexpr int gates = 3, sums = 3, params = 0, states = 1, saved = 3, h_products = 2;
  static constexpr int x_first = 0, x_gates[] = {0, 1, 2};
  static constexpr int h_first = 0, h_gates[] = {0, 1, 2};
  static constexpr bool passes_h = true, general = true, second_product = true;
  static constexpr const char* names = "r z n";
  static constexpr int values = 3;

  template <class V>
  static V gate(const Options& o, V a) {
    return activate(o.gate_activation, clipped(a, V(o.preact_clip)));
  }

  template <class V>
  static void forward(const Options& o, const V*, const V* a, const V* s0, V* s, V* k) {
    s[0] = gate(o, a[0]) * s0[0];
    BPTT_UNROLL for (int i = 0; i < sums; ++i) k[i] = a[i];
  }

  template <class V>
  static void backward(const Options& o, const V*, const V* ds, const V* a, const V* s0, const V*,
                       V* da, V* ds0) {
    const V r = gate(o, a[0]);
    da[0] = gate_gradient(o.gate_activation, ds[0] * s0[0], r, a[0], V(o.preact_clip));
    ds0[0] = ds[0] * r;
  }

  template <class V>
  static void read(const Options& o, const V*, const V* a, const V*, V* v) {
    v[0] = gate(o, a[0]), v[1] = gate(o, a[1]);
    v[2] = activate(o.activation, clipped(a[2], V(o.preact_clip)));
  }

  struct SecondProduct : CellTraits {
    static constexpr int gates = 1, sums = 1, params = 0, saved = 3, gives = 2;
    static constexpr int x_first = 0, h_first = 0, h_gates[] = {2};
    static constexpr bool takes_h = true, projects = false;

    template <class V>
    static void forward(const Options& o, V a, V h0, V& h, V* k) {
      k[2] = k[2] + a;
      const V z = gate(o, k[1]), n = activate(o.activation, clipped(k[2], V(o.preact_clip)));
      h = (V(1) - z) * n + z * h0;
    }

    template <class V>
    static void backward(const Options& o, V dh, const V* a, V h0, V* da, V& d, V& dh0) {
      const V bound(o.preact_clip), z = gate(o, a[1]),
                                    n = activate(o.activation, clipped(a[2], bound));
      da[1] = gate_gradient(o.gate_activation, dh * (h0 - n), z, a[1], bound);
      da[2] = gate_gradient(o.activation, dh * (V(1) - z), n, a[2], bound);
      d = da[2];
      dh0 = dh * z;
    }
  };
};

BPTT_KERNELS_END

// SPDX-License-Identifier: MIT
// Hochreiter & Schmidhuber (1997) with the forget gate of Gers, Schmidhuber & Cummins (2000).
// Gates i f g o; saved after their activations.
//   c' = sig(f) c + sig(i) tanh(g),   h' = sig(o) tanh(c')
#pragma once
#include "cells/activations.inl"

BPTT_KERNELS_BEGIN

struct Lstm : CellTraits {
  static constexpr const char* name = "lstm";
  static constexpr int gates = 4, sums = 4, params = 0, states = 2, saved = 4;
  static constexpr int x_first = 0, x_gates[] = {0, 1, 2, 3};
  static constexpr int h_first = 0, h_gates[] = {0, 1, 2, 3};
  static constexpr bool passes_h = false, general = false;
  static constexpr const char* names = "i f g o c";
  static constexpr int values = 4;

  template <class V>
  BPTT_INLINE static void forward(const Options&, const V*, const V* a, const V* s0, V* s, V* k) {
    const V i = sigmoid(a[0]), f = sigmoid(a[1]), g = tanh(a[2]), o = sigmoid(a[3]);
    s[1] = f * s0[1] + rounded(i * g);
    s[0] = o * tanh(s[1]);
    k[0] = i, k[1] = f, k[2] = g, k[3] = o;
  }

  // tanh(c') is computed again, which is cheaper than the memory traffic of keeping it.
  template <class V>
  BPTT_INLINE static void backward(const Options&, const V*, V* ds, const V* k, const V* s0,
                                   const V* s, V* da, V* ds0) {
    const V i = k[0], f = k[1], g = k[2], o = k[3], tanh_c = tanh(s[1]);
    const V dc = ds[1] + ds[0] * o * (V(1) - tanh_c * tanh_c);
    ds[1] = dc;
    da[0] = dc * g * i * (V(1) - i);
    da[1] = dc * s0[1] * f * (V(1) - f);
    da[2] = dc * i * (V(1) - g * g);
    da[3] = ds[0] * tanh_c * o * (V(1) - o);
    ds0[1] = dc * f;
  }

  template <class V>
  static void read(const Options&, const V*, const V* k, const V*, V* v) {
    BPTT_UNROLL for (int i = 0; i < values; ++i) v[i] = k[i];
  }
};

// With peepholes p (Gers & Schmidhuber, 2000), from c to i and f and from c' to o; a forget gate of
// its own, or none (Hochreiter & Schmidhuber, 1997), or coupled, f = 1 - i (Greff et al., 2017); a
// choice of activations; clipped state and gate arguments. Gates i f g o, or i g o; params i f o,
// or i o. Saved before the activations.
template <bool own_forget>
struct LstmGates : CellTraits {
  static constexpr int x_gates[] = {0, 1, 2, 3};
};
template <>
struct LstmGates<false> : CellTraits {
  static constexpr int x_gates[] = {0, 1, 2};
};
template <bool own_forget>
struct LstmGeneral : LstmGates<own_forget> {
  static constexpr const char* name = own_forget ? "lstm_general" : "lstm_no_forget";
  static constexpr int gates = own_forget ? 4 : 3, sums = gates, params = gates - 1, states = 2,
                       saved = gates;
  static constexpr int x_first = 0, h_first = 0;
  static constexpr const auto& h_gates = LstmGates<own_forget>::x_gates;
  static constexpr bool passes_h = true, general = true;
  static constexpr const char* names = "i f g o c";
  static constexpr int values = 4;
  static constexpr int F = own_forget ? 1 : 0, C = own_forget ? 2 : 1, O = gates - 1;  // C: of g

  // The values of one step, from the arguments of the gates and the old state.
  template <class V>
  struct Values {
    V i, f, g, c, clipped_c, o, out;
    Values(const Options& options, const V* p, V* a, V c0) {
      const V bound(options.preact_clip);
      i = activate(options.gate_activation, clipped(a[0], bound));
      if constexpr (own_forget)
        f = activate(options.gate_activation, clipped(a[F], bound));
      else
        f = options.coupled ? V(1) - i : V(1);
      g = activate(options.activation, clipped(a[C], bound));
      c = f * c0 + i * g;
      clipped_c = clipped(c, V(options.cell_clip));
      a[O] = a[O] + p[O - 1] * clipped_c;
      o = activate(options.gate_activation, clipped(a[O], bound));
      out = activate(options.output_activation, clipped_c);
    }
  };

  template <class V>
  static void forward(const Options& options, const V* p, const V* a, const V* s0, V* s, V* k) {
    BPTT_UNROLL for (int n = 0; n < gates; ++n) k[n] = a[n];
    k[0] = k[0] + p[0] * s0[1];
    if constexpr (own_forget) k[F] = k[F] + p[F] * s0[1];
    V with_peephole[gates];
    BPTT_UNROLL for (int n = 0; n < gates; ++n) with_peephole[n] = k[n];
    const Values<V> v(options, p, with_peephole, s0[1]);
    s[1] = v.clipped_c;
    s[0] = v.o * v.out;
  }

  template <class V>
  static void backward(const Options& options, const V* p, V* ds, const V* k, const V* s0, const V*,
                       V* da, V* ds0) {
    const GateActivation& gate = options.gate_activation;
    const V bound(options.preact_clip), c0 = s0[1];
    V a[gates];
    BPTT_UNROLL for (int n = 0; n < gates; ++n) a[n] = k[n];
    const Values<V> v(options, p, a, c0);
    da[O] = gate_gradient(gate, ds[0] * v.out, v.o, a[O], bound);
    da[gates + params - 1] = da[O] * v.clipped_c;
    ds[1] = ds[1] + ds[0] * v.o * slope(options.output_activation, v.clipped_c, v.out) +
            da[O] * p[O - 1];
    through_c(options, p, ds[1], v, a, c0, da, ds0);
  }

  // The same from the gradient of c' on, without sum o and its peephole.
  template <class V>
  static void through_c(const Options& options, const V* p, V clipped_dc, const Values<V>& v,
                        const V* a, V c0, V* da, V* ds0) {
    const GateActivation& gate = options.gate_activation;
    const V bound(options.preact_clip), dc = zero_outside(v.c, V(options.cell_clip), clipped_dc);
    const V di = options.coupled ? dc * (v.g - c0) : dc * v.g;
    da[0] = gate_gradient(gate, di, v.i, a[0], bound);
    da[C] = gate_gradient(options.activation, dc * v.i, v.g, a[C], bound);
    ds0[0] = V(0);
    ds0[1] = dc * v.f + da[0] * p[0];
    if constexpr (own_forget) {
      da[F] = gate_gradient(gate, dc * c0, v.f, a[F], bound);
      ds0[1] = ds0[1] + da[F] * p[F];
      da[gates + F] = da[F] * c0;
    }
    da[gates] = da[0] * c0;
  }

  template <class V>
  static void read(const Options& options, const V* p, const V* k, const V* s0, V* v) {
    V a[gates];
    BPTT_UNROLL for (int n = 0; n < gates; ++n) a[n] = k[n];
    const Values<V> all(options, p, a, s0[1]);
    v[0] = all.i, v[1] = all.f, v[2] = all.g, v[3] = all.o;
  }
};

// With h projected (Sak, Senior & Beaufays, 2014): h' = w_hr (sig(o) out(c')), the second product
// of a step.
template <bool own_forget>
struct LstmProjected : LstmGeneral<own_forget> {
  static constexpr const char* name = own_forget ? "lstm_projected" : "lstm_projected_no_forget";
  static constexpr int h_products = LstmGeneral<own_forget>::gates;
  static constexpr bool second_product = true;

  struct SecondProduct : CellTraits {
    static constexpr int gates = 1, sums = 1, params = 0, saved = 0, gives = 0;
    static constexpr int x_first = 0, h_first = 0, h_gates[] = {0};
    static constexpr bool takes_h = false, projects = true;

    template <class V>
    static void forward(const Options&, V a, V, V& h, V*) {
      h = a;
    }

    template <class V>
    static void backward(const Options&, V dh, const V*, V, V*, V& d, V& dh0) {
      d = dh;
      dh0 = V(0);
    }
  };
};

BPTT_KERNELS_END

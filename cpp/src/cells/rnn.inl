// SPDX-License-Identifier: MIT
// Elman (1990), "Finding structure in time".  h' = activation(x + h)
#pragma once
#include "cells/activations.inl"

BPTT_KERNELS_BEGIN

struct Rnn : CellTraits {
  static constexpr const char* name = "rnn";
  static constexpr int gates = 1, sums = 1, params = 0, states = 1, saved = 0;
  static constexpr int x_first = 0, x_gates[] = {0};
  static constexpr int h_first = 0, h_gates[] = {0};
  static constexpr bool passes_h = false, general = false;
  static constexpr const char* names = "";
  static constexpr int values = 0;

  template <class V>
  BPTT_INLINE static void forward(const Options& options, const V*, const V* a, const V*, V* s,
                                  V*) {
    s[0] = activate(options.activation.kind, a[0]);
  }

  // Every derivative follows from the value, so nothing is saved beside y.
  template <class V>
  BPTT_INLINE static void backward(const Options& options, const V*, const V* ds, const V*,
                                   const V*, const V* s, V* da, V*) {
    da[0] = ds[0] * slope(options.activation.kind, s[0]);
  }

  template <class V>
  static void read(const Options&, const V*, const V*, const V*, V*) {}
};

// With a leak, the neuroscientists' RNN: h' = (1 - leak) h + leak activation(x + h); Jaeger et al.
// (2007), "Optimization and applications of echo state networks with leaky-integrator neurons".
// Params: the leak of each unit, beside that of all, one of which is 0. Saved before the
// activation.
struct RnnGeneral : CellTraits {
  static constexpr const char* name = "rnn_general";
  static constexpr int gates = 1, sums = 1, params = 1, states = 1, saved = 1;
  static constexpr int x_first = 0, x_gates[] = {0};
  static constexpr int h_first = 0, h_gates[] = {0};
  static constexpr bool passes_h = true, general = true;
  static constexpr const char* names = "";
  static constexpr int values = 1;  // the value mixed into h

  template <class V>
  static void forward(const Options& o, const V* p, const V* a, const V* s0, V* s, V* k) {
    const V y = activate(o.activation, clipped(a[0], V(o.preact_clip)));
    s[0] = (V(1 - o.leak) - p[0]) * s0[0] + (V(o.leak) + p[0]) * y;
    k[0] = a[0];
  }

  template <class V>
  static void backward(const Options& o, const V* p, const V* ds, const V* k, const V* s0, const V*,
                       V* da, V* ds0) {
    const V bound(o.preact_clip), y = activate(o.activation, clipped(k[0], bound));
    da[0] = gate_gradient(o.activation, (V(o.leak) + p[0]) * ds[0], y, k[0], bound);
    da[1] = ds[0] * (y - s0[0]);
    ds0[0] = (V(1 - o.leak) - p[0]) * ds[0];
  }

  template <class V>
  static void read(const Options& o, const V*, const V* k, const V*, V* v) {
    v[0] = activate(o.activation, clipped(k[0], V(o.preact_clip)));
  }
};

BPTT_KERNELS_END

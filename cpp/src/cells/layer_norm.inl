// SPDX-License-Identifier: MIT
// Ba, Kiros & Hinton (2016), "Layer normalization", arXiv:1607.06450: a cell whose products with x
// and with h are normalised to mean 0 and variance 1, each over all gates and units of a sequence,
// before they become its sums:
//   a = gain_ih N(w_ih x) + b_ih + gain_hh N(w_hh h) + b_hh
// The loop normalises, see kernels/time/layer_norm.inl. Here the sums are N(w_ih x) of all gates,
// then N(w_hh h) of all; they are saved. Params: the cell's, the gains of these sums, the biases of
// the cell's sums. Gradients of a unit: of the cell's sums (and biases), of all params but biases.
#pragma once
#include "cells/activations.inl"

BPTT_KERNELS_BEGIN

template <class Cell>
struct LayerNorm : Cell {
  using Equations = Cell;
  static constexpr int gates = Cell::gates, sums = 2 * gates, x_first = 0, h_first = gates;
  static constexpr int gains = Cell::params, biases = gains + sums, params = biases + Cell::sums;
  static constexpr int dgains = Cell::sums + Cell::params, gradients = dgains + sums;
  static constexpr int saved = sums;
  static constexpr bool layer_norm = true;

  // The cell's sums, and its saved values.
  template <class V>
  static void sums_of(const V* p, const V* n, V* a) {
    BPTT_UNROLL for (int i = 0; i < Cell::sums; ++i) a[i] = p[biases + i];
    BPTT_UNROLL for (int g = 0; g < gates; ++g) {
      a[Cell::x_first + g] = a[Cell::x_first + g] + p[gains + g] * n[g];
      a[Cell::h_first + g] = a[Cell::h_first + g] + p[gains + gates + g] * n[gates + g];
    }
  }
  template <class V>
  static void saved_of(const Options& options, const V* p, const V* n, const V* s0, V* k) {
    V a[Cell::sums], s[Cell::states];
    sums_of(p, n, a);
    Cell::forward(options, p, a, s0, s, k);
  }

  template <class V>
  static void forward(const Options& options, const V* p, const V* n, const V* s0, V* s, V* k) {
    V a[Cell::sums], own[Cell::saved];
    sums_of(p, n, a);
    Cell::forward(options, p, a, s0, s, own);
    BPTT_UNROLL for (int i = 0; i < sums; ++i) k[i] = n[i];
  }

  template <class V>
  static void backward(const Options& options, const V* p, V* ds, const V* k, const V* s0,
                       const V* s, V* da, V* ds0) {
    V own[Cell::saved];
    saved_of(options, p, k, s0, own);
    Cell::backward(options, p, ds, own, s0, s, da, ds0);
  }

  template <class V>
  static void read(const Options& options, const V* p, const V* k, const V* s0, V* v) {
    V own[Cell::saved];
    saved_of(options, p, k, s0, own);
    Cell::read(options, p, own, s0, v);
  }
  template <class V>
  static void activated(const Options& options, const V* p, const V* k, const V* s0, V* v) {
    V own[Cell::saved];
    saved_of(options, p, k, s0, own);
    read_activations<Cell>(options, p, own, s0, v);
  }
};

// An LSTM whose output takes c' normalised as well: h' = sig(o) out(gain_c N(c') + b_c). The params
// end with gain_c and b_c, and so do the gradients; c' is saved, before zoneout. `output` makes h'
// of N(c'); in `backward`, ds[0] is the gradient of c' through N(c').
template <class Lstm>
struct LayerNormLstm : LayerNorm<Lstm> {
  using Sums = LayerNorm<Lstm>;
  static constexpr int gain_c = Sums::params, b_c = gain_c + 1, params = b_c + 1;
  static constexpr int dgain_c = Sums::gradients, db_c = dgain_c + 1, gradients = db_c + 1;
  static constexpr int c = Sums::saved, saved = c + 1, O = Lstm::O;
  static constexpr bool layer_norm_c = true;

  template <class V>
  struct Output {
    V a, o, scaled, seen;  // arguments and values of o, and of the activation that it multiplies
    Output(const Options& options, const V* p, const V* k, V normal_c) {
      V sums[Lstm::sums];
      Sums::sums_of(p, k, sums);
      a = sums[O] + p[O - 1] * k[c];
      o = activate(options.gate_activation, clipped(a, V(options.preact_clip)));
      scaled = p[gain_c] * normal_c + p[b_c];
      seen = activate(options.output_activation, scaled);
    }
  };

  template <class V>
  static void forward(const Options& options, const V* p, const V* n, const V* s0, V* s, V* k) {
    Sums::forward(options, p, n, s0, s, k);
    k[c] = s[1];
  }
  template <class V>
  static V output(const Options& options, const V* p, const V* k, V normal_c) {
    const Output<V> v(options, p, k, normal_c);
    return v.o * v.seen;
  }

  // Gradient of N(c'), and of the output gate, which does not depend on it.
  template <class V>
  static V output_gradient(const Options& options, const V* p, V dh, const V* k, V normal_c,
                           V* da) {
    const Output<V> v(options, p, k, normal_c);
    da[O] = gate_gradient(options.gate_activation, dh * v.seen, v.o, v.a, V(options.preact_clip));
    da[Lstm::sums + Lstm::params - 1] = da[O] * k[c];
    da[db_c] = dh * v.o * slope(options.output_activation, v.scaled, v.seen);
    da[dgain_c] = da[db_c] * normal_c;
    return da[db_c] * p[gain_c];
  }
  template <class V>
  static void backward(const Options& options, const V* p, V* ds, const V* k, const V* s0, const V*,
                       V* da, V* ds0) {
    V a[Lstm::saved];
    Sums::saved_of(options, p, k, s0, a);
    const typename Lstm::template Values<V> v(options, p, a, s0[1]);
    ds[1] = ds[1] + ds[0] + da[O] * p[O - 1];
    Lstm::through_c(options, p, ds[1], v, a, s0[1], da, ds0);
  }
};

BPTT_KERNELS_END

// SPDX-License-Identifier: MIT
// Beck et al. (2024), "xLSTM: extended long short-term memory", arXiv:2405.04517, section 2.2: an
// LSTM whose input gate is an exponential, with a normaliser n and a stabiliser m.
// Gates i f z o; states h c n m; saved i f before, z o after their activations.
//   m' = max(log sig(f) + m, i),   i' = exp(i - m'),   f' = exp(log sig(f) + m - m'),
//   c' = f' c + i' tanh(z),   n' = f' n + i',   h' = sig(o) c' / n'
// Where n = 0, m is not yet the scale of anything: then m' = i, as in their code. So n' is 1 there,
// and later at least 1, and only there can f' exceed 1.
#pragma once
#include "cells/activations.inl"

BPTT_KERNELS_BEGIN

struct Slstm : CellTraits {
  static constexpr const char* name = "slstm";
  static constexpr int gates = 4, sums = 4, params = 0, states = 4, saved = 4;
  static constexpr int x_first = 0, x_gates[] = {0, 1, 2, 3};
  static constexpr int h_first = 0, h_gates[] = {0, 1, 2, 3};
  static constexpr bool passes_h = true, general = true, scaled = true, reads_activations = false;
  static constexpr const char* names = "i f z o c n m";  // i and f stabilised: i' and f'
  static constexpr int values = 4;

  // kept is log sig(f) + m, m is m', and by_input is 1 where m' is i, else 0.
  template <class V>
  struct Exponents {
    V kept, by_input, m;
    Exponents(V i, V f, const V* s0) : kept(log_sigmoid(f) + s0[3]) {
      by_input = select_zero(s0[2], V(1), select_nonpositive(i - kept, V(0), V(1)));
      m = select_zero(by_input, kept, i);
    }
  };

  template <class V>
  static void forward(const Options&, const V*, const V* a, const V* s0, V* s, V* k) {
    const Exponents<V> e(a[0], a[1], s0);
    const V z = tanh(a[2]), o = sigmoid(a[3]), i = a[0] - e.m, f = e.kept - e.m;
    s[1] = times_exp(s0[1], f) + times_exp(z, i);
    s[2] = times_exp(s0[2], f) + times_exp(V(1), i);
    s[3] = e.m;
    s[0] = o * (s[1] / s[2]);
    k[0] = a[0], k[1] = a[1], k[2] = z, k[3] = o;
  }

  template <class V>
  static void backward(const Options&, const V*, V* ds, const V* k, const V* s0, const V*, V* da,
                       V* ds0) {
    const Exponents<V> e(k[0], k[1], s0);
    const V z = k[2], o = k[3], i = k[0] - e.m, f = e.kept - e.m;
    const V c = times_exp(s0[1], f) + times_exp(z, i), n = times_exp(s0[2], f) + times_exp(V(1), i),
            ratio = c / n;
    const V dc = ds[1] + ds[0] * o / n, dn = ds[2] - ds[0] * o * ratio / n;
    ds[1] = dc, ds[2] = dn;
    const V di = times_exp(dc * z + dn, i), df = times_exp(dc * s0[1] + dn * s0[2], f);
    const V dm = ds[3] - di - df;
    const V dkept = df + (V(1) - e.by_input) * dm;
    da[0] = di + e.by_input * dm;
    da[1] = dkept * sigmoid(V(0) - k[1]);
    da[2] = times_exp(dc, i) * (V(1) - z * z);
    da[3] = ds[0] * ratio * o * (V(1) - o);
    ds0[0] = V(0);
    ds0[1] = times_exp(dc, f);
    ds0[2] = times_exp(dn, f);
    ds0[3] = dkept;
  }

  // An f' of more than 1 is read as 1.
  template <class V>
  static void read(const Options&, const V*, const V* k, const V* s0, V* v) {
    const Exponents<V> e(k[0], k[1], s0);
    v[0] = times_exp(V(1), k[0] - e.m), v[1] = minimum(V(1), times_exp(V(1), e.kept - e.m));
    v[2] = k[2], v[3] = k[3];
  }

  // i stands for its exponential, which has no bound; f is a sigmoid before it is stabilised.
  template <class V>
  static void activated(const Options&, const V*, const V* k, const V*, V* v) {
    v[0] = k[0], v[1] = sigmoid(k[1]), v[2] = k[2], v[3] = k[3];
  }
};

BPTT_KERNELS_END

// SPDX-License-Identifier: MIT
// Hochreiter & Schmidhuber (1997) with the forget gate of Gers, Schmidhuber & Cummins (2000).
// Gates i f g o; saved after their activations.
//   c' = sig(f) c + sig(i) tanh(g),   h' = sig(o) tanh(c')
struct Lstm {
  static constexpr const char* name = "lstm";
  static constexpr int gates = 4, sums = 4, states = 2, saved = 4;
  static constexpr int x_first = 0, x_gates[] = {0, 1, 2, 3};
  static constexpr int h_first = 0, h_gates[] = {0, 1, 2, 3};
  static constexpr bool passes_h = false;

  template <class V>
  static void forward(const Options&, const V* a, const V* s0, V* s, V* k) {
    const V i = sigmoid(a[0]), f = sigmoid(a[1]), g = tanh(a[2]), o = sigmoid(a[3]);
    s[1] = f * s0[1] + i * g;
    s[0] = o * tanh(s[1]);
    k[0] = i, k[1] = f, k[2] = g, k[3] = o;
  }

  // tanh(c') is computed again: cheaper than the memory traffic of keeping it.
  template <class V>
  static void backward(const Options&, const V* ds, const V* k, const V* s0, const V* s, V* da,
                       V* ds0) {
    const V i = k[0], f = k[1], g = k[2], o = k[3], tanh_c = tanh(s[1]);
    const V dc = ds[1] + ds[0] * o * (V(1) - tanh_c * tanh_c);
    da[0] = dc * g * i * (V(1) - i);
    da[1] = dc * s0[1] * f * (V(1) - f);
    da[2] = dc * i * (V(1) - g * g);
    da[3] = ds[0] * tanh_c * o * (V(1) - o);
    ds0[1] = dc * f;
  }
};

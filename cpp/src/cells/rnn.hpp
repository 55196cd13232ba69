// SPDX-License-Identifier: MIT
// Elman (1990), "Finding structure in time".  h' = activation(x + h)
struct Rnn {
  static constexpr const char* name = "rnn";
  static constexpr int gates = 1, sums = 1, states = 1, saved = 0;
  static constexpr int x_first = 0, x_gates[] = {0};
  static constexpr int h_first = 0, h_gates[] = {0};
  static constexpr bool passes_h = false;

  template <class V>
  static void forward(const Options& options, const V* a, const V*, V* s, V*) {
    switch (options.activation) {
      case Activation::tanh: s[0] = tanh(a[0]); break;
      case Activation::relu: s[0] = maximum(V(0), a[0]); break;
      case Activation::leaky_relu: s[0] = maximum(V(0.01) * a[0], a[0]); break;
      case Activation::sigmoid: s[0] = sigmoid(a[0]); break;
      case Activation::identity:
      default: s[0] = a[0]; break;
    }
  }

  // Every derivative follows from the value, so nothing is saved beside y.
  template <class V>
  static void backward(const Options& options, const V* ds, const V*, const V*, const V* s, V* da,
                       V*) {
    switch (options.activation) {
      case Activation::tanh: da[0] = ds[0] * (V(1) - s[0] * s[0]); break;
      case Activation::relu: da[0] = ds[0] * select_nonpositive(s[0], V(0), V(1)); break;
      case Activation::leaky_relu: da[0] = ds[0] * select_nonpositive(s[0], V(0.01), V(1)); break;
      case Activation::sigmoid: da[0] = ds[0] * s[0] * (V(1) - s[0]); break;
      case Activation::identity:
      default: da[0] = ds[0]; break;
    }
  }
};

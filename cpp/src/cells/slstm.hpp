// SPDX-License-Identifier: MIT
// Beck et al. (2024), "xLSTM: extended long short-term memory", arXiv:2405.04517, section 2.2: an
// LSTM whose input gate is an exponential, with a normaliser n and a stabiliser m.
// Gates i f z o; states h c n m; saved i f before, z o after their activations.
//   m' = max(log sig(f) + m, i),   i' = exp(i - m'),   f' = exp(log sig(f) + m - m'),
//   c' = f' c + i' tanh(z),   n' = f' n + i',   h' = sig(o) c' / n'
struct Slstm {
  static constexpr const char* name = "slstm";
  static constexpr int gates = 4, sums = 4, params = 0, states = 4, saved = 4;
  static constexpr int x_first = 0, x_gates[] = {0, 1, 2, 3};
  static constexpr int h_first = 0, h_gates[] = {0, 1, 2, 3};
  static constexpr bool passes_h = true, general = true, inner = false;
  static constexpr const char* names = "i f z o c n m";  // i and f stabilised: i' and f'
  static constexpr int values = 4;

  template <class V>
  static void forward(const Options&, const V*, const V* a, const V* s0, V* s, V* k) {
    const V z = tanh(a[2]), o = sigmoid(a[3]), kept = log_sigmoid(a[1]) + s0[3];
    s[3] = maximum(kept, a[0]);
    const V i = exp(a[0] - s[3]), f = exp(kept - s[3]);
    s[1] = f * s0[1] + i * z;
    s[2] = f * s0[2] + i;
    s[0] = o * s[1] / s[2];
    k[0] = a[0], k[1] = a[1], k[2] = z, k[3] = o;
  }

  template <class V>
  static void backward(const Options&, const V*, V* ds, const V* k, const V* s0, const V*, V* da,
                       V* ds0) {
    const V z = k[2], o = k[3], kept = log_sigmoid(k[1]) + s0[3], m = maximum(kept, k[0]);
    const V i = exp(k[0] - m), f = exp(kept - m), n = f * s0[2] + i,
            ratio = (f * s0[1] + i * z) / n;
    const V dc = ds[1] + ds[0] * o / n, dn = ds[2] - ds[0] * o * ratio / n;
    ds[1] = dc, ds[2] = dn;
    const V di = (dc * z + dn) * i, df = (dc * s0[1] + dn * s0[2]) * f;  // of the exponents
    const V dm = ds[3] - di - df;
    const V by_input = select_nonpositive(k[0] - kept, V(0), V(1));  // which one m' is
    const V dkept = df + (V(1) - by_input) * dm;
    da[0] = di + by_input * dm;
    da[1] = dkept * sigmoid(V(0) - k[1]);
    da[2] = dc * i * (V(1) - z * z);
    da[3] = ds[0] * ratio * o * (V(1) - o);
    ds0[0] = V(0);
    ds0[1] = dc * f;
    ds0[2] = dn * f;
    ds0[3] = dkept;
  }

  template <class V>
  static void read(const Options&, const V*, const V* k, const V* s0, V* v) {
    const V kept = log_sigmoid(k[1]) + s0[3], m = maximum(kept, k[0]);
    v[0] = exp(k[0] - m), v[1] = exp(kept - m), v[2] = k[2], v[3] = k[3];
  }

  // The exponential of i has no end, and stands for itself; f is a sigmoid before it is stabilised.
  template <class V>
  static void activated(const Options&, const V*, const V* k, const V*, V* v) {
    v[0] = k[0], v[1] = sigmoid(k[1]), v[2] = k[2], v[3] = k[3];
  }
};
template <>
constexpr bool reads_activations<Slstm> = false;

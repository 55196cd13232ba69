// SPDX-License-Identifier: MIT
// Measures nanoseconds per step of bptt/fixed.hpp and of RTNeural's layers with compile-time sizes
// (Eigen backend), on the same weights and the same signal, one sample per call. Rounds alternate
// between the two, so that a disturbance affects both.
#include <RTNeural/gru/gru.h>
#include <RTNeural/lstm/lstm.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "bptt/fixed.hpp"

namespace {

using Rows = std::vector<std::vector<float>>;
constexpr int steps = 4096, rounds = 400;

// Weights with PyTorch's layout and initialisation.
struct Weights {
  int gates, inputs, units;
  std::vector<float> w_ih, w_hh, b_ih, b_hh;
  Weights(int G, int I, int H) : gates(G), inputs(I), units(H) {
    std::mt19937 random(1);
    const float bound = 1 / std::sqrt(float(H));
    std::uniform_real_distribution<float> uniform(-bound, bound);
    const std::size_t rows = std::size_t(G) * std::size_t(H);
    w_ih.resize(rows * std::size_t(I)), w_hh.resize(rows * std::size_t(H));
    b_ih.resize(rows), b_hh.resize(rows);
    for (auto* array : {&w_ih, &w_hh, &b_ih, &b_hh})
      for (float& w : *array) w = uniform(random);
  }
};

// Transposes w, [G H, n], to [n, G H] with its blocks of H columns in the given order.
Rows columns(const Weights& weights, const std::vector<float>& w, int n,
             const std::vector<int>& order) {
  Rows rows;
  for (int k = 0; k < n; ++k) {
    std::vector<float> row;
    for (int gate : order)
      for (int u = 0; u < weights.units; ++u)
        row.push_back(w[std::size_t((gate * weights.units + u) * n + k)]);
    rows.push_back(row);
  }
  return rows;
}

template <int I, int H>
struct LstmPair {
  static constexpr const char* name = "lstm";
  static constexpr int gates = 4;
  bptt::Lstm<I, H> ours;
  RTNeural::LSTMLayerT<float, I, H> theirs;
  void load(const Weights& w) {
    const std::vector<int> order{0, 1, 2, 3};
    theirs.setWVals(columns(w, w.w_ih, I, order));
    theirs.setUVals(columns(w, w.w_hh, H, order));
    std::vector<float> bias = w.b_ih;
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] += w.b_hh[i];
    theirs.setBVals(bias);
  }
};
template <int I, int H>
struct GruPair {
  static constexpr const char* name = "gru";
  static constexpr int gates = 3;
  bptt::Gru<I, H> ours;
  RTNeural::GRULayerT<float, I, H> theirs;
  void load(const Weights& w) {
    const std::vector<int> order{1, 0, 2};  // z r n
    theirs.setWVals(columns(w, w.w_ih, I, order));
    theirs.setUVals(columns(w, w.w_hh, H, order));
    theirs.setBVals({columns(w, w.b_ih, 1, order)[0], columns(w, w.b_hh, 1, order)[0]});
  }
};

template <class Layer>
__attribute__((noinline)) void run_ours(Layer& layer, const float* x, float* y) {
  for (int t = 0; t < steps; ++t) y[t] = layer.step(x + t * int(Layer::inputs))[0];
}
template <int I, class Layer>
__attribute__((noinline)) void run_theirs(Layer& layer, const float* x, float* y) {
  Eigen::Matrix<float, I, 1> in;
  for (int t = 0; t < steps; ++t) {
    for (int k = 0; k < I; ++k) in(k) = x[t * I + k];
    layer.forward(in);
    y[t] = layer.outs(0);
  }
}

template <class F>
double nanoseconds(F f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
  return time.count() / steps;
}

template <template <int, int> class Pair, int I, int H>
void compare() {
  static Pair<I, H> pair;
  const Weights weights(pair.gates, I, H);
  pair.load(weights);
  pair.ours.load(weights.w_ih.data(), weights.w_hh.data(), weights.b_ih.data(),
                 weights.b_hh.data());
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> x(steps * I), y(steps), expected(steps);
  for (float& value : x) value = normal(random);

  pair.ours.reset(), pair.theirs.reset();
  run_ours(pair.ours, x.data(), y.data());
  run_theirs<I>(pair.theirs, x.data(), expected.data());
  float error = 0;
  for (std::size_t t = 0; t < steps; ++t) error = std::max(error, std::abs(y[t] - expected[t]));
  if (!(error < 2e-5f)) {
    std::fprintf(stderr, "%s I=%d H=%d: results differ by %g\n", pair.name, I, H, double(error));
    std::exit(1);
  }

  double ours = 1e9, theirs = 1e9;
  std::vector<double> ratios;
  for (int round = 0; round < rounds; ++round) {
    const double a = nanoseconds([&] { run_ours(pair.ours, x.data(), y.data()); });
    const double b = nanoseconds([&] { run_theirs<I>(pair.theirs, x.data(), y.data()); });
    ours = std::min(ours, a), theirs = std::min(theirs, b);
    ratios.push_back(b / a);
  }
  std::nth_element(ratios.begin(), ratios.begin() + rounds / 2, ratios.end());
  std::printf("| %s | %d | %d | %.1f | %.1f | %.2f |\n", pair.name, I, H, ours, theirs,
              ratios[rounds / 2]);
  std::fflush(stdout);
}

template <template <int, int> class Pair>
void compare_all() {
  compare<Pair, 1, 8>();
  compare<Pair, 1, 16>();
  compare<Pair, 1, 24>();
  compare<Pair, 1, 32>();
  compare<Pair, 1, 40>();
}

}  // namespace

int main() {
  std::puts("| cell | I | H | bptt ns | RTNeural ns | ratio |\n|---|---|---|---|---|---|");
  compare_all<LstmPair>();
  compare_all<GruPair>();
}

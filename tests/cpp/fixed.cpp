// SPDX-License-Identifier: MIT
// Layers of bptt/fixed.hpp over sequences from standard input, for tests/capi/test_fixed.py.
//
// A case: five std::int32_t (bytes of a number, gates, I, H, steps), then as numbers w_ih, w_hh,
// b_ih, b_hh, w [2, H] and b [2] of a dense layer, and x [steps, I]. The answer: h [steps, H], y of
// the dense layer [steps, 2], and of an LSTM c [H].
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "bptt/fixed.hpp"

namespace {

template <class T>
std::vector<T> read(std::size_t n) {
  std::vector<T> array(n);
  if (std::fread(array.data(), sizeof(T), n, stdin) != n) std::exit(2);
  return array;
}
template <class T>
void write(const T* array, std::size_t n) {
  if (std::fwrite(array, sizeof(T), n, stdout) != n) std::exit(3);
}

// Memory that held something else, so that a member without an initial value would show.
template <class Layer>
Layer& make() {
  alignas(Layer) static unsigned char bytes[sizeof(Layer)];
  for (unsigned char& byte : bytes) byte = 0xff;
  return *new (bytes) Layer();
}

template <class T, std::size_t G, std::size_t I, std::size_t H, class Layer>
void run(std::size_t steps) {
  const auto w_ih = read<T>(G * H * I), w_hh = read<T>(G * H * H), b_ih = read<T>(G * H),
             b_hh = read<T>(G * H), w = read<T>(2 * H), b = read<T>(2), x = read<T>(steps * I);
  auto& layer = make<Layer>();
  auto& dense = make<bptt::Dense<H, 2, T>>();
  static_assert(Layer::inputs == I && Layer::units == H, "sizes");
  layer.load(w_ih.data(), w_hh.data(), nullptr, nullptr);
  layer.load(w_ih.data(), w_hh.data(), b_ih.data(), b_hh.data());
  dense.load(w.data(), nullptr);
  dense.load(w.data(), b.data());
  layer.step(x.data());
  layer.reset();
  std::vector<T> y;
  for (std::size_t t = 0; t < steps; ++t) {
    if (t == steps / 2) {  // the state out of the layer, and into it again
      const std::vector<T> h(layer.h(), layer.h() + H);
      std::vector<T> c;
      if constexpr (G == 4) c.assign(layer.c(), layer.c() + H);
      layer.reset();
      std::copy(h.begin(), h.end(), layer.h());
      if constexpr (G == 4) std::copy(c.begin(), c.end(), layer.c());
    }
    const T* h = layer.step(&x[t * I]);
    if (h != layer.h()) std::exit(4);
    write(h, H);
    const T* out = dense.step(h);
    y.insert(y.end(), out, out + 2);
  }
  write(y.data(), y.size());
  if constexpr (G == 4) write(layer.c(), H);
}

template <class T, std::size_t I, std::size_t H>
void run_cell(std::int32_t gates, std::size_t steps) {
  if (gates == 4) run<T, 4, I, H, bptt::Lstm<I, H, T>>(steps);
  if (gates == 3) run<T, 3, I, H, bptt::Gru<I, H, T>>(steps);
  if (gates == 1) run<T, 1, I, H, bptt::Rnn<I, H, T>>(steps);
}

template <class T>
void run_sizes(const std::int32_t* k) {
  const auto steps = static_cast<std::size_t>(k[4]);
  if (k[2] == 2 && k[3] == 3) run_cell<T, 2, 3>(k[1], steps);
  if (k[2] == 8 && k[3] == 17) run_cell<T, 8, 17>(k[1], steps);
  if constexpr (sizeof(T) == 4) {  // the others differ from these by no branch that depends on T
    if (k[2] == 1 && k[3] == 1) run_cell<T, 1, 1>(k[1], steps);
    if (k[2] == 3 && k[3] == 8) run_cell<T, 3, 8>(k[1], steps);
    if (k[2] == 5 && k[3] == 16) run_cell<T, 5, 16>(k[1], steps);
    if (k[2] == 1 && k[3] == 40) run_cell<T, 1, 40>(k[1], steps);
  }
}

}  // namespace

int main() {
  std::int32_t k[5];
  while (std::fread(k, sizeof k, 1, stdin) == 1)
    k[0] == 4 ? run_sizes<float>(k) : run_sizes<double>(k);
}

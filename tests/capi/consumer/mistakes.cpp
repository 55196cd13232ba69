// SPDX-License-Identifier: MIT
// What can be done wrong with the objects of bptt.hpp: an exception that says so, or right numbers.
#include <cstdio>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "bptt.hpp"

namespace {

constexpr std::ptrdiff_t T = 8, B = 2, I = 3;
const std::vector<float> x(T * B * I, 0.5f), dy(T * B * 4, 0.25f);

bptt::Layer<float> lstm(std::ptrdiff_t hidden_size) {
  bptt::Layer<float> layer("lstm", I, hidden_size);
  layer.randomise(1);
  return layer;
}

template <class F>
void refused(const char* what, const F& f) {
  try {
    f();
    std::printf("%s: not refused\n", what);
  } catch (const std::exception& error) {
    std::printf("%s: %s\n", what, error.what());
  }
}

// Gradients of the recurrent weights where the layer of the forward call is gone.
std::vector<float> of_a_moved_layer() {
  bptt::Pass<float> pass;
  bptt::Gradients<float> gradients;
  auto first = std::make_unique<bptt::Layer<float>>(lstm(4));
  first->forward(x, {T, B}, pass);
  const bptt::Layer<float> second = std::move(*first);
  first.reset();
  second.backward(x, dy, pass, gradients);
  return gradients.w_hh;
}

std::vector<float> of_one_that_stays() {
  bptt::Pass<float> pass;
  bptt::Gradients<float> gradients;
  const bptt::Layer<float> layer = lstm(4);
  layer.forward(x, {T, B}, pass);
  layer.backward(x, dy, pass, gradients);
  return gradients.w_hh;
}

}  // namespace

int main() {
  std::printf("moved: %s\n", of_a_moved_layer() == of_one_that_stays() ? "the same" : "others");
  bptt::Pass<float> pass;
  bptt::Gradients<float> gradients;
  refused("no forward", [&] { lstm(4).backward(x, {}, pass, gradients); });
  for (std::ptrdiff_t other : {4, 128}) {
    lstm(64).forward(x, {T, B}, pass);
    refused("another layer", [&] {
      pass.y.resize(static_cast<std::size_t>(T * B * other));
      lstm(other).backward(x, {}, pass, gradients);
    });
  }
  lstm(4).forward(x, {T, B}, pass);
  pass.y.resize(1);
  refused("outputs", [&] { lstm(4).backward(x, {}, pass, gradients); });
  bptt::Layer<float> cut = lstm(4);
  cut.weights.w_hh.assign(1, 0);
  refused("weights", [&] { cut.forward(x, {T, B}, pass); });
  refused("stream of such", [&] { bptt::Stream<float> stream(cut); });
  refused("batch", [&] { bptt::Stream<float> stream(lstm(4), -1); });
  bptt::Adam<float> adam;
  std::vector<float> w(4), dw(4);
  adam.step(w, dw);
  w.resize(8), dw.resize(8);
  refused("adam", [&] { adam.step(w, dw); });
  return 0;
}

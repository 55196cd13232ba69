// SPDX-License-Identifier: MIT
// C++: a GRU step by step gives what the whole sequence gives.
#include <cstdio>
#include <cstring>
#include <vector>

#include "bptt.hpp"

int main() {
  constexpr std::ptrdiff_t T = 20, I = 3, H = 17;
  bptt::Layer<double> gru("gru", I, H);
  gru.randomise(1);
  std::vector<double> x(T * I);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i * 7 % 11) / 11 - 0.5;
  bptt::Pass<double> pass;
  gru.forward(x, {T, 1, false}, pass);
  bptt::Stream<double> stream(gru);
  for (std::size_t t = 0; t < T; ++t) {
    const bptt::Span<const double> h = stream.step(&x[t * I]);
    if (std::memcmp(h.data(), &pass.y[t * H], H * sizeof(double)) != 0) return 2;
  }
  std::printf("%s on %s, h[0] = %.17g\n", bptt_version(), bptt_isa(), pass.h_n[0]);
  return 0;
}

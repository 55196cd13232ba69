// SPDX-License-Identifier: MIT
// C++: a GRU step by step gives what the whole sequence gives.
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "bptt.h"

struct Freed {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t(BPTT_ALIGNMENT)); }
};
using Memory = std::unique_ptr<void, Freed>;
Memory memory(std::size_t bytes) {
  return Memory(::operator new(bytes, std::align_val_t(BPTT_ALIGNMENT)));
}

int main() {
  constexpr int T = 20, I = 3, H = 17;
  bptt_desc desc{};
  desc.struct_size = sizeof desc;
  desc.cell = "gru";
  desc.dtype = BPTT_FLOAT64;
  desc.steps = T, desc.batch = 1, desc.input_size = I, desc.hidden_size = H;
  bptt_sizes sizes{};
  sizes.struct_size = sizeof sizes;
  std::vector<double> w_ih(3 * H * I, 0.1), w_hh(3 * H * H, -0.05), x(T * I), y(T * H), h(H);
  for (int i = 0; i < T * I; ++i) x[i] = (i * 7 % 11) / 11.0 - 0.5;
  bptt_status status = bptt_query(&desc, &sizes);
  const Memory packed = memory(sizes.packed), work = memory(sizes.forward_workspace),
               step = memory(sizes.step_workspace);
  bptt_weights weights{};
  weights.w_ih = w_ih.data(), weights.w_hh = w_hh.data();
  bptt_inputs inputs{};
  inputs.x = x.data();
  const bptt_outputs outputs{y.data(), h.data(), nullptr};
  if (!status) status = bptt_forward(&desc, &weights, &inputs, &outputs, nullptr, work.get());
  if (!status) status = bptt_pack(&desc, &weights, packed.get());
  weights = {};
  weights.packed = packed.get();
  std::fill(h.begin(), h.end(), 0.0);
  for (int t = 0; t < T && !status; ++t) {
    status = bptt_step(&desc, &weights, &x[t * I], h.data(), nullptr, step.get());
    if (std::memcmp(h.data(), &y[t * H], H * sizeof(double)) != 0) return 2;
  }
  if (status) std::printf("%s\n", bptt_last_error());
  std::printf("%s on %s, h[0] = %.17g\n", bptt_version(), bptt_isa(), h[0]);
  return status;
}

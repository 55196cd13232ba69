// SPDX-License-Identifier: MIT
// Training in C++17: a GRU learns to add two marked numbers in a sequence of 30 (the adding
// problem, Hochreiter and Schmidhuber, 1997), then runs as a stream.
//
//   c++ -std=c++17 embed.cpp $(python -m bptt --includes) $(python -m bptt --libs) -o embed &&
//   ./embed
#include <cstdio>
#include <random>
#include <vector>

#include "bptt.hpp"

namespace {

constexpr std::ptrdiff_t T = 30, B = 64, I = 2, H = 16;

struct Batch {
  std::vector<float> x = std::vector<float>(T * B * I);  // [T, B, (value, marked)]
  std::vector<float> sum = std::vector<float>(B);
};

void draw(std::mt19937& random, Batch& batch) {
  std::uniform_real_distribution<float> uniform(0, 1);
  std::uniform_int_distribution<std::ptrdiff_t> first(0, T / 2 - 1), second(T / 2, T - 1);
  for (std::size_t i = 0; i < batch.x.size(); i += I)
    batch.x[i] = uniform(random), batch.x[i + 1] = 0;
  for (std::ptrdiff_t b = 0; b < B; ++b) {
    batch.sum[std::size_t(b)] = 0;
    for (const std::ptrdiff_t t : {first(random), second(random)}) {
      float* step = &batch.x[std::size_t((t * B + b) * I)];
      step[1] = 1;
      batch.sum[std::size_t(b)] += step[0];
    }
  }
}

// The output: w h + b.
struct Output {
  std::vector<float> w = std::vector<float>(H + 1), dw = w;

  float operator()(const float* h) const {
    float sum = w[H];
    for (std::size_t j = 0; j < H; ++j) sum += w[j] * h[j];
    return sum;
  }

  // Mean squared error of the last step of all sequences; dh_n and dw get its gradients.
  float loss(const std::vector<float>& h_n, const std::vector<float>& target,
             std::vector<float>& dh_n) {
    float total = 0;
    dw.assign(H + 1, 0);
    dh_n.resize(h_n.size());
    for (std::size_t b = 0; b < B; ++b) {
      const float* h = &h_n[b * H];
      const float error = (*this)(h)-target[b];
      total += error * error / B;
      for (std::size_t j = 0; j < H; ++j) {
        dw[j] += 2 * error / B * h[j];
        dh_n[b * H + j] = 2 * error / B * w[j];
      }
      dw[H] += 2 * error / B;
    }
    return total;
  }
};

}  // namespace

int main() {
  std::mt19937 random(1);
  bptt::Layer<float> gru("gru", I, H);
  gru.randomise(7);
  Output output;
  std::uniform_real_distribution<float> small(-0.25f, 0.25f);
  for (float& w : output.w) w = small(random);

  bptt::Pass<float> pass;
  bptt::Gradients<float> gradients;
  std::vector<bptt::Adam<float>> adam(5, bptt::Adam<float>(1e-2));
  Batch batch;
  std::vector<float> dh_n;
  float mean = 1;  // running mean of the losses
  for (int update = 1; update <= 1200; ++update) {
    draw(random, batch);
    gru.forward(batch.x, {T, B}, pass);
    const float loss = output.loss(pass.h_n, batch.sum, dh_n);
    gru.backward(batch.x, {}, pass, gradients, dh_n);
    std::size_t array = 0;
    gru.weights.each(gradients, [&](auto& w, auto& dw) { adam[array++].step(w, dw); });
    adam[array].step(output.w, output.dw);
    mean += 0.02f * (loss - mean);
    if (update % 300 == 0) std::printf("update %4d: mean squared error %.4f\n", update, mean);
  }

  // Sequence 0 again, one step at a time, with the same bits.
  draw(random, batch);
  gru.forward(batch.x, {T, B, false}, pass);
  bptt::Stream<float> stream(gru);
  bptt::Span<const float> h;
  for (std::ptrdiff_t t = 0; t < T; ++t) h = stream.step(&batch.x[std::size_t(t * B * I)]);
  bool same = true;
  for (std::size_t j = 0; j < H; ++j) same = same && h[j] == pass.h_n[j];
  std::printf("bptt %s on %s: a sum of %.3f, predicted %.3f; as a stream %s\n", bptt_version(),
              bptt_isa(), batch.sum[0], output(h.data()), same ? "the same bits" : "other bits");
  return mean < 0.02f && same ? 0 : 1;
}

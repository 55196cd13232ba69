// SPDX-License-Identifier: MIT
// A guitar amplifier that an LSTM learned (amp.py), in blocks of 64 samples as a plug-in gets them.
//
//   ./amp clean.f32 amplified.f32 [expected.f32]      raw float32, 48 kHz
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#include "amp_model.h"
#include "bptt/fixed.hpp"

namespace {

constexpr std::size_t block = 64, rate = 48000;
constexpr double budget = 1e6 * block / rate;  // microseconds

class Amp {
 public:
  Amp() noexcept {
    lstm_.load(amp_lstm_weight_ih_l0, amp_lstm_weight_hh_l0, amp_lstm_bias_ih_l0,
               amp_lstm_bias_hh_l0);
    out_.load(amp_out_weight, amp_out_bias);
  }

  // For the audio thread: no allocation, no lock, no system call. in and out may be the same array.
  void process(const float* in, float* out, std::size_t samples) noexcept {
    for (std::size_t t = 0; t < samples; ++t) {
      const float x = in[t];
      out[t] = x + *out_.step(lstm_.step(&x));
    }
  }

 private:
  bptt::Lstm<AMP_LSTM_INPUT_SIZE, AMP_LSTM_HIDDEN_SIZE> lstm_;
  bptt::Dense<AMP_LSTM_HIDDEN_SIZE, 1> out_;
};

std::vector<float> read(const char* path) {
  std::vector<float> samples;
  if (std::FILE* file = std::fopen(path, "rb")) {
    for (float x; std::fread(&x, sizeof x, 1, file) == 1;) samples.push_back(x);
    std::fclose(file);
  }
  return samples;
}

bool write(const char* path, const std::vector<float>& samples) {
  std::FILE* file = std::fopen(path, "wb");
  if (!file) return false;
  const std::size_t written = std::fwrite(samples.data(), sizeof(float), samples.size(), file);
  return std::fclose(file) == 0 && written == samples.size();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "amp: expected clean.f32 amplified.f32\n"), 2;
  const std::vector<float> clean = read(argv[1]);
  if (clean.empty()) return std::fprintf(stderr, "amp: cannot read %s\n", argv[1]), 2;

  static Amp amp;
  std::vector<float> out(clean.size());
  std::vector<double> times;
  for (std::size_t t = 0; t < clean.size(); t += block) {
    const auto start = std::chrono::steady_clock::now();
    amp.process(&clean[t], &out[t], std::min(block, clean.size() - t));
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    times.push_back(time.count());
  }
  std::sort(times.begin(), times.end());
  std::printf("%zu blocks of %zu samples: %.1f us by the median, %.1f us at worst, of %.0f us\n",
              times.size(), block, times[times.size() / 2], times.back(), budget);

  if (!write(argv[2], out)) return std::fprintf(stderr, "amp: cannot write %s\n", argv[2]), 2;
  if (argc < 4) return 0;
  const std::vector<float> expected = read(argv[3]);
  bool same = expected.size() == out.size();
  float largest = 0;
  for (std::size_t t = 0; t < expected.size() && t < out.size(); ++t) {
    const float difference = std::fabs(out[t] - expected[t]);
    same = same && difference < 1e-4f;  // false for NaN
    largest = std::max(largest, difference);
  }
  std::printf("largest difference from Python's output: %.1e\n", double(largest));
  return same ? 0 : 1;
}

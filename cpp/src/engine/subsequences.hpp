// SPDX-License-Identifier: MIT
// The sequences of the kernels: the caller's, or independent subsequences of them. A reset ends one
// subsequence and starts another; with dilation k, a sequence is k interleaved ones.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/interface.hpp"

namespace bptt::core {

// Steps begin, begin + stride, ... of sequence b, `length` of them.
struct Subsequence {
  Index b, begin, stride, length;
  Index initial, final;  // rows of the caller's states, [dilation * B]; -1: zeros; nowhere
  Index after;           // steps of the sequence that are processed after these
};

// data: [size], longest first; none: the caller's sequences as they are.
struct Subsequences {
  const Subsequence* data = nullptr;
  Index size = 0, longest = 0;
  const Subsequence& operator[](Index r) const { return data[r]; }
  const Subsequence* begin() const { return data; }
  const Subsequence* end() const { return data + size; }
};

struct Boundaries {
  const std::int64_t* lengths = nullptr;  // [B], or null: T
  const std::uint8_t* resets = nullptr;   // [T, B], or null: none
  Index dilation = 1;                     // without resets if more
  bool reverse = false;
  Index after_reset = -1;  // row of the initial state of steps with a reset; -1: zeros
};

// The steps of sequence b from one reset to the next, in the order of processing.
inline void add_from_reset_to_reset(const Dims& d, const Boundaries& how, Index b, Index length,
                                    std::vector<Subsequence>& subsequences) {
  Index done = 0, initial = b;
  const auto step = [&](Index n) { return how.reverse ? length - 1 - n : n; };
  const auto resets = [&](Index n) { return how.resets && how.resets[step(n) * d.B + b]; };
  do {
    if (done < length && resets(done)) initial = how.after_reset;
    Index end = std::min(done + 1, length);
    while (end < length && !resets(end)) ++end;
    subsequences.push_back({b, how.reverse ? length - end : done, 1, end - done, initial,
                            end == length ? b : -1, length - end});
    done = end;
  } while (done < length);
}

// Phase q holds steps q, q + k, ... in the order of processing, and the state of k - q steps before
// the first is its initial one.
inline void add_interleaved(const Dims& d, const Boundaries& how, Index b, Index length,
                            std::vector<Subsequence>& subsequences) {
  const Index k = how.dilation;
  for (Index q = 0; q < k; ++q) {
    const Index steps = length > q ? (length - q + k - 1) / k : 0;
    const Index begin = how.reverse ? std::max(length - 1 - q, Index(0)) % k : q;
    const Index newest = ((q - length) % k + k) % k;  // place of its last state among the last k
    subsequences.push_back({b, begin, k, steps, q * d.B + b, newest * d.B + b, 0});
  }
}

// All steps of x, each in one subsequence, the longest subsequence first.
inline std::vector<Subsequence> split_sequences(const Dims& d, const Boundaries& how) {
  std::vector<Subsequence> subsequences;
  for (Index b = 0; b < d.B; ++b) {
    const Index length = how.lengths ? static_cast<Index>(how.lengths[b]) : d.T;  // 0..T
    if (how.dilation > 1)
      add_interleaved(d, how, b, length, subsequences);
    else
      add_from_reset_to_reset(d, how, b, length, subsequences);
  }
  std::stable_sort(subsequences.begin(), subsequences.end(),
                   [](const Subsequence& a, const Subsequence& b) { return a.length > b.length; });
  return subsequences;
}

}  // namespace bptt::core

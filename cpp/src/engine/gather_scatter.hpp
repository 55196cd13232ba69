// SPDX-License-Identifier: MIT
// Copies between the caller's arrays, [T, B, width] and states [rows, width], and the sorted rows
// of the kernels, which do not overlap. A rank copies its share of the steps.
#pragma once
#include <cstring>

#include "engine/schedule.hpp"

namespace bptt::core {

template <class T>
struct GatherScatter {
  const Dims& given;  // the caller's
  const Subsequences& subsequences;
  const Schedule& schedule;

  // f(row of the kernels, row of the caller's array) for the steps of a rank.
  template <class F>
  void for_each_row(const Team& team, const F& f) const {
    const Index steps = schedule.steps;
    for (Index t = steps * team.rank / team.size; t < steps * (team.rank + 1) / team.size; ++t) {
      const Index row = schedule.first[t];
      for (Index r = 0; r < schedule.count[t]; ++r) {
        const Subsequence& s = subsequences[r];
        f(row + r, (s.begin + t * s.stride) * given.B + s.b);
      }
    }
  }

  void gather(const T* from, Index width, T* rows, const Team& team) const {
    if (!width) return;  // `from` may be null
    for_each_row(team, [&](Index row, Index source) {
      std::memcpy(rows + row * width, from + source * width, bytes(width));
    });
  }
  // lengths: [B], beyond which `to` becomes zero; null: T.
  void scatter(const T* rows, Index width, T* to, const Index* lengths, const Team& team) const {
    for_each_row(team, [&](Index row, Index target) {
      std::memcpy(to + target * width, rows + row * width, bytes(width));
    });
    const Index end = given.T * (team.rank + 1) / team.size;
    for (Index t = given.T * team.rank / team.size; t < end && lengths; ++t)
      for (Index b = 0; b < given.B; ++b)
        if (t >= lengths[b]) std::memset(to + (t * given.B + b) * width, 0, bytes(width));
  }

  // row: &Subsequence::initial for initial states and what belongs to them, &Subsequence::final for
  // final ones.
  void gather_states(const T* from, Index width, Index Subsequence::* row, T* out) const {
    for (const Subsequence& s : subsequences) {
      if (s.*row < 0)
        std::memset(out, 0, bytes(width));
      else
        std::memcpy(out, from + s.*row * width, bytes(width));
      out += width;
    }
  }
  // rows: of `to`, the first of the caller's; those that belong to no subsequence become zero.
  void scatter_states(const T* in, Index width, Index Subsequence::* row, Index rows, T* to) const {
    std::memset(to, 0, bytes(rows * width));
    for (const Subsequence& s : subsequences) {
      if (s.*row >= 0 && s.*row < rows) std::memcpy(to + s.*row * width, in, bytes(width));
      in += width;
    }
  }

  // The sum over the subsequences that have this row.
  void add_states(const T* in, Index width, Index Subsequence::* row, Index shared, T* sum) const {
    std::memset(sum, 0, bytes(width));
    for (const Subsequence& s : subsequences) {
      for (Index i = 0; s.*row == shared && i < width; ++i) sum[i] += in[i];
      in += width;
    }
  }

 private:
  static std::size_t bytes(Index n) { return static_cast<std::size_t>(n) * sizeof(T); }
};

}  // namespace bptt::core

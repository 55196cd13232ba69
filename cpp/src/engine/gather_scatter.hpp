// SPDX-License-Identifier: MIT
// Between the caller's arrays, (T, B, width) and states of (rows, width), and the sorted rows of
// the kernels. A rank does its share of the steps.
#pragma once
#include <cstring>

#include "engine/schedule.hpp"

namespace bptt::core {

template <class T>
struct Rearrangement {
  const Dims& given;  // the caller's
  const Parts& parts;
  const Schedule& schedule;

  // f(row of the kernels, row of the caller's array) for the steps of a rank.
  template <class F>
  void each_row(const Team& team, const F& f) const {
    const Index steps = schedule.steps;
    for (Index t = steps * team.rank / team.size; t < steps * (team.rank + 1) / team.size; ++t) {
      const Index row = schedule.first[t];
      for (Index r = 0; r < schedule.count[t]; ++r) {
        const Part& part = parts[r];
        f(row + r, (part.begin + t * part.stride) * given.B + part.b);
      }
    }
  }

  void gather(const T* from, Index width, T* rows, const Team& team) const {
    if (!width) return;  // `from` may be null
    each_row(team, [&](Index row, Index source) {
      std::memcpy(rows + row * width, from + source * width, bytes(width));
    });
  }
  // lengths: [B], beyond which `to` becomes zero; null: T.
  void scatter(const T* rows, Index width, T* to, const Index* lengths, const Team& team) const {
    each_row(team, [&](Index row, Index target) {
      std::memcpy(to + target * width, rows + row * width, bytes(width));
    });
    const Index end = given.T * (team.rank + 1) / team.size;
    for (Index t = given.T * team.rank / team.size; t < end && lengths; ++t)
      for (Index b = 0; b < given.B; ++b)
        if (t >= lengths[b]) std::memset(to + (t * given.B + b) * width, 0, bytes(width));
  }

  // Initial states, or what belongs to them: `which` is &Part::initial; final ones: &Part::final.
  void gather_states(const T* from, Index width, Index Part::* which, T* out) const {
    for (const Part& part : parts) {
      if (part.*which < 0)
        std::memset(out, 0, bytes(width));
      else
        std::memcpy(out, from + part.*which * width, bytes(width));
      out += width;
    }
  }
  // rows: of `to`; those that no part has become zero.
  void scatter_states(const T* in, Index width, Index Part::* which, Index rows, T* to) const {
    std::memset(to, 0, bytes(rows * width));
    for (const Part& part : parts) {
      if (part.*which >= 0) std::memcpy(to + part.*which * width, in, bytes(width));
      in += width;
    }
  }

 private:
  static std::size_t bytes(Index n) { return static_cast<std::size_t>(n) * sizeof(T); }
};

}  // namespace bptt::core

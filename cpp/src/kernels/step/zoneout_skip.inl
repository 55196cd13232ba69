// SPDX-License-Identifier: MIT
// What general cells have beside their equations (StepExtras).
#pragma once
#include "kernels/product/weight_layout.inl"

namespace bptt::core::BPTT_ISA {
namespace {

// States of which a part may stay: not those that are only there for w_hh to see.
template <class Cell>
constexpr int zoned_states = Cell::truncated ? 2 : Cell::states;

// Is h not yet what the equations put out, but made of that afterwards?
template <class Cell>
constexpr bool later_h = Cell::second_product || Cell::layer_norm_c;

// How much of state q stays as it was, of the units at element `at` of its rows.
template <class T>
BPTT_INLINE Vec<T> zoneout(const StepExtras<T>& extras, int q, Index at, Index used) {
  const int part = q ? 1 : 0;
  if (extras.zoneout[part]) return load(extras.zoneout[part] + at, used);
  return broadcast(extras.zoneout_of_all[part]);
}
// The same of a state q beside h, which was s0[q]: a scale of nothing does not stay.
template <class Cell, class T>
BPTT_INLINE Vec<T> zoneout_beside(const StepExtras<T>& extras, int q, Index at, Index used,
                                  const Vec<T>* s0) {
  const Vec<T> z = zoneout(extras, q, at, used);
  return Cell::scaled && q == 3 ? select_zero(s0[2], Vec<T>(0), z) : z;
}
// What becomes of two: the new one alone where z is 0, even if the old one is not finite.
template <class T>
BPTT_INLINE Vec<T> mixed(Vec<T> z, Vec<T> old, Vec<T> fresh) {
  return select_zero(z, fresh, z * old + (Vec<T>(1) - z) * fresh);
}

// h of `skip` steps before; before the first step, h0 is one step back, and nothing further.
template <class T>
struct Skips {
  const Dims& d;
  const Rows& rows;
  const T *y, *h0;
  Index skip;

  // [P], or null.
  BPTT_INLINE const T* of(Index t, Index row) const {
    if (!skip) return nullptr;
    const Index source = rows.reverse ? t + skip : t - skip, next = rows.reverse ? -1 : 1;
    if (takes(source, row)) return y + (rows.first[source] + row) * d.P;
    return takes(source + next, row) ? h0 + row * d.P : nullptr;
  }
  // Is step t one of the row's?
  BPTT_INLINE bool takes(Index t, Index row) const {
    return t >= 0 && t < d.T && row < rows.count[t];
  }
};

// The gradients that skips pass back, [t % skip][block][B][lane]: of step t, until the step that it
// came from.
template <class T>
struct SkipGradients {
  T* base;
  Index skip, blocks, B;
  static Index size(Index skip, Index blocks, Index B) { return skip * blocks * B * lanes<T>; }
  BPTT_INLINE T* at(Index t, Index j, Index row) const {
    return base + ((t % skip * blocks + j) * B + row) * lanes<T>;
  }

  // To the gradient of the initial state, [block][B][lane]: that of the step `skip` after it.
  void add_to(T* dh0, const Rows& rows, Index steps, Range mine) const {
    for (Index r = mine.begin; r < mine.end; ++r) {
      Index length = 0;
      while (length < steps && rows.count[length] > r) ++length;
      if (length < skip) continue;
      for (Index j = 0; j < blocks; ++j) {
        T* dh = dh0 + (j * B + r) * lanes<T>;
        store(dh, load(dh) + load(at(rows.reverse ? length - skip : skip - 1, j, r)));
      }
    }
  }
};

// What reaches h of step t: dh from the steps that follow, and what y is given.
template <class T>
BPTT_INLINE Vec<T> gradient_of_h(const BackwardCall<T>& call, const T* dh, Index t, Index row,
                                 Index j) {
  const Index P = call.dims.P, at = (call.rows.first[t] + row) * P + j * lanes<T>;
  Vec<T> v = load(dh);
  if (call.dy) v = v + Vec<T>(load(call.dy + at, used_lanes<T>(j, P)));
  return v;
}

// Before the equations of a step backward: the gradient that an earlier h takes, and the part of
// the old h that stays.
template <class T>
BPTT_INLINE void start_h(const BackwardCall<T>& call, const SkipGradients<T>& skips, Index t,
                         Index row, Index j, Vec<T>& dh, Vec<T>& stays) {
  const Index width = call.dims.P;
  if (skips.skip) {
    T* skipped = skips.at(t, j, row);
    dh = dh + Vec<T>(load(skipped));
    store(skipped, dh.v);
  }
  const Index at = (call.rows.first[t] + row) * width + j * lanes<T>;
  stays = zoneout(call.extras, 0, at, used_lanes<T>(j, width)) * dh;
  dh = dh - stays;
}

}  // namespace
}  // namespace bptt::core::BPTT_ISA

// SPDX-License-Identifier: MIT
// Zoneout and skips, which the loops add around the equations of general cells (StepExtras).
#pragma once
#include "kernels/product/weight_layout.inl"

BPTT_KERNELS_BEGIN

// The number of states with zoneout; a truncated cell's others are only an operand of w_hh.
template <class Cell>
constexpr int zoned_states = Cell::truncated ? 2 : Cell::states;

// Is h made after the equations, of their output?
template <class Cell>
constexpr bool later_h = Cell::second_product || Cell::layer_norm_c;

// The share of state q that stays as it was, for the units at element `at` of its rows.
template <class T>
BPTT_INLINE Vec<T> zoneout(const StepExtras<T>& extras, int q, Index at, Index used) {
  const int part = q ? 1 : 0;
  if (extras.zoneout[part]) return load(extras.zoneout[part] + at, used);
  return broadcast(extras.zoneout_of_all[part]);
}
// The same for a state q beside h, which was s0[q]. A scale does not stay while it means nothing.
template <class Cell, class T>
BPTT_INLINE Vec<T> zoneout_beside(const StepExtras<T>& extras, int q, Index at, Index used,
                                  const Vec<T>* s0) {
  const Vec<T> z = zoneout(extras, q, at, used);
  return Cell::scaled && q == 3 ? select_zero(s0[2], Vec<T>(0), z) : z;
}
// z old + (1 - z) fresh; exactly `fresh` where z is 0, even if `old` is not finite.
template <class T>
BPTT_INLINE Vec<T> mixed(Vec<T> z, Vec<T> old, Vec<T> fresh) {
  return select_zero(z, fresh, z * old + (Vec<T>(1) - z) * fresh);
}

// h of `skip` steps before. h0 is one step before the first; there is nothing earlier.
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

// The gradients that skips pass back, [t % skip][block][B][lane]: kept from step t until the step
// that it skips from.
template <class T>
struct SkipGradients {
  T* base;
  Index skip, blocks, B;
  static Index size(Index skip, Index blocks, Index B) { return skip * blocks * B * lanes<T>; }
  BPTT_INLINE T* at(Index t, Index j, Index row) const {
    return base + ((t % skip * blocks + j) * B + row) * lanes<T>;
  }

  // Adds to the gradient of the initial state, dh0 [block][B][lane], the one of the step `skip`
  // after it.
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

// The gradient of h of step t: dh from the steps that follow, plus dy.
template <class T>
BPTT_INLINE Vec<T> gradient_of_h(const BackwardCall<T>& call, const T* dh, Index t, Index row,
                                 Index j) {
  const Index P = call.dims.P, at = (call.rows.first[t] + row) * P + j * lanes<T>;
  Vec<T> v = load(dh);
  if (call.dy) v = v + Vec<T>(load(call.dy + at, used_lanes<T>(j, P)));
  return v;
}

// Before the equations of a backward step: adds the gradient of a later h through its skip, and
// splits off the share `stays` for the old h.
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

BPTT_KERNELS_END

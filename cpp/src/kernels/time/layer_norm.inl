// SPDX-License-Identifier: MIT
// Layer normalisation in a forward step (cells/layer_norm.inl): the products of a row are kept
// until all its units are computed; then they are normalised in place, and the equations follow.
// One rank takes a whole row, always in the same order, so the bits do not depend on the ranks.
#pragma once
#include "kernels/time/tape.inl"

BPTT_KERNELS_BEGIN

constexpr double epsilon = 1e-5;  // added to the variance, as in PyTorch
constexpr Index rows_at_once = 8;

// Calls f(rows) for the rows in both ranges, some at a time.
template <class F>
void for_each_rows(Range a, Range b, const F& f) {
  const Index end = smaller(a.end, b.end);
  for (Index row = larger(a.begin, b.begin); row < end; row += rows_at_once)
    f(Range{row, smaller(row + rows_at_once, end)});
}

template <class T>
BPTT_INLINE T total(Vec<T> v) {
  T lane[lanes<T>], sum = 0;
  store(lane, v.v);
  for (Index l = 0; l < lanes<T>; ++l) sum += lane[l];
  return sum;
}
// v with zeros from lane n on. Not inlined, as writing single lanes takes the vector through
// memory.
template <class T>
__attribute__((noinline)) Vec<T> first_lanes(Vec<T> v, Index n) {
  clear_from<T>(v.v, n);
  return v;
}
template <class T>
BPTT_INLINE Vec<T> padded_with_zeros(Vec<T> v, Index used) {
  return used < lanes<T> ? first_lanes(v, used) : v;
}

// Moments of G numbers of each of H units; at(j) is the array of block j, [number][lane]. The mean
// of large and nearly equal numbers has a rounding error larger than their differences: `rest` is
// the mean of the numbers less `mean`.
template <class T>
struct Moments {
  T mean, rest, inverse;  // 1 / deviation
  BPTT_INLINE Vec<T> centred(Vec<T> v) const {
    return v - Vec<T>(broadcast(mean)) - Vec<T>(broadcast(rest));
  }
};
template <class T, int G, class At>
Moments<T> moments_of(Index H, const At& at) {
  const Index blocks = blocks_of<T>(H);
  const auto mean_of = [&](const auto& f) {
    Vec<T> sum[G];
    BPTT_UNROLL for (int g = 0; g < G; ++g) sum[g] = Vec<T>(0);
    for (Index j = 0; j < blocks; ++j) {
      const T* numbers = at(j);
      const Index used = used_lanes<T>(j, H);
      BPTT_UNROLL for (int g = 0; g < G; ++g) sum[g] =
          sum[g] + f(Vec<T>(load(numbers + g * lanes<T>)), used);
    }
    T all = 0;
    for (int g = 0; g < G; ++g) all += total(sum[g]);
    return all / T(static_cast<double>(G * H));
  };
  Moments<T> m{T(0), T(0), T(0)};
  m.mean = mean_of([](Vec<T> v, Index used) { return padded_with_zeros(v, used); });
  m.rest = mean_of([&](Vec<T> v, Index used) { return padded_with_zeros(m.centred(v), used); });
  const T variance = mean_of([&](Vec<T> v, Index used) {
    const Vec<T> d = padded_with_zeros(m.centred(v), used);
    return d * d;
  });
  using Wide = typename Simd<T>::Wide;
  m.inverse = T(1 / square_root(static_cast<Wide>(variance) + epsilon));
  return m;
}
template <class T>
BPTT_INLINE Vec<T> normalised(const Moments<T>& m, const T* numbers, Index used) {
  return padded_with_zeros(m.centred(load(numbers)) * Vec<T>(broadcast(m.inverse)), used);
}

// The saved values of one row and block.
template <class Cell, class T>
BPTT_INLINE T* kept_values(const ForwardStep<T>& step, Index j, Index row) {
  return step.saved + (j * step.saved_rows + row) * Cell::saved * lanes<T>;
}

// Copies the products of rows r and `width` blocks from block j0 on,
// [row][window][block][gate][lane], to the saved values.
template <class T, class Cell>
void keep_sums(const ForwardStep<T>& step, Range r, Index j0, Index width, const T* sums,
               Index row_size) {
  constexpr Index G = Cell::gates, L = lanes<T>;
  for (Index j = j0; j < j0 + width; ++j)
    for (Index row = r.begin; row < r.end; ++row) {
      const T* x = sums + (row - r.begin) * row_size + (j - j0) * G * L;
      T* kept = kept_values<Cell>(step, j, row);
      BPTT_UNROLL for (Index g = 0; g < G; ++g) {
        store(kept + g * L, load(x + g * L));
        store(kept + (G + g) * L, load(x + row_size / 2 + g * L));
      }
    }
}

template <class T, class Cell>
void normalise_sums(const ForwardStep<T>& step, Range r, Index H) {
  constexpr Index G = Cell::gates, L = lanes<T>;
  for (Index row = r.begin; row < r.end; ++row)
    for (Index window = 0; window < 2; ++window) {
      const auto at = [&](Index j) { return kept_values<Cell>(step, j, row) + window * G * L; };
      const Moments<T> m = moments_of<T, G>(H, at);
      step.moments[row * moments_of_row + window] = m.inverse;
      for (Index j = 0; j < blocks_of<T>(H); ++j) {
        T* numbers = at(j);
        BPTT_UNROLL for (Index g = 0; g < G; ++g)
            store(numbers + g * L, normalised(m, numbers + g * L, used_lanes<T>(j, H)).v);
      }
    }
}

// Computes h of rows r, at most rows_at_once of them, from N(c').
template <class Forward>
void normalise_states(const Forward& forward, const ForwardStep<typename Forward::T>& step,
                      Range r) {
  using T = typename Forward::T;
  using Cell = typename Forward::Cell;
  constexpr Index L = lanes<T>;
  const Dims& d = forward.d;
  Moments<T> m[rows_at_once];
  for (Index row = r.begin; row < r.end; ++row) {
    m[row - r.begin] = moments_of<T, 1>(
        d.H, [&](Index j) { return kept_values<Cell>(step, j, row) + Cell::c * L; });
    step.moments[row * moments_of_row + 2] = m[row - r.begin].inverse;
    step.moments[row * moments_of_row + 3] = m[row - r.begin].mean;
    step.moments[row * moments_of_row + 4] = m[row - r.begin].rest;
  }
  for (Index j = 0; j < forward.blocks; ++j) {
    const Index used = used_lanes<T>(j, d.H);
    BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row) {
      const T* kept = kept_values<Cell>(step, j, row);
      Vec<T> p[Cell::params], k[Cell::saved], h0(0);
      BPTT_UNROLL for (int i = 0; i < Cell::params; ++i) p[i] =
          load(forward.weights.params + (j * Cell::params + i) * L);
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) k[i] = load(kept + i * L);
      if (!Cell::second_product) h0 = load(step.h + row * d.P + j * L, used);
      Vec<T> h = Cell::output(forward.call.options, p, k,
                              normalised(m[row - r.begin], kept + Cell::c * L, used));
      T* y = step.y ? step.y + row * d.P + j * L : nullptr;
      forward.finish_h(step, row, j, used, h0, h, y);
    }
  }
}

BPTT_KERNELS_END

// SPDX-License-Identifier: MIT
// The rows of a chunk over which gradients of weights and biases are summed.
#pragma once
#include "kernels/callback.inl"
#include "kernels/product/weight_layout.inl"

BPTT_KERNELS_BEGIN

constexpr Index sum_rows = 512;     // in one RowRuns
constexpr Index cached_rows = 128;  // summed at once: longer sums of floats lose precision

// Rows of a left operand, x or h, in the array that holds them, and the rows of dsums that they are
// multiplied by. Neighbours are one run: with equal lengths a whole chunk is one, but for the rows
// that start from h0.
template <class T>
struct RowRuns {
  static constexpr int most = 64;
  struct Run {
    const T* left;
    Index row, rows;
  } run[most];
  int count = 0;
  Index rows = 0;

  // Returns how many of n more rows there was room for.
  Index add(const T* left, Index width, Index row, Index n) {
    n = smaller(n, sum_rows - rows);
    Run* last = count ? run + count - 1 : nullptr;
    if (last && left == last->left + last->rows * width && row == last->row + last->rows)
      last->rows += n;
    else if (count < most)
      run[count++] = {left, row, n};
    else
      return 0;
    rows += n;
    return n;
  }

  // Rows [begin, end) of all.
  RowRuns part(Index begin, Index end, Index width) const {
    RowRuns some;
    Index row = 0;
    for (int i = 0; i < count; row += run[i++].rows) {
      const Index from = larger(begin - row, 0), to = smaller(end - row, run[i].rows);
      if (from < to)
        some.run[some.count++] = {run[i].left + from * width, run[i].row + from, to - from};
    }
    some.rows = end - begin;
    return some;
  }
};

// Calls f(runs) for the rows that `rows` adds by add(left, row, number of rows), its argument;
// several times if they are too many for one RowRuns.
template <class T, class Rows>
void for_each_runs(Index width, const Rows& rows, const Callback<const RowRuns<T>&>& f) {
  RowRuns<T> runs;
  rows([&](const T* left, Index row, Index n) {
    while (n > 0) {
      const Index added = runs.add(left, width, row, n);
      left += added * width, row += added, n -= added;
      if (n > 0) {
        f(runs);
        runs = RowRuns<T>();
      }
    }
  });
  if (runs.rows) f(runs);
}

// Adds to sums [block][number][lane] the D numbers of every unit, values [block][row in
// chunk][number][lane], over all rows, for blocks `mine`.
template <class T, int D>
void add_rows(const RowRuns<T>& runs, const T* values, Index chunk_rows, Range mine, T* sums) {
  constexpr Index L = lanes<T>;
  for (Index j = mine.begin; j < mine.end; ++j) {
    Vec<T> sum[D];
    BPTT_UNROLL for (int i = 0; i < D; ++i) sum[i] = Vec<T>(0);
    for (int k = 0; k < runs.count; ++k) {
      const T* first = values + (j * chunk_rows + runs.run[k].row) * D * L;
      const T* end = first + runs.run[k].rows * D * L;
      BPTT_NO_UNROLL for (const T* p = first; p != end; p += D * L) {
        BPTT_UNROLL for (int i = 0; i < D; ++i) sum[i] = sum[i] + Vec<T>(load(p + i * L));
      }
    }
    T* out = sums + j * D * L;
    BPTT_UNROLL for (int i = 0; i < D; ++i) store(out + i * L, load(out + i * L) + sum[i].v);
  }
}

BPTT_KERNELS_END

// SPDX-License-Identifier: MIT
// How a product over many inputs is cut. A piece of a panel of weights stays in a cache while it
// multiplies many rows; then comes the next piece. Each sum goes on where it stood, in the same
// order, so no bit depends on the cut.
#pragma once
#include "kernels/product/microkernel.inl"
#include "kernels/product/weight_layout.inl"

BPTT_KERNELS_BEGIN

constexpr Index piece_rows = 96;   // at most, whose sums wait for the next piece
constexpr Index piece_sums = 288;  // rows of sums of all panels in a group
constexpr Index group_panels = 8;  // at most

// How a product is cut whose operands do not stay in the second cache: each piece of inputs
// multiplies some rows by a group of panels, one after the other, so that the rows are read from a
// farther cache once for each group.
struct Cut {
  Index inputs, panels;
};

// Of K inputs, with `bytes` of weights each in a panel, and `row_bytes` in a row. Few rows are not
// cut. A piece has its rows in a quarter of the second cache, and its weights in an eighth.
BPTT_INLINE Cut cut_product(const Caches& caches, Index K, Index bytes, Index rows,
                            Index row_bytes) {
  if (rows <= max_rows || K * (bytes + rows * row_bytes) <= caches.second / 2) return {K, 1};
  const Index some = ceil_div(rows, ceil_div(rows, piece_rows)),
              most = caches.second / 4 / larger(some * row_bytes, 2 * bytes);
  return {ceil_div(K, ceil_div(K, larger(most, 1))),
          smaller(piece_sums / smaller(rows, piece_rows), group_panels)};
}

// A panel, by its first block, and an input of it.
struct Place {
  Index j, k;
};
// Where the products of a group go on after inputs [k, end) of K of the panel that ends before
// block j: the same piece of the next panel, the next piece of the first one, or the next group.
BPTT_INLINE Place place_after(Range group, Index j, Index k, Index end, Index K) {
  if (j < group.end) return {j, k};
  return end < K ? Place{group.begin, end} : Place{j, 0};
}

// The weights that are used next are fetched while others are used for `rows` rows: else the first
// of them would wait for each line.
template <class T>
struct Next {
  static constexpr Index together = inputs_together<T, max_rows>;
  const char* weights;
  Index step;  // bytes for each turn of a full tile

  Next(const T* next, Index input_size, Index rows)
      : weights(reinterpret_cast<const char*>(next)),
        step(ceil_div(input_size * Index(sizeof(T)) * together,
                      larger(ceil_div(rows, max_rows), 1))) {}
  // During the product of K inputs with the n-th row block.
  Ahead during(Index n, Index K) const { return {weights + n * (K / together) * step, step}; }
};

// Calls f(rows, begin, end) for pieces [begin, end) of K, of `size` each. Some rows take all
// pieces, then the next ones.
template <class F>
BPTT_INLINE void for_each_piece(Range rows, Index K, Index size, const F& f) {
  Index parts = size < K ? ceil_div(rows.end - rows.begin, piece_rows) : 1;
  for (; parts > 0; --parts) {
    const Range some{rows.begin, rows.begin + ceil_div(rows.end - rows.begin, parts)};
    Index begin = 0;
    do {
      const Index end = smaller(begin + size, K);
      f(some, begin, end);
      begin = end;
    } while (begin < K);
    rows.begin = some.end;
  }
}

BPTT_KERNELS_END

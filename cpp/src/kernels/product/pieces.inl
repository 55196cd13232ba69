// SPDX-License-Identifier: MIT
// How a product over many inputs is cut. A piece of a panel of weights stays in a cache while it
// multiplies many rows; then comes the next piece. Each sum goes on where it stood, in the same
// order, so no bit depends on the cut.
#pragma once
#include "kernels/product/microkernel.inl"
#include "kernels/product/weight_layout.inl"

BPTT_KERNELS_BEGIN

constexpr Index piece_rows = 96;  // at most, whose sums wait for the next piece

// The number of inputs in a piece, of K with `bytes` of weights each in a panel. Panels that stay
// in the second cache, or that few rows use, are not cut.
BPTT_INLINE Index piece_inputs(const Caches& caches, Index K, Index bytes, Index rows) {
  if (rows <= max_rows || K * bytes <= caches.second / 2) return K;
  return ceil_div(K, ceil_div(K, larger(caches.second / 4 / bytes, 1)));
}

// The weights of the next panel are fetched while this one is used for `rows` rows: else the first
// of them would wait for each line from the third cache or from memory. That takes instructions,
// and pays only for weights much larger than the second cache.
struct NextPanel {
  const char* base;
  Index bytes, step;  // for each input, in all and in one row block

  NextPanel(const Caches& caches, Index all_bytes, const void* next, Index input_bytes, Index rows)
      : base(static_cast<const char*>(next)),
        bytes(input_bytes),
        step(!BPTT_MANY_CELLS && all_bytes > 4 * caches.second
                 ? ceil_div(bytes, larger(ceil_div(rows, max_rows), 1))
                 : 0) {}
  // During the product of inputs [first, first + K) with the n-th row block.
  Ahead during(Index n, Index first, Index K) const {
    return {base + (step ? first * bytes + n * K * step : 0), step};
  }
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

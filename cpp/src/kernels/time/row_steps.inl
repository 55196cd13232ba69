// SPDX-License-Identifier: MIT
// Forward steps of one row, all in one loop: the products and then the equations of each step. The
// general loop takes as long to find its tiles as a small layer takes to compute them.
#pragma once
#include "kernels/product/microkernel.inl"
#include "kernels/time/tape.inl"

BPTT_KERNELS_BEGIN

// Inputs of one row, [K], and the packed weights of all panels that multiply them; K = 0: no
// product.
template <class T>
struct RowOperand {
  const T *row, *w;
  Index K;
};

// Adds to the sums of a row, [block][sum][lane], its products with x and h; they start from
// `start`, which may be `sums`.
template <class T, class Cell, int Panels, int NB>
BPTT_INLINE void row_tile(const RowOperand<T>& x, const RowOperand<T>& h, Index j, const T* start,
                          T* sums) {
  constexpr int G = Cell::gates, Gh = HSide<Cell>::count, S = Cell::sums, V = Panels * NB * S;
  constexpr Index L = lanes<T>, x_step = NB * G * L, h_step = NB * Gh * L;
  Tile<T, 1, V> acc;
  BPTT_UNROLL for (int v = 0; v < V; ++v) acc[0][v] = load(start + (j * S + v) * L);
  multiply_add<T, 1, Panels, NB, S, Cell::x_first, G>(acc, x.row, 0, 0, 1, x.w + j * x.K * G * L,
                                                      x.K * x_step, x_step, x.K);
  multiply_add<T, 1, Panels, NB, S, Cell::h_first, Gh>(acc, h.row, 0, 0, 1, h.w + j * h.K * Gh * L,
                                                       h.K * h_step, h_step, h.K);
  BPTT_UNROLL for (int v = 0; v < V; ++v) store(sums + (j * S + v) * L, acc[0][v]);
}

// The same for all blocks.
template <class T, class Cell>
BPTT_INLINE void row_products(const RowOperand<T>& x, const RowOperand<T>& h, Index blocks,
                              const T* start, T* sums) {
  constexpr int NB = unit_blocks<Cell>;
  Index j = 0;
  for (; j + 2 * NB <= blocks; j += 2 * NB) row_tile<T, Cell, 2, NB>(x, h, j, start, sums);
  for (Index width; j < blocks; j += width) {
    width = smaller(NB, blocks - j);
    static_int<NB>(
        width, [&](auto nb) BPTT_INLINED { row_tile<T, Cell, 1, nb.value>(x, h, j, start, sums); });
  }
}

// Takes `steps` steps from `step` on, each `by` after the one before it, of its only row; sums:
// [block][sum][lane], memory for the sums of one step where they are not projected.
template <class T, class Cell, class Weights>
__attribute__((noinline)) void row_steps(const ForwardStep<T>& step, const StepStride& by,
                                         Index steps, const ForwardCall<T>& call,
                                         const Weights& weights, T* sums) {
  constexpr Index L = lanes<T>;
  const Dims& d = call.dims;
  const Index blocks = blocks_of<T>(d.H);
  const T* start = step.sums ? step.sums : weights.bias;
  RowOperand<T> x{step.x, weights.ih, step.sums ? 0 : d.I}, h{step.h, weights.hh, d.P};
  if (step.sums) sums = step.sums;
  UnitPlaces<T, Cell> first(step, d, weights.params, 0, 0, sums);
  for (; steps > 0; --steps) {
    row_products<T, Cell>(x, h, blocks, start, sums);
    UnitPlaces<T, Cell> at = first;
    BPTT_NO_UNROLL for (Index j = 0; j < blocks; ++j, at.next(step)) {
      const Index used = used_lanes<T>(j, d.H);
      Vec<T> a[Cell::sums], p[1], s0[Cell::states], s[Cell::states], k[Cell::saved + 1];
      BPTT_UNROLL for (int i = 0; i < Cell::sums; ++i) a[i] = load(at.sums + i * L);
      if (Cell::passes_h) s0[0] = load(at.h, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) s0[q] = load(at.before[q]);
      Cell::forward(call.options, p, a, s0, s, k);
      store(at.y, s[0].v, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) store(at.after[q], s[q].v);
      if (!at.saved) continue;
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) store(at.saved + i * L, k[i].v);
    }
    x.row += by.x, h.row += by.h, start += by.sums, sums += by.sums;
    first.move(by), first.sums = sums;
  }
}

BPTT_KERNELS_END

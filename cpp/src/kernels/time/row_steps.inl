// SPDX-License-Identifier: MIT
// Forward steps of one row, all in one loop: the products and then the equations of each step. The
// general loop takes as long to find its tiles as a small layer takes to compute them.
#pragma once
#include "kernels/product/microkernel.inl"
#include "kernels/time/tape.inl"

BPTT_KERNELS_BEGIN

// Inputs of one row, [K], and the packed weights of the panels that multiply them; K = 0: no
// product.
template <class T>
struct RowOperand {
  const T *row, *w;
  Index K;
};

// Where the sums of a tile start, and where they go: [block][sum][lane], which may be the same.
template <class T>
struct RowSums {
  const T* start;
  T* sums;
};

// Adds to the sums of a row its products with x and h, for `Panels` panels.
template <class T, class Cell, int Panels, int NB>
BPTT_INLINE void row_tile(const RowOperand<T>& x, const RowOperand<T>& h, const RowSums<T>& at) {
  constexpr int G = Cell::gates, Gh = HSide<Cell>::count, S = Cell::sums, V = Panels * NB * S;
  constexpr Index L = lanes<T>, x_step = NB * G * L, h_step = NB * Gh * L;
  Tile<T, 1, V> acc;
  BPTT_UNROLL for (int v = 0; v < V; ++v) acc[0][v] = load(at.start + v * L);
  multiply_add<T, 1, Panels, NB, S, Cell::x_first, G, true>(acc, x.row, 0, 0, 1, x.w, x.K * x_step,
                                                            x_step, x.K);
  multiply_add<T, 1, Panels, NB, S, Cell::h_first, Gh, true>(acc, h.row, 0, 0, 1, h.w, h.K * h_step,
                                                             h_step, h.K);
  BPTT_UNROLL for (int v = 0; v < V; ++v) store(at.sums + v * L, acc[0][v]);
}

// The same for all blocks; for pairs of panels from the last to the first if `back`. Steps take
// turns: so each finds in the cache the weights that the one before used last.
template <class T, class Cell>
BPTT_INLINE void row_products(RowOperand<T> x, RowOperand<T> h, Index blocks, RowSums<T> at,
                              bool back) {
  constexpr int NB = unit_blocks<Cell>;
  const auto move = [&](Index n) BPTT_INLINED {  // by blocks
    x.w += n * x.K * Cell::gates * lanes<T>, h.w += n * h.K * HSide<Cell>::count * lanes<T>;
    at.start += n * Cell::sums * lanes<T>, at.sums += n * Cell::sums * lanes<T>;
  };
  if (blocks >= 2 * NB) {
    const Index pairs = blocks / (2 * NB) * (2 * NB), step = back ? -2 * NB : 2 * NB;
    if (back) move(pairs - 2 * NB);
    for (Index n = pairs; n > 0; n -= 2 * NB) row_tile<T, Cell, 2, NB>(x, h, at), move(step);
    if (back) move(pairs + 2 * NB);
    blocks -= pairs;
  }
  while (blocks > 0) {
    const Index width = smaller(NB, blocks);
    static_int<NB>(width, [&](auto nb) BPTT_INLINED { row_tile<T, Cell, 1, nb.value>(x, h, at); });
    if ((blocks -= width) > 0) move(width);
  }
}

// Takes `steps` steps from `step` on, each one `stride` after the one before it, of its only row;
// sums: [block][sum][lane], memory for the sums of one step where they are not projected.
template <class T, class Cell, class Weights>
__attribute__((noinline)) void row_steps(const ForwardStep<T>& step, const StepStride& stride,
                                         Index steps, const ForwardCall<T>& call,
                                         const Weights& weights, T* sums) {
  constexpr Index L = lanes<T>;
  const StepStride by = stride;  // no store can change a copy
  const Dims& d = call.dims;
  const Index H = d.H, blocks = blocks_of<T>(H);
  const T* start = step.sums ? step.sums : weights.bias;
  RowOperand<T> x{step.x, weights.ih, step.sums ? 0 : d.I}, h{step.h, weights.hh, d.P};
  if (step.sums) sums = step.sums;
  T *y = step.y, *saved = step.saved, *after[max_states];
  for (int q = 1; q < Cell::states; ++q) after[q] = step.after[q].base;
  for (; steps > 0; --steps) {
    row_products<T, Cell>(x, h, blocks, {start, sums}, steps & 1);
    BPTT_NO_UNROLL for (Index at = 0, used = H; used > 0; at += L, used = counted(used) - L) {
      Vec<T> a[Cell::sums], p[1], s0[Cell::states], s[Cell::states], k[Cell::saved + 1];
      BPTT_UNROLL for (int i = 0; i < Cell::sums; ++i) a[i] = load(sums + at * Cell::sums + i * L);
      if (Cell::passes_h) s0[0] = load(h.row + at, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) s0[q] = load(after[q] - by.state + at);
      Cell::forward(call.options, p, a, s0, s, k);
      store(y + at, s[0].v, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) store(after[q] + at, s[q].v);
      if (!saved) continue;
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i)
          store(saved + at * Cell::saved + i * L, k[i].v);
    }
    x.row += by.x, h.row += by.h, start += by.sums, sums += by.sums;
    y += by.y, saved += by.saved;
    for (int q = 1; q < Cell::states; ++q) after[q] += by.state;
  }
}

BPTT_KERNELS_END

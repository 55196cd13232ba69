// SPDX-License-Identifier: MIT
// Backward steps of one row, all in one loop, as row_steps.inl: the equations of each step and its
// product with w_hh.
#pragma once
#include "kernels/product/microkernel.inl"
#include "kernels/time/backward_workspace.inl"

BPTT_KERNELS_BEGIN

template <class T, int G, int S, class N>
BPTT_SHARED void product_of_rows(N n, Index width, const T* dsums, Index dsums_row,
                                 Index block_stride, Index blocks, const T* w, bool more, T* out,
                                 Ahead ahead);

// The arrays of a backward step of one row.
template <class T>
struct RowGradients {
  T* sums;            // of the step, blocks `block` apart: gradients of the sums, [sum][lane]
  Index block, next;  // elements to the next block, and to the next step
  const T* y;         // [P]: h after the step
  const T* dy;        // [P] or null
  const T* w_hh;      // by column
  T* const (&dstates)[max_states];  // [block][lane]: the gradient that the previous step receives
  T *traced_h, *traced_c;  // of the step, blocks `block / D` apart, [lane]: see Tracer; or null

  BPTT_INLINE void move(const StepStride& by, Index steps) {
    sums += steps * next, y += steps * by.h;
    if (dy) dy += steps * by.h;
    if (traced_h) traced_h += steps * by.t * lanes<T>, traced_c += steps * by.t * lanes<T>;
  }
};

// Adds to the gradient of h that a step passes back, [block][lane], the product of the gradients of
// its sums with w_hh.
template <class T, class Cell>
BPTT_INLINE void row_pass_back(const RowGradients<T>& g, const T* sums, Index blocks, T* dh) {
  using Side = HSide<Cell>;
  constexpr int D = GradientsOf<Cell>::all;
  constexpr Index L = lanes<T>, wide = 2 * column_blocks;
  alignas(64) T tile[wide * L];
  for (Index j = 0, width; j < blocks; j += width) {
    const bool two = few_rows > 0 && j + wide <= blocks;
    width = two ? wide : smaller(column_blocks, blocks - j);
    product_of_rows<T, Side::count, D>(Int<1>(), width, sums + Side::first * L, D * L, g.block,
                                       blocks, g.w_hh + j * L * blocks * L * Side::count, false,
                                       tile, Ahead{nullptr, 0});
    for (Index b = 0; b < width; ++b, dh += L)
      store(dh, Cell::passes_h ? load(dh) + load(tile + b * L) : load(tile + b * L));
  }
}

// Takes `steps` steps against the order of processing, from `step` on and each `by` from the one
// before.
template <class T, class Cell>
__attribute__((noinline)) void row_steps_back(const BackwardCall<T>& call,
                                              const ForwardStep<T>& step, const StepStride& by,
                                              Index steps, RowGradients<T> g) {
  constexpr int D = GradientsOf<Cell>::all;
  constexpr Index L = lanes<T>;
  const Dims& d = call.dims;
  const Index blocks = blocks_of<T>(d.H);
  UnitPlaces<T, Cell> first(step, d, g.dstates[0], 0, 0, g.sums);
  for (; steps > 0; --steps) {
    UnitPlaces<T, Cell> at = first;
    T* sums = g.sums;
    BPTT_NO_UNROLL for (Index j = 0; j < blocks; ++j, at.next(step), sums += g.block) {
      const Index used = used_lanes<T>(j, d.H);
      Vec<T> p[1], ds[Cell::states], k[Cell::saved + 1], s0[Cell::states], s[Cell::states], da[D],
          ds0[Cell::states];
      BPTT_UNROLL for (int q = 0; q < Cell::states; ++q) ds[q] = load(g.dstates[q] + j * L);
      if (g.dy) ds[0] = ds[0] + Vec<T>(load(g.dy + j * L, used));
      if (g.traced_h) store(g.traced_h + j * g.block / D, ds[0].v);
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) k[i] = load(at.saved + i * L);
      if (Cell::passes_h) s0[0] = load(at.h, used);
      if (!Cell::saved) s[0] = load(g.y + j * L, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) {
        s0[q] = load(at.before[q]);
        s[q] = load(at.after[q]);
      }
      Cell::backward(call.options, p, ds, k, s0, s, da, ds0);
      if (Cell::states > 1 && g.traced_h)
        store(g.traced_c + j * g.block / D, ds[Cell::states > 1].v);
      if (used < L) {  // see Backward::step_units
        BPTT_UNROLL for (int i = 0; i < D; ++i) clear_from<T>(da[i].v, used);
      }
      BPTT_UNROLL for (int i = 0; i < D; ++i) store(sums + i * L, da[i].v);
      BPTT_UNROLL for (int q = Cell::passes_h ? 0 : 1; q < Cell::states; ++q)
          store(g.dstates[q] + j * L, ds0[q].v);
    }
    row_pass_back<T, Cell>(g, g.sums, blocks, g.dstates[0]);
    first.move(by);
    g.move(by, 1);
  }
}

BPTT_KERNELS_END

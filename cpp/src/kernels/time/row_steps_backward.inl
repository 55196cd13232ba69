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
// its sums, in blocks `block` apart, with w_hh; without a gradient through the equations it is the
// product alone. Steps take turns in the order of the panels: see row_products.
template <class T, class Cell>
BPTT_INLINE void row_pass_back(const T* sums, Index block, Index blocks, const T* w, T* dh,
                               bool back) {
  using Side = HSide<Cell>;
  constexpr int D = GradientsOf<Cell>::all;
  constexpr Index L = lanes<T>, wide = 2 * column_blocks;
  alignas(64) T tile[wide * L];
  const auto pass = [&](Index j, Index width) BPTT_INLINED {
    T* out = dh + j * L;
    product_of_rows<T, Side::count, D>(Int<1>(), width, sums + Side::first * L, D * L, block,
                                       blocks, w + j * L * blocks * L * Side::count, false,
                                       Cell::passes_h ? tile : out, Ahead{nullptr, 0});
    for (Index b = 0; Cell::passes_h && b < width; ++b)
      store(out + b * L, load(out + b * L) + load(tile + b * L));
  };
  if (blocks <= column_blocks) return pass(0, blocks);
  const Index pairs = few_rows > 0 ? blocks / wide * wide : 0;
  for (Index j = 0; j < pairs; j += wide) pass(back ? pairs - wide - j : j, wide);
  for (Index j = pairs, width; j < blocks; j += width)
    pass(j, width = smaller(column_blocks, blocks - j));
}

// Takes `steps` steps against the order of processing, from `step` on and each `stride` from the
// one before.
template <class T, class Cell>
__attribute__((noinline)) void row_steps_back(const BackwardCall<T>& call,
                                              const ForwardStep<T>& step, const StepStride& stride,
                                              Index steps, const RowGradients<T>& g) {
  constexpr int D = GradientsOf<Cell>::all;
  constexpr Index L = lanes<T>;
  const StepStride by = stride;  // no store can change a copy, here and below
  const Index H = call.dims.H, blocks = blocks_of<T>(H), block = g.block, next = g.next;
  const Index next_dy = g.dy ? by.h : 0, next_traced = g.traced_h ? by.t * L : 0;
  const T *y = g.y, *h = step.h, *dy = g.dy, *saved = step.saved, *before[max_states],
          *after[max_states];
  T *sums = g.sums, *traced_h = g.traced_h, *traced_c = g.traced_c, *dstates[max_states];
  for (int q = 0; q < Cell::states; ++q) dstates[q] = g.dstates[q];
  for (int q = 1; q < Cell::states; ++q)
    before[q] = step.before[q].base, after[q] = step.after[q].base;
  for (; steps > 0; --steps) {
    T *out = sums, *out_h = traced_h, *out_c = traced_c;
    BPTT_NO_UNROLL for (Index at = 0, used = H; used > 0; at += L, used = counted(used) - L) {
      Vec<T> p[1], ds[Cell::states], k[Cell::saved + 1], s0[Cell::states], s[Cell::states], da[D],
          ds0[Cell::states];
      BPTT_UNROLL for (int q = 0; q < Cell::states; ++q) ds[q] = load(dstates[q] + at);
      if (dy) ds[0] = ds[0] + Vec<T>(load(dy + at, used));
      if (traced_h) store(out_h, ds[0].v), out_h += block / D;
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) k[i] =
          load(saved + at * Cell::saved + i * L);
      if (Cell::passes_h) s0[0] = load(h + at, used);
      if (!Cell::saved) s[0] = load(y + at, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) {
        s0[q] = load(before[q] + at);
        s[q] = load(after[q] + at);
      }
      Cell::backward(call.options, p, ds, k, s0, s, da, ds0);
      if (Cell::states > 1 && traced_h) store(out_c, ds[Cell::states > 1].v), out_c += block / D;
      if (used < L) {  // see Backward::step_units
        BPTT_UNROLL for (int i = 0; i < D; ++i) clear_from<T>(da[i].v, used);
      }
      BPTT_UNROLL for (int i = 0; i < D; ++i) store(out + i * L, da[i].v);
      out += block;
      BPTT_UNROLL for (int q = Cell::passes_h ? 0 : 1; q < Cell::states; ++q)
          store(dstates[q] + at, ds0[q].v);
    }
    row_pass_back<T, Cell>(sums, block, blocks, g.w_hh, dstates[0], steps & 1);
    sums += next, y += by.h, h += by.h, dy += next_dy, saved += by.saved;
    traced_h += next_traced, traced_c += next_traced;
    for (int q = 1; q < Cell::states; ++q) before[q] += by.state, after[q] += by.state;
  }
}

BPTT_KERNELS_END

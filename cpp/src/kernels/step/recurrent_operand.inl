// SPDX-License-Identifier: MIT
// The operand of the product with w_hh, where it is not h itself: h masked, or, of a truncated
// cell, h beside the states from the third on.
#pragma once
#include "kernels/arena.inl"
#include "kernels/product/weight_layout.inl"

BPTT_KERNELS_BEGIN

// Both are null where w_hh multiplies h itself (Dims::separate_operand is false).
template <class T, class Cell>
struct RecurrentOperand {
  T *initial = nullptr, *after = nullptr;  // [B, U] before the first step, [R, U] after each

  RecurrentOperand() = default;
  RecurrentOperand(Arena& arena, const Dims& d, Index rows) {
    if (!d.separate_operand) return;
    initial = arena.take<T>(d.B * d.U);
    after = arena.take<T>(rows * d.U);
  }

  // Sequences `mine` before their first step; h0: [B, P].
  void start(const ForwardCall<T>& call, const T* h0, Range mine) const {
    const Dims& d = call.dims;
    if constexpr (Cell::truncated) {
      for (Index b = mine.begin; b < mine.end; ++b)
        for (Index i = 0; i < d.U; ++i) {
          const T* state = call.state0[i < d.H ? 0 : i / d.H + 1];
          initial[b * d.U + i] = state ? state[b * d.H + i % d.H] : T(0);
        }
    } else {
      for (Index i = mine.begin * d.P; i < mine.end * d.P && initial; ++i)
        initial[i] = h0[i] * call.extras.h_mask[i];
    }
  }

  // h of sequence b after a step, in block j of row `row` of all rows, and the states beside it.
  BPTT_INLINE void take_h(const ForwardCall<T>& call, Index row, Index b, Index j, Index used,
                          Vec<T> h) const {
    constexpr Index L = lanes<T>;
    const Index P = call.dims.P;
    if (Cell::truncated || !after) return;
    store(after + row * P + j * L, (h * Vec<T>(load(call.extras.h_mask + b * P + j * L, used))).v,
          used);
  }
  BPTT_INLINE void take_states(const Dims& d, Index row, Index j, Index used,
                               const Vec<T>* s) const {
    if constexpr (Cell::truncated) {
      T* operand = after + row * d.U + j * lanes<T>;
      store(operand, s[0].v, used);
      for (int q = 2; q < Cell::states; ++q) store(operand + (q - 1) * d.H, s[q].v, used);
    }
  }
};

BPTT_KERNELS_END

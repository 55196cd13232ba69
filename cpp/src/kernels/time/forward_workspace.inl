// SPDX-License-Identifier: MIT
// The packed weights and the memory of the forward loop.
#pragma once
#include "kernels/time/tape.inl"

BPTT_KERNELS_BEGIN

template <class Backend>
bool pack(const ForwardCall<typename Backend::T>& call, const Team& team) {
  using T = typename Backend::T;
  const typename Backend::Weights weights(call.weights, call.dims);
  StopPoll poll{team};
  weights.pack(call, share_of(blocks_of<T>(call.dims.H), unit_blocks<typename Backend::Cell>, team),
               poll);
  if constexpr (Backend::Cell::second_product)
    weights.pack_second(call,
                        share_of(blocks_of<T>(call.dims.P),
                                 unit_blocks<typename Backend::Cell::SecondProduct>, team),
                        poll);
  if (team.rank == 0) {
    pack_bias<T, typename Backend::Cell>(call.b_ih, call.b_hh, call.dims.H, weights.bias);
    pack_params<T, typename Backend::Cell>(call, weights.params);
  }
  return poll.wait();
}

// Does a step read its saved values, in inference too?
template <class Cell>
constexpr bool needs_saved() {
  if constexpr (Cell::second_product && !Cell::layer_norm)
    return Cell::SecondProduct::saved > 0;
  else
    return Cell::layer_norm;
}

template <class Backend>
struct ForwardWorkspace {
  using T = typename Backend::T;
  using Cell = typename Backend::Cell;
  T* h0;                              // [B, P], for inference
  T* states[max_states];              // from 1: [block][B][lane], for inference: updated in place
  T* sums;                            // [row][block][sum][lane] of projected rows
  RecurrentOperand<T, Cell> operand;  // for inference
  T *saved, *second_operand,
      *moments;  // for inference, one step of the cells that need them: see ForwardStep
  void* products;
  std::size_t bytes;

  // rows: of all steps.
  ForwardWorkspace(void* buffer, const Dims& d, Index rows) {
    Arena arena{buffer};
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    h0 = arena.take<T>(d.B * d.P);
    for (int q = 1; q < Cell::states; ++q) states[q] = arena.take<T>(d.B * padded);
    sums = arena.take<T>(projected_rows * padded * Cell::sums);
    operand = RecurrentOperand<T, Cell>(arena, d, rows);
    saved = needs_saved<Cell>() ? arena.take<T>(d.B * padded * Cell::saved) : nullptr;
    second_operand = Cell::second_product ? arena.take<T>(d.B * d.H) : nullptr;
    moments = Cell::layer_norm ? arena.take<T>(d.B * moments_of_row) : nullptr;
    products = arena.take<char>(static_cast<Index>(Backend::Forward::scratch_bytes(d)));
    bytes = arena.used;
  }
};

BPTT_KERNELS_END

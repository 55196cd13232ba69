// SPDX-License-Identifier: MIT
// The packed weights and the memory of the forward loop.

template <class P>
bool pack(const ForwardCall<typename P::T>& call, const Team& team) {
  using T = typename P::T;
  const typename P::Weights weights(call.weights, call.dims);
  Patience patience{team};
  weights.pack(call, share_of(blocks_of<T>(call.dims.H), unit_blocks<typename P::Cell>, team),
               patience);
  if constexpr (P::Cell::inner)
    weights.pack_inner(
        call, share_of(blocks_of<T>(call.dims.P), unit_blocks<typename P::Cell::Inner>, team),
        patience);
  if (team.rank == 0) {
    pack_bias<T, typename P::Cell>(call.b_ih, call.b_hh, call.dims.H, weights.bias);
    pack_params<T, typename P::Cell>(call, weights.params);
  }
  return patience.wait();
}

// Does a step read what it saved, in inference too?
template <class Cell>
constexpr bool needs_saved() {
  if constexpr (Cell::inner && !normal<Cell>)
    return Cell::Inner::saved > 0;
  else
    return normal<Cell>;
}

template <class P>
struct ForwardScratch {
  using T = typename P::T;
  using Cell = typename P::Cell;
  T* h0;                       // [B, P], for inference
  T* states[max_states];       // from 1: [block][B][lane], for inference: updated in place
  T* sums;                     // [row][block][sum][lane] of projected rows
  Masked<T> masked;            // for inference
  T *saved, *inner, *moments;  // for inference, of one step of the cells that need them: see
                               // ForwardStep
  void* products;
  std::size_t bytes;

  // rows: of all steps.
  ForwardScratch(void* buffer, const Dims& d, Index rows) {
    Pieces pieces{static_cast<char*>(buffer)};
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    h0 = pieces.take<T>(d.B * d.P);
    for (int q = 1; q < Cell::states; ++q) states[q] = pieces.take<T>(d.B * padded);
    sums = pieces.take<T>(projected_rows * padded * Cell::sums);
    masked = Masked<T>(pieces, d, rows);
    saved = needs_saved<Cell>() ? pieces.take<T>(d.B * padded * Cell::saved) : nullptr;
    inner = Cell::inner ? pieces.take<T>(d.B * d.H) : nullptr;
    moments = normal<Cell> ? pieces.take<T>(d.B * moments_of_row) : nullptr;
    products = pieces.take<char>(static_cast<Index>(P::Forward::scratch_bytes(d)));
    bytes = pieces.used;
  }
};

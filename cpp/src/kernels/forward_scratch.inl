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
    pack_params<T, typename P::Cell>(call.extras.params, call.dims.H, weights.params);
  }
  return patience.wait();
}

template <class P>
struct ForwardScratch {
  using T = typename P::T;
  using Cell = typename P::Cell;
  T* h0;                  // [B, P], for inference
  T* states[max_states];  // from 1: [block][B][lane], for inference: updated in place
  T* sums;                // [row][block][sum][lane] of projected rows
  Masked<T> masked;       // for inference
  T *saved, *inner;  // for inference, of one step of cells with an inner product: see ForwardStep
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
    if constexpr (Cell::inner) {
      saved = Cell::Inner::saved ? pieces.take<T>(d.B * padded * Cell::saved) : nullptr;
      inner = pieces.take<T>(d.B * d.H);
    }
    products = pieces.take<char>(static_cast<Index>(P::Forward::scratch_bytes(d)));
    bytes = pieces.used;
  }
};

// SPDX-License-Identifier: MIT
// The memory of the backward loop.

// What cells with an inner product need more; see second_product.inl.
template <class P, bool inner = P::Cell::inner>
struct InnerBackward {
  template <class... Args>
  explicit InnerBackward(const Args&...) {}
  static std::size_t scratch_bytes(const Dims&, const Rows&) { return 0; }
};
template <class P>
struct InnerBackward<P, true>;

// Of a step's results: the gradients of the sums, what is passed back to h by an inner product.
enum class Which { sums, passed, all };

// Does an inner product take h, and gradients of some sums come before it?
template <class Cell>
constexpr bool inner_takes_h() {
  if constexpr (Cell::inner)
    return Cell::Inner::takes_h;
  else
    return false;
}
template <class Cell>
constexpr int inner_gives() {
  if constexpr (Cell::inner)
    return Cell::Inner::gives;
  else
    return 0;
}
// So many gradients of a unit the equations give in a step.
template <class Cell>
constexpr int equations_give() {
  using Own = EquationsOf<Cell>;
  return Own::sums + Own::params - inner_gives<Cell>();
}

// And those whose sums are normalised; see layer_norm_backward.inl.
template <class P, bool = normal<typename P::Cell>>
struct NormalBackward {
  template <class... Args>
  explicit NormalBackward(const Args&...) {}
};
template <class P>
struct NormalBackward<P, true>;

template <class P>
struct BackwardScratch {
  using T = typename P::T;
  using Cell = typename P::Cell;
  T* dsums;                      // [group]: [block][chunk_rows][gradient][lane], as GradientsOf:
  T* dvalues;                    // of the products, of all; or the same
  T* dstates[max_states];        // [block][B][lane]: the gradient that the step before receives
  T* gradients;                  // [group]: of all weights by unit, and of the biases
  Index weights, ih, hh, inner;  // elements of a group, of w_ih, of w_hh, of an inner product
  T* dresults;                   // [group]: [block of h][chunk_rows][lane]: of an inner product
  T* doperand;                   // [block][B][lane]: of its operand, of N(c')
  T *traced_h, *traced_c;        // [group]: [block][chunk_rows][lane], or null
  SkipGradients<T> skips;
  void *products, *inner_products;
  void* forward;  // to compute the values of a segment again
  SegmentTape<T, Cell> again;
  std::size_t bytes;

  BackwardScratch(void* buffer, const Dims& d, const Rows& rows, Index skip, bool traced)
      : BackwardScratch(Pieces{static_cast<char*>(buffer)}, d, rows, skip, traced) {}
  T* dw_ih(Index group) const { return gradients + group * weights; }
  T* dw_hh(Index group) const { return dw_ih(group) + ih; }
  T* dw_inner(Index group) const { return dw_hh(group) + hh; }
  T* db(Index group) const { return dw_inner(group) + inner; }  // [block][gradient][lane]

 private:
  static constexpr Index S = GradientsOf<Cell>::products, all = GradientsOf<Cell>::all;

  BackwardScratch(Pieces pieces, const Dims& d, const Rows& rows, Index skip, bool traced)
      : again(pieces, d, rows.segments > 1 ? rows.segment_rows : 0) {
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    dsums = pieces.take<T>(rows.groups * padded * S * rows.chunk_rows);
    dvalues = normal<Cell> ? pieces.take<T>(rows.groups * padded * all * rows.chunk_rows) : dsums;
    const Index h_blocks = blocks_of<T>(d.P);
    for (int q = 0; q < Cell::states; ++q)
      dstates[q] = pieces.take<T>(d.B * (q ? padded : h_blocks * lanes<T>));
    ih = unit_packed_size<T, XSide<Cell>>(d.H, P::padded_inputs(d.I));
    hh = unit_packed_size<T, HSide<Cell>>(d.H, P::padded_inputs(d.U));
    inner = 0;
    if constexpr (Cell::inner) {
      inner = unit_packed_size<T, HSide<typename Cell::Inner>>(d.P, d.H);
      dresults = pieces.take<T>(rows.groups * h_blocks * lanes<T> * rows.chunk_rows);
    }
    doperand = later_h<Cell> ? pieces.take<T>(d.B * padded) : nullptr;
    weights = ih + hh + inner + padded * all;
    gradients = pieces.take<T>(rows.groups * weights);
    traced_h =
        traced ? pieces.take<T>(rows.groups * h_blocks * lanes<T> * rows.chunk_rows) : nullptr;
    traced_c = traced ? pieces.take<T>(rows.groups * padded * rows.chunk_rows) : nullptr;
    skips = {pieces.take<T>(SkipGradients<T>::size(skip, h_blocks, d.B)), skip, h_blocks, d.B};
    products = pieces.take<char>(static_cast<Index>(P::Backward::scratch_bytes(d, rows)));
    inner_products =
        pieces.take<char>(static_cast<Index>(InnerBackward<P>::scratch_bytes(d, rows)));
    const std::size_t forward_bytes =
        rows.segments > 1 ? ForwardScratch<P>(nullptr, d, rows.total).bytes : 0;
    forward = pieces.take<char>(static_cast<Index>(forward_bytes));
    bytes = pieces.used;
  }
};

// What computing a segment again needs of the forward call.
template <class T>
ForwardCall<T> forward_call(const BackwardCall<T>& call, void* scratch) {
  ForwardCall<T> f{};
  f.dims = call.dims, f.rows = call.rows, f.options = call.options, f.extras = call.extras;
  f.x = call.x, f.y = const_cast<T*>(call.y);
  f.weights = const_cast<void*>(call.weights), f.tape = const_cast<void*>(call.tape);
  f.scratch = scratch;
  return f;
}
